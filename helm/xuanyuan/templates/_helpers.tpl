{{/* Names and labels. */}}

{{/* The name of all objects: at most 40 characters, so that what KubeRay appends for its pods still fits into 63. */}}
{{- define "xuanyuan.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride -}}
{{- else if contains $name .Release.Name -}}
{{- include "xuanyuan.short" .Release.Name -}}
{{- else -}}
{{- include "xuanyuan.short" (printf "%s-%s" .Release.Name $name) -}}
{{- end -}}
{{- end -}}

{{/* A name as a Service may have it: it begins with a letter, has no dot and 40 characters at most. A name that is cut gets
     a checksum, so that two releases with the same beginning stay apart. */}}
{{- define "xuanyuan.short" -}}
{{- $name := . | replace "." "-" -}}
{{- if not (regexMatch "^[a-z]" $name) -}}{{- $name = printf "x%s" $name -}}{{- end -}}
{{- if gt (len $name) 40 -}}
{{- $name = printf "%s-%s" (trunc 31 $name | trimSuffix "-") (sha256sum . | trunc 8) -}}
{{- end -}}
{{- $name -}}
{{- end -}}

{{- define "xuanyuan.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "xuanyuan.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{/* What a selector matches; it never changes while a release lives. */}}
{{- define "xuanyuan.selectorLabels" -}}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/component: server
{{- end -}}

{{/* Labels of every object. Call with (dict "root" $ "component" NAME). */}}
{{- define "xuanyuan.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "xuanyuan.podLabels" . }}
{{- end -}}

{{/* Labels of a pod: without the chart's version, which would load every model again when only the chart changed. */}}
{{- define "xuanyuan.podLabels" -}}
app.kubernetes.io/name: {{ default .root.Chart.Name .root.Values.nameOverride | quote }}
app.kubernetes.io/instance: {{ .root.Release.Name | quote }}
app.kubernetes.io/component: {{ .component }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
app.kubernetes.io/part-of: xuanyuan
{{- end -}}

{{/* A map of texts as YAML, each quoted: `yes` and `1e3` stay texts. */}}
{{- define "xuanyuan.texts" -}}
{{- range $name, $text := . }}
{{ $name | quote }}: {{ $text | quote }}
{{- end }}
{{- end -}}

{{- define "xuanyuan.image" -}}
{{- with .Values.image -}}
{{- $tag := default (printf "%s-%s" $.Chart.AppVersion (ternary "cuda" "cpu" (gt (int $.Values.gpu.count) 0))) .tag -}}
{{- if .digest -}}{{ printf "%s@%s" .repository .digest }}{{- else -}}{{ printf "%s:%s" .repository $tag }}{{- end -}}
{{- end -}}
{{- end -}}
