{{/* `key = value` for each value of a map that is a string, a number, a bool or a list, and set. */}}
{{- define "peerstatus.pairs" -}}
{{- range $key, $value := . }}
{{- if kindIs "string" $value }}{{ if $value }}
{{ $key }} = {{ toRawJson $value }}
{{- end }}
{{- else if kindIs "slice" $value }}
{{ $key }} = {{ toRawJson $value }}
{{- else if kindIs "bool" $value }}
{{ $key }} = {{ $value }}
{{- else if or (kindIs "float64" $value) (kindIs "int64" $value) (kindIs "int" $value) }}
{{ $key }} = {{ int64 $value }}
{{- end }}
{{- end }}
{{- end }}

{{/* A table, with its header, if it has anything. */}}
{{- define "peerstatus.table" -}}
{{- $pairs := include "peerstatus.pairs" .pairs -}}
{{- if or $pairs .always }}

[{{ .name }}]
{{- $pairs }}
{{- end }}
{{- end }}

{{- define "peerstatus.auth" -}}
{{- $auth := .Values.server.auth }}
{{- $local := $auth.local }}
{{- $anonymous := $auth.anonymous }}
{{- if not (include "peerstatus.credentials" .) }}
{{- if .Values.hostNetwork }}
{{- $local = default "viewer" $local }}
{{- else }}
{{- $anonymous = default "viewer" $anonymous }}
{{- end }}
{{- end }}
{{- $pairs := dict "local" $local "anonymous" $anonymous "authenticated" $auth.authenticated }}
{{- with $auth.tokens }}{{ $_ := set $pairs "tokens" (printf "/etc/peerstatus/tokens/%s" (.key | default "tokens.txt")) }}{{ end }}
{{- include "peerstatus.table" (dict "name" "server.auth" "pairs" $pairs) }}
{{- with $auth.jwt }}
{{- $pairs := dict "jwks" (printf "/etc/peerstatus/jwks/%s" (.jwks.key | default "jwks.json")) "issuer" .issuer "audience" .audience }}
{{- include "peerstatus.table" (dict "name" "server.auth.jwt" "pairs" $pairs) }}
{{- end }}
{{- range $auth.grant }}

[[server.auth.grant]]
{{- include "peerstatus.pairs" . }}
{{- end }}
{{- end }}

{{- define "peerstatus.serverTls" -}}
{{- $pairs := dict "cert" "/etc/peerstatus/tls/tls.crt" "key" "/etc/peerstatus/tls/tls.key" }}
{{- with .Values.server.tls.client_ca }}
{{- $_ := set $pairs "client_ca" (printf "/etc/peerstatus/clients/%s" (.key | default "ca.crt")) }}
{{- $_ := set $pairs "client_auth" ($.Values.server.tls.client_auth | default "optional") }}
{{- end }}
{{- include "peerstatus.table" (dict "name" "server.tls" "pairs" $pairs) }}
{{- end }}

{{- define "peerstatus.pool" -}}
{{- $name := .pool.name | default "default" }}
{{- $folder := printf "/etc/peerstatus/pools/%s" $name }}

[[pool]]
{{- if eq (.pool.source | default "connect") "agent" }}
{{- include "peerstatus.pairs" (dict "name" $name "source" "agent" "log" (include "peerstatus.agentLog" .pool) "peer_port" .pool.peer_port "level_hint" .pool.level_hint) }}
{{- else }}
{{- include "peerstatus.pairs" (dict "name" $name "mode" .pool.mode "peers" (.pool.peers | default list) "learn_local" .pool.learn_local) }}
{{- $identity := deepCopy (.pool.identity | default dict) }}
{{- if and (ne .Values.mode "daemonset") (not $identity.name) }}
{{- $_ := set $identity "name" (include "peerstatus.fullname" .) }}
{{- end }}
{{- include "peerstatus.table" (dict "name" "pool.identity" "pairs" $identity) }}
{{- with .pool.tls }}
{{- $pairs := dict "mode" .mode "server_name" .server_name }}
{{- if .secret }}
{{- $_ := set $pairs "cert" (printf "%s/tls.crt" $folder) }}
{{- $_ := set $pairs "key" (printf "%s/tls.key" $folder) }}
{{- end }}
{{- with .ca }}{{ $_ := set $pairs "ca" (printf "/etc/peerstatus/pool-cas/%s/%s" $name (.key | default "ca.crt")) }}{{ end }}
{{- include "peerstatus.table" (dict "name" "pool.tls" "pairs" $pairs) }}
{{- end }}
{{- include "peerstatus.table" (dict "name" "pool.timers" "pairs" (.pool.timers | default dict)) }}
{{- end }}
{{- end }}

{{/* The log of an observed pool, and the folder on the node that has it: all before the first wildcard. */}}
{{- define "peerstatus.agentLog" -}}
{{ .log | default "/var/log/pods/aci-containers-system_aci-containers-host-*/opflex-agent/*.log" }}
{{- end }}

{{- define "peerstatus.agentLogFolder" -}}
{{ regexReplaceAll `/[^/*?]*([*?].*)?$` (include "peerstatus.agentLog" .) "" }}
{{- end }}

{{/* The pool that observes the node's agent, as JSON, if there is one: in a daemonset, there is one pool. */}}
{{- define "peerstatus.observed" -}}
{{- range .Values.pools }}{{ if eq (.source | default "connect") "agent" }}{{ toJson . }}{{ end }}{{ end }}
{{- end }}

{{- define "peerstatus.config" -}}
# Made by the chart {{ .Chart.Name }}; docs/configuration.md says what each key means.
{{- $server := pick .Values.server "listen" "admin" "drain_timeout" "threads" "pacing" }}
{{- $_ := set $server "admin_allowed_hosts" (include "peerstatus.adminHosts" . | fromYamlArray) }}
{{- $tls := include "peerstatus.tlsSecret" . }}
{{- if and (not $tls) (not (include "peerstatus.loopback" .Values.server.listen)) }}{{ $_ := set $server "insecure" .Values.server.insecure }}{{ end }}
{{- include "peerstatus.table" (dict "name" "server" "pairs" $server) }}
{{- with .Values.server.web.allowed_origins }}
{{- include "peerstatus.table" (dict "name" "server.web" "pairs" (dict "allowed_origins" .)) }}
{{- end }}
{{- with .Values.server.socket }}{{ if .path }}
{{- include "peerstatus.table" (dict "name" "server.socket" "pairs" .) }}
{{- end }}{{ end }}
{{- if $tls }}{{ include "peerstatus.serverTls" . }}{{ end }}
{{- include "peerstatus.auth" . }}
{{- range $name := list "limits" "history" "log" }}
{{- include "peerstatus.table" (dict "name" $name "pairs" (get $.Values $name)) }}
{{- end }}
{{- if .Values.fleet.enabled }}{{ include "peerstatus.fleetConfig" . }}{{ end }}
{{- range .Values.pools }}
{{- include "peerstatus.pool" (dict "pool" . "Values" $.Values "Chart" $.Chart "Release" $.Release) }}
{{- end }}
{{- end }}
