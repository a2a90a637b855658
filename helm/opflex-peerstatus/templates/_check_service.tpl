{{/* Values of the Services, the identity and the monitoring that the API server or the fabric would not take. */}}
{{- define "peerstatus.checkService" -}}
{{- $service := .Values.service }}
{{- $place := .place | default "service" }}
{{- $type := $service.type }}
{{- if and $service.headless (ne $type "ClusterIP") }}
{{- fail (printf "%s.headless: a Service of type %s needs an address; leave service.type at ClusterIP" $place $type) }}
{{- end }}
{{- range $key := list "nodePort" "externalTrafficPolicy" }}
{{- if and (get $service $key) (eq $type "ClusterIP") }}
{{- fail (printf "%s.%s: only for %s.type NodePort or LoadBalancer" $place $key $place) }}
{{- end }}
{{- end }}
{{- range $key := list "loadBalancerClass" "loadBalancerSourceRanges" }}
{{- if and (get $service $key) (ne $type "LoadBalancer") }}
{{- fail (printf "%s.%s: only for %s.type LoadBalancer, not %s" $place $key $place $type) }}
{{- end }}
{{- end }}
{{- $families := $service.ipFamilies }}
{{- if and (gt (len $families) 1) (eq ($service.ipFamilyPolicy | default "SingleStack") "SingleStack") }}
{{- fail "service.ipFamilies: two need service.ipFamilyPolicy PreferDualStack or RequireDualStack" }}
{{- end }}
{{- range $key := list "listen" "admin" }}
{{- $address := get $.Values.server $key }}
{{- if and (not (hasPrefix "[" $address)) (or (has "IPv6" $families) (eq $service.ipFamilyPolicy "RequireDualStack")) }}
{{- fail (printf "server.%s: %s is not reachable over IPv6, which service.ipFamilies or service.ipFamilyPolicy requires; use [::]" $key $address) }}
{{- end }}
{{- end }}
{{- if and .Values.grpcRoute.enabled (include "peerstatus.loopback" .Values.server.listen) }}
{{- fail (printf "grpcRoute: no gateway can reach server.listen %s" .Values.server.listen) }}
{{- end }}
{{- end }}

{{- define "peerstatus.checkIdentity" -}}
{{- $identity := .Values.identity }}
{{- $name := $identity.name }}
{{- $bare := "" }}
{{- if eq .Values.mode "daemonset" }}
{{- if not (contains "{node}" $name) }}
{{- fail (printf "identity.name: with %q all nodes would have one name; it must contain {node}" $name) }}
{{- end }}
{{- if eq $name "{node}" }}{{ $bare = "identity.name" }}{{ end }}
{{- range .Values.extraEnv }}
{{- if eq .name "PEERSTATUS_NAME" }}{{ fail "extraEnv: in a daemonset the chart sets PEERSTATUS_NAME; use identity.name" }}{{ end }}
{{- end }}
{{- else }}
{{- if ne $name "{node}-peerstatus" }}
{{- fail "identity.name: only for mode daemonset; use pools[].identity.name" }}
{{- end }}
{{- $node := get .Values.nodeSelector "kubernetes.io/hostname" }}
{{- range $index, $pool := .Values.pools }}
{{- if and $node (eq $node (($pool.identity | default dict).name | default "")) }}{{ $bare = printf "pools[%d].identity.name" $index }}{{ end }}
{{- end }}
{{- end }}
{{- if and $bare (not $identity.iKnowThisReplacesTheAgent) }}
{{- fail (printf "%s: the name of the node is that of its opflex-agent, and the leaf would show one of the two in place of the other (docs/aci.md); use {node}-peerstatus, or set identity.iKnowThisReplacesTheAgent" $bare) }}
{{- end }}
{{- if and .Values.hostNetwork (not .Values.iKnowHostNetworkDisablesTheAgentsWatchdog) }}
{{- range $index, $pool := .Values.pools }}
{{- if $pool.peers }}
{{- fail (printf "hostNetwork: while pools[%d] is connected from the node's network, the launch script of the node's opflex-agent does not see that the agent has lost all leaves, and does not reset it (docs/aci.md); set iKnowHostNetworkDisablesTheAgentsWatchdog to accept that" $index) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{- define "peerstatus.checkMonitoring" -}}
{{- $monitor := .Values.serviceMonitor }}
{{- with $monitor.scrapeTimeout }}
{{- if gt (include "peerstatus.milliseconds" . | int64) (include "peerstatus.milliseconds" $monitor.interval | int64) }}
{{- fail (printf "serviceMonitor.scrapeTimeout: %s is longer than serviceMonitor.interval, %s" . $monitor.interval) }}
{{- end }}
{{- end }}
{{- $alerts := list }}
{{- range (.Files.Get "files/alerts.yaml" | fromYaml).groups }}
{{- range .rules }}{{ $alerts = append $alerts .alert }}{{ end }}
{{- end }}
{{- range $name, $_ := .Values.prometheusRule.alerts }}
{{- if not (has $name $alerts) }}
{{- fail (printf "prometheusRule.alerts: there is no alert %q; there are %s" $name (join ", " $alerts)) }}
{{- end }}
{{- end }}
{{- end }}

{{- define "peerstatus.milliseconds" -}}
{{- $factors := dict "ms" 1 "s" 1000 "m" 60000 "h" 3600000 -}}
{{ mul (regexFind "^[0-9]+" . | int64) (get $factors (regexFind "[a-z]+$" .)) }}
{{- end }}
