{{- define "headgate.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{- define "headgate.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains (include "headgate.name" .) .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "headgate.name" .) | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "headgate.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{/* What selects pods; never changes, because selectors cannot. Takes (list context role). */}}
{{- define "headgate.selector" -}}
app.kubernetes.io/name: {{ include "headgate.name" (index . 0) }}
app.kubernetes.io/instance: {{ (index . 0).Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{- define "headgate.labels" -}}
{{ include "headgate.selector" . }}
app.kubernetes.io/version: {{ (index . 0).Chart.AppVersion | quote }}
app.kubernetes.io/part-of: headgate
app.kubernetes.io/managed-by: {{ (index . 0).Release.Service }}
helm.sh/chart: {{ printf "%s-%s" (index . 0).Chart.Name (index . 0).Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "headgate.authSecret" -}}
{{- if .Values.auth.existingSecret -}}
{{ .Values.auth.existingSecret }}
{{- else if .Values.auth.secret -}}
{{ include "headgate.fullname" . }}-auth
{{- else -}}
{{- fail "set auth.existingSecret to the name of a Secret whose key auth-secret (auth.secretKey) holds at least 32 random bytes" -}}
{{- end -}}
{{- end -}}

{{/* The key in that Secret which services prove themselves with; empty: they derive it from the signing key. */}}
{{- define "headgate.clusterKey" -}}
{{- if .Values.auth.clusterSecretKey -}}
{{ .Values.auth.clusterSecretKey }}
{{- else if not .Values.auth.existingSecret -}}
cluster-secret
{{- end -}}
{{- end -}}

{{/* Whether a role is given the key that signs callers' tokens: dispatchers only where they must derive theirs of it. */}}
{{- define "headgate.signs" -}}
{{- if or (ne (index . 1) "dispatcher") (not (include "headgate.clusterKey" (index . 0))) }}yes{{ end -}}
{{- end -}}

{{/* The KafkaUser of a role, which is also the name of the Secret that Strimzi makes for it. Takes (list context role). */}}
{{- define "headgate.kafkaUser" -}}
{{ include "headgate.fullname" (index . 0) }}-{{ index . 1 }}
{{- end -}}

{{/* The Secret with the SASL password of a role. Takes (list context role). */}}
{{- define "headgate.kafkaPassword" -}}
{{- $values := (index . 0).Values -}}
{{- if $values.strimzi.user.enabled -}}
{{ include "headgate.kafkaUser" . }}
{{- else -}}
{{ required "set kafka.security.existingSecret to the Secret with the SASL password" $values.kafka.security.existingSecret }}
{{- end -}}
{{- end -}}

{{/* The Secret with the client certificate of a role; empty: none. Takes (list context role). */}}
{{- define "headgate.kafkaCertificate" -}}
{{- $user := (index . 0).Values.strimzi.user -}}
{{- if and $user.enabled (eq $user.authentication "tls") -}}
{{ include "headgate.kafkaUser" . }}
{{- else -}}
{{ (index . 0).Values.kafka.security.certificateSecret }}
{{- end -}}
{{- end -}}

{{/* Kafka as init, ingest and dispatchers are given it; gateways are given none of it. Takes (list context role). */}}
{{- define "headgate.kafkaEnv" -}}
{{- $ := index . 0 -}}
{{- $kafka := $.Values.kafka -}}
{{- if and $.Values.strimzi.user.enabled (or $kafka.security.user $kafka.security.existingSecret $kafka.security.certificateSecret) -}}
{{- fail "strimzi.user.enabled makes a user for each role: leave kafka.security.user, existingSecret and certificateSecret empty" -}}
{{- end -}}
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

{{/* The files of the same. Takes (list context role). */}}
{{- define "headgate.kafkaSources" -}}
{{- $security := (index . 0).Values.kafka.security -}}
{{- if hasPrefix "SASL" $security.protocol }}
- secret: {name: {{ include "headgate.kafkaPassword" . }}, items: [{key: {{ $security.passwordKey }}, path: password}]}
{{- end }}
{{- if $security.caSecret }}
- secret: {name: {{ $security.caSecret }}, items: [{key: {{ $security.caKey }}, path: ca.crt}]}
{{- end }}
{{- if include "headgate.kafkaCertificate" . }}
- secret: {name: {{ include "headgate.kafkaCertificate" . }}, items: [{key: {{ $security.certificateKey }}, path: tls.crt}, {key: {{ $security.privateKeyKey }}, path: tls.key}]}
{{- end }}
{{- end -}}

{{/* Settings by dotted name as environment. */}}
{{- define "headgate.settingsEnv" -}}
{{- range $name, $value := . }}
- {name: HEADGATE_{{ $name | upper | replace "." "__" }}, value: {{ if kindIs "float64" $value }}{{ if eq $value (floor $value) }}{{ $value | int64 | toString | quote }}{{ else }}{{ $value | toString | quote }}{{ end }}{{ else }}{{ $value | toString | quote }}{{ end }}}
{{- end }}
{{- end -}}

{{/* The environment of a role. Takes (list context role). */}}
{{- define "headgate.env" -}}
{{- $ := index . 0 -}}
{{- $role := index . 1 -}}
{{- if ne $role "gateway" }}
{{ include "headgate.kafkaEnv" . }}
{{- end }}
{{- if include "headgate.signs" . }}
- {name: HEADGATE_AUTH__SECRET_FILE, value: /etc/headgate/auth/auth-secret}
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
{{- else }}
- {name: HEADGATE_{{ upper $role }}__PORT, value: {{ index $.Values.ports $role | quote }}}
{{- end }}
{{- include "headgate.settingsEnv" (merge (dict) (index $.Values $role).settings $.Values.settings) }}
{{- with concat $.Values.extraEnv (index $.Values $role).extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "headgate.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "headgate.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{/* The pod of a role. Takes (list context role). */}}
{{- define "headgate.pod" -}}
{{- $ := index . 0 -}}
{{- $role := index . 1 -}}
{{- $own := index $.Values $role -}}
metadata:
  labels:
    {{- include "headgate.labels" (list $ $role) | nindent 4 }}
    {{- with $.Values.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  annotations:
    {{- if and $.Values.auth.secret (not $.Values.auth.existingSecret) }}
    checksum/auth: {{ $.Values.auth.secret | sha256sum }}
    {{- end }}
    kubectl.kubernetes.io/default-container: {{ $role }}
    {{- with $.Values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "headgate.fullname" $ }}-{{ $role }}
  automountServiceAccountToken: false
  enableServiceLinks: false
  {{- with $.Values.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  securityContext:
    {{- include "headgate.podSecurity" $ | nindent 4 }}
  terminationGracePeriodSeconds: {{ add $.Values.drain.seconds $.Values.drain.beforeSeconds 10 }}
  {{- with $own.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  {{- if $own.topologySpread }}
  topologySpreadConstraints:
    {{- range list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
    - maxSkew: 1
      topologyKey: {{ . }}
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels:
          {{- include "headgate.selector" (list $ $role) | nindent 10 }}
      {{- if ne $role "dispatcher" }}
      matchLabelKeys: [pod-template-hash]
      {{- end }}
    {{- end }}
  {{- end }}
  {{- with $own.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $own.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $own.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  containers:
    - name: {{ $role }}
      image: {{ include "headgate.image" $ }}
      imagePullPolicy: {{ $.Values.image.pullPolicy }}
      command: [headgate, {{ $role }}]
      securityContext:
        {{- include "headgate.containerSecurity" $ | nindent 8 }}
      env:
        {{- include "headgate.env" . | trim | nindent 8 }}
      ports:
        {{- if eq $role "dispatcher" }}
        - {name: links, containerPort: {{ $.Values.ports.links }}}
        {{- else }}
        - {name: http, containerPort: {{ index $.Values.ports $role }}}
        {{- end }}
        - {name: admin, containerPort: {{ $.Values.ports.admin }}}
      startupProbe:
        httpGet: {path: /livez, port: admin}
        {{- toYaml $.Values.probes.startup | nindent 8 }}
      readinessProbe:
        httpGet: {path: /readyz, port: admin}
        {{- toYaml $.Values.probes.readiness | nindent 8 }}
      livenessProbe:
        httpGet: {path: /livez, port: admin}
        {{- toYaml $.Values.probes.liveness | nindent 8 }}
      {{- if and (ne $role "dispatcher") (gt (int $.Values.drain.beforeSeconds) 0) }}
      lifecycle:
        preStop:
          sleep: {seconds: {{ $.Values.drain.beforeSeconds }}}
      {{- end }}
      resources:
        {{- toYaml $own.resources | nindent 8 }}
      volumeMounts:
        - {name: auth, mountPath: /etc/headgate/auth, readOnly: true}
        {{- if $.Values.cluster.tls.secret }}
        - {name: links, mountPath: /etc/headgate/links, readOnly: true}
        {{- end }}
        {{- if and (ne $role "gateway") (include "headgate.kafkaSources" . | trim) }}
        - {name: kafka, mountPath: /etc/headgate/kafka, readOnly: true}
        {{- end }}
        {{- if eq $role "dispatcher" }}
        - {name: data, mountPath: /var/lib/headgate}
        {{- end }}
  volumes:
    {{- include "headgate.authVolume" . | nindent 4 }}
    {{- with $.Values.cluster.tls }}
    {{- if .secret }}
    - name: links
      secret:
        secretName: {{ .secret }}
        items: [{key: {{ .caKey }}, path: ca.crt}, {key: {{ .certificateKey }}, path: tls.crt}, {key: {{ .privateKeyKey }}, path: tls.key}]
    {{- end }}
    {{- end }}
    {{- if ne $role "gateway" }}
    {{- include "headgate.kafkaVolume" . | nindent 4 }}
    {{- end }}
    {{- if and (eq $role "dispatcher") (not $own.persistence.enabled) }}
    - {name: data, emptyDir: {sizeLimit: {{ $own.persistence.size }}}}
    {{- end }}
{{- end -}}

{{/* The keys of a role. Takes (list context role). */}}
{{- define "headgate.authVolume" -}}
{{- $ := index . 0 -}}
- name: auth
  secret:
    secretName: {{ include "headgate.authSecret" $ }}
    items:
      {{- if include "headgate.signs" . }}
      - {key: {{ $.Values.auth.secretKey }}, path: auth-secret}
      {{- end }}
      {{- if and (include "headgate.clusterKey" $) (ne (index . 1) "test") }}
      - {key: {{ include "headgate.clusterKey" $ }}, path: cluster-secret}
      {{- end }}
{{- end -}}

{{/* The volume of the same. Takes (list context role). */}}
{{- define "headgate.kafkaVolume" -}}
{{- with include "headgate.kafkaSources" . | trim }}
- name: kafka
  projected:
    sources:
      {{- . | nindent 6 }}
{{- end }}
{{- end -}}
