{{/* What templates/native.yaml is made of: settings as CEL. */}}

{{/* An expression in CEL as YAML, in the quotes that it has not itself. */}}
{{- define "ips.native.quoted" -}}'{{ . | replace "'" "''" }}'{{- end }}

{{/* The API version of MutatingAdmissionPolicies. */}}
{{- define "ips.native.version" -}}
{{- if semverCompare ">=1.36.0-0" .Capabilities.KubeVersion.Version }}v1
{{- else if .Capabilities.APIVersions.Has "admissionregistration.k8s.io/v1beta1/MutatingAdmissionPolicy" }}v1beta1
{{- else }}{{ fail (printf "policy.engine: native needs MutatingAdmissionPolicies, which Kubernetes serves from 1.36, and from 1.34 where v1beta1 is switched on; this is %s: use policy.engine: kubewarden or none" .Capabilities.KubeVersion.Version) }}
{{- end }}
{{- end }}

{{/* Refuses what the API server cannot do by itself. */}}
{{- define "ips.native.check" -}}
{{- range $i, $secret := .Values.settings.secrets }}
{{- if $secret.matchCredentials }}
{{- fail (printf "settings.secrets[%d].matchCredentials: policy.engine: native cannot read what is in a Secret: use matchImages, or policy.engine: kubewarden" $i) }}
{{- end }}
{{- end }}
{{- if ne .Values.policy.mode "protect" }}
{{- fail "policy.mode: with policy.engine: native, only protect is possible" }}
{{- end }}
{{- end }}

{{/* Whether a text is matched by one of these globs, as CEL: a list of an expression for the text, and the globs. */}}
{{- define "ips.native.matches" -}}
{{- $names := list }}{{ $patterns := list }}
{{- range last . }}
{{- if contains "\\" . }}{{ fail (printf "policy.engine: native cannot use a pattern with a '\\': %q" .) }}{{ end }}
{{- if regexMatch "[*?\\[]" . }}
{{- /* What stands in names besides letters, digits and '-' is a dot; everything else that regular expressions know cannot. */}}
{{- $patterns = append $patterns (regexReplaceAll "([.+(){}|$])" . "\\${1}" | replace "*" ".*" | replace "?" ".") }}
{{- else }}{{ $names = append $names . }}{{ end }}
{{- end }}
{{- $parts := list }}
{{- if $names }}{{ $parts = append $parts (printf "%s in %s" (first .) (toJson $names)) }}{{ end }}
{{- if $patterns }}{{ $parts = append $parts (printf "%s.matches(%s)" (first .) (printf "^(%s)$" (join "|" $patterns) | toJson)) }}{{ end }}
{{- join " || " $parts | default "false" }}
{{- end }}

{{/* A regular expression for the images that these patterns are for, as settings.secrets[].matchImages has them. */}}
{{- define "ips.native.imagePattern" -}}
{{- $patterns := list }}
{{- range . }}
{{- $authority := regexFind "^[^/]*" . }}
{{- $path := trimPrefix $authority . }}
{{- $host := trimSuffix ":" $authority | regexQuoteMeta | replace "\\*" "[^./:]*" | replace "\\?" "[^./:]" }}
{{- $patterns = append $patterns (printf "%s%s" $host ($path | default "/" | regexQuoteMeta)) }}
{{- end }}
{{- printf "^(%s)" (join "|" $patterns) }}
{{- end }}

{{/* The namespaces of a secret, as far as their labels tell: the chart's values and the secret. */}}
{{- define "ips.native.namespaceSelector" -}}
{{- $selector := (last .).namespaceSelector | default dict }}
{{- $expressions := concat ((first .).policy.namespaceSelector | default list) ($selector.matchExpressions | default list) }}
{{- if or $selector.matchLabels $expressions }}
namespaceSelector:
  {{- with $selector.matchLabels }}
  matchLabels: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $expressions }}
  matchExpressions: {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}
{{- end }}

{{/* What Pods and ServiceAccounts have in common among the conditions: the chart's values and the secret. */}}
{{- define "ips.native.conditions" -}}
{{- $exclude := (first .).settings.exclude | default dict }}
{{- $secret := last . }}
{{- with $exclude.namespaces }}
- name: namespace-is-not-excluded
  expression: {{ printf "!(%s)" (include "ips.native.matches" (list "request.namespace" .)) | include "ips.native.quoted" }}
{{- end }}
{{- with $secret.namespaces }}
- name: secret-is-for-the-namespace
  expression: {{ include "ips.native.matches" (list "request.namespace" .) | include "ips.native.quoted" }}
{{- end }}
{{- with $exclude.annotation }}
- name: object-is-not-excluded
  expression: {{ printf "object.metadata.?annotations[?%s].orValue(\"\") != \"true\"" (toJson .) | include "ips.native.quoted" }}
{{- end }}
{{- end }}

{{/* Appends a reference, as CEL: the path of the list, the object that has it, the type of an entry, the secret's name, and on
what condition, if any. An empty list first: over a list with an entry in it the API server of 1.36.3 panics. */}}
{{- define "ips.native.append" -}}
{{- $list := printf "%s.imagePullSecrets" (index . 1) -}}
{{- with index . 4 -}}
!({{ . }}) ? [] :
{{ end -}}
(has({{ $list }}) ? [] : [JSONPatch{op: "add", path: "{{ index . 0 }}", value: []}]) +
[JSONPatch{op: "add", path: "{{ index . 0 }}/-", value: {{ index . 2 }}{name: {{ index . 3 | toJson }}}}]
{{- end }}

{{/* Whether a list has no such entry, as CEL: the object that has it, and the secret's name. */}}
{{- define "ips.native.lacks" -}}
{{ printf "!%s.?imagePullSecrets.orValue([]).exists(entry, entry.?name.orValue(\"\") == %s)" (first .) (last . | toJson) }}
{{- end }}

{{/* Whether the Namespace lacks the annotation that excludes it, as CEL; empty where there is none. Conditions cannot look at the
Namespace. */}}
{{- define "ips.native.namespaceIsNotExcluded" -}}
{{- with (.Values.settings.exclude | default dict).annotation }}
{{- printf "namespaceObject.metadata.?annotations[?%s].orValue(\"\") != \"true\"" (toJson .) }}
{{- end }}
{{- end }}

{{/* Whether the kubelet takes the Secret for one with credentials, as CEL. */}}
{{- define "ips.native.usable" -}}
- name: secret-is-of-the-right-type
  expression: params.?type.orValue("") in ["kubernetes.io/dockerconfigjson", "kubernetes.io/dockercfg"]
{{- end }}
