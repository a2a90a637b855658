{{/*
What is mounted where: a list of {name, path, secret or configMap, subPathExpr}. Mostly whole folders, which the kubelet
replaces when what they show changes; a file mounted alone stays as it was.
*/}}
{{- define "peerstatus.sources" -}}
- {name: config, path: /etc/peerstatus/config, configMap: {{ include "peerstatus.fullname" . }}}
{{- with include "peerstatus.tlsSecret" . }}
- {name: tls, path: /etc/peerstatus/tls, secret: {{ . }}}
{{- end }}
{{- include "peerstatus.source" (dict "name" "clients" "path" "/etc/peerstatus/clients" "source" .Values.server.tls.client_ca) }}
{{- include "peerstatus.source" (dict "name" "tokens" "path" "/etc/peerstatus/tokens" "source" .Values.server.auth.tokens) }}
{{- include "peerstatus.source" (dict "name" "jwks" "path" "/etc/peerstatus/jwks" "source" .Values.server.auth.jwt.jwks) }}
{{- include "peerstatus.natsSources" . }}
{{- range $index, $pool := .Values.pools }}
{{- with $pool.tls }}
{{- $folder := printf "/etc/peerstatus/pools/%s" ($pool.name | default "default") }}
{{- include "peerstatus.source" (dict "name" (printf "pool-%d" $index) "path" $folder "source" (pick . "secret")) }}
{{- include "peerstatus.source" (dict "name" (printf "pool-%d-ca" $index) "path" (printf "/etc/peerstatus/pool-cas/%s" ($pool.name | default "default")) "source" .ca) }}
{{- end }}
{{- end }}
{{- end }}

{{- define "peerstatus.source" -}}
{{- with .source }}
{{- if .secret }}
- {name: {{ $.name }}, path: {{ $.path }}, secret: {{ .secret }}}
{{- else if .configMap }}
- {name: {{ $.name }}, path: {{ $.path }}, configMap: {{ .configMap }}}
{{- end }}
{{- end }}
{{- end }}

{{- define "peerstatus.mounts" -}}
volumeMounts:
  {{- range include "peerstatus.sources" . | fromYamlArray }}
  - name: {{ .name }}
    mountPath: {{ .path }}
    {{- with .subPathExpr }}
    subPathExpr: {{ . }}
    {{- end }}
    readOnly: true
  {{- end }}
  {{- with include "peerstatus.observed" . }}
  - name: agent-log
    mountPath: {{ include "peerstatus.agentLogFolder" (fromJson .) }}
    readOnly: true
  {{- end }}
  {{- with .Values.server.socket.path }}
  - name: socket
    mountPath: {{ dir . }}
  {{- end }}
  {{- with .Values.extraVolumeMounts }}{{ toYaml . | nindent 2 }}{{ end }}
{{- end }}

{{- define "peerstatus.volumes" -}}
volumes:
  {{- range include "peerstatus.sources" . | fromYamlArray }}
  - name: {{ .name }}
    {{- if .secret }}
    secret:
      secretName: {{ .secret }}
      defaultMode: 0440
    {{- else }}
    configMap:
      name: {{ .configMap }}
      defaultMode: 0444
    {{- end }}
  {{- end }}
  {{- with include "peerstatus.observed" . }}
  - name: agent-log
    hostPath:
      path: {{ include "peerstatus.agentLogFolder" (fromJson .) }}
      type: Directory
  {{- end }}
  {{- if .Values.server.socket.path }}
  - name: socket
    emptyDir:
      medium: Memory
      sizeLimit: 1Mi
  {{- end }}
  {{- with .Values.extraVolumes }}{{ toYaml . | nindent 2 }}{{ end }}
{{- end }}
