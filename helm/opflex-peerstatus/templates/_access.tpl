{{/* "true" if clients have a way to show who they are. */}}
{{- define "peerstatus.credentials" -}}
{{- $auth := .Values.server.auth -}}
{{ if or $auth.tokens $auth.jwt .Values.server.tls.client_ca }}true{{ end }}
{{- end }}

{{/* Who may do what without credentials: what the values say, or else the service's defaults and ours. */}}
{{- define "peerstatus.localRole" -}}
{{- $default := .Values.hostNetwork | ternary "viewer" "operator" -}}
{{- if include "peerstatus.credentials" . }}{{ $default = "none" }}{{ end -}}
{{ .Values.server.auth.local | default $default }}
{{- end }}

{{- define "peerstatus.anonymousRole" -}}
{{- $default := "viewer" -}}
{{- if or (include "peerstatus.credentials" .) .Values.hostNetwork }}{{ $default = "none" }}{{ end -}}
{{ .Values.server.auth.anonymous | default $default }}
{{- end }}

{{/* "true" if what leaves the machine is in plaintext. */}}
{{- define "peerstatus.open" -}}
{{ if not (or (include "peerstatus.tlsSecret" .) (include "peerstatus.loopback" .Values.server.listen)) }}true{{ end }}
{{- end }}

{{/* Why `helm test` would be refused; nothing if it is let in. */}}
{{- define "peerstatus.testRefused" -}}
{{- $tls := .Values.server.tls -}}
{{- $local := include "peerstatus.loopback" .Values.server.listen -}}
{{- $role := $local | empty | ternary (include "peerstatus.anonymousRole" .) (include "peerstatus.localRole" .) -}}
{{- if and $tls.client_ca (eq ($tls.client_auth | default "optional") "required") -}}
its pod has no certificate to show, and server.tls.client_auth is required.
{{- else if and (eq $role "none") (not .Values.test.token) -}}
it shows no credentials. {{ with .Values.server.auth.jwt }}Have it send the token of its service account (test.token.audience={{ .audience }}), or name{{ else }}Name{{ end }} a secret with a token: test.token.secret
{{- if not (or .Values.server.auth.tokens .Values.server.auth.jwt) }} (and server.auth.tokens, which has it taken){{ end }}
{{- if include "peerstatus.open" . }} (and server.tls, without which no token is sent){{ end }}
{{- if $local }}, or let the node look without: server.auth.local=viewer{{ end }}.
{{- end }}
{{- end }}
