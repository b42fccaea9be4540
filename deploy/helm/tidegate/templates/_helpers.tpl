{{- define "tidegate.name" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name }}{{ else }}{{ .Release.Name }}-{{ .Chart.Name }}{{ end }}
{{- end }}

{{- define "tidegate.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "tidegate.labels" -}}
{{ include "tidegate.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- define "tidegate.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{/* A Pod stays in the Service for a moment after it was told to stop: it waits that long before it refuses anybody. */}}
{{- define "tidegate.preStopSeconds" -}}5{{- end }}

{{- define "tidegate.graceSeconds" -}}
{{ add (include "tidegate.preStopSeconds" .) .Values.drainTimeoutSeconds 10 }}
{{- end }}

{{- define "tidegate.podSettings" -}}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .Values.imagePullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "tidegate.containerSettings" -}}
image: {{ include "tidegate.image" . | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end }}

{{- define "tidegate.databaseUrl" -}}
- name: TIDEGATE__STORE__URL
  valueFrom:
    secretKeyRef: {name: {{ .Values.database.existingSecret | quote }}, key: {{ .Values.database.urlKey | quote }}}
{{- end }}

{{- define "tidegate.environment" -}}
env:
  - name: TIDEGATE_CONFIG
    value: /etc/tidegate/tidegate.yaml
  - name: TIDEGATE__SERVER__DRAIN_TIMEOUT
    value: {{ printf "%ds" (int .Values.drainTimeoutSeconds) | quote }}
  {{- include "tidegate.databaseUrl" . | nindent 2 }}
  {{- with .Values.metrics.existingSecret }}
  - name: TIDEGATE__METRICS__TOKEN
    valueFrom:
      secretKeyRef: {name: {{ . | quote }}, key: {{ $.Values.metrics.tokenKey | quote }}}
  {{- end }}
{{- with .Values.providerKeys.existingSecret }}
envFrom:
  - secretRef: {name: {{ . | quote }}}
{{- end }}
{{- end }}

{{- define "tidegate.lifecycle" -}}
lifecycle:
  preStop:
    exec: {command: [sleep, {{ include "tidegate.preStopSeconds" . | quote }}]}
startupProbe:
  httpGet: {path: /healthz, port: http}
  periodSeconds: 1
  failureThreshold: 60
livenessProbe:
  httpGet: {path: /healthz, port: http}
  periodSeconds: 10
  timeoutSeconds: 3
  failureThreshold: 3
readinessProbe:
  httpGet: {path: /readyz, port: http}
  periodSeconds: 2
  timeoutSeconds: 6
  failureThreshold: 2
{{- end }}

{{- define "tidegate.mounts" -}}
volumeMounts:
  - {name: config, mountPath: /etc/tidegate, readOnly: true}
  - {name: data, mountPath: /data}
  - {name: tmp, mountPath: /tmp}
{{- end }}

{{- define "tidegate.volumes" -}}
volumes:
  - name: config
    configMap: {name: {{ include "tidegate.name" . }}}
  - name: data
    emptyDir: {}
  - name: tmp
    emptyDir: {}
{{- end }}

{{/* Spread over nodes, and put where the values say. Takes the root, the component's name and its values. */}}
{{- define "tidegate.placement" -}}
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "tidegate.selector" .root | nindent 8 }}
        app.kubernetes.io/component: {{ .component }}
{{- with .values.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
