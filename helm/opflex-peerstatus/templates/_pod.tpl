{{/* What the service, a Deployment's or a DaemonSet's pod, is. */}}
{{- define "peerstatus.pod" -}}
metadata:
  labels:
    {{- include "peerstatus.selector" . | nindent 4 }}
    {{- with .Values.podLabels }}{{ toYaml . | nindent 4 }}{{ end }}
  annotations:
    kubectl.kubernetes.io/default-container: peerstatus
    {{- if eq .Values.config.reload "restart" }}
    checksum/config: {{ include "peerstatus.config" . | sha256sum }}
    {{- end }}
    {{- with .Values.podAnnotations }}{{ toYaml . | nindent 4 }}{{ end }}
spec:
  serviceAccountName: {{ include "peerstatus.serviceAccountName" . }}
  automountServiceAccountToken: false
  enableServiceLinks: false
  {{- if .Values.hostNetwork }}
  hostNetwork: true
  dnsPolicy: ClusterFirstWithHostNet
  {{- end }}
  terminationGracePeriodSeconds: {{ include "peerstatus.grace" . }}
  securityContext:
    {{- include "peerstatus.podSecurity" . | nindent 4 }}
  {{- with .Values.imagePullSecrets }}
  imagePullSecrets: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  {{- with .Values.nodeSelector }}
  nodeSelector: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.tolerations }}
  tolerations: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.affinity }}
  affinity: {{- toYaml . | nindent 4 }}
  {{- end }}
  containers:
    - name: peerstatus
      image: {{ include "peerstatus.image" . | quote }}
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      args: [serve, --config, /etc/peerstatus/config/peerstatus.toml]
      {{- include "peerstatus.env" . | nindent 6 }}
      ports:
        - name: grpc
          containerPort: {{ include "peerstatus.port" .Values.server.listen }}
        - name: admin
          containerPort: {{ include "peerstatus.port" .Values.server.admin }}
      {{- include "peerstatus.probes" . | nindent 6 }}
      {{- if include "peerstatus.preStop" . | int }}
      lifecycle:
        preStop:
          sleep:
            seconds: {{ include "peerstatus.preStop" . }}
      {{- end }}
      securityContext:
        {{- include "peerstatus.security" . | nindent 8 }}
      resources: {{- toYaml .Values.resources | nindent 8 }}
      {{- include "peerstatus.mounts" . | nindent 6 }}
  {{- include "peerstatus.volumes" . | nindent 2 }}
{{- end }}

{{- define "peerstatus.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "peerstatus.security" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{- define "peerstatus.env" -}}
{{- if or .Values.server.socket.path (eq .Values.mode "daemonset") .Values.extraEnv -}}
env:
  {{- with .Values.server.socket.path }}
  # For the commands that `kubectl exec` runs here.
  - name: PEERSTATUS_SERVER
    value: {{ printf "unix:%s" . }}
  {{- end }}
  {{- if eq .Values.mode "daemonset" }}
  - name: NODE_NAME
    valueFrom:
      fieldRef:
        fieldPath: spec.nodeName
  # Not the name of the node alone, which is that of its opflex-agent.
  - name: PEERSTATUS_NAME
    value: "$(NODE_NAME)-peerstatus"
  {{- end }}
  {{- with .Values.extraEnv }}{{ toYaml . | nindent 2 }}{{ end }}
{{- end }}
{{- end }}

{{/*
Asked on the admin port, which speaks plain HTTP with TLS on, too. Nothing here looks at peers: a pod is not replaced
because a leaf is down, and clients are to hear from it that it is.
*/}}
{{- define "peerstatus.probes" -}}
{{- $host := "" -}}
{{- if include "peerstatus.loopback" .Values.server.admin }}{{ $host = "127.0.0.1" }}{{ end -}}
startupProbe:
  httpGet:
    {{- include "peerstatus.probe" (dict "path" "/readyz" "host" $host) | nindent 4 }}
  periodSeconds: 1
  failureThreshold: 30
readinessProbe:
  httpGet:
    {{- include "peerstatus.probe" (dict "path" "/readyz" "host" $host) | nindent 4 }}
  periodSeconds: 5
  timeoutSeconds: 2
livenessProbe:
  httpGet:
    {{- include "peerstatus.probe" (dict "path" "/livez" "host" $host) | nindent 4 }}
  periodSeconds: 10
  timeoutSeconds: 5
{{- end }}

{{- define "peerstatus.probe" -}}
path: {{ .path }}
port: admin
{{- with .host }}
host: {{ . }}
{{- end }}
{{- end }}

{{- define "peerstatus.preStop" -}}
{{- if kindIs "invalid" .Values.preStopSeconds -}}
{{ eq .Values.mode "daemonset" | ternary 2 0 }}
{{- else -}}
{{ .Values.preStopSeconds | int }}
{{- end }}
{{- end }}

{{/* Until the service stops, what clients get to go, and 5 s for the peers to be told. */}}
{{- define "peerstatus.grace" -}}
{{- $number := regexFind "^[0-9]+" .Values.server.drain_timeout | int -}}
{{- $drain := $number -}}
{{- if hasSuffix "ms" .Values.server.drain_timeout }}{{ $drain = div (add $number 999) 1000 -}}
{{- else if hasSuffix "m" .Values.server.drain_timeout }}{{ $drain = mul $number 60 }}{{ end -}}
{{ add $drain (include "peerstatus.preStop" . | int) 5 }}
{{- end }}
