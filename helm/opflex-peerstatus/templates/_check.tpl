{{/* What values.schema.json cannot say: values that do not go together. Each message says what to do. */}}
{{- define "peerstatus.check" -}}
{{- $server := .Values.server }}
{{- range $key := list "listen" "admin" }}
{{- if not (regexMatch `^([0-9]{1,3}(\.[0-9]{1,3}){3}|\[[0-9a-fA-F:.]+\]):[1-9][0-9]{0,4}$` (get $server $key)) }}
{{- fail (printf "server.%s: %q is not IP:PORT, for example 0.0.0.0:50051 or [::]:50051" $key (get $server $key)) }}
{{- end }}
{{- if gt (include "peerstatus.port" (get $server $key) | atoi) 65535 }}
{{- fail (printf "server.%s: %q has no port from 1 to 65535" $key (get $server $key)) }}
{{- end }}
{{- end }}
{{- if not (regexMatch `^([0-5]m|([0-9]{1,2}|[12][0-9]{2}|300)s|[0-9]{1,5}ms)$` $server.drain_timeout) }}
{{- fail (printf "server.drain_timeout: %q is not a number with ms, s or m, from 0s to 5m" $server.drain_timeout) }}
{{- end }}
{{- $tls := include "peerstatus.tlsSecret" . }}
{{- $local := include "peerstatus.loopback" $server.listen }}
{{- if and $server.tls.secret $server.tls.certManager.enabled }}
{{- fail "server.tls: name a secret, or enable certManager, not both" }}
{{- end }}
{{- if and $server.tls.certManager.enabled (not $server.tls.certManager.issuerRef.name) }}
{{- fail "server.tls.certManager.issuerRef.name: say which issuer makes the certificate" }}
{{- end }}
{{- if and $server.tls.client_ca (not $tls) }}
{{- fail "server.tls.client_ca: clients show certificates only within TLS; set server.tls.secret or server.tls.certManager.enabled" }}
{{- end }}
{{- if and $server.tls.client_auth (not $server.tls.client_ca) }}
{{- fail (printf "server.tls.client_auth needs server.tls.client_ca: there is nothing to check certificates with, and clients without one would get in; name the authorities%s" ($tls | empty | ternary ", and set server.tls.secret or server.tls.certManager.enabled" "")) }}
{{- end }}
{{- if and (not $tls) (not $local) }}
{{- if .Values.hostNetwork }}
{{- fail "hostNetwork: network policies do not hold on the nodes' network, so gRPC needs TLS there (server.tls.secret or server.tls.certManager.enabled), or is for the node alone (server.listen=127.0.0.1:50051)" }}
{{- else if not $server.insecure }}
{{- fail "server.insecure is false, and there is no TLS: set server.tls.secret or server.tls.certManager.enabled, or server.insecure=true for plaintext" }}
{{- end }}
{{- end }}
{{- if not .Values.hostNetwork }}
{{- range $key := list "listen" "admin" }}
{{- if include "peerstatus.loopback" (get $server $key) }}
{{- fail (printf "server.%s: nobody can reach %s from outside the pod; use 0.0.0.0 or [::]" $key (get $server $key)) }}
{{- end }}
{{- end }}
{{- end }}
{{- if eq (include "peerstatus.port" $server.listen) (include "peerstatus.port" $server.admin) }}
{{- fail "server.listen and server.admin: they need two ports" }}
{{- end }}
{{- range $place, $source := dict "server.tls.client_ca" $server.tls.client_ca "server.auth.tokens" $server.auth.tokens "server.auth.jwt.jwks" ($server.auth.jwt.jwks | default dict) }}
{{- include "peerstatus.checkSource" (dict "place" $place "source" $source) }}
{{- end }}
{{- if and $server.auth.jwt (not $server.auth.jwt.jwks) }}
{{- fail "server.auth.jwt.jwks: say which secret or configMap has the keys that sign JWTs" }}
{{- end }}
{{- range $key := list "issuer" "audience" }}
{{- if and $server.auth.jwt (not (get $server.auth.jwt $key)) }}
{{- fail (printf "server.auth.jwt.%s: say which JWTs are meant, for others are refused; jwks needs issuer and audience" $key) }}
{{- end }}
{{- end }}
{{- include "peerstatus.checkName" . }}
{{- include "peerstatus.checkLevel" .Values.log.level }}
{{- range $key, $_ := .Values.resources }}
{{- if not (has $key (list "limits" "requests" "claims")) }}
{{- fail (printf "resources.%s: there is no such key; there are limits, requests and claims" $key) }}
{{- end }}
{{- end }}
{{- include "peerstatus.checkPools" . }}
{{- if and .Values.networkPolicy.enabled .Values.networkPolicy.peerCIDRs (not .Values.hostNetwork) }}
{{- include "peerstatus.checkFamilies" . }}
{{- end }}
{{- if and .Values.test.token (not .Values.test.token.secret) }}
{{- fail "test.token.secret: say which secret has the token" }}
{{- end }}
{{- if and .Values.test.token (include "peerstatus.open" .) }}
{{- fail "test.token: no token is sent in plaintext; set server.tls.secret or server.tls.certManager.enabled" }}
{{- end }}
{{- if and .Values.podDisruptionBudget.enabled (eq .Values.mode "daemonset") }}
{{- fail "podDisruptionBudget: it does nothing for a daemonset, whose pods a drain leaves alone" }}
{{- end }}
{{- end }}

{{- define "peerstatus.checkSource" -}}
{{- if .source }}
{{- if and .source.secret .source.configMap }}
{{- fail (printf "%s: name a secret or a configMap, not both" .place) }}
{{- else if not (or .source.secret .source.configMap) }}
{{- fail (printf "%s: name a secret or a configMap" .place) }}
{{- end }}
{{- end }}
{{- end }}

{{- define "peerstatus.checkName" -}}
{{- $name := include "peerstatus.fullname" . }}
{{- if or (gt (len .Values.fullnameOverride) 63) (not (regexMatch `^[a-z]([-a-z0-9]*[a-z0-9])?$` $name)) }}
{{- fail (printf "fullnameOverride: a Service cannot be called %q: it takes up to 63 of a-z, 0-9 and -, with a letter first and no - last" (.Values.fullnameOverride | default $name)) }}
{{- end }}
{{- end }}

{{/* As the service does: a word by itself must be a level, though it could be the name of a module. */}}
{{- define "peerstatus.checkLevel" -}}
{{- range splitList "," . }}
{{- if and (regexMatch `^[\pL\pN]*$` .) (not (regexMatch `^(?i:off|error|warn|info|debug|trace|[0-5])$` .)) }}
{{- fail (printf "log.level: %q is not a level: off, error, warn, info, debug, trace" .) }}
{{- end }}
{{- end }}
{{- end }}
