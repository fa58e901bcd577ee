{{/* From values to the launcher's environment. */}}

{{/* A value as the text of a variable. Helm's numbers are doubles: a whole one must not come out as 1.048576e+06. */}}
{{- define "xuanyuan.text" -}}
{{- if and (kindIs "float64" .) (eq (floor .) .) -}}{{ int64 . }}{{- else -}}{{ . }}{{- end -}}
{{- end -}}

{{/* The XUANYUAN_ variables of a ConfigMap: every setting of `config` that is not empty, and what other values decide. */}}
{{- define "xuanyuan.settings" -}}
{{- $rateLimitSecret := .Values.rateLimitSecret.name -}}
{{- range $name, $value := .Values.config }}
{{- if and (ne (toString $value) "") (not (and $rateLimitSecret (eq $name "rateLimitStorage"))) }}
XUANYUAN_{{ snakecase $name | upper }}: {{ include "xuanyuan.text" $value | quote }}
{{- end }}
{{- end }}
{{- if eq .Values.mode "ray" }}
{{- if .Values.autoscaling.enabled }}
XUANYUAN_AUTOSCALE: {{ printf "%d:%d" (int .Values.autoscaling.minReplicas) (int .Values.autoscaling.maxReplicas) | quote }}
{{- else }}
XUANYUAN_REPLICAS: {{ int .Values.replicas | quote }}
{{- end }}
{{- end }}
{{- if include "xuanyuan.keysSecret" . }}
XUANYUAN_KEYS_FILE: /etc/xuanyuan/keys/keys.json
{{- end }}
{{- if .Values.catalog }}
XUANYUAN_CATALOG: /etc/xuanyuan/catalog/catalog.toml
{{- end }}
{{- end -}}

{{/* Folders that the image does not name: what compilers keep, and where weights are shared. The root is read-only. */}}
{{- define "xuanyuan.folders" -}}
- name: TORCHINDUCTOR_CACHE_DIR
  value: /cache/torchinductor
{{- if include "xuanyuan.usesWeights" . }}
- name: HF_HOME
  value: /weights/huggingface
- name: MODELSCOPE_CACHE
  value: /weights/modelscope
{{- end }}
{{- end -}}

{{/* "true" where weights come into a volume: there is a model to serve that is not in the image. */}}
{{- define "xuanyuan.usesWeights" -}}
{{- if .Values.config.model -}}true{{- end -}}
{{- end -}}

{{/* "true" where an init container may fetch them: the model is a name, not a folder. */}}
{{- define "xuanyuan.downloads" -}}
{{- if and .Values.config.model .Values.weights.download (not (hasPrefix "/" .Values.config.model)) -}}true{{- end -}}
{{- end -}}

{{/* The Secret with the keys file; "" where anybody may ask. */}}
{{- define "xuanyuan.keysSecret" -}}
{{- if .Values.keys.existingSecret -}}
{{- .Values.keys.existingSecret -}}
{{- else if not .Values.config.allowAnonymous -}}
{{- printf "%s-keys" (include "xuanyuan.fullname" .) -}}
{{- end -}}
{{- end -}}

{{/* The Secret of which a metrics scraper takes its key, as "NAME KEY"; "" where it needs none or none is known. */}}
{{- define "xuanyuan.metricsKey" -}}
{{- if .Values.metrics.keySecret.name -}}
{{- printf "%s %s" .Values.metrics.keySecret.name .Values.metrics.keySecret.key -}}
{{- else if and (include "xuanyuan.keysSecret" .) (not .Values.keys.existingSecret) -}}
{{- printf "%s-api-keys metrics-key" (include "xuanyuan.fullname" .) -}}
{{- end -}}
{{- end -}}

{{/* Seconds for one answer at most, for what stands in front of the server; 0: no limit. */}}
{{- define "xuanyuan.answerSeconds" -}}
{{- $limit := .Values.config.requestTimeout -}}
{{- if $limit -}}{{ add (ceil $limit | int64) 30 }}{{- else -}}0{{- end -}}
{{- end -}}

{{/* "true" where the model has a chat: not a base model of the family, nor one that is served without a template. */}}
{{- define "xuanyuan.chats" -}}
{{- $base := regexMatch "(^|/)(Llama3-)?XuanYuan[23]?-[0-9]+B$" .Values.config.model -}}
{{- $demoBase := and (not .Values.config.model) (eq .Values.config.demoForm "base") -}}
{{- if not (or (eq .Values.config.template "none") $demoBase (and $base (eq .Values.config.template "auto"))) -}}true{{- end -}}
{{- end -}}

{{/* What Ray's own processes read, on every node: as `xuanyuan ray-config` prints it. A test compares the two. */}}
{{- define "xuanyuan.rayEnvironment" -}}
{{- $folder := "/tmp/xuanyuan-haproxy" -}}
{{- $longest := ternary (ceil .Values.config.requestTimeout | int64) 3600 (gt (float64 .Values.config.requestTimeout) 0.0) -}}
{{- $environment := dict
  "RAY_SERVE_LLM_ENABLE_DIRECT_STREAMING" "1"
  "RAY_SERVE_ENABLE_HA_PROXY" "1"
  "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC" (printf "%s/haproxy.cfg" $folder)
  "RAY_SERVE_HAPROXY_SOCKET_PATH" (printf "%s/admin.sock" $folder)
  "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH" (printf "%s/metrics.sock" $folder)
  "RAY_SERVE_HAPROXY_SERVER_STATE_BASE" $folder
  "RAY_SERVE_HAPROXY_SERVER_STATE_FILE" (printf "%s/server-state" $folder)
  "RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S" (add $longest 30)
  "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S" "5"
  "RAY_SERVE_HAPROXY_HEALTH_CHECK_INTER" "1s"
  "RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S" "1"
  "RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD" "0"
  "RAY_SERVE_INGRESS_REQUEST_ROUTER_FORWARD_BODY" (ternary "1" "0" (eq .Values.config.routing "prefix"))
  "RAY_SERVE_HAPROXY_INGRESS_REQUEST_ROUTER_BUFSIZE" (add (int64 .Values.config.maxBodyBytes) 65536)
  "RAY_SERVE_LOG_TO_STDERR" "0"
  "RAY_USAGE_STATS_ENABLED" "0"
  "RAYLLM_ENABLE_REQUEST_PROMPT_LOGS" "0"
  "VLLM_LOGGING_LEVEL" "WARNING" -}}
{{- range $name, $value := $environment }}
- name: {{ $name }}
  value: {{ toString $value | quote }}
{{- end }}
{{- end -}}
