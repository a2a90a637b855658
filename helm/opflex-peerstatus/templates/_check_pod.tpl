{{/* Values of the pod that the API server would not take. */}}
{{- define "peerstatus.checkPod" -}}
{{- $reserved := keys (include "peerstatus.labels" . | fromYaml) (include "peerstatus.selector" . | fromYaml) }}
{{- $labels := dict "commonLabels" .Values.commonLabels "podLabels" .Values.podLabels "service.labels" .Values.service.labels "fleet.reader.service.labels" .Values.fleet.reader.service.labels "adminService.labels" .Values.adminService.labels }}
{{- range $place, $map := $labels }}
{{- range $key, $_ := $map }}
{{- if has $key $reserved }}{{ fail (printf "%s: the chart sets %s, which selectors use" $place $key) }}{{ end }}
{{- end }}
{{- end }}
{{- if and (eq .Values.dnsPolicy "None") (not .Values.dnsConfig.nameservers) }}
{{- fail "dnsPolicy: None needs dnsConfig.nameservers" }}
{{- end }}
{{- include "peerstatus.checkUpdates" . }}
{{- include "peerstatus.checkResources" . }}
{{- include "peerstatus.checkVolumes" . }}
{{- include "peerstatus.checkEnv" (dict "place" "extraEnv" "env" (include "peerstatus.env" . | fromYaml).env) }}
{{- include "peerstatus.checkEnv" (dict "place" "test.env" "env" (include "peerstatus.testEnv" . | fromYaml).env) }}
{{- $names := list "peerstatus" }}
{{- range $place := list "initContainers" "extraContainers" }}
{{- range $index, $container := get $.Values $place }}
{{- if has $container.name $names }}
{{- fail (printf "%s[%d].name: another container of the pod is called %q" $place $index $container.name) }}
{{- end }}
{{- $names = append $names $container.name }}
{{- end }}
{{- end }}
{{- end }}

{{/* Server-side apply, which helm 4 uses, rejects a variable that is there twice. */}}
{{- define "peerstatus.checkEnv" -}}
{{- $names := list }}
{{- range .env }}
{{- if has .name $names }}
{{- fail (printf "%s: %s is set already, by the chart or before in the list" $.place .name) }}
{{- end }}
{{- $names = append $names .name }}
{{- end }}
{{- end }}

{{- define "peerstatus.checkUpdates" -}}
{{- $rolling := .Values.updateStrategy.rollingUpdate }}
{{- if $rolling }}
{{- if eq .Values.mode "statefulset" }}
{{- fail "updateStrategy.rollingUpdate: only for mode daemonset; a statefulset has one pod" }}
{{- end }}
{{- if eq .Values.updateStrategy.type "OnDelete" }}
{{- fail "updateStrategy.rollingUpdate: it has no effect with type OnDelete" }}
{{- end }}
{{- $none := list "0" "0%" }}
{{- $surges := not (has (dig "maxSurge" 0 $rolling | toString) $none) }}
{{- $leaves := not (has (dig "maxUnavailable" 1 $rolling | toString) $none) }}
{{- if and $surges .Values.hostNetwork }}
{{- fail "updateStrategy.rollingUpdate.maxSurge: two pods of a node cannot have its ports at a time; use maxUnavailable with hostNetwork" }}
{{- end }}
{{- if eq $surges $leaves }}
{{- fail "updateStrategy.rollingUpdate: exactly one of maxSurge and maxUnavailable must be 0 (by default maxSurge is 0, and maxUnavailable 1)" }}
{{- end }}
{{- end }}
{{- end }}

{{- define "peerstatus.checkResources" -}}
{{- $place := .place | default "resources" }}
{{- $limits := .Values.resources.limits | default dict }}
{{- range $name, $request := .Values.resources.requests }}
{{- if hasKey $limits $name }}
{{- $limit := get $limits $name }}
{{- if gt (include "peerstatus.quantity" $request | float64) (include "peerstatus.quantity" $limit | float64) }}
{{- fail (printf "%s.requests.%s: %v is more than %s.limits.%s, %v" $place $name $request $place $name $limit) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{- define "peerstatus.quantity" -}}
{{- $suffix := regexFind "([KMGTPE]i|[numkMGTPE])$" (toString .) -}}
{{- $binary := dict "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776 "Pi" 1125899906842624 "Ei" 1152921504606846976 -}}
{{- $decimal := dict "n" 1e-9 "u" 1e-6 "m" 1e-3 "k" 1e3 "M" 1e6 "G" 1e9 "T" 1e12 "P" 1e15 "E" 1e18 "" 1 -}}
{{ mulf (trimSuffix $suffix (toString .) | float64) (get (merge $binary $decimal) $suffix) }}
{{- end }}

{{- define "peerstatus.checkVolumes" -}}
{{- $names := list }}
{{- $paths := list }}
{{- range include "peerstatus.sources" . | fromYamlArray }}
{{- $names = append $names .name }}
{{- $paths = append $paths .path }}
{{- end }}
{{- with include "peerstatus.observed" . }}
{{- $names = append $names "agent-log" }}
{{- $paths = append $paths (include "peerstatus.agentLogFolder" (fromJson .)) }}
{{- end }}
{{- with .Values.server.socket.path }}
{{- $folder := dir . }}
{{- range $taken := concat $paths (list "/usr/bin" "/etc" "/dev" "/proc" "/sys") }}
{{- if or (eq $folder $taken) (hasPrefix (print $folder "/") $taken) (hasPrefix (print $taken "/") $folder) }}
{{- fail (printf "server.socket.path: its directory %s becomes a volume, which collides with %s; use one below /run" $folder $taken) }}
{{- end }}
{{- end }}
{{- $names = append $names "socket" }}
{{- $paths = append $paths $folder }}
{{- end }}
{{- range $index, $volume := .Values.extraVolumes }}
{{- if has $volume.name $names }}
{{- fail (printf "extraVolumes[%d].name: another volume of the pod is called %q" $index $volume.name) }}
{{- end }}
{{- $names = append $names $volume.name }}
{{- end }}
{{- range $index, $mount := .Values.extraVolumeMounts }}
{{- if not (has $mount.name $names) }}
{{- fail (printf "extraVolumeMounts[%d].name: there is no volume %q; extraVolumes adds one" $index $mount.name) }}
{{- end }}
{{- if has (clean $mount.mountPath) $paths }}
{{- fail (printf "extraVolumeMounts[%d].mountPath: another volume is mounted at %s" $index $mount.mountPath) }}
{{- end }}
{{- $paths = append $paths (clean $mount.mountPath) }}
{{- end }}
{{- end }}
