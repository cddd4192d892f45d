{{- define "fulltime.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* What a selector names: never changed between versions of the chart. Takes root and component. */}}
{{- define "fulltime.selector" -}}
app.kubernetes.io/name: {{ default .root.Chart.Name .root.Values.nameOverride }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
{{- with .component }}
app.kubernetes.io/component: {{ . }}
{{- end }}
{{- with .pool }}
fulltime/pool: {{ . }}
{{- end }}
{{- end -}}

{{- define "fulltime.labels" -}}
{{ include "fulltime.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* An image by digest where there is one, by tag otherwise. Takes root and name. */}}
{{- define "fulltime.image" -}}
{{- $image := get .root.Values.images .name -}}
{{- $foreign := hasKey $image "registry" -}}
{{- $registry := .root.Values.imageRegistry -}}
{{- if and $foreign (not .root.Values.mirror) -}}
{{- $registry = $image.registry -}}
{{- end -}}
{{- $registry = required "imageRegistry: name the registry that has the images of deploy/build.sh" $registry -}}
{{- $name := printf "%s/%s" $registry $image.repository -}}
{{- if $image.digest -}}
{{- printf "%s@%s" $name $image.digest -}}
{{- else -}}
{{- printf "%s:%s" $name (default .root.Chart.AppVersion $image.tag) -}}
{{- end -}}
{{- end -}}

{{/* What every pod has in common. Takes root and account. */}}
{{- define "fulltime.pod" -}}
serviceAccountName: {{ .account }}
automountServiceAccountToken: false
# A Service named fulltime would put variables named FULLTIME_… into every pod.
enableServiceLinks: false
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets:
{{- range . }}
  - name: {{ . }}
{{- end }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  fsGroup: 65532
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile:
    type: RuntimeDefault
{{- end -}}

{{- define "fulltime.container" -}}
imagePullPolicy: {{ .Values.imagePullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  privileged: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
{{- end -}}

{{- define "fulltime.placement" -}}
{{- with .nodeSelector }}
nodeSelector:
{{ toYaml . | indent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations:
{{ toYaml . | indent 2 }}
{{- end }}
{{- with .affinity }}
affinity:
{{ toYaml . | indent 2 }}
{{- end }}
{{- with .priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end -}}

{{- define "fulltime.natsHost" -}}
{{- if .Values.nats.enabled -}}
{{ include "fulltime.fullname" . }}-nats:4222
{{- else -}}
{{ required "nats.url: give the address of a broker, such as nats.example.com:4222, or set nats.enabled" .Values.nats.url }}
{{- end -}}
{{- end -}}

{{/* How a process of a role reaches bus and store. Takes root and role. */}}
{{- define "fulltime.environment" -}}
{{- $scheme := ternary "tls" "nats" .root.Values.nats.tls.enabled -}}
{{- $host := include "fulltime.natsHost" .root -}}
{{- if .root.Values.nats.auth.enabled }}
- name: NATS_PASSWORD
  valueFrom:
    secretKeyRef:
      name: {{ required "nats.auth.existingSecret: name the Secret with a password for each role" .root.Values.nats.auth.existingSecret }}
      key: {{ .role }}
- name: FULLTIME_NATS
  value: {{ printf "%s://%s:$(NATS_PASSWORD)@%s" $scheme .role $host }}
{{- else }}
- name: FULLTIME_NATS
  value: {{ printf "%s://%s" $scheme $host }}
{{- end }}
{{- if .root.Values.nats.tls.enabled }}
# The broker's authority, besides those of the system.
- name: SSL_CERT_FILE
  value: /etc/fulltime/authority/ca.crt
- name: SSL_CERT_DIR
  value: /etc/ssl/certs
{{- end }}
{{- with .root.Values.storage }}
{{- if .endpoint }}
- name: AWS_ENDPOINT
  value: {{ .endpoint | quote }}
{{- end }}
{{- if .region }}
- name: AWS_REGION
  value: {{ .region | quote }}
{{- end }}
{{- if .allowHttp }}
- name: AWS_ALLOW_HTTP
  value: "true"
{{- end }}
{{- $credentials := .credentials }}
{{- if $credentials.existingSecret }}
{{- range $credentials.keys }}
- name: {{ . }}
  valueFrom:
    secretKeyRef:
      name: {{ $credentials.existingSecret }}
      key: {{ . }}
{{- end }}
{{- end }}
{{- $archive := .archive }}
{{- if $archive.existingSecret }}
{{- range $archive.keys }}
- name: FULLTIME_ARCHIVE_{{ . }}
  valueFrom:
    secretKeyRef:
      name: {{ $archive.existingSecret }}
      key: {{ . }}
{{- end }}
{{- end }}
{{- end }}
- name: FULLTIME_LOG_FORMAT
  value: {{ .root.Values.logs.format }}
{{- with .root.Values.logs.filter }}
- name: FULLTIME_LOG
  value: {{ . | quote }}
{{- end }}
{{- if and .root.Values.redis.enabled (eq .role "worker") }}
- name: FULLTIME_REDIS
  value: redis://{{ include "fulltime.fullname" .root }}-redis:6379
{{- end }}
{{- end -}}

{{/* What listens to others asks for a token. */}}
{{- define "fulltime.tokenMount" -}}
{{- if .Values.http.enabled }}
- name: token
  mountPath: /etc/fulltime/token
  readOnly: true
{{- end }}
{{- end -}}

{{- define "fulltime.tokenVolume" -}}
{{- if .Values.http.enabled }}
- name: token
  secret:
    secretName: {{ required "http.existingSecret: name the Secret with a token, or switch http.enabled off" .Values.http.existingSecret }}
    defaultMode: 0440
    items:
      - key: token
        path: token
{{- end }}
{{- end -}}

{{- define "fulltime.authorityMount" -}}
{{- if .Values.nats.tls.enabled }}
- name: authority
  mountPath: /etc/fulltime/authority
  readOnly: true
{{- end }}
{{- with .Values.storage.volumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "fulltime.authorityVolume" -}}
{{- if .Values.nats.tls.enabled }}
- name: authority
  secret:
    secretName: {{ required "nats.tls.existingSecret: name the Secret with ca.crt, tls.crt and tls.key" .Values.nats.tls.existingSecret }}
    items:
      - key: ca.crt
        path: ca.crt
{{- end }}
{{- with .Values.storage.volumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* A pool with its defaults. Takes root and pool (its own values). */}}
{{- define "fulltime.merged" -}}
{{- mergeOverwrite (deepCopy .root.Values.poolDefaults) (deepCopy .pool) | toYaml -}}
{{- end -}}

{{/* The longest a worker goes on after SIGTERM: its grace, the ten seconds in which it hands back what still runs, and a
few more to end. */}}
{{- define "fulltime.terminationGrace" -}}
{{- add . 15 -}}
{{- end -}}

{{/* How many tasks wait, by the leading coordinator's count. Takes root and classes. */}}
{{- define "fulltime.backlog" -}}
{{- $job := printf "%s-coordinator" (include "fulltime.fullname" .root) -}}
{{- $classes := list -}}
{{- range .classes }}{{ $classes = append $classes (regexQuoteMeta . | replace "\\" "\\\\") }}{{ end -}}
{{- $class := ternary (printf ",class=~\"%s\"" (join "|" $classes)) "" (gt (len $classes) 0) -}}
sum(fulltime_backlog_tasks{namespace="{{ .root.Release.Namespace }}",service="{{ $job }}"{{ $class }}})
{{- end -}}

{{/* The broker's configuration. */}}
{{- define "fulltime.natsConfig" -}}
{{- $full := include "fulltime.fullname" . -}}
port: 4222
http: "0.0.0.0:8222"
server_name: $POD_NAME
pid_file: /run/nats/nats.pid
max_payload: 1MB
lame_duck_grace_period: 2s
lame_duck_duration: 30s

jetstream {
  store_dir: /data
  # A tenth is left for what is being compacted.
  max_file_store: {{ mul .Values.nats.storage.sizeGi 922 }}MiB
  max_memory_store: 256MiB
}
{{- if .Values.nats.tls.enabled }}

tls {
  cert_file: /etc/fulltime/tls/tls.crt
  key_file: /etc/fulltime/tls/tls.key
  min_version: "1.2"
}
{{- end }}
{{- if gt (int .Values.nats.replicas) 1 }}

cluster {
  name: {{ $full }}
  port: 6222
  # Clients find servers by the Service, under the name in the certificate.
  no_advertise: true
  {{- if .Values.nats.tls.enabled }}
  # Servers know each other by certificates of the same authority.
  tls {
    ca_file: /etc/fulltime/tls/ca.crt
    cert_file: /etc/fulltime/tls/tls.crt
    key_file: /etc/fulltime/tls/tls.key
    verify: true
  }
  {{- end }}
  routes: [
    {{- range $n := until (int .Values.nats.replicas) }}
    "nats://{{ $full }}-nats-{{ $n }}.{{ $full }}-nats-headless:6222"
    {{- end }}
  ]
}
{{- end }}
{{- if .Values.nats.auth.enabled }}

include ./nats-roles.conf
{{- end }}
{{- end -}}

{{/* Pods of a component, as one side of a network policy. Takes root and component. */}}
{{- define "fulltime.from" -}}
- podSelector:
    matchLabels:
      {{- include "fulltime.selector" . | nindent 6 }}
{{- end -}}
