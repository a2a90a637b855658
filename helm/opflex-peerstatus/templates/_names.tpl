{{- define "peerstatus.name" -}}
{{ default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "peerstatus.fullname" -}}
{{- $name := include "peerstatus.name" . -}}
{{- if .Values.fullnameOverride -}}
{{ .Values.fullnameOverride | trunc 63 | trimSuffix "-" }}
{{- else if contains $name .Release.Name -}}
{{ .Release.Name | trunc 63 | trimSuffix "-" }}
{{- else -}}
{{ printf "%s-%s" .Release.Name $name | trunc 63 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "peerstatus.selector" -}}
app.kubernetes.io/name: {{ include "peerstatus.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: service
{{- end }}

{{- define "peerstatus.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/name: {{ include "peerstatus.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "peerstatus.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{ default (include "peerstatus.fullname" .) .Values.serviceAccount.name }}
{{- else -}}
{{ default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "peerstatus.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}
{{- end }}

{{- define "peerstatus.tlsSecret" -}}
{{- if .Values.server.tls.certManager.enabled -}}
{{ include "peerstatus.fullname" . }}-tls
{{- else -}}
{{ .Values.server.tls.secret }}
{{- end }}
{{- end }}

{{/* The DNS names of the Service, as a YAML list. */}}
{{- define "peerstatus.serviceNames" -}}
{{- $name := include "peerstatus.fullname" . -}}
{{- $qualified := printf "%s.%s" $name .Release.Namespace -}}
{{ list $name $qualified (printf "%s.svc" $qualified) (printf "%s.svc.cluster.local" $qualified) | toYaml }}
{{- end }}

{{/* The names in the certificate. */}}
{{- define "peerstatus.dnsNames" -}}
{{- $names := append (include "peerstatus.serviceNames" . | fromYamlArray) "localhost" -}}
{{ concat $names .Values.server.tls.certManager.dnsNames | uniq | toYaml }}
{{- end }}

{{/*
The host names of the admin port. Each pod behind a headless Service has a name below that of the Service. A name that ends in a
number, as NAME.NAMESPACE can, is not a DNS name to the service.
*/}}
{{- define "peerstatus.adminHosts" -}}
{{- $names := include "peerstatus.serviceNames" . | fromYamlArray -}}
{{- if .Values.service.headless }}{{ $names = append $names (printf "*.%s" (last $names)) }}{{ end -}}
{{- if regexMatch `^([0-9]+|0x[0-9a-f]*)$` .Release.Namespace }}{{ $names = without $names (index $names 1) }}{{ end -}}
{{ concat $names .Values.server.admin_allowed_hosts | uniq | toYaml }}
{{- end }}

{{- define "peerstatus.port" -}}
{{ regexFind "[0-9]+$" . }}
{{- end }}

{{/* "true" if an address is the machine's own. */}}
{{- define "peerstatus.loopback" -}}
{{ if or (hasPrefix "127." .) (hasPrefix "[::1]:" .) }}true{{ end }}
{{- end }}

{{/* The pool that `helm test` waits for; nothing if there is none. */}}
{{- define "peerstatus.testPool" -}}
{{- with .Values.test.pool }}{{ . }}{{ else }}{{ with .Values.pools }}{{ (first .).name | default "default" }}{{ end }}{{ end }}
{{- end }}

{{- /* The prefix of docs/runbook.md in files/, which prometheusRule.runbookBase replaces. */}}
{{- define "peerstatus.runbookBase" -}}
https://git.example/opflex-peerstatus/blob/main/
{{- end }}
