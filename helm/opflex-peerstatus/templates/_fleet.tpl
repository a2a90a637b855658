{{/* "true" if there is a Deployment of `peerstatus fleet`. */}}
{{- define "peerstatus.hasReader" -}}
{{ with .Values.fleet }}{{ if and .enabled .reader.enabled }}true{{ end }}{{ end }}
{{- end }}

{{/*
The context in which the other templates make the objects of `peerstatus fleet`, as YAML: the release under another name, with what differs
from the nodes' in the values.
*/}}
{{- define "peerstatus.reader" -}}
{{- $reader := .Values.fleet.reader }}
{{- $values := deepCopy .Values }}
{{- $_ := set $values "mode" "deployment" }}
{{- $_ := set $values "hostNetwork" false }}
{{- /* NAME-fleet-admin has at most 63 characters. */}}
{{- $_ := set $values "fullnameOverride" (printf "%s-fleet" (include "peerstatus.fullname" . | trunc 51 | trimSuffix "-")) }}
{{- $_ := set $values "serviceAccount" (dict "create" .Values.serviceAccount.create "name" (include "peerstatus.serviceAccountName" .)) }}
{{- range $key := list "listen" "admin" }}
{{- $address := get $.Values.server $key }}
{{- if include "peerstatus.loopback" $address }}{{ $_ := set $values.server $key (printf "[::]:%s" (include "peerstatus.port" $address)) }}{{ end }}
{{- end }}
{{- $_ := set $values "service" (merge (dict "headless" false) $reader.service (pick .Values.service "ipFamilyPolicy" "ipFamilies")) }}
{{- $_ := set $values "resources" ($reader.resources | default .Values.resources) }}
{{- $_ := set $values "podDisruptionBudget" (dict "enabled" true "maxUnavailable" 1) }}
{{- $_ := set $values "updateStrategy" dict }}
{{- $_ := set $values.networkPolicy "peerPorts" list }}
{{- $_ := set $values.fleet "auth" $reader.auth }}
{{- if $reader.tls.secret }}{{ $_ := set $values.fleet.tls "secret" $reader.tls.secret }}{{ end }}
{{- range $key := list "nodeSelector" "tolerations" "affinity" }}{{ $_ := set $values $key (get $reader $key) }}{{ end }}
{{- range $key := list "pools" "initContainers" "extraContainers" "extraEnv" "extraVolumes" "extraVolumeMounts" }}{{ $_ := set $values $key list }}{{ end }}
{{- $chart := dict "Name" .Chart.Name "Version" .Chart.Version "AppVersion" .Chart.AppVersion }}
{{- $release := dict "Name" .Release.Name "Namespace" .Release.Namespace "Service" .Release.Service }}
{{- dict "Values" $values "Chart" $chart "Release" $release "role" "fleet" | toYaml }}
{{- end }}

{{/* The credentials for NATS in the pod: a file. */}}
{{- define "peerstatus.natsFile" -}}
{{ contains "{node}" (.key | default .kind) | ternary "/etc/peerstatus/nats-node/credentials" (printf "/etc/peerstatus/nats/%s" (.key | default .kind)) }}
{{- end }}

{{/* What is mounted for the connection to NATS, as in peerstatus.sources. A key with {node} is mounted alone: a pod sees that of its node. */}}
{{- define "peerstatus.natsSources" -}}
{{- with .Values.fleet }}{{ if .enabled }}
{{- with .auth }}
{{- $key := .key | default .kind }}
{{- if contains "{node}" $key }}
- {name: nats, path: {{ include "peerstatus.natsFile" . }}, secret: {{ .secret }}, subPathExpr: {{ $key | replace "{node}" "$(NODE_NAME)" | quote }}}
{{- else }}
- {name: nats, path: /etc/peerstatus/nats, secret: {{ .secret }}}
{{- end }}
{{- end }}
{{- include "peerstatus.source" (dict "name" "nats-tls" "path" "/etc/peerstatus/nats-tls" "source" (pick .tls "secret")) }}
{{- include "peerstatus.source" (dict "name" "nats-ca" "path" "/etc/peerstatus/nats-ca" "source" .tls.ca) }}
{{- end }}{{ end }}
{{- end }}

{{- define "peerstatus.fleetConfig" -}}
{{- $fleet := .Values.fleet }}
{{- $pairs := pick $fleet "cluster" "nats" "stream" "create_stream" "max_age" "max_bytes" "replicas" }}
{{- if eq .Values.mode "statefulset" }}{{ $_ := set $pairs "node" ($fleet.node | default (include "peerstatus.fullname" .)) }}{{ end }}
{{- with $fleet.auth }}
{{- $_ := set $pairs (printf "%s_file" .kind) (include "peerstatus.natsFile" .) }}
{{- if .user }}{{ $_ := set $pairs "user" .user }}{{ end }}
{{- end }}
{{- include "peerstatus.table" (dict "name" "fleet" "pairs" $pairs) }}
{{- $pairs = pick $fleet.tls "mode" }}
{{- if $fleet.tls.secret }}
{{- $_ := set $pairs "cert" "/etc/peerstatus/nats-tls/tls.crt" }}
{{- $_ := set $pairs "key" "/etc/peerstatus/nats-tls/tls.key" }}
{{- end }}
{{- with $fleet.tls.ca }}{{ $_ := set $pairs "ca" (printf "/etc/peerstatus/nats-ca/%s" (.key | default "ca.crt")) }}{{ end }}
{{- include "peerstatus.table" (dict "name" "fleet.tls" "pairs" $pairs) }}
{{- if eq .role "fleet" }}{{ include "peerstatus.table" (dict "name" "fleet.limits" "pairs" $fleet.limits) }}{{ end }}
{{- end }}

{{- define "peerstatus.checkFleet" -}}
{{- $fleet := .Values.fleet }}
{{- if not $fleet.cluster }}
{{- fail "fleet.cluster: name the cluster that the nodes belong to" }}
{{- end }}
{{- if not $fleet.nats }}
{{- fail "fleet.nats: give the URLs of the NATS servers, such as nats://nats.nats:4222" }}
{{- end }}
{{- if and $fleet.node (eq .Values.mode "daemonset") }}
{{- fail "fleet.node: in a daemonset all nodes would have one name; it is the name of the Kubernetes node there" }}
{{- end }}
{{- $auth := $fleet.auth | default dict }}
{{- $readerAuth := $fleet.reader.auth | default dict }}
{{- $key := $auth.key | default "" }}
{{- if contains "{node}" $key }}
{{- if ne .Values.mode "daemonset" }}
{{- fail "fleet.auth.key: {node} is for mode daemonset" }}
{{- end }}
{{- if eq $auth.kind "password" }}
{{- fail "fleet.auth.key: {node} has no effect with kind password, whose fleet.auth.user is the same on all nodes; use nkey or credentials" }}
{{- end }}
{{- end }}
{{- range $place, $auth := dict "fleet.auth" $auth "fleet.reader.auth" $readerAuth }}
{{- if ne (eq ($auth.kind | default "") "password") (empty $auth.user | not) }}
{{- fail (printf "%s.user: needed with kind password, and only then" $place) }}
{{- end }}
{{- if regexMatch `[{}]` ($auth.key | default "" | replace "{node}" "") }}
{{- fail (printf "%s.key: {node} is all that is replaced" $place) }}
{{- end }}
{{- end }}
{{- if include "peerstatus.hasReader" . }}
{{- if contains "{node}" ($readerAuth.key | default "") }}
{{- fail "fleet.reader.auth.key: {node} is for fleet.auth; the reader belongs to no node" }}
{{- end }}
{{- if and $auth (not $readerAuth) }}
{{- fail "fleet.reader.auth: the credentials of a node cannot read the stream, so the reader needs its own; or set fleet.reader.enabled=false" }}
{{- end }}
{{- $reader := include "peerstatus.reader" . | fromYaml }}
{{- include "peerstatus.checkService" (merge (dict "place" "fleet.reader.service") $reader) }}
{{- include "peerstatus.checkResources" (merge (dict "place" "fleet.reader.resources") $reader) }}
{{- end }}
{{- end }}

{{/* The ports of the NATS servers, as a YAML list. */}}
{{- define "peerstatus.natsPorts" -}}
{{- $ports := list }}
{{- if .Values.fleet.enabled }}
{{- range .Values.fleet.nats }}{{ $ports = append $ports (regexFind `:[0-9]+$` . | trimPrefix ":" | default "4222" | int) }}{{ end }}
{{- end }}
{{- $ports | uniq | toYaml }}
{{- end }}
