{{/*
A pod of `helm test` with one container, since helm asks for the log of a pod without naming a container. It stays until the
next run, since helm reads the logs after the last pod has ended. `context` is that of the service to call, if not `root`.
*/}}
{{- define "peerstatus.testPod" -}}
{{- $root := .context | default .root -}}
{{- $annotations := dict "helm.sh/hook" "test" "helm.sh/hook-weight" (toString .weight) "helm.sh/hook-delete-policy" "before-hook-creation" -}}
{{- $labels := dict "app.kubernetes.io/component" "test" -}}
apiVersion: v1
kind: Pod
metadata:
  {{- include "peerstatus.metadata" (dict "root" .root "suffix" .suffix "labels" $labels "annotations" $annotations) | nindent 2 }}
spec:
  restartPolicy: Never
  serviceAccountName: {{ include "peerstatus.serviceAccountName" $root }}
  automountServiceAccountToken: false
  enableServiceLinks: false
  {{- if include "peerstatus.loopback" $root.Values.server.listen }}
  hostNetwork: true
  {{- end }}
  {{- with include "peerstatus.lookups" $root }}{{ nindent 2 . }}{{ end }}
  {{- if eq $root.Values.mode "daemonset" }}
  {{- with include "peerstatus.placement" $root }}{{ nindent 2 . }}{{ end }}
  {{- end }}
  {{- with include "peerstatus.podSecurity" $root }}
  securityContext: {{- nindent 4 . }}
  {{- end }}
  {{- with include "peerstatus.pullSecrets" $root }}{{ nindent 2 . }}{{ end }}
  containers:
    - name: test
      image: {{ include "peerstatus.image" $root | quote }}
      imagePullPolicy: {{ $root.Values.image.pullPolicy }}
      args: {{- toYaml .args | nindent 8 }}
      {{- include "peerstatus.testEnv" $root | nindent 6 }}
      {{- with include "peerstatus.security" $root }}
      securityContext: {{- nindent 8 . }}
      {{- end }}
      resources: {{- toYaml $root.Values.resources | nindent 8 }}
      {{- with include "peerstatus.testMounts" $root }}{{ nindent 6 . }}{{ end }}
  {{- with include "peerstatus.testVolumes" $root }}{{ nindent 2 . }}{{ end }}
{{- end }}

{{- define "peerstatus.testEnv" -}}
env:
  - name: PEERSTATUS_SERVER
    value: {{ include "peerstatus.testServer" . | quote }}
  {{- if include "peerstatus.tlsSecret" . }}
  - name: PEERSTATUS_TLS_CA
    value: /etc/peerstatus/ca
  {{- end }}
  {{- with .Values.test.token }}
  - name: PEERSTATUS_TOKEN_FILE
    value: /etc/peerstatus/token/{{ .key | default "token" }}
  {{- end }}
  {{- with .Values.test.env }}{{ toYaml . | nindent 2 }}{{ end }}
{{- end }}

{{- define "peerstatus.testMounts" -}}
{{- if or (include "peerstatus.tlsSecret" .) .Values.test.token -}}
volumeMounts:
  {{- if include "peerstatus.tlsSecret" . }}
  - {name: ca, mountPath: /etc/peerstatus/ca, readOnly: true}
  {{- end }}
  {{- if .Values.test.token }}
  - {name: token, mountPath: /etc/peerstatus/token, readOnly: true}
  {{- end }}
{{- end }}
{{- end }}

{{- define "peerstatus.testVolumes" -}}
{{- $tls := include "peerstatus.tlsSecret" . -}}
{{- if or $tls .Values.test.token -}}
volumes:
  {{- if and $tls .Values.test.ca }}
  - name: ca
    {{- with .Values.test.ca }}
    {{- $items := list (dict "key" (.key | default "ca.crt") "path" "ca.crt") }}
    {{- if .secret }}
    secret: {{- dict "secretName" .secret "defaultMode" 0440 "items" $items | toYaml | nindent 6 }}
    {{- else }}
    configMap: {{- dict "name" .configMap "items" $items | toYaml | nindent 6 }}
    {{- end }}
    {{- end }}
  {{- else if $tls }}
  # A secret of `kubectl create secret tls` has no ca.crt; a certificate that signs itself is its own authority.
  - name: ca
    secret:
      secretName: {{ $tls }}
      defaultMode: 0440
      optional: true
      items: [{key: ca.crt, path: ca.crt}, {key: tls.crt, path: tls.crt}]
  {{- end }}
  {{- with .Values.test.token }}
  - name: token
    {{- if .audience }}
    projected:
      defaultMode: 0440
      sources:
        - serviceAccountToken: {audience: {{ .audience | quote }}, expirationSeconds: 600, path: {{ .key | default "token" }}}
    {{- else }}
    secret:
      secretName: {{ .secret }}
      defaultMode: 0440
    {{- end }}
  {{- end }}
{{- end }}
{{- end }}

{{- define "peerstatus.testServer" -}}
{{- if include "peerstatus.loopback" .Values.server.listen -}}
{{ .Values.server.listen }}
{{- else -}}
{{ include "peerstatus.tlsSecret" . | empty | ternary "" "https://" }}{{ include "peerstatus.fullname" . }}:{{ include "peerstatus.port" .Values.server.listen }}
{{- end }}
{{- end }}
