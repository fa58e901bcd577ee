{{/* What no schema can say: values that exclude or need each other. Each message names the value, what it is and what was
     expected. */}}
{{- define "xuanyuan.check" -}}
{{- include "xuanyuan.checkTermination" . -}}
{{- include "xuanyuan.checkRollout" . -}}
{{- include "xuanyuan.checkModel" . -}}
{{- include "xuanyuan.checkHardware" . -}}
{{- include "xuanyuan.checkKeys" . -}}
{{- include "xuanyuan.checkEnvironment" . -}}
{{- include "xuanyuan.checkExposure" . -}}
{{- include "xuanyuan.checkScaling" . -}}
{{- end -}}

{{- define "xuanyuan.checkTermination" -}}
{{- $drain := add (ceil .Values.config.drainDelay | int64) (ceil .Values.config.drainTimeout | int64) -}}
{{- $needed := add (int .Values.termination.preStopSeconds) $drain 10 -}}
{{- $grace := int .Values.termination.gracePeriodSeconds -}}
{{- if le $grace (int $needed) -}}
{{- fail (printf "values.termination.gracePeriodSeconds must be more than termination.preStopSeconds + config.drainDelay + config.drainTimeout + 10 = %d, or answers are cut off; got %d" $needed $grace) -}}
{{- end -}}
{{- $deadline := int .Values.rollout.progressDeadlineSeconds -}}
{{- if le $deadline (ceil .Values.config.startTimeout | int) -}}
{{- fail (printf "values.rollout.progressDeadlineSeconds must be more than config.startTimeout = %v, or a start that is still under way counts as failed; got %d" .Values.config.startTimeout $deadline) -}}
{{- end -}}
{{- end -}}

{{- define "xuanyuan.checkRollout" -}}
{{- if not (or .Values.rollout.maxSurge .Values.rollout.maxUnavailable) -}}
{{- fail "values.rollout.maxSurge must be 1 or more where rollout.maxUnavailable is 0, or no rollout could begin; got 0" -}}
{{- end -}}
{{- end -}}

{{- define "xuanyuan.checkModel" -}}
{{- $model := .Values.config.model -}}
{{- with .Values.weights -}}
{{- if and $model (eq .volume "existingClaim") (not .existingClaim) -}}
{{- fail "values.weights.existingClaim must be the name of a claim where weights.volume is existingClaim; got \"\"" -}}
{{- end -}}
{{- if and .existingClaim (ne .volume "existingClaim") -}}
{{- fail (printf "values.weights.existingClaim is %q, but weights.volume is %q; set weights.volume to existingClaim" .existingClaim .volume) -}}
{{- end -}}
{{- if and $model (eq .volume "hostPath") (not .hostPath) -}}
{{- fail "values.weights.hostPath must be a folder of the nodes where weights.volume is hostPath; got \"\"" -}}
{{- end -}}
{{- if and .hostPath (ne .volume "hostPath") -}}
{{- fail (printf "values.weights.hostPath is %q, but weights.volume is %q; set weights.volume to hostPath" .hostPath .volume) -}}
{{- end -}}
{{- if and $model (has .volume (list "emptyDir" "ephemeral")) (not (include "xuanyuan.downloads" $)) -}}
{{- fail (printf "values.weights.volume is %q, which is empty at first, but nothing is fetched into it (weights.download is %v, config.model is %q); use claim, existingClaim or hostPath" .volume .download $model) -}}
{{- end -}}
{{- if and $model (eq .volume "claim") (eq .accessMode "ReadWriteOnce") -}}
{{- fail (printf "values.weights.accessMode must be ReadWriteMany where weights.volume is claim, for a rollout's new pod may be on another node; got %q. A claim for each pod is weights.volume: ephemeral" .accessMode) -}}
{{- end -}}
{{- if and (hasPrefix "/" $model) (not (hasPrefix "/weights/" $model)) -}}
{{- fail (printf "values.config.model must be a name of the catalog, an id of the hub, or a folder of the volume, /weights/…; got %q" $model) -}}
{{- end -}}
{{- if regexMatch "[\\x00-\\x20\"'\\\\]" $model -}}
{{- fail (printf "values.config.model must be a name without spaces, quotes and control characters; got %q" $model) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "xuanyuan.checkHardware" -}}
{{- $gpus := int .Values.gpu.count -}}
{{- with .Values.config -}}
{{- if and (eq .device "cuda") (eq $gpus 0) -}}
{{- fail "values.gpu.count must be 1 or more where config.device is cuda; got 0" -}}
{{- end -}}
{{- if and (eq .device "cpu") (gt $gpus 0) -}}
{{- fail (printf "values.gpu.count must be 0 where config.device is cpu; got %d" $gpus) -}}
{{- end -}}
{{- if and (gt $gpus 0) (not .model) -}}
{{- fail "values.config.model must name a model where gpu.count is above 0: the demo model is for the CPU; got \"\"" -}}
{{- end -}}
{{- $wanted := mul (int .tensorParallelSize) (int .pipelineParallelSize) -}}
{{- if and (gt $gpus 0) (gt $wanted 0) (ne (int $wanted) $gpus) -}}
{{- fail (printf "values.gpu.count must be config.tensorParallelSize x config.pipelineParallelSize = %d; got %d" $wanted $gpus) -}}
{{- end -}}
{{- end -}}
{{- include "xuanyuan.checkResources" (list "resources" .Values.resources) -}}
{{- include "xuanyuan.checkResources" (list "ray.head.resources" .Values.ray.head.resources) -}}
{{- end -}}

{{/* A request is within its limit. */}}
{{- define "xuanyuan.checkResources" -}}
{{- $path := index . 0 -}}
{{- $given := index . 1 -}}
{{- range $name := list "cpu" "memory" -}}
{{- $request := toString (index $given.requests $name) -}}
{{- $limit := toString (index $given.limits $name) -}}
{{- if and $limit (gt (float64 (include "xuanyuan.amount" $request)) (float64 (include "xuanyuan.amount" $limit))) -}}
{{- fail (printf "values.%s.requests.%s must be at most limits.%s = %s; got %s" $path $name $name $limit $request) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* A quantity as a number. */}}
{{- define "xuanyuan.amount" -}}
{{- $factors := dict "" 1 "m" 0.001 "M" 1e6 "G" 1e9 "T" 1e12 "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776 -}}
{{- $number := regexFind "^[0-9.]+" . -}}
{{- mulf (float64 $number) (index $factors (trimPrefix $number .)) -}}
{{- end -}}

{{- define "xuanyuan.checkKeys" -}}
{{- if and .Values.keys.existingSecret .Values.config.allowAnonymous -}}
{{- fail (printf "values.config.allowAnonymous must be false where keys.existingSecret is set: with keys nobody is anonymous; got true and %q" .Values.keys.existingSecret) -}}
{{- end -}}
{{- $monitored := or .Values.metrics.serviceMonitor.enabled (and .Values.metrics.podMonitor.enabled (eq .Values.mode "standalone")) -}}
{{- if and $monitored .Values.keys.existingSecret (not .Values.metrics.keySecret.name) -}}
{{- fail "values.metrics.keySecret.name must be a Secret with a key of scope metrics where keys.existingSecret is set, or Prometheus is refused; got \"\"" -}}
{{- end -}}
{{- end -}}

{{- define "xuanyuan.checkEnvironment" -}}
{{- $seen := dict -}}
{{- range .Values.extraEnv -}}
{{- if hasPrefix "XUANYUAN_" .name -}}
{{- fail (printf "values.extraEnv must not set %s: the launcher's settings are values of config" .name) -}}
{{- end -}}
{{- if not (regexMatch "^[A-Za-z_][A-Za-z0-9_]*$" .name) -}}
{{- fail (printf "values.extraEnv: a name must be letters, digits and _; got %q" .name) -}}
{{- end -}}
{{- if has .name (list "TORCHINDUCTOR_CACHE_DIR" "HF_HOME" "MODELSCOPE_CACHE" "HF_HUB_OFFLINE" "HF_ENDPOINT" "MODELSCOPE_ENDPOINT" "HF_TOKEN" "MODELSCOPE_API_TOKEN" "RAY_USAGE_STATS_ENABLED") -}}
{{- fail (printf "values.extraEnv must not set %s: the chart does" .name) -}}
{{- end -}}
{{- if and (eq $.Values.mode "ray") (or (hasPrefix "RAY" .name) (eq .name "VLLM_LOGGING_LEVEL")) -}}
{{- fail (printf "values.extraEnv must not set %s with mode ray: Ray and the chart do" .name) -}}
{{- end -}}
{{- if hasKey $seen .name -}}
{{- fail (printf "values.extraEnv sets %s twice" .name) -}}
{{- end -}}
{{- $_ := set $seen .name true -}}
{{- end -}}
{{- range .Values.extraArgs -}}
{{- $flag := regexReplaceAll "=.*" . "" | replace "_" "-" -}}
{{- if has $flag (list "--host" "--port" "--uds" "--headless" "--model" "--api-server-count" "--ssl-keyfile" "--ssl-certfile") -}}
{{- fail (printf "values.extraArgs must not have %s: probes, Service and guard would not know; use the values of config" $flag) -}}
{{- end -}}
{{- end -}}
{{- if and .Values.extraArgs (eq .Values.mode "ray") -}}
{{- fail (printf "values.extraArgs must be empty with mode ray; got %s" (toJson .Values.extraArgs)) -}}
{{- end -}}
{{- range $name, $_ := .Values.podLabels -}}
{{- if or (hasPrefix "app.kubernetes.io/" $name) (hasPrefix "helm.sh/" $name) (hasPrefix "ray.io/" $name) -}}
{{- fail (printf "values.podLabels must not set %s: selectors need it as it is" $name) -}}
{{- end -}}
{{- if not (regexMatch "^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$" $name) -}}
{{- fail (printf "values.podLabels: %q is no name of a label" $name) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "xuanyuan.checkExposure" -}}
{{- if and .Values.httpRoute.enabled (not .Values.httpRoute.parentRefs) -}}
{{- fail "values.httpRoute.parentRefs must name a Gateway where httpRoute.enabled is true; got []" -}}
{{- end -}}
{{- if and .Values.ingress.tlsSecret (not .Values.ingress.hosts) -}}
{{- fail (printf "values.ingress.hosts must name the hosts of the certificate in ingress.tlsSecret = %q; got []" .Values.ingress.tlsSecret) -}}
{{- end -}}
{{- if and .Values.metrics.serviceMonitor.enabled (eq .Values.mode "ray") -}}
{{- fail "values.metrics.serviceMonitor.enabled must be false with mode ray: behind one Service each scrape meets another replica; use metrics.podMonitor" -}}
{{- end -}}
{{- if and .Values.metrics.serviceMonitor.enabled .Values.metrics.podMonitor.enabled -}}
{{- fail "values.metrics.podMonitor.enabled must be false where metrics.serviceMonitor.enabled is true, or everything is counted twice" -}}
{{- end -}}
{{- if and (eq .Values.mode "ray") (has (int .Values.config.port) (list 6379 8080 8265 10001 52365)) -}}
{{- fail (printf "values.config.port must not be one of Ray's own with mode ray; got %d" (int .Values.config.port)) -}}
{{- end -}}
{{- end -}}

{{- define "xuanyuan.checkScaling" -}}
{{- with .Values.autoscaling -}}
{{- if lt (int .maxReplicas) (int .minReplicas) -}}
{{- fail (printf "values.autoscaling.maxReplicas must be at least minReplicas = %d; got %d" (int .minReplicas) (int .maxReplicas)) -}}
{{- end -}}
{{- end -}}
{{- $several := or (gt (int .Values.replicas) 1) .Values.autoscaling.enabled -}}
{{- $limited := or .Values.config.requestsPerMinute .Values.config.tokensPerMinute -}}
{{- if and $several $limited (hasPrefix "memory:" .Values.config.rateLimitStorage) (not .Values.rateLimitSecret.name) -}}
{{- fail (printf "values.config.rateLimitStorage must be a redis:// URL where several copies share config.requestsPerMinute or config.tokensPerMinute, or each counts by itself; got %q" .Values.config.rateLimitStorage) -}}
{{- end -}}
{{- end -}}
