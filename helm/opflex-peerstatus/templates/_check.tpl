{{/* What neither values.schema.json nor `peerstatus serve --check` can know: values of the chart that do not go together. */}}
{{- define "peerstatus.check" -}}
{{- $server := .Values.server }}
{{- $tls := include "peerstatus.tlsSecret" . }}
{{- $local := include "peerstatus.loopback" $server.listen }}
{{- if not .Values.enabled }}
{{- fail "enabled: a chart cannot disable itself; a parent chart's dependency on it does so with `condition: opflex-peerstatus.enabled`, and `helm uninstall` removes a release" }}
{{- end }}
{{- if eq .Values.mode "deployment" }}
{{- fail "mode: a deployment is not supported any more, since two of its pods can be connected to one leaf; use statefulset, and see \"From a Deployment\" in docs/kubernetes.md before you upgrade" }}
{{- end }}
{{- if and $server.tls.secret $server.tls.certManager.enabled }}
{{- fail "server.tls: name a secret, or enable certManager, not both" }}
{{- end }}
{{- if and $server.tls.client_ca (not $tls) }}
{{- fail "server.tls.client_ca: clients show certificates only within TLS; set server.tls.secret or server.tls.certManager.enabled" }}
{{- end }}
{{- if and .Values.hostNetwork (not $tls) (not $local) }}
{{- fail "hostNetwork: network policies do not apply to the nodes' network, so gRPC needs TLS there (server.tls.secret or server.tls.certManager.enabled), or is for the node alone (server.listen=127.0.0.1:50051)" }}
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
{{- include "peerstatus.checkPools" . }}
{{- include "peerstatus.checkNetworks" . }}
{{- if and .Values.networkPolicy.enabled .Values.networkPolicy.peerCIDRs (not .Values.hostNetwork) }}
{{- include "peerstatus.checkFamilies" . }}
{{- end }}
{{- if and .Values.test.token (include "peerstatus.open" .) }}
{{- fail "test.token: no token is sent in plaintext; set server.tls.secret or server.tls.certManager.enabled" }}
{{- end }}
{{- with .Values.test.token }}
{{- if eq (empty .secret) (empty .audience) }}
{{- fail "test.token: name either a secret or an audience" }}
{{- end }}
{{- if and .key .audience }}
{{- fail "test.token.key: only with test.token.secret" }}
{{- end }}
{{- end }}
{{- if and .Values.test.ca (not $tls) }}
{{- fail "test.ca: it has no effect without server.tls.secret or server.tls.certManager.enabled" }}
{{- end }}
{{- if and .Values.podDisruptionBudget.enabled (eq .Values.mode "daemonset") }}
{{- fail "podDisruptionBudget: it does nothing for a daemonset, whose pods a drain leaves alone" }}
{{- end }}
{{- include "peerstatus.checkService" . }}
{{- if .Values.fleet.enabled }}{{ include "peerstatus.checkFleet" . }}{{ end }}
{{- include "peerstatus.checkIdentity" . }}
{{- include "peerstatus.checkMonitoring" . }}
{{- include "peerstatus.checkPod" . }}
{{- end }}

{{/* The socket table and the log are those of one node, in its own network. */}}
{{- define "peerstatus.checkSource" -}}
{{- if eq (.pool.source | default "connect") "agent" }}
{{- range $key := list "peers" "mode" "learn_local" "identity" "tls" "timers" }}
{{- if get $.pool $key }}
{{- fail (printf "%s.%s: it has no effect with source agent: the pool observes the connections of the node's opflex-agent and makes none" $.place $key) }}
{{- end }}
{{- end }}
{{- if ne .Values.mode "daemonset" }}
{{- fail (printf "%s.source: an agent is observed on its own node; use mode daemonset" .place) }}
{{- end }}
{{- if not .Values.hostNetwork }}
{{- fail (printf "%s.source: the agent's sockets are in the network of the node; set hostNetwork, and server.listen=127.0.0.1:50051 or server.tls" .place) }}
{{- end }}
{{- else }}
{{- range $key := list "log" "peer_port" "level_hint" }}
{{- if get $.pool $key }}
{{- fail (printf "%s.%s: it has no effect without source agent" $.place $key) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{- define "peerstatus.checkPools" -}}
{{- $names := list }}
{{- range $index, $pool := .Values.pools }}
{{- $name := $pool.name | default "default" }}
{{- $place := printf "pools[%d]" $index }}
{{- $names = append $names $name }}
{{- include "peerstatus.checkSource" (dict "pool" $pool "place" $place "Values" $.Values) }}
{{- if eq $.Values.mode "daemonset" }}
{{- if ne $name "default" }}
{{- fail (printf "%s.name: in a daemonset there is one pool, `default`, on each node, not %q" $place $name) }}
{{- end }}
{{- if ($pool.identity | default dict).name }}
{{- fail (printf "%s.identity.name: in a daemonset use identity.name, which may contain {node}" $place) }}
{{- end }}
{{- end }}
{{- end }}
{{- if and .Values.test.pool (not (has .Values.test.pool $names)) }}
{{- fail (printf "test.pool: there is no pool %q in pools; leave it out to wait for the first" .Values.test.pool) }}
{{- end }}
{{- end }}

{{/* A peer with an address needs a network of its family; where names lead to is not known here. */}}
{{- define "peerstatus.checkFamilies" -}}
{{- $networks := join " " .Values.networkPolicy.peerCIDRs }}
{{- range $index, $pool := .Values.pools }}
{{- range $peer := $pool.peers }}
{{- $family := "" }}
{{- if hasPrefix "[" . }}
{{- if not (contains ":" $networks) }}{{ $family = "IPv6" }}{{ end }}
{{- else if regexMatch `^[0-9]+(\.[0-9]+){3}:` . }}
{{- if not (contains "." $networks) }}{{ $family = "IPv4" }}{{ end }}
{{- end }}
{{- with $family }}
{{- fail (printf "networkPolicy.peerCIDRs: no network of %s is among them, so nothing would get to %s of pools[%d].peers; add one that it is in" . $peer $index) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{- define "peerstatus.checkNetworks" -}}
{{- $networks := dict "networkPolicy.peerCIDRs" .Values.networkPolicy.peerCIDRs "service.loadBalancerSourceRanges" .Values.service.loadBalancerSourceRanges "fleet.reader.service.loadBalancerSourceRanges" .Values.fleet.reader.service.loadBalancerSourceRanges }}
{{- range $key := list "clients" "monitoring" "nats" }}
{{- range $index, $peer := get $.Values.networkPolicy $key | default list }}
{{- with $peer.ipBlock }}
{{- $_ := set $networks (printf "networkPolicy.%s[%d].ipBlock.cidr" $key $index) (list .cidr) }}
{{- $_ := set $networks (printf "networkPolicy.%s[%d].ipBlock.except" $key $index) (.except | default list) }}
{{- end }}
{{- end }}
{{- end }}
{{- $byte := "(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])" }}
{{- $hex := "[0-9a-fA-F]{1,4}" }}
{{- $ipv6 := printf "(%s:){7}%s|(%s:){1,7}:|:((:%s){1,7}|:)" $hex $hex $hex $hex }}
{{- range $n := untilStep 1 7 1 }}{{ $ipv6 = printf "%s|(%s:){1,%d}(:%s){1,%d}" $ipv6 $hex (sub 7 $n) $hex $n }}{{ end }}
{{- $pattern := printf `^(%s(\.%s){3}/(3[0-2]|[12]?[0-9])|(%s)/(12[0-8]|1[01][0-9]|[1-9]?[0-9]))$` $byte $byte $ipv6 }}
{{- range $place, $values := $networks }}
{{- range $values }}
{{- if not (regexMatch $pattern .) }}
{{- fail (printf "%s: %q is no network; write it as 10.0.0.0/16 or 2001:db8::/64" $place .) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
