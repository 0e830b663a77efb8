//! `metadata.yml`: what the policy says about itself, and with that what the host grants it.

use std::{fs, io, path::Path};

use serde::Deserialize;
use thiserror::Error;

use crate::request::AdmissionRequest;

/// Every capability a host of Kubewarden 1.36 to 1.38 has; a pattern that covers none of them is a mistake.
const CAPABILITIES: [&str; 11] = [
    "crypto/v1/is_certificate_trusted",
    "kubernetes/can_i",
    "kubernetes/get_resource",
    "kubernetes/list_resources_all",
    "kubernetes/list_resources_by_namespace",
    "net/v1/dns_lookup_host",
    "oci/v1/manifest_digest",
    "oci/v1/oci_manifest",
    "oci/v1/oci_manifest_config",
    "oci/v1/verify",
    "oci/v2/verify",
];

/// The part of a policy's metadata that a host acts on.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Metadata {
    /// Whether the policy may change objects. Where it may not, a patch becomes a rejection.
    pub mutating: bool,
    /// The kinds that the policy may read from the cluster.
    pub context_aware_resources: Vec<ContextAwareResource>,
    /// The host capabilities that the policy may call: exact paths, `oci/*` or `*`. None listed, none granted.
    pub host_capabilities: Vec<String>,
    /// The requests that an API server sends to the policy.
    pub rules: Vec<Rule>,
    execution_mode: ExecutionMode,
}

/// A kind that a policy may read.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ContextAwareResource {
    /// `v1`, or `group/version`.
    pub api_version: String,
    /// The kind's name, as in `kind: Secret`.
    pub kind: String,
}

/// One rule of an admission webhook, as in a MutatingWebhookConfiguration.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rule {
    /// API groups, `""` being the core group.
    pub api_groups: Vec<String>,
    /// API versions.
    pub api_versions: Vec<String>,
    /// Resources in the plural; a sub-resource as `pods/status`.
    pub resources: Vec<String>,
    /// Operations in capitals.
    pub operations: Vec<String>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
enum ExecutionMode {
    #[default]
    #[serde(rename = "kubewarden-wapc")]
    Wapc,
    #[serde(rename = "wasi")]
    Wasi,
    #[serde(rename = "opa")]
    Opa,
    #[serde(rename = "gatekeeper")]
    Gatekeeper,
}

/// Why a policy's metadata cannot be used.
#[derive(Debug, Error)]
pub enum MetadataError {
    /// The file could not be read.
    #[error("cannot read the policy's metadata from {path}")]
    Read {
        /// The file.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// Not YAML, or not a policy's metadata.
    #[error("the policy's metadata is not valid")]
    Parse(#[from] yaml_serde::Error),
    /// Another runtime than waPC.
    #[error("executionMode is {0}: this host runs kubewarden-wapc policies only")]
    ExecutionMode(String),
    /// A capability pattern that grants nothing.
    #[error("hostCapabilities: {0:?} covers no capability of the host; known are {known}", known = CAPABILITIES.join(", "))]
    Capability(String),
}

impl Metadata {
    /// Reads a `metadata.yml`.
    pub fn read(path: &Path) -> Result<Self, MetadataError> {
        let yaml = fs::read_to_string(path)
            .map_err(|source| MetadataError::Read { path: path.display().to_string(), source })?;
        Self::parse(&yaml)
    }

    /// Parses the text of a `metadata.yml`, refusing what this host cannot honour.
    pub fn parse(yaml: &str) -> Result<Self, MetadataError> {
        let metadata: Self = yaml_serde::from_str(yaml)?;
        if metadata.execution_mode != ExecutionMode::Wapc {
            return Err(MetadataError::ExecutionMode(format!("{:?}", metadata.execution_mode).to_lowercase()));
        }
        match metadata.host_capabilities.iter().find(|pattern| !CAPABILITIES.iter().any(|path| covers(pattern, path))) {
            Some(pattern) => Err(MetadataError::Capability(pattern.clone())),
            None => Ok(metadata),
        }
    }

    /// Whether the policy may call `path`, for example `kubernetes/get_resource`.
    pub fn grants_capability(&self, path: &str) -> bool {
        self.host_capabilities.iter().any(|pattern| covers(pattern, path))
    }

    /// Whether the policy may read objects of this kind.
    pub fn grants_resource(&self, api_version: &str, kind: &str) -> bool {
        self.context_aware_resources.iter().any(|granted| granted.api_version == api_version && granted.kind == kind)
    }

    /// Whether an API server would send this request to the policy at all.
    pub fn selects(&self, request: &AdmissionRequest) -> bool {
        let resource = match &request.sub_resource {
            Some(sub_resource) => format!("{}/{sub_resource}", request.resource.resource),
            None => request.resource.resource.clone(),
        };
        let lists = |list: &[String], value: &str| list.iter().any(|entry| entry == "*" || entry == value);
        self.rules.iter().any(|rule| {
            lists(&rule.api_groups, &request.resource.group)
                && lists(&rule.api_versions, &request.resource.version)
                && lists(&rule.resources, &resource)
                && lists(&rule.operations, &request.operation)
        })
    }
}

fn covers(pattern: &str, path: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => (prefix.is_empty() || prefix.ends_with('/')) && path.starts_with(prefix),
        None => pattern == path,
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::nothing_listed_grants_nothing("[]", "kubernetes/get_resource", false)]
    #[case::an_exact_path("[kubernetes/get_resource]", "kubernetes/get_resource", true)]
    #[case::an_exact_path_is_not_a_prefix("[kubernetes/get_resource]", "kubernetes/list_resources_all", false)]
    #[case::a_namespace("['kubernetes/*']", "kubernetes/can_i", true)]
    #[case::a_version("['oci/v1/*']", "oci/v2/verify", false)]
    #[case::everything("['*']", "net/v1/dns_lookup_host", true)]
    fn capabilities_are_granted_by_pattern(#[case] patterns: &str, #[case] path: &str, #[case] granted: bool) {
        let metadata = Metadata::parse(&format!("hostCapabilities: {patterns}")).unwrap();
        assert_eq!(metadata.grants_capability(path), granted);
    }

    #[rstest]
    #[case::half_a_word("hostCapabilities: ['oci*']", "hostCapabilities: \"oci*\" covers no capability of the host")]
    #[case::unknown("hostCapabilities: [kubernetes/get_secret]", "\"kubernetes/get_secret\" covers no capability")]
    #[case::unknown_namespace("hostCapabilities: ['file/*']", "\"file/*\" covers no capability")]
    #[case::another_runtime("executionMode: opa", "executionMode is opa: this host runs kubewarden-wapc policies only")]
    #[case::not_yaml("rules: [", "the policy's metadata is not valid")]
    fn metadata_that_this_host_cannot_honour_is_refused(#[case] yaml: &str, #[case] message: &str) {
        let error = Metadata::parse(yaml).unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
    }

    #[rstest]
    #[case::a_granted_kind("v1", "Secret", true)]
    #[case::another_kind("v1", "ConfigMap", false)]
    #[case::the_kind_of_another_group("example.com/v1", "Secret", false)]
    fn kinds_are_granted_by_name(#[case] api_version: &str, #[case] kind: &str, #[case] granted: bool) {
        let metadata = Metadata::parse("contextAwareResources: [{apiVersion: v1, kind: Secret}]").unwrap();
        assert_eq!(metadata.grants_resource(api_version, kind), granted);
    }

    #[rstest]
    #[case::the_operation_of_a_rule("Pod", "CREATE", None, true)]
    #[case::another_operation("Pod", "UPDATE", None, false)]
    #[case::any_operation("ServiceAccount", "DELETE", None, true)]
    #[case::another_resource("ConfigMap", "CREATE", None, false)]
    #[case::a_sub_resource_needs_its_own_rule("Pod", "CREATE", Some("binding"), false)]
    fn rules_select_requests(
        #[case] kind: &str,
        #[case] operation: &str,
        #[case] sub_resource: Option<&str>,
        #[case] selected: bool,
    ) {
        let metadata = Metadata::parse(
            r#"
            rules:
            - {apiGroups: [""], apiVersions: [v1], resources: [pods], operations: [CREATE]}
            - {apiGroups: [""], apiVersions: [v1], resources: [serviceaccounts], operations: ["*"]}
            "#,
        )
        .unwrap();
        let object = serde_json::json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": "x"}});
        let mut request = AdmissionRequest::create(object, 0).unwrap();
        request.operation = operation.to_owned();
        request.sub_resource = sub_resource.map(str::to_owned);
        assert_eq!(metadata.selects(&request), selected);
    }
}
