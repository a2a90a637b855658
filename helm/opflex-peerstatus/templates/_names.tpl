{{- define "peerstatus.name" -}}
{{ default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* At most 52 characters: a StatefulSet appends 11 to its name in a label of its pods, the chart up to 11 in other names. */}}
{{- define "peerstatus.fullname" -}}
{{- $name := include "peerstatus.name" . -}}
{{- if .Values.fullnameOverride -}}
{{ .Values.fullnameOverride }}
{{- else if contains $name .Release.Name -}}
{{ .Release.Name | trunc 52 | trimSuffix "-" }}
{{- else -}}
{{ printf "%s-%s" .Release.Name $name | trunc 52 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "peerstatus.kind" -}}
{{ get (dict "daemonset" "DaemonSet" "statefulset" "StatefulSet" "deployment" "Deployment") .Values.mode }}
{{- end }}

{{- define "peerstatus.selector" -}}
app.kubernetes.io/name: {{ include "peerstatus.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: {{ .role | default "service" }}
{{- end }}

{{- define "peerstatus.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/name: {{ include "peerstatus.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{/* The keys of a map that have a value, as YAML. */}}
{{- define "peerstatus.given" -}}
{{- $given := dict }}
{{- range $key, $value := . }}{{ if $value }}{{ $_ := set $given $key $value }}{{ end }}{{ end }}
{{- with $given }}{{ toYaml . }}{{ end }}
{{- end }}

{{/* The metadata of an object of `root`; `name` or `suffix`, `labels` and `annotations` are its own. */}}
{{- define "peerstatus.metadata" -}}
{{- if not (hasKey .root.Values "fleet") }}
{{- fail "the values are those of an older version of the chart, without the defaults of this one; use `helm upgrade --reset-then-reuse-values` instead of --reuse-values" }}
{{- end -}}
name: {{ .name | default (print (include "peerstatus.fullname" .root) (.suffix | default "")) }}
namespace: {{ .root.Release.Namespace }}
labels:
  {{- $labels := include "peerstatus.labels" .root | fromYaml }}
  {{- if .root.role }}{{ $_ := set $labels "app.kubernetes.io/component" .root.role }}{{ end }}
  {{- mergeOverwrite (dict) .root.Values.commonLabels $labels (.labels | default dict) | toYaml | nindent 2 }}
{{- with .annotations }}
annotations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "peerstatus.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{ default (include "peerstatus.fullname" .) .Values.serviceAccount.name }}
{{- else -}}
{{ default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "peerstatus.image" -}}
{{- $repository := .Values.image.repository -}}
{{- with .Values.global.imageRegistry -}}
{{- $repository = printf "%s/%s" (trimSuffix "/" .) (regexReplaceAll "^([^/]*[.:][^/]*|localhost)/" $repository "") -}}
{{- end -}}
{{- if .Values.image.digest -}}
{{ $repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ $repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}
{{- end }}

{{/* Those of a parent chart may be names alone. */}}
{{- define "peerstatus.pullSecrets" -}}
{{- $secrets := list -}}
{{- range .Values.global.imagePullSecrets }}{{ $secrets = append $secrets (kindIs "string" . | ternary (dict "name" .) .) }}{{ end -}}
{{- with concat $secrets .Values.imagePullSecrets | uniq -}}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "peerstatus.tlsSecret" -}}
{{- if .Values.server.tls.certManager.enabled -}}
{{ include "peerstatus.fullname" . }}-tls
{{- else -}}
{{ .Values.server.tls.secret }}
{{- end }}
{{- end }}

{{/* The DNS names of a Service of `root`, as a YAML list. */}}
{{- define "peerstatus.serviceNames" -}}
{{- $name := print (include "peerstatus.fullname" .root) (.suffix | default "") -}}
{{- $qualified := printf "%s.%s" $name .root.Release.Namespace -}}
{{ list $name $qualified (printf "%s.svc" $qualified) (printf "%s.svc.cluster.local" $qualified) | toYaml }}
{{- end }}

{{/* The names in the certificate. */}}
{{- define "peerstatus.dnsNames" -}}
{{- $names := append (include "peerstatus.serviceNames" (dict "root" .) | fromYamlArray) "localhost" -}}
{{ concat $names .Values.server.tls.certManager.dnsNames | uniq | toYaml }}
{{- end }}

{{/*
The host names of the admin port: those of its Service, and those of the other Service, whose pods may have names below it.
A name that ends in a number, as NAME.NAMESPACE can, is not a DNS name to the service.
*/}}
{{- define "peerstatus.adminHosts" -}}
{{- $names := include "peerstatus.serviceNames" (dict "root" . "suffix" "-admin") | fromYamlArray -}}
{{- $names = concat $names (include "peerstatus.serviceNames" (dict "root" .) | fromYamlArray) -}}
{{- if .Values.service.headless }}{{ $names = append $names (printf "*.%s" (last $names)) }}{{ end -}}
{{- if regexMatch `^([0-9]+|0x[0-9a-f]*)$` .Release.Namespace }}{{ $names = without $names (index $names 1) (index $names 5) }}{{ end -}}
{{ concat $names .Values.server.admin_allowed_hosts | uniq | toYaml }}
{{- end }}

{{/* The component of the admin Service, by which a ServiceMonitor finds it. */}}
{{- define "peerstatus.adminComponent" -}}
{{ eq (.role | default "") "fleet" | ternary "fleet-admin" "admin" }}
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
