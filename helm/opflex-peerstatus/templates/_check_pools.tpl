{{- define "peerstatus.checkPools" -}}
{{- $names := list }}
{{- range $index, $pool := .Values.pools }}
{{- $name := $pool.name | default "default" }}
{{- $place := printf "pools[%d]" $index }}
{{- if has $name $names }}{{ fail (printf "%s.name: there are two pools %q" $place $name) }}{{ end }}
{{- $names = append $names $name }}
{{- if eq $.Values.mode "daemonset" }}
{{- if ne $name "default" }}
{{- fail (printf "%s.name: in a daemonset there is one pool, `default`, on each node, not %q" $place $name) }}
{{- end }}
{{- if ($pool.identity | default dict).name }}
{{- fail (printf "%s.identity.name: in a daemonset it is the name of the node; leave it out" $place) }}
{{- end }}
{{- end }}
{{- $peers := list }}
{{- range $pool.peers }}
{{- if not (regexMatch `^([^\s:\[\]]+|\[[0-9a-fA-F:.]+\]):[1-9][0-9]{0,4}$` .) }}
{{- fail (printf "%s.peers: %q is not HOST:PORT, for example leaf-101:8009 or [2001:db8::1]:8009" $place .) }}
{{- end }}
{{- if gt (include "peerstatus.port" . | atoi) 65535 }}
{{- fail (printf "%s.peers: %q has no port from 1 to 65535" $place .) }}
{{- end }}
{{- if has (lower .) $peers }}{{ fail (printf "%s.peers: %q is there twice" $place .) }}{{ end }}
{{- $peers = append $peers (lower .) }}
{{- end }}
{{- include "peerstatus.checkPoolTls" (dict "place" (printf "%s.tls" $place) "tls" ($pool.tls | default dict)) }}
{{- include "peerstatus.checkTimers" (dict "place" (printf "%s.timers" $place) "timers" ($pool.timers | default dict)) }}
{{- end }}
{{- if and .Values.test.pool (not (has .Values.test.pool $names)) }}
{{- fail (printf "test.pool: there is no pool %q in pools; leave it out to wait for the first" .Values.test.pool) }}
{{- end }}
{{- end }}

{{- define "peerstatus.checkPoolTls" -}}
{{- $mode := .tls.mode | default "disabled" }}
{{- include "peerstatus.checkSource" (dict "place" (printf "%s.ca" .place) "source" (.tls.ca | default dict)) }}
{{- if and (eq $mode "verify") (not .tls.ca) }}
{{- fail (printf "%s.ca: mode verify needs the authorities; the image has none" .place) }}
{{- else if and (ne $mode "verify") .tls.ca }}
{{- fail (printf "%s.ca: it has no effect without %s.mode=verify" .place .place) }}
{{- end }}
{{- range $key := list "secret" "server_name" }}
{{- if and (eq $mode "disabled") (get $.tls $key) }}
{{- fail (printf "%s.%s: it has no effect without %s.mode=encrypted or verify" $.place $key $.place) }}
{{- end }}
{{- end }}
{{- end }}

{{- define "peerstatus.checkTimers" -}}
{{- range $key, $value := .timers }}
{{- $ms := include "peerstatus.milliseconds" $value | atoi }}
{{- if or (lt $ms 10) (gt $ms 3600000) }}
{{- fail (printf "%s.%s: %s is not from 10ms to 1h" $.place $key $value) }}
{{- end }}
{{- end }}
{{- $echo := .timers.echo | default "15s" }}
{{- $keepalive := .timers.keepalive | default "120s" }}
{{- if ge (include "peerstatus.milliseconds" $echo | atoi) (include "peerstatus.milliseconds" $keepalive | atoi) }}
{{- fail (printf "%s.keepalive: %s is not longer than echo, %s: a quiet peer would be taken for dead" .place $keepalive $echo) }}
{{- end }}
{{- end }}

{{/* Of a number with a unit; 0 of one that is too long to count. */}}
{{- define "peerstatus.milliseconds" -}}
{{- $number := regexFind `^[0-9]+` . }}
{{- if gt (len $number) 9 }}0{{ else }}{{ mul (atoi $number) (get (dict "ms" 1 "s" 1000 "m" 60000 "h" 3600000) (trimPrefix $number .)) }}{{ end }}
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
