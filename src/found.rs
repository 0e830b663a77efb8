//! What is there: the host's answers about Secrets and Namespaces, and what its errors mean.
//!
//! The host has no error codes, only texts, which may go on with a list of causes and a stack backtrace
//! (`crates/policy-evaluator/src/callback_handler` in Kubewarden). They are classified here and never passed on.

use image_pull_secrets::docker_config::DockerConfig;
use image_pull_secrets::secret::{self, Unusable};
use kubewarden_policy_sdk::host_capabilities::kubernetes::{GetResourceRequest, get_resource};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::fmt;

/// What the host said about a Secret.
#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    /// It is there, and the kubelet can pull with it.
    Usable(DockerConfig),
    /// It is not there.
    Missing,
    /// It is there, and the kubelet cannot pull with it.
    Unusable(Unusable),
    /// The host could not tell.
    Unknown(Unknown),
}

/// Why the host could not tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unknown {
    /// RBAC does not let the policy-server read it.
    Forbidden,
    /// The API server did not answer.
    Unreachable,
    /// The policy may not ask for this kind.
    KindNotGranted,
    /// The policy may not ask for Kubernetes resources at all.
    CapabilityNotGranted,
    /// The host has no cluster, as kwctl without a kubeconfig.
    NoCluster,
    /// The API server does not list the kind.
    KindNotServed,
    /// The request names no namespace.
    NoNamespace,
    /// The answer is not what Kubernetes' API says it is.
    Malformed,
    /// An error that none of the above fits.
    Other,
}

impl fmt::Display for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Self::Forbidden => "policy-server is not allowed to read it",
            Self::Unreachable => "the API server did not answer",
            Self::KindNotGranted => "the policy's contextAwareResources do not list its kind",
            Self::CapabilityNotGranted => "the policy's hostCapabilities lack kubernetes/get_resource",
            Self::NoCluster => "there is no cluster to ask",
            Self::KindNotServed => "the API server does not serve its kind",
            Self::NoNamespace => "the request names no namespace",
            Self::Malformed => "the answer could not be read",
            Self::Other => "asking failed, see policy-server's log",
        })
    }
}

#[derive(Clone, Deserialize)]
struct SecretView {
    #[serde(rename = "type")]
    secret_type: Option<String>,
    data: Option<SecretData>,
}

#[derive(Clone, Deserialize)]
struct SecretData {
    #[serde(rename = ".dockerconfigjson")]
    docker_config_json: Option<String>,
    #[serde(rename = ".dockercfg")]
    docker_cfg: Option<String>,
}

#[derive(Clone, Deserialize)]
struct NamespaceView {
    metadata: NamespaceMetadata,
}

#[derive(Clone, Deserialize)]
struct NamespaceMetadata {
    annotations: Option<BTreeMap<String, String>>,
}

/// Asks the host for a Secret, and looks at it as the kubelet would.
pub fn secret(namespace: &str, name: &str) -> Found {
    if namespace.is_empty() {
        return Found::Unknown(Unknown::NoNamespace);
    }
    match get::<SecretView>("Secret", Some(namespace), name, &["type", "data"]) {
        Ok(Some(view)) => judge(view),
        Ok(None) => Found::Missing,
        Err(unknown) => Found::Unknown(unknown),
    }
}

fn judge(view: SecretView) -> Found {
    let SecretData { docker_config_json, docker_cfg } =
        view.data.unwrap_or(SecretData { docker_config_json: None, docker_cfg: None });
    // The API server gives a Secret without a type this one.
    let secret_type = view.secret_type.as_deref().unwrap_or("Opaque");
    let config = secret::docker_config(secret_type, |key| {
        let value = if key == ".dockercfg" { docker_cfg } else { docker_config_json };
        secret::decode_data(&value?)
    });
    match config {
        Ok(config) => Found::Usable(config),
        Err(unusable) => Found::Unusable(unusable),
    }
}

/// Asks the host for a Namespace, and gives the value of one of its annotations. A Namespace that is not there has none.
pub fn namespace_annotation(namespace: &str, key: &str) -> Result<Option<String>, Unknown> {
    if namespace.is_empty() {
        return Err(Unknown::NoNamespace);
    }
    let found = get::<NamespaceView>("Namespace", None, namespace, &["metadata.annotations"])?;
    Ok(found.and_then(|view| view.metadata.annotations?.remove(key)))
}

fn get<T: DeserializeOwned + Clone>(
    kind: &str,
    namespace: Option<&str>,
    name: &str,
    fields: &[&str],
) -> Result<Option<T>, Unknown> {
    let request = GetResourceRequest {
        api_version: "v1".to_owned(),
        kind: kind.to_owned(),
        name: name.to_owned(),
        namespace: namespace.map(str::to_owned),
        disable_cache: false,
        field_masks: Some(fields.iter().map(|field| (*field).to_owned()).collect()),
    };
    match get_resource(&request) {
        Ok(resource) => Ok(Some(resource)),
        Err(kubewarden_policy_sdk::Error::Deserialization { .. }) => Err(Unknown::Malformed),
        Err(error) => classify(&error.to_string(), kind),
    }
}

/// Reads the first line of an error: `Ok(None)` where it says that the resource is not there.
fn classify<T>(error: &str, kind: &str) -> Result<Option<T>, Unknown> {
    let line = error.lines().next().unwrap_or_default();
    if line.contains(&format!("Cannot find v1/{kind} named")) {
        return Ok(None);
    }
    let known = [
        ("Cannot find resource", Unknown::KindNotServed),
        ("code: 403", Unknown::Forbidden),
        ("ServiceError", Unknown::Unreachable),
        ("host capability. The violation", Unknown::CapabilityNotGranted),
        ("has not been granted access to Kubernetes", Unknown::KindNotGranted),
        ("kube::Client was not initialized", Unknown::NoCluster),
    ];
    Err(known.iter().find(|(text, _)| line.contains(text)).map_or(Unknown::Other, |(_, unknown)| *unknown))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::missing(
        "Callback evaluation failure: Cannot find v1/Secret named 'nope' inside of namespace 'Some(\"v1\")'\n\nCaused by:\n   code: 403",
        Ok(None)
    )]
    #[case::forbidden(
        "Callback evaluation failure: ApiError: secrets \"regcred\" is forbidden: User \"system:serviceaccount:v1:rb\" cannot \
         get resource \"secrets\" in API group \"\" in the namespace \"v1\": Forbidden (Status { status: Some(Failure), code: \
         403, message: \"\" })",
        Err(Unknown::Forbidden)
    )]
    #[case::unreachable("Callback evaluation failure: ServiceError: client error (Connect)", Err(Unknown::Unreachable))]
    #[case::the_kind_is_not_granted(
        "Policy has not been granted access to Kubernetes v1/Secret resources. The violation has been reported.",
        Err(Unknown::KindNotGranted)
    )]
    #[case::the_capability_is_not_granted(
        "Policy has not been granted access to the 'kubernetes/get_resource' host capability. The violation has been \
         reported.",
        Err(Unknown::CapabilityNotGranted)
    )]
    #[case::no_cluster("kube::Client was not initialized properly", Err(Unknown::NoCluster))]
    #[case::a_failed_discovery("Cannot find resource v1/Secret", Err(Unknown::KindNotServed))]
    #[case::another_kind_is_missing("Cannot find v1/Namespace named 'x'", Err(Unknown::Other))]
    #[case::something_else("the sky fell", Err(Unknown::Other))]
    #[case::nothing("", Err(Unknown::Other))]
    fn host_texts_are_classified(#[case] text: &str, #[case] expected: Result<Option<()>, Unknown>) {
        let error = format!("error invoking host capability kubernetes.get_resource: Host error: {text}");
        assert_eq!(classify(&error, "Secret"), expected);
    }
}
