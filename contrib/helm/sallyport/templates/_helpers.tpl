{{- define "sallyport.labels" -}}
app.kubernetes.io/name: sallyport
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{/* Of the webhook, which must not look like an agent: who calls into agents finds them by their labels. */}}
{{- define "sallyport.webhook.labels" -}}
app.kubernetes.io/name: sallyport-webhook
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "sallyport.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{/* The container's rights. What each capability is for:
BPF and PERFMON load programs and attach them to cgroups and to the kernel; NET_ADMIN attaches to interfaces and closes
sockets; SYS_ADMIN enters network namespaces; SYS_PTRACE and DAC_READ_SEARCH read /proc of all processes; KILL carries out
the verdict Kill. */}}
{{- define "sallyport.security" -}}
privileged: false
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsUser: 0
capabilities:
  drop: [ALL]
  add: [BPF, PERFMON, NET_ADMIN, SYS_ADMIN, SYS_PTRACE, DAC_READ_SEARCH, KILL]
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "sallyport.mounts" -}}
- {name: config, mountPath: /etc/sallyport/config.yaml, subPath: config.yaml, readOnly: true}
- {name: policies, mountPath: /etc/sallyport/policies, readOnly: true}
- {name: bpffs, mountPath: /sys/fs/bpf}
- {name: cgroup, mountPath: /sys/fs/cgroup, readOnly: true}
- {name: tracing, mountPath: /sys/kernel/tracing}
- {name: security, mountPath: /sys/kernel/security, readOnly: true}
- {name: containerd, mountPath: /run/containerd, readOnly: true}
- {name: nri, mountPath: /var/run/nri, readOnly: true}
- {name: run, mountPath: /run/sallyport}
{{- end }}
