{{/* The service's pod. */}}
{{- define "peerstatus.pod" -}}
metadata:
  labels:
    {{- mergeOverwrite (dict) .Values.commonLabels .Values.podLabels (include "peerstatus.selector" . | fromYaml) | toYaml | nindent 4 }}
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
  {{- end }}
  {{- with include "peerstatus.lookups" . }}{{ nindent 2 . }}{{ end }}
  terminationGracePeriodSeconds: {{ include "peerstatus.grace" . }}
  {{- with include "peerstatus.podSecurity" . }}
  securityContext: {{- nindent 4 . }}
  {{- end }}
  {{- with include "peerstatus.pullSecrets" . }}{{ nindent 2 . }}{{ end }}
  {{- with .Values.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  {{- with include "peerstatus.placement" . }}{{ nindent 2 . }}{{ end }}
  {{- if eq .Values.mode "deployment" }}
  topologySpreadConstraints:
    - maxSkew: 1
      topologyKey: kubernetes.io/hostname
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels:
          {{- include "peerstatus.selector" . | nindent 10 }}
  {{- end }}
  {{- with .Values.initContainers }}
  initContainers: {{- toYaml . | nindent 4 }}
  {{- end }}
  containers:
    - name: peerstatus
      image: {{ include "peerstatus.image" . | quote }}
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      args: [{{ .role | default "serve" }}, --config, /etc/peerstatus/config/peerstatus.toml]
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
      {{- with include "peerstatus.security" . }}
      securityContext: {{- nindent 8 . }}
      {{- end }}
      resources: {{- toYaml .Values.resources | nindent 8 }}
      {{- include "peerstatus.mounts" . | nindent 6 }}
    {{- with .Values.extraContainers }}{{ toYaml . | nindent 4 }}{{ end }}
  {{- include "peerstatus.volumes" . | nindent 2 }}
{{- end }}

{{/* How names are resolved. */}}
{{- define "peerstatus.lookups" -}}
{{- $policy := .Values.dnsPolicy | default (.Values.hostNetwork | ternary "ClusterFirstWithHostNet" "") }}
{{- include "peerstatus.given" (merge (dict "dnsPolicy" $policy) (pick .Values "dnsConfig" "hostAliases")) }}
{{- end }}

{{/* The nodes that it may run on. */}}
{{- define "peerstatus.placement" -}}
{{- include "peerstatus.given" (pick .Values "nodeSelector" "tolerations" "affinity") }}
{{- end }}

{{/* Without what a null removes: a parent chart's nulls get this far. */}}
{{- define "peerstatus.podSecurity" -}}
{{- $context := .Values.podSecurityContext }}
{{- if and (include "peerstatus.observed" .) (not (hasKey $context "supplementalGroups")) }}
{{- /* containerd writes the logs of pods for the group root to read. */}}
{{- $context = merge (dict "supplementalGroups" (list 0)) $context }}
{{- end }}
{{- include "peerstatus.withoutNulls" $context }}
{{- end }}

{{- define "peerstatus.security" -}}
{{- include "peerstatus.withoutNulls" .Values.securityContext }}
{{- end }}

{{- define "peerstatus.withoutNulls" -}}
{{- $set := dict }}
{{- range $key, $value := . }}
{{- if not (kindIs "invalid" $value) }}{{ $_ := set $set $key $value }}{{ end }}
{{- end }}
{{- with $set }}{{ toYaml . }}{{ end }}
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
  {{- if not (include "peerstatus.observed" .) }}
  - name: PEERSTATUS_NAME
    value: {{ .Values.identity.name | replace "{node}" "$(NODE_NAME)" | quote }}
  {{- end }}
  {{- if .Values.fleet.enabled }}
  - name: PEERSTATUS_FLEET_NODE
    value: $(NODE_NAME)
  {{- end }}
  {{- end }}
  {{- with .Values.extraEnv }}{{ toYaml . | nindent 2 }}{{ end }}
{{- end }}
{{- end }}

{{/*
They use the admin port, which speaks plain HTTP with TLS on, too. None depends on peers: a new pod does not mend a leaf that is
down, and clients learn from this one that it is.
*/}}
{{- define "peerstatus.probes" -}}
{{- $paths := dict "startupProbe" "/readyz" "readinessProbe" "/readyz" "livenessProbe" "/livez" }}
{{- range $index, $name := list "startupProbe" "readinessProbe" "livenessProbe" }}
{{- if $index }}
{{ end -}}
{{ $name }}:
  httpGet:
    path: {{ get $paths $name }}
    port: admin
    {{- if include "peerstatus.loopback" $.Values.server.admin }}
    host: {{ hasPrefix "[" $.Values.server.admin | ternary "::1" "127.0.0.1" | quote }}
    {{- end }}
  {{- with get $.Values $name }}{{ toYaml . | nindent 2 }}{{ end }}
{{- end }}
{{- end }}

{{- define "peerstatus.preStop" -}}
{{- if kindIs "invalid" .Values.preStopSeconds -}}
{{ eq .Values.mode "statefulset" | ternary 0 2 }}
{{- else -}}
{{ .Values.preStopSeconds | int }}
{{- end }}
{{- end }}

{{/* The wait before the stop, the clients' time to disconnect, and 5 s to close the connections to peers. */}}
{{- define "peerstatus.grace" -}}
{{- $number := regexFind "^[0-9]+" .Values.server.drain_timeout | int -}}
{{- $drain := $number -}}
{{- if hasSuffix "ms" .Values.server.drain_timeout }}{{ $drain = div (add $number 999) 1000 -}}
{{- else if hasSuffix "m" .Values.server.drain_timeout }}{{ $drain = mul $number 60 }}{{ end -}}
{{ add $drain (include "peerstatus.preStop" . | int) 5 }}
{{- end }}
