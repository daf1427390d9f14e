{{- define "mesh-gateway.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* The name of all objects. It leaves room for suffixes. */}}
{{- define "mesh-gateway.fullname" -}}
{{- $name := include "mesh-gateway.name" . }}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" }}
{{- else if contains $name .Release.Name }}
{{- .Release.Name | trunc 52 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 52 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "mesh-gateway.selectorLabels" -}}
app.kubernetes.io/name: {{ include "mesh-gateway.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "mesh-gateway.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "mesh-gateway.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "mesh-gateway.serviceAccountName" -}}
{{- .Values.serviceAccount.name | default (include "mesh-gateway.fullname" .) }}
{{- end }}

{{- define "mesh-gateway.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}
{{- end }}

{{/* "true" if replicas share what they know of writes: the store is in PostgreSQL. What a Secret has cannot
be seen here; it is not used for a store of another kind. */}}
{{- define "mesh-gateway.sharedStore" -}}
{{- if or (hasKey .Values.configFromSecrets "store") (regexMatch "^postgres(ql)?://" (toString (get .Values.config "store"))) }}true{{ end }}
{{- end }}

{{- define "mesh-gateway.scheme" -}}
{{- if .Values.tls.secretName }}https{{ else }}http{{ end }}
{{- end }}

{{/* The environment variable of a flag. */}}
{{- define "mesh-gateway.variable" -}}
MESH_GATEWAY_{{ . | upper | replace "-" "_" }}
{{- end }}

{{/* Values of config as the program reads them. Numbers of values files are floating-point numbers. */}}
{{- define "mesh-gateway.value" -}}
{{- if kindIs "slice" . }}{{ join "," . }}
{{- else if and (kindIs "float64" .) (eq . (floor .)) }}{{ int64 . }}
{{- else }}{{ . }}{{ end }}
{{- end }}

{{/* Settings that would lose writes or do not fit together are refused. */}}
{{- define "mesh-gateway.validate" -}}
{{- $replicas := int .Values.replicaCount }}
{{- if .Values.autoscaling.enabled }}
{{- $replicas = int .Values.autoscaling.maxReplicas }}
{{- if gt (int .Values.autoscaling.minReplicas) $replicas }}
{{- fail "autoscaling.minReplicas must not be more than autoscaling.maxReplicas" }}
{{- end }}
{{- end }}
{{- if and (gt $replicas 1) (not (include "mesh-gateway.sharedStore" .)) }}
{{- fail (printf "%d replicas need a shared store: a retry of a write could reach a replica that does not know its Idempotency-Key, and the write would be made twice. Set configFromSecrets.store to a Secret with a postgres:// URL, or run one replica." $replicas) }}
{{- end }}
{{- if and (hasKey .Values.configFromSecrets "store") (hasKey .Values.config "store") }}
{{- fail "config.store and configFromSecrets.store cannot be set together" }}
{{- end }}
{{- range $name, $value := .Values.config }}
{{- if regexMatch "://[^/]*:[^/]*@" (toString $value) }}
{{- fail (printf "config.%s has a password, which would be readable in a ConfigMap. Put the value into a Secret and name it in configFromSecrets.%s." $name $name) }}
{{- end }}
{{- end }}
{{- range $name := list "listen" "admin-listen" "tls-cert" "tls-key" "tls-client-ca" "tls-self-signed" "credentials" }}
{{- if or (hasKey $.Values.config $name) (hasKey $.Values.configFromSecrets $name) }}
{{- fail (printf "config.%s cannot be set: the chart sets it. For TLS, use tls.secretName." $name) }}
{{- end }}
{{- end }}
{{- if and .Values.tls.clientCA (not .Values.tls.secretName) }}
{{- fail "tls.clientCA needs tls.secretName" }}
{{- end }}
{{- end }}

{{/* What every container may do: nothing beyond the network. */}}
{{- define "mesh-gateway.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{- define "mesh-gateway.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile:
  type: RuntimeDefault
{{- end }}
