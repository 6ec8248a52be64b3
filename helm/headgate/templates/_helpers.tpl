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

{{- define "headgate.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{/* Three quarters of a volume, in bytes: what the index files may use. The rest is for their write-ahead logs. */}}
{{- define "headgate.indexBytes" -}}
{{- $units := dict "" 1 "K" 1e3 "M" 1e6 "G" 1e9 "T" 1e12 "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776 -}}
{{- $number := regexFind "^[0-9.]+" . -}}
{{- $unit := trimPrefix $number . -}}
{{- mulf $number (get $units $unit) 0.75 | int64 -}}
{{- end -}}

{{/* Where a role is asked whether it is ready: what concerns some shards alone must not take all pods out of the Service. */}}
{{- define "headgate.readyPath" -}}
{{- get (dict "ingest" "?exclude=some_owners&exclude=some_circuits" "gateway" "?exclude=some_owners" "dispatcher" "?exclude=index") . | printf "/readyz%s" | quote -}}
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
        httpGet: {path: {{ include "headgate.readyPath" $role }}, port: admin}
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
      {{- if and $.Values.auth.secondSecretKey (ne (index . 1) "test") }}
      - {key: {{ $.Values.auth.secondSecretKey }}, path: auth-secret-second}
      {{- end }}
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
