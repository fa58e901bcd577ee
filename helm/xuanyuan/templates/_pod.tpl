{{/* The pod of the server: one helper for the Deployment and for Ray's head and workers.

     Call with (dict "root" $ "role" ROLE): "server", a `xuanyuan serve`; "worker", a Ray node with the model on it; "head",
     a Ray node without. KubeRay writes the command of the last two itself. */}}
{{- define "xuanyuan.podTemplate" -}}
{{- $root := .root -}}
{{- $onGpu := and (gt (int $root.Values.gpu.count) 0) (ne .role "head") -}}
metadata:
  labels:
    {{- include "xuanyuan.podLabels" (dict "root" $root "component" "server") | nindent 4 }}
    {{- with $root.Values.podLabels }}
    {{- include "xuanyuan.texts" . | trim | nindent 4 }}
    {{- end }}
  annotations:
    # A changed setting or catalog makes new pods. Keys do not: the server reads them again by itself.
    checksum/config: {{ include "xuanyuan.configData" $root | sha256sum }}
    {{- with $root.Values.podAnnotations }}
    {{- include "xuanyuan.texts" . | trim | nindent 4 }}
    {{- end }}
spec:
  # A Service called xuanyuan would otherwise set XUANYUAN_PORT=tcp://…
  enableServiceLinks: false
  {{- if and (eq .role "head") $root.Values.autoscaling.enabled }}
  # Ray's autoscaler runs beside the head and asks the API server for workers; KubeRay makes its account and role.
  automountServiceAccountToken: true
  {{- else }}
  automountServiceAccountToken: false
  serviceAccountName: {{ include "xuanyuan.serviceAccountName" $root | quote }}
  {{- end }}
  securityContext:
    {{- include "xuanyuan.podSecurity" $root | nindent 4 }}
  {{- with $root.Values.image.pullSecrets }}
  imagePullSecrets:
    {{- range . }}
    - name: {{ . | quote }}
    {{- end }}
  {{- end }}
  {{- with $root.Values.priorityClassName }}
  priorityClassName: {{ . | quote }}
  {{- end }}
  {{- if and $onGpu $root.Values.gpu.runtimeClassName }}
  runtimeClassName: {{ $root.Values.gpu.runtimeClassName | quote }}
  {{- end }}
  terminationGracePeriodSeconds: {{ int $root.Values.termination.gracePeriodSeconds }}
  {{- if include "xuanyuan.downloads" $root }}
  initContainers:
    - name: weights
      image: {{ include "xuanyuan.image" $root | quote }}
      imagePullPolicy: {{ $root.Values.image.pullPolicy }}
      securityContext:
        {{- include "xuanyuan.containerSecurity" . | nindent 8 }}
      # Fetches what is not there yet, and checks every file.
      command: [xuanyuan]
      args: [fetch, --device, {{ ternary "cuda" "cpu" (gt (int $root.Values.gpu.count) 0) }}]
      resources:
        {{- include "xuanyuan.resources" (dict "root" $root "role" "head") | nindent 8 }}
      envFrom:
        - configMapRef:
            name: {{ include "xuanyuan.fullname" $root | quote }}
      env:
        {{- include "xuanyuan.folders" $root | nindent 8 }}
        {{- with include "xuanyuan.hub" $root | trim }}
        {{- . | nindent 8 }}
        {{- end }}
        {{- with include "xuanyuan.extraEnv" $root | trim }}
        {{- . | nindent 8 }}
        {{- end }}
      volumeMounts:
        {{- include "xuanyuan.volumeMounts" (dict "root" $root "fetches" true) | nindent 8 }}
  {{- end }}
  containers:
    - name: xuanyuan
      image: {{ include "xuanyuan.image" $root | quote }}
      imagePullPolicy: {{ $root.Values.image.pullPolicy }}
      securityContext:
        {{- include "xuanyuan.containerSecurity" . | nindent 8 }}
      {{- if ne .role "server" }}
      # KubeRay puts this in front of its `ray start`. Where programs are differs from image to image.
      args: ["export RAY_SERVE_HAPROXY_BINARY_PATH=`command -v xuanyuan-haproxy`"]
      {{- else }}
      command: [xuanyuan]
      args:
        - serve
        {{- with $root.Values.extraArgs }}
        - --
        {{- range . }}
        - {{ . | quote }}
        {{- end }}
        {{- end }}
      {{- end }}
      resources:
        {{- include "xuanyuan.resources" . | nindent 8 }}
      envFrom:
        - configMapRef:
            name: {{ include "xuanyuan.fullname" $root | quote }}
      env:
        {{- include "xuanyuan.folders" $root | nindent 8 }}
        {{- if include "xuanyuan.usesWeights" $root }}
        # The weights are there: the server asks no hub.
        - name: HF_HUB_OFFLINE
          value: "1"
        {{- end }}
        {{- if ne .role "server" }}
        {{- include "xuanyuan.rayEnvironment" $root | nindent 8 }}
        {{- end }}
        {{- with include "xuanyuan.extraEnv" $root | trim }}
        {{- . | nindent 8 }}
        {{- end }}
      ports:
        - name: {{ ternary "http" "serve" (eq .role "server") }}
          containerPort: {{ int $root.Values.config.port }}
        {{- if ne .role "server" }}
        - name: metrics
          containerPort: 8080
        {{- end }}
        {{- if eq .role "head" }}
        - name: gcs-server
          containerPort: 6379
        - name: dashboard
          containerPort: 8265
        - name: client
          containerPort: 10001
        {{- end }}
      {{- with include "xuanyuan.probes" . | trim }}
      {{- . | nindent 6 }}
      {{- end }}
      lifecycle:
        preStop:
          exec:
            command: [sleep, {{ int $root.Values.termination.preStopSeconds | quote }}]
      volumeMounts:
        {{- include "xuanyuan.volumeMounts" (dict "root" $root "fetches" false) | nindent 8 }}
  {{- $selector := ternary (merge dict $root.Values.gpu.nodeSelector $root.Values.nodeSelector) $root.Values.nodeSelector $onGpu }}
  {{- with $selector }}
  nodeSelector:
    {{- include "xuanyuan.texts" . | trim | nindent 4 }}
  {{- end }}
  {{- with concat $root.Values.tolerations (ternary $root.Values.gpu.tolerations list $onGpu) }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $root.Values.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- if ne .role "head" }}
  {{- with $root.Values.topologySpread }}
  topologySpreadConstraints:
    {{- range . }}
    - topologyKey: {{ .topologyKey | quote }}
      maxSkew: {{ int .maxSkew }}
      whenUnsatisfiable: {{ .whenUnsatisfiable }}
      labelSelector:
        matchLabels:
          {{- include "xuanyuan.selectorLabels" $root | nindent 10 }}
      {{- if eq $root.Values.mode "standalone" }}
      # Pods of a rollout are spread among themselves, not around those they replace.
      matchLabelKeys: [pod-template-hash]
      {{- end }}
    {{- end }}
  {{- end }}
  {{- end }}
  volumes:
    {{- include "xuanyuan.volumes" $root | nindent 4 }}
{{- end -}}

{{- define "xuanyuan.podSecurity" -}}
runAsNonRoot: true
{{- with .Values.security }}
{{- if .runAsUser }}
runAsUser: {{ int64 .runAsUser }}
{{- end }}
{{- if .runAsGroup }}
runAsGroup: {{ int64 .runAsGroup }}
{{- end }}
{{- if .fsGroup }}
fsGroup: {{ int64 .fsGroup }}
# Volumes with many files are not gone through again at each start.
fsGroupChangePolicy: OnRootMismatch
{{- end }}
{{- end }}
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "xuanyuan.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities:
  drop: [ALL]
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{/* Requests and limits of a role. A GPU is asked for under limits, as Kubernetes wants it. */}}
{{- define "xuanyuan.resources" -}}
{{- $values := .root.Values -}}
{{- $onGpu := and (gt (int $values.gpu.count) 0) (ne .role "head") -}}
{{- with ternary $values.ray.head.resources $values.resources (eq .role "head") -}}
requests:
  cpu: {{ toString .requests.cpu | quote }}
  memory: {{ .requests.memory | quote }}
limits:
  {{- if ne (toString .limits.cpu) "" }}
  cpu: {{ toString .limits.cpu | quote }}
  {{- end }}
  memory: {{ .limits.memory | quote }}
  {{- if $onGpu }}
  {{ $values.gpu.resourceName | quote }}: {{ int $values.gpu.count }}
  {{- end }}
{{- end }}
{{- end -}}

{{/* How kubelet sees that a server starts, answers and lives. A Ray node is asked at its agent, and a worker for requests at
     its proxy. */}}
{{- define "xuanyuan.probes" -}}
{{- with .root.Values.probes }}
{{- if eq $.role "server" }}
startupProbe:
  httpGet: {path: /health, port: http}
  periodSeconds: {{ int .startup.periodSeconds }}
  timeoutSeconds: 5
  failureThreshold: {{ include "xuanyuan.startupFailures" $.root }}
{{- end }}
readinessProbe:
  httpGet: {{ ternary "{path: /ready, port: http}" (ternary "{path: /api/healthz, port: 52365}" "{path: /-/healthz, port: serve}" (eq $.role "head")) (eq $.role "server") }}
  periodSeconds: {{ int .readiness.periodSeconds }}
  timeoutSeconds: {{ int .readiness.timeoutSeconds }}
  failureThreshold: {{ int .readiness.failureThreshold }}
livenessProbe:
  httpGet: {{ ternary "{path: /health, port: http}" "{path: /api/healthz, port: 52365}" (eq $.role "server") }}
  {{- if ne $.role "server" }}
  initialDelaySeconds: 30
  {{- end }}
  periodSeconds: {{ int .liveness.periodSeconds }}
  timeoutSeconds: {{ int .liveness.timeoutSeconds }}
  failureThreshold: {{ int .liveness.failureThreshold }}
{{- end }}
{{- end -}}

{{/* The launcher gives up after startTimeout by itself; kubelet waits a minute longer. */}}
{{- define "xuanyuan.startupFailures" -}}
{{- $period := int .Values.probes.startup.periodSeconds -}}
{{- div (add (ceil .Values.config.startTimeout | int64) 60 $period -1) $period -}}
{{- end -}}

{{- define "xuanyuan.hub" -}}
{{- with .Values.weights.endpoint }}
- name: {{ ternary "MODELSCOPE_ENDPOINT" "HF_ENDPOINT" (eq $.Values.config.hub "modelscope") }}
  value: {{ . | quote }}
{{- end }}
{{- with .Values.weights.tokenSecret }}
{{- if .name }}
- name: {{ ternary "MODELSCOPE_API_TOKEN" "HF_TOKEN" (eq $.Values.config.hub "modelscope") }}
  valueFrom:
    secretKeyRef:
      name: {{ .name | quote }}
      key: {{ .key | quote }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "xuanyuan.extraEnv" -}}
{{- with .Values.rateLimitSecret }}
{{- if .name }}
- name: XUANYUAN_RATE_LIMIT_STORAGE
  valueFrom:
    secretKeyRef:
      name: {{ .name | quote }}
      key: {{ .key | quote }}
{{- end }}
{{- end }}
{{- with .Values.extraEnv }}
{{- toYaml . | nindent 0 }}
{{- end }}
{{- end -}}

{{/* Folders of a container; of two only the one that `fetches` may write among the weights, which all copies may share. */}}
{{- define "xuanyuan.volumeMounts" -}}
- name: tmp
  mountPath: /tmp
- name: home
  mountPath: /home/xuanyuan
- name: cache
  mountPath: /cache
- name: shared-memory
  mountPath: /dev/shm
{{- if include "xuanyuan.usesWeights" .root }}
- name: weights
  mountPath: /weights
  {{- if not .fetches }}
  readOnly: true
  {{- end }}
{{- end }}
{{- if include "xuanyuan.keysSecret" .root }}
- name: keys
  mountPath: /etc/xuanyuan/keys
  readOnly: true
{{- end }}
{{- if .root.Values.catalog }}
- name: catalog
  mountPath: /etc/xuanyuan/catalog
  readOnly: true
{{- end }}
{{- end -}}

{{- define "xuanyuan.volumes" -}}
- name: tmp
  emptyDir:
    sizeLimit: {{ .Values.tmp.sizeLimit | quote }}
- name: home
  emptyDir:
    sizeLimit: 64Mi
- name: cache
  emptyDir:
    sizeLimit: {{ .Values.cache.sizeLimit | quote }}
- name: shared-memory
  emptyDir:
    medium: Memory
    sizeLimit: {{ .Values.sharedMemory.sizeLimit | quote }}
{{- if include "xuanyuan.usesWeights" . }}
- name: weights
  {{- include "xuanyuan.weightsVolume" . | nindent 2 }}
{{- end }}
{{- with include "xuanyuan.keysSecret" . }}
- name: keys
  secret:
    secretName: {{ . | quote }}
    # For the volume's group, which is the server's; where the chart sets no group, for all in the pod.
    defaultMode: {{ ternary "0440" "0444" (gt (int64 $.Values.security.fsGroup) 0) }}
    items:
      - key: {{ ternary $.Values.keys.file "keys.json" (ne $.Values.keys.existingSecret "") | quote }}
        path: keys.json
{{- end }}
{{- if .Values.catalog }}
- name: catalog
  configMap:
    name: {{ include "xuanyuan.fullname" . }}-catalog
{{- end }}
{{- end -}}

{{- define "xuanyuan.weightsVolume" -}}
{{- with .Values.weights -}}
{{- if eq .volume "emptyDir" -}}
emptyDir:
  sizeLimit: {{ .size | quote }}
{{- else if eq .volume "ephemeral" -}}
ephemeral:
  volumeClaimTemplate:
    spec:
      accessModes: [ReadWriteOnce]
      {{- with .storageClass }}
      storageClassName: {{ . | quote }}
      {{- end }}
      resources:
        requests:
          storage: {{ .size | quote }}
{{- else if eq .volume "hostPath" -}}
hostPath:
  path: {{ .hostPath | quote }}
  type: Directory
{{- else -}}
persistentVolumeClaim:
  claimName: {{ eq .volume "claim" | ternary (printf "%s-weights" (include "xuanyuan.fullname" $)) .existingClaim | quote }}
{{- end -}}
{{- end -}}
{{- end -}}
