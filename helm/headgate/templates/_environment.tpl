{{/* Settings that the chart gives itself: each with the value of the chart that sets it, or why there is none. */}}
{{- define "headgate.owned" -}}
admin.port: ports.admin
auth.secret: auth.existingSecret
auth.secret_second: auth.secondSecretKey
client.token: auth.existingSecret
cluster.dispatchers: ports.links
cluster.secret: auth.clusterSecretKey
cluster.tls.ca: cluster.tls.secret
cluster.tls.certificate: cluster.tls.secret
cluster.tls.key: cluster.tls.secret
cluster.tls.server_name: cluster.tls.serverName
dispatcher.advertise: dispatcher.advertiseHost
dispatcher.data: dispatcher.persistence
dispatcher.port: ports.links
drain.deadline_s: drain.seconds
drain.spread_s: drain.spreadSeconds
gateway.port: ports.gateway
ingest.port: ports.ingest
log.dead_letters_retention_ms: kafka.deadLettersRetentionMs
log.prefix: kafka.prefix
log.replication: kafka.replication
log.retention_bytes: kafka.retentionBytes
log.retention_ms: kafka.retentionMs
log.security.ca: kafka.security.caSecret
log.security.certificate: kafka.security.certificateSecret
log.security.key: kafka.security.certificateSecret
log.security.mechanism: kafka.security.mechanism
log.security.password: kafka.security.existingSecret
log.security.protocol: kafka.security.protocol
log.security.user: kafka.security.user
log.shards: kafka.shards
log.url: kafka.bootstrap
{{- end -}}

{{/* Kafka as init, ingest, dispatchers and maintenance are given it; gateways are given none of it. Takes (list context role). */}}
{{- define "headgate.kafkaEnv" -}}
{{- $ := index . 0 -}}
{{- $kafka := $.Values.kafka -}}
{{- $security := $kafka.security -}}
- {name: HEADGATE_LOG__URL, value: {{ printf "kafka://%s" (required "set kafka.bootstrap to host:port,host:port" $kafka.bootstrap) | quote }}}
- {name: HEADGATE_LOG__PREFIX, value: {{ $kafka.prefix | quote }}}
- {name: HEADGATE_LOG__RETENTION_MS, value: {{ $kafka.retentionMs | int64 | quote }}}
- {name: HEADGATE_LOG__DEAD_LETTERS_RETENTION_MS, value: {{ $kafka.deadLettersRetentionMs | int64 | quote }}}
{{- with $kafka.retentionBytes }}
- {name: HEADGATE_LOG__RETENTION_BYTES, value: {{ . | int64 | quote }}}
{{- end }}
{{- if ne $security.protocol "PLAINTEXT" }}
- {name: HEADGATE_LOG__SECURITY__PROTOCOL, value: {{ $security.protocol }}}
{{- end }}
{{- if hasPrefix "SASL" $security.protocol }}
- {name: HEADGATE_LOG__SECURITY__MECHANISM, value: {{ $security.mechanism }}}
{{- if $.Values.strimzi.user.enabled }}
- {name: HEADGATE_LOG__SECURITY__USER, value: {{ include "headgate.kafkaUser" . | quote }}}
{{- else }}
- {name: HEADGATE_LOG__SECURITY__USER, value: {{ required "set kafka.security.user for SASL" $security.user | quote }}}
{{- end }}
- {name: HEADGATE_LOG__SECURITY__PASSWORD_FILE, value: /etc/headgate/kafka/password}
{{- $_ := include "headgate.kafkaPassword" . }}
{{- end }}
{{- if $security.caSecret }}
- {name: HEADGATE_LOG__SECURITY__CA, value: /etc/headgate/kafka/ca.crt}
{{- end }}
{{- if include "headgate.kafkaCertificate" . }}
- {name: HEADGATE_LOG__SECURITY__CERTIFICATE, value: /etc/headgate/kafka/tls.crt}
- {name: HEADGATE_LOG__SECURITY__KEY, value: /etc/headgate/kafka/tls.key}
{{- end }}
{{- end -}}

{{/* The settings of values for a role, as JSON: its own win, false, 0 and "" too. Takes (list context role). */}}
{{- define "headgate.settings" -}}
{{- $all := deepCopy (index . 0).Values.settings -}}
{{- range $name, $value := (index (index . 0).Values (index . 1)).settings }}
{{- $_ := set $all $name $value -}}
{{- end -}}
{{- toJson $all -}}
{{- end -}}

{{/* The environment of a role: the chart's own, which may not be set again, and what values add. Takes (list context role own). */}}
{{- define "headgate.envWith" -}}
{{- $ := index . 0 -}}
{{- $role := index . 1 -}}
{{- $own := index . 2 | trim -}}
{{- $owned := include "headgate.owned" $ | fromYaml -}}
{{- $taken := dict -}}
{{- range $own | fromYamlArray }}{{ $_ := set $taken (trimSuffix "_FILE" .name) "the chart" }}{{ end -}}
{{- $settings := dict -}}
{{- if ne $role "init" }}{{ $settings = include "headgate.settings" (list $ $role) | fromJson }}{{ end -}}
{{- $own }}
{{- range $name, $value := $settings }}
{{- with get $owned (trimSuffix "_file" $name) }}
{{- fail (printf "settings: %s is set by the chart, from %s" $name .) }}
{{- end }}
{{- $variable := printf "HEADGATE_%s" ($name | upper | replace "." "__") }}
{{- $_ := set $taken $variable (printf "settings, %s" $name) }}
{{- if and (kindIs "float64" $value) (eq (floor $value) $value) }}{{ $value = int64 $value }}{{ end }}
- {name: {{ $variable }}, value: {{ $value | toString | quote }}}
{{- end }}
{{- $more := (index $.Values $role).extraEnv | default list }}
{{- $names := list }}
{{- range $more }}{{ $names = append $names .name }}{{ end }}
{{- $general := list }}
{{- range $.Values.extraEnv }}
{{- if not (has .name $names) }}{{ $general = append $general . }}{{ end }}
{{- end }}
{{- range $entry := concat $general $more }}
{{- with get $taken (trimSuffix "_FILE" $entry.name) }}
{{- fail (printf "extraEnv: %s is set already, by %s" $entry.name .) }}
{{- end }}
{{- $_ := set $taken $entry.name "extraEnv" }}
- {{ toYaml $entry | nindent 2 | trim }}
{{- end }}
{{- end -}}

{{/* The environment of a role. Takes (list context role). */}}
{{- define "headgate.env" -}}
{{- include "headgate.envWith" (append . (include "headgate.ownEnv" .)) -}}
{{- end -}}

{{/* The same without what values add. Takes (list context role). */}}
{{- define "headgate.ownEnv" -}}
{{- $ := index . 0 -}}
{{- $role := index . 1 -}}
{{- if ne $role "gateway" }}
{{ include "headgate.kafkaEnv" . }}
{{- end }}
{{- if include "headgate.signs" . }}
- {name: HEADGATE_AUTH__SECRET_FILE, value: /etc/headgate/auth/auth-secret}
{{- if $.Values.auth.secondSecretKey }}
- {name: HEADGATE_AUTH__SECRET_SECOND_FILE, value: /etc/headgate/auth/auth-secret-second}
{{- end }}
{{- end }}
{{- if include "headgate.clusterKey" $ }}
- {name: HEADGATE_CLUSTER__SECRET_FILE, value: /etc/headgate/auth/cluster-secret}
{{- end }}
{{- with $.Values.cluster.tls }}
{{- if .secret }}
- {name: HEADGATE_CLUSTER__TLS__CA, value: /etc/headgate/links/ca.crt}
- {name: HEADGATE_CLUSTER__TLS__CERTIFICATE, value: /etc/headgate/links/tls.crt}
- {name: HEADGATE_CLUSTER__TLS__KEY, value: /etc/headgate/links/tls.key}
- {name: HEADGATE_CLUSTER__TLS__SERVER_NAME, value: {{ .serverName | default (printf "%s-dispatcher" (include "headgate.fullname" $)) | quote }}}
{{- end }}
{{- end }}
- {name: HEADGATE_CLUSTER__DISPATCHERS, value: "{{ include "headgate.fullname" $ }}-dispatcher:{{ $.Values.ports.links }}"}
- {name: HEADGATE_ADMIN__PORT, value: {{ $.Values.ports.admin | quote }}}
- {name: HEADGATE_DRAIN__DEADLINE_S, value: {{ $.Values.drain.seconds | quote }}}
- {name: HEADGATE_DRAIN__SPREAD_S, value: {{ $.Values.drain.spreadSeconds | quote }}}
{{- if eq $role "dispatcher" }}
- {name: POD_IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
- {name: HEADGATE_DISPATCHER__PORT, value: {{ $.Values.ports.links | quote }}}
- {name: HEADGATE_DISPATCHER__ADVERTISE, value: "{{ $.Values.dispatcher.advertiseHost }}:{{ $.Values.ports.links }}"}
- {name: HEADGATE_DISPATCHER__DATA, value: /var/lib/headgate}
{{- if not (hasKey (include "headgate.settings" . | fromJson) "index.total_bytes") }}
- {name: HEADGATE_INDEX__TOTAL_BYTES, value: {{ include "headgate.indexBytes" $.Values.dispatcher.persistence.size | quote }}}
{{- end }}
{{- else }}
- {name: HEADGATE_{{ upper $role }}__PORT, value: {{ index $.Values.ports $role | quote }}}
{{- end }}
{{- end -}}

{{/* What commands that call the Services are given, unless the settings of that role say where. Takes (list context role). */}}
{{- define "headgate.clientEnv" -}}
{{- $ := index . 0 -}}
{{- $settings := include "headgate.settings" . | fromJson -}}
- {name: HEADGATE_AUTH__SECRET_FILE, value: /etc/headgate/auth/auth-secret}
{{- if not (hasKey $settings "client.url") }}
- {name: HEADGATE_CLIENT__URL, value: "http://{{ include "headgate.fullname" $ }}-ingest:{{ $.Values.ingest.service.port }}"}
{{- end }}
{{- if not (hasKey $settings "client.stream_url") }}
- {name: HEADGATE_CLIENT__STREAM_URL, value: "http://{{ include "headgate.fullname" $ }}-gateway:{{ $.Values.gateway.service.port }}"}
{{- end }}
{{- end -}}

{{/* The environment of init: settings of roles mean nothing to it. */}}
{{- define "headgate.initEnv" -}}
{{- $own := include "headgate.kafkaEnv" (list . "init") -}}
{{- with .Values.kafka.shards }}{{ $own = printf "%s\n- {name: HEADGATE_LOG__SHARDS, value: %q}" $own (. | int | toString) }}{{ end -}}
{{- with .Values.kafka.replication }}{{ $own = printf "%s\n- {name: HEADGATE_LOG__REPLICATION, value: %q}" $own (. | int | toString) }}{{ end -}}
{{- include "headgate.envWith" (list . "init" $own) -}}
{{- end -}}
