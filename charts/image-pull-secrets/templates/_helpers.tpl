{{- define "ips.name" -}}{{ .Values.nameOverride | default .Chart.Name }}{{- end }}

{{- define "ips.fullname" -}}
{{- if .Values.fullnameOverride }}{{ .Values.fullnameOverride }}
{{- else if contains (include "ips.name" .) .Release.Name }}{{ .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else }}{{ printf "%s-%s" .Release.Name (include "ips.name" .) | trunc 40 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "ips.namespace" -}}{{ .Values.namespaceOverride | default .Release.Namespace }}{{- end }}

{{- define "ips.generator" -}}{{ include "ips.fullname" . }}-generator{{- end }}

{{/* What adds references at admission: kubewarden, native or none. */}}
{{- define "ips.engine" -}}{{ ternary .Values.policy.engine "none" .Values.policy.enabled }}{{- end }}

{{/* "true" where Kubewarden's policy is installed; empty where not. */}}
{{- define "ips.usesKubewarden" -}}{{ if eq (include "ips.engine" .) "kubewarden" }}true{{ end }}{{- end }}

{{- define "ips.policyName" -}}{{ .Values.policy.name | default (include "ips.fullname" .) }}{{- end }}

{{/* The settings as policy and generator read them, as JSON: there a source always says its namespace. */}}
{{- define "ips.settings" -}}
{{- $settings := deepCopy .Values.settings }}
{{- range $settings.secrets }}
{{- if and (kindIs "map" .source) (not (without (keys .source) "name")) }}
{{- $_ := set .source "namespace" (include "ips.namespace" $) }}
{{- end }}
{{- end }}
{{- $settings | toJson }}
{{- end }}

{{- define "ips.serviceAccount" -}}
{{ .Values.generator.serviceAccount.name | default (include "ips.generator" .) }}
{{- end }}

{{/* Takes (list root repository); gives the repository, with global.imageRegistry in the place of its host. */}}
{{- define "ips.mirrored" -}}
{{- $path := splitList "/" (index . 1) }}
{{- with (index . 0).Values.global.imageRegistry }}
{{- if regexMatch "[.:]|^localhost$" (first $path) }}{{ $path = rest $path }}{{ end }}
{{- $path = prepend $path (trimSuffix "/" .) }}
{{- end }}
{{- compact $path | join "/" }}
{{- end }}

{{/* The same for an image by its whole name. Without a path it is an official image of Docker Hub, and its first part no host. */}}
{{- define "ips.mirroredImage" -}}
{{- $image := index . 1 }}
{{- if and (index . 0).Values.global.imageRegistry (not (contains "/" $image)) }}{{ $image = printf "docker.io/library/%s" $image }}{{ end }}
{{- include "ips.mirrored" (list (index . 0) $image) }}
{{- end }}

{{- define "ips.registry" -}}
{{ include "ips.mirrored" (list . .Values.registry) | required "registry is empty: say where module and image are, as in --set registry=ghcr.io/OWNER" }}
{{- end }}

{{- define "ips.module" -}}
{{- with .Values.policy.module }}{{ . }}
{{- else }}registry://{{ include "ips.registry" . }}/policies/image-pull-secrets:v{{ .Chart.AppVersion }}{{ end }}
{{- end }}

{{- define "ips.image" -}}
{{- $repository := include "ips.mirrored" (list . .Values.generator.image.repository) }}
{{- if not .Values.generator.image.repository }}{{ $repository = printf "%s/image-pull-secrets-generator" (include "ips.registry" .) }}{{ end }}
{{- if .Values.generator.image.digest }}{{ $repository }}@{{ .Values.generator.image.digest }}
{{- else }}{{ $repository }}:{{ .Values.generator.image.tag | default (printf "v%s" .Chart.AppVersion) }}{{ end }}
{{- end }}

{{- define "ips.failurePolicy" -}}
{{ .Values.policy.failurePolicy | default (ternary "Fail" "Ignore" (eq (.Values.settings.onMissingSecret | default "warn") "reject")) }}
{{- end }}

{{/* Whether the policy asks about Secrets; empty where it does not. */}}
{{- define "ips.readsSecrets" -}}
{{- if ne (.Values.settings.onMissingSecret | default "warn") "ignore" }}true{{ end }}
{{- end }}

{{- define "ips.chartLabels" -}}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: image-pull-secrets
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{/* Labels of what belongs to neither policy nor generator. */}}
{{- define "ips.labels" -}}
app.kubernetes.io/name: {{ include "ips.name" . | toYaml }}
app.kubernetes.io/instance: {{ .Release.Name | toYaml }}
{{ include "ips.chartLabels" . }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "ips.policyLabels" -}}
app.kubernetes.io/name: {{ include "ips.name" . }}-policy
app.kubernetes.io/instance: {{ .Release.Name | toYaml }}
{{ include "ips.chartLabels" . }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "ips.generatorSelector" -}}
app.kubernetes.io/name: {{ include "ips.name" . }}-generator
app.kubernetes.io/instance: {{ .Release.Name | toYaml }}
{{- end }}

{{/* Takes (list root labels): an object's own labels win over commonLabels. */}}
{{- define "ips.generatorLabelsAnd" -}}
{{- $root := index . 0 }}
{{- include "ips.generatorSelector" $root }}
{{ include "ips.chartLabels" $root }}
{{- with merge (dict) (index . 1) $root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "ips.generatorLabels" -}}
{{ include "ips.generatorLabelsAnd" (list . dict) }}
{{- end }}

{{/* Every Pod of the generator has these, those of Jobs and tests included: a mesh's side-car would keep a Job from ending. */}}
{{- define "ips.podLabels" -}}
{{ include "ips.generatorLabelsAnd" (list . .Values.generator.podLabels) }}
{{- end }}

{{/* The Pods that run all the time: those of Service and PodDisruptionBudget, unlike those of Jobs. */}}
{{- define "ips.controllerSelector" -}}
{{ include "ips.generatorSelector" . }}
app.kubernetes.io/component: controller
{{- end }}

{{/* What the generator recorded on its Lease: the names that the settings selected so far. Empty where nothing is asked. */}}
{{- define "ips.footprint" -}}
{{- $lease := lookup "coordination.k8s.io/v1" "Lease" (include "ips.namespace" .) (include "ips.generator" .) | default dict }}
{{- $annotations := ($lease.metadata | default dict).annotations | default dict }}
{{- get $annotations "image-pull-secrets.kubewarden.io/footprint" | default "{}" }}
{{- end }}

{{/* The names of all Secrets that the generator may see, as a JSON list. */}}
{{- define "ips.secretNames" -}}
{{- $names := list }}
{{- range .Values.settings.secrets }}{{ $names = append $names .name }}{{ end }}
{{- $recorded := include "ips.footprint" . | fromJson }}
{{- concat $names (.Values.generator.former.secrets | default list) ($recorded.secrets | default list) | uniq | toJson }}
{{- end }}

{{/* The same for the patterns of ServiceAccounts. */}}
{{- define "ips.serviceAccountPatterns" -}}
{{- $patterns := ternary .Values.settings.serviceAccounts (list "default") (kindIs "slice" .Values.settings.serviceAccounts) }}
{{- $recorded := include "ips.footprint" . | fromJson }}
{{- concat $patterns (.Values.generator.former.serviceAccounts | default list) ($recorded.serviceAccounts | default list) | uniq | toJson }}
{{- end }}

{{/* What cleanup may do in all namespaces, and the generator as well. */}}
{{- define "ips.cleanupRules" -}}
{{- $names := include "ips.secretNames" . | fromJsonArray }}
{{- $patterns := include "ips.serviceAccountPatterns" . | fromJsonArray -}}
- apiGroups: [""]
  resources: [namespaces]
  verbs: [list, watch]
- apiGroups: [""]
  resources: [secrets]
  resourceNames: {{ $names | toJson }}
  verbs: [get, list, watch, patch, delete]
{{- if $patterns }}
- apiGroups: [""]
  resources: [serviceaccounts]
  {{- /* A literal name is watched by a field selector, as a Secret is; there is none for a pattern. */}}
  {{- if not (regexMatch "[*?\\[\\\\]" (join "" $patterns)) }}
  resourceNames: {{ $patterns | toJson }}
  {{- end }}
  verbs: [get, list, watch, patch]
{{- end }}
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create]
{{- end }}

{{/* What only the generator may. */}}
{{- define "ips.generatorRules" -}}
{{ include "ips.cleanupRules" . }}
# create knows no names.
- apiGroups: [""]
  resources: [secrets]
  verbs: [create]
{{- if include "ips.usesKubewarden" . }}
- apiGroups: [policies.kubewarden.io]
  resources: [clusteradmissionpolicies]
  resourceNames: [{{ include "ips.policyName" . | quote }}]
  verbs: [get, list, watch]
{{- end }}
{{- if and .Values.generator.restartStuckPods (eq .Values.generator.mode "controller") }}
- apiGroups: [""]
  resources: [pods]
  verbs: [list, watch]
- apiGroups: [""]
  resources: [pods/eviction]
  verbs: [create]
{{- end }}
{{- end }}

{{/* "true" where the API server is told what the generator may write. */}}
{{- define "ips.isGuarded" -}}
{{- if and (ne .Values.generator.mode "disabled") .Values.generator.admissionPolicy.enabled (semverCompare ">=1.30.0-0" .Capabilities.KubeVersion.Version) }}true{{ end }}
{{- end }}

{{/* What such a policy is about. */}}
{{- define "ips.isTheGenerator" -}}
- name: the-generator
  expression: request.userInfo.username == "system:serviceaccount:{{ include "ips.namespace" . }}:{{ include "ips.serviceAccount" . }}"
{{- end }}

{{/* Whether the namespace of a request is one that a secret is for, as CEL; empty where it is for every one. Patterns with a
backslash, of which no name has need, are left to the generator. */}}
{{- define "ips.isForTheNamespace" -}}
{{- $conditions := list }}
{{- if and .namespaces (not (contains "\\" (join "" .namespaces))) }}
{{- $conditions = append $conditions (printf "(%s)" (include "ips.native.matches" (list "request.namespace" .namespaces))) }}
{{- end }}
{{- $selector := .namespaceSelector | default dict }}
{{- $requirements := $selector.matchExpressions | default list }}
{{- range $key, $value := $selector.matchLabels }}
{{- $requirements = append $requirements (dict "key" $key "operator" "In" "values" (list $value)) }}
{{- end }}
{{- range $requirements }}
{{- $holds := printf "namespaceObject.metadata.?labels[?%s].hasValue()" (toJson .key) }}
{{- if hasSuffix "In" .operator }}
{{- $holds = printf "%s && namespaceObject.metadata.labels[%s] in %s" $holds (toJson .key) (toJson .values) }}
{{- end }}
{{- $conditions = append $conditions (printf (ternary "!(%s)" "(%s)" (has .operator (list "NotIn" "DoesNotExist"))) $holds) }}
{{- end }}
{{- join " && " $conditions }}
{{- end }}

{{/* What it may do to its Lease, in the namespace of the release. */}}
{{- define "ips.leaseRules" -}}
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  verbs: [create]
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  resourceNames: [{{ include "ips.generator" . | quote }}]
  verbs: [get, update, patch]
{{- end }}

{{/* Environment that every command of the generator wants. */}}
{{- define "ips.commonEnv" -}}
- name: POD_NAME
  valueFrom: {fieldRef: {fieldPath: metadata.name}}
- name: POD_NAMESPACE
  valueFrom: {fieldRef: {fieldPath: metadata.namespace}}
- name: GENERATOR_LEASE_NAME
  value: {{ include "ips.generator" . | quote }}
- name: GENERATOR_LOG_LEVEL
  value: {{ .Values.generator.logLevel }}
- name: GENERATOR_LOG_FORMAT
  value: {{ .Values.generator.logFormat }}
{{- end }}

{{/* The generator's selector of namespaces, as kubectl --selector takes one. policy.namespaceSelector it reads from the policy,
where Kubewarden has one. */}}
{{- define "ips.namespaceSelector" -}}
{{- $parts := list }}
{{- if eq (include "ips.engine" .) "native" }}
{{- range .Values.policy.namespaceSelector }}
{{- if eq .operator "Exists" }}{{ $parts = append $parts .key }}
{{- else if eq .operator "DoesNotExist" }}{{ $parts = append $parts (printf "!%s" .key) }}
{{- else }}{{ $parts = append $parts (printf "%s %s (%s)" .key (lower .operator) (join "," .values)) }}{{ end }}
{{- end }}
{{- end }}
{{- with .Values.generator.namespaceSelector }}{{ $parts = append $parts . }}{{ end }}
{{- join "," $parts }}
{{- end }}

{{/* Whether the policy looks at the Pod's Namespace; empty where it does not. */}}
{{- define "ips.readsNamespaces" -}}
{{- $reads := "" }}
{{- if (.Values.settings.exclude | default dict).annotation }}{{ $reads = "true" }}{{ end }}
{{- range .Values.settings.secrets }}
{{- $selector := .namespaceSelector | default dict }}
{{- if or $selector.matchLabels $selector.matchExpressions }}{{ $reads = "true" }}{{ end }}
{{- end }}
{{- $reads }}
{{- end }}

{{/* Where its settings are. */}}
{{- define "ips.settingsEnv" -}}
{{- if include "ips.usesKubewarden" . }}
- name: GENERATOR_POLICY
  value: {{ include "ips.policyName" . | quote }}
{{- else }}
- name: GENERATOR_SETTINGS
  value: /etc/image-pull-secrets/settings.yaml
{{- end }}
{{- with include "ips.namespaceSelector" . }}
- name: GENERATOR_NAMESPACE_SELECTOR
  value: {{ . | quote }}
{{- end }}
{{- with .Values.generator.copyLabels }}
- name: GENERATOR_COPY_LABELS
  value: {{ include "ips.pairs" . | toJson }}
{{- end }}
{{- with .Values.generator.copyAnnotations }}
- name: GENERATOR_COPY_ANNOTATIONS
  value: {{ include "ips.pairs" . | toJson }}
{{- end }}
{{- if .Values.generator.credentialProviders }}
- name: GENERATOR_CREDENTIAL_PROVIDERS
  value: /credential-providers
{{- end }}
{{- with .Values.generator.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* A map as KEY=VALUE, one a line. */}}
{{- define "ips.pairs" -}}
{{- $pairs := list }}
{{- range $key, $value := . }}{{ $pairs = append $pairs (printf "%s=%s" $key $value) }}{{ end }}
{{- join "\n" $pairs }}
{{- end }}

{{- define "ips.volumeMounts" -}}
{{- if not (include "ips.usesKubewarden" .) }}
- name: settings
  mountPath: /etc/image-pull-secrets
  readOnly: true
{{- end }}
{{- with .Values.generator.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "ips.volumes" -}}
{{- if not (include "ips.usesKubewarden" .) }}
- name: settings
  configMap:
    name: {{ include "ips.generator" . }}
{{- end }}
{{- with .Values.generator.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* The init containers that bring the programs of credentialProviders. */}}
{{- define "ips.providerInitContainers" -}}
{{- range .Values.generator.credentialProviders }}
{{- if .command }}
- name: provider-{{ .name }}
  image: {{ include "ips.mirroredImage" (list $ .image) | toYaml }}
  imagePullPolicy: {{ .pullPolicy | default "IfNotPresent" }}
  command: {{ .command | toJson }}
  resources: {{- toYaml $.Values.generator.resources | nindent 4 }}
  {{- with $.Values.generator.securityContext }}
  securityContext: {{- toYaml . | nindent 4 }}
  {{- end }}
  volumeMounts:
    - name: provider-{{ .name }}
      mountPath: /credential-providers/{{ .name }}
{{- end }}
{{- end }}
{{- end }}

{{/* Where the generator's container finds them. */}}
{{- define "ips.providerVolumeMounts" -}}
{{- range .Values.generator.credentialProviders }}
- name: provider-{{ .name }}
  mountPath: /credential-providers/{{ .name }}
  readOnly: true
{{- end }}
{{- end }}

{{- define "ips.providerVolumes" -}}
{{- range .Values.generator.credentialProviders }}
- name: provider-{{ .name }}
  {{- if .command }}
  emptyDir: {}
  {{- else }}
  image:
    reference: {{ include "ips.mirroredImage" (list $ .image) | toYaml }}
    pullPolicy: {{ .pullPolicy | default "IfNotPresent" }}
  {{- end }}
{{- end }}
{{- end }}

{{/* What every Pod of the generator has in common. */}}
{{- define "ips.podSpec" -}}
{{- $pullSecrets := list }}
{{- range concat .Values.global.imagePullSecrets .Values.generator.imagePullSecrets }}
{{- $pullSecrets = append $pullSecrets (ternary (dict "name" .) . (kindIs "string" .)) }}
{{- end }}
{{- with uniq $pullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- $context := .Values.generator.podSecurityContext }}
{{- /* OpenShift refuses a user that is not in the namespace's range, and gives one where none is asked for. */}}
{{- if .Capabilities.APIVersions.Has "security.openshift.io/v1" }}{{ $context = omit $context "runAsUser" "runAsGroup" "fsGroup" }}{{ end }}
{{- with $context }}
securityContext: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.generator.priorityClassName }}
priorityClassName: {{ . | toYaml }}
{{- end }}
{{- with .Values.generator.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.generator.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.generator.affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "ips.container" -}}
name: generator
image: {{ include "ips.image" . }}
imagePullPolicy: {{ .Values.generator.image.pullPolicy }}
resources: {{- toYaml .Values.generator.resources | nindent 2 }}
{{- with .Values.generator.securityContext }}
securityContext: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* The namespaces that are excluded by their whole name, as a JSON list: a label selector knows no patterns. */}}
{{- define "ips.excludedNames" -}}
{{- $names := list }}
{{- range (.Values.settings.exclude | default dict).namespaces }}
{{- if regexMatch "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$" . }}{{ $names = append $names . }}{{ end }}
{{- end }}
{{- $names | toJson }}
{{- end }}

{{/* A namespace to try the policy in: default, unless it may be left out. */}}
{{- define "ips.checkNamespace" -}}
{{- $isLimited := not (empty .Values.policy.namespaceSelector) }}
{{- range .Values.settings.secrets }}{{ if or .namespaces .namespaceSelector }}{{ $isLimited = true }}{{ end }}{{ end }}
{{- if or $isLimited (has "default" (include "ips.excludedNames" . | fromJsonArray)) }}NAMESPACE{{ else }}default{{ end }}
{{- end }}

{{/* An image that has the policy add a secret: any, unless every secret is for some only. */}}
{{- define "ips.checkImage" -}}
{{- $image := "" }}
{{- range .Values.settings.secrets }}
{{- if not (or .matchImages .matchCredentials) }}{{ $image = "example.com/check" }}
{{- else if and .matchImages (not $image) }}{{ $image = printf "%s/check" (first .matchImages | replace "*" "x" | trimSuffix "/") }}
{{- end }}
{{- end }}
{{- $image | default "IMAGE" }}
{{- end }}

{{/* Refuses what the schema cannot express. */}}
{{- define "ips.check" -}}
{{- $names := list }}
{{- range $i, $secret := .Values.settings.secrets }}
{{- if has .name $names }}
{{- fail (printf "settings.secrets[%d].name: %q is configured already" $i .name) }}
{{- end }}
{{- $names = append $names .name }}
{{- if and .matchCredentials (not (include "ips.readsSecrets" $)) }}
{{- fail (printf "settings.secrets[%d].matchCredentials: reads the Secret, which onMissingSecret: ignore never does: use matchImages" $i) }}
{{- end }}
{{- end }}
{{- $sources := dict }}
{{- range (include "ips.settings" . | fromJson).secrets }}
{{- if and .source (hasKey .source "namespace") }}{{ $_ := set $sources (printf "%s/%s" .source.namespace (.source.name | default .name)) true }}{{ end }}
{{- end }}
{{- $release := include "ips.namespace" . }}
{{- range .Values.sourceSecrets }}
{{- $id := printf "%s/%s" (.namespace | default $release) .name }}
{{- if not (hasKey $sources $id) }}
{{- fail (printf "sourceSecrets: no entry of settings.secrets has %s as its source; they have: %s" $id (keys $sources | sortAlpha | join ", ")) }}
{{- end }}
{{- end }}
{{- $isWithout := eq (include "ips.engine" .) "none" }}
{{- if and $isWithout (eq .Values.generator.mode "disabled") }}
{{- fail "policy.engine is none and generator.mode is disabled: nothing is left to install" }}
{{- end }}
{{- $providers := list }}
{{- range $i, $provider := .Values.generator.credentialProviders }}
{{- if has .name $providers }}
{{- fail (printf "generator.credentialProviders[%d].name: %q is there already" $i .name) }}
{{- end }}
{{- $providers = append $providers .name }}
{{- end }}
{{- if and $isWithout .Values.policy.namespaceSelector }}
{{- fail "policy.namespaceSelector has no effect with policy.engine: none; use generator.namespaceSelector" }}
{{- end }}
{{- if not (or .Values.generator.serviceAccount.create .Values.generator.serviceAccount.name) }}
{{- fail "generator.serviceAccount.create is false: name the ServiceAccount that exists, with generator.serviceAccount.name" }}
{{- end }}
{{- /* Asked of a cluster, Helm knows the kinds of its API; without one, as in `helm template`, it knows versions only. */}}
{{- $kinds := .Capabilities.APIVersions }}
{{- if and (include "ips.usesKubewarden" .) ($kinds.Has "v1/Pod") (not ($kinds.Has "policies.kubewarden.io/v1/ClusterAdmissionPolicy")) }}
{{- fail "Kubewarden is not installed in this cluster: it has no ClusterAdmissionPolicy (policies.kubewarden.io/v1). Install Kubewarden first (https://docs.kubewarden.io/quick-start), do without it with --set policy.engine=native (from Kubernetes 1.36), or install the generator alone with --set policy.engine=none" }}
{{- end }}
{{- end }}
