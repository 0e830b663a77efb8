//! Asks the host for Secrets and Namespaces, and finds out what its errors mean.
//!
//! The host gives no error codes. It gives texts, which may include a list of causes and a stack backtrace
//! (`crates/policy-evaluator/src/callback_handler` in Kubewarden). This module classifies them and never passes them on.

use image_pull_secrets::docker_config::DockerConfig;
use image_pull_secrets::json::{self, JsonError};
use image_pull_secrets::secret::{self, Unusable};
use serde::Serialize;
use std::borrow::Cow;
use std::fmt;
use std::time::{Duration, Instant};

/// How long after the start of a request the policy still asks the host. Policy-server interrupts a policy that takes too
/// long and denies its request, even if the failurePolicy is Ignore. Its clock ticks in whole seconds, so its timeout of 2
/// seconds may be over after little more than one second. Half of that second is for questions, and half for the last
/// answer.
const TIME_FOR_QUESTIONS: Duration = Duration::from_millis(500);

/// What to ask for.
struct Resource {
    kind: &'static str,
    field_masks: &'static [&'static str],
}

const SECRET: Resource = Resource { kind: "Secret", field_masks: &["data", "type"] };
/// The mask selects fields outside of `metadata`; the host always answers with all of `metadata`.
const NAMESPACE: Resource = Resource { kind: "Namespace", field_masks: &["metadata.annotations"] };

/// Each question goes to the API server. The host could answer from a cache of 5 seconds, but it fills that cache with one
/// read at a time, for all of its policies. Requests for different namespaces would wait for each other, and a read that
/// hangs would block every policy that reads something (figures in `docs/benchmarks.md`).
const DISABLE_CACHE: bool = true;

/// What the kubelet gets from a Secret: a docker config, or the reason why it gets none.
pub type Found = Result<DockerConfig, Cause>;

/// Why a Secret does not work, or may not work.
#[derive(Debug, PartialEq, Eq)]
pub enum Cause {
    /// It does not exist.
    Missing,
    /// The kubelet cannot pull with it.
    Unusable(Unusable),
    /// It could not be read.
    Unknown(Unknown),
}

/// Why something could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unknown {
    /// RBAC does not let the policy-server read it.
    Forbidden,
    /// The API server did not answer.
    Unreachable,
    /// The policy did not ask, because earlier questions took too long.
    OutOfTime,
    /// The policy may not ask for this kind.
    KindNotGranted,
    /// The policy may not ask for Kubernetes resources at all.
    CapabilityNotGranted,
    /// The host has no cluster, like kwctl without a kubeconfig.
    NoCluster,
    /// The API server does not list the kind.
    KindNotServed,
    /// The request names no namespace.
    NoNamespace,
    /// The answer is not an object as the Kubernetes API defines it.
    Malformed,
    /// Another error.
    Other,
}

impl fmt::Display for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Self::Forbidden => "policy-server may not read it",
            Self::Unreachable => "the API server did not answer",
            Self::OutOfTime => "the API server is slow, and there was no time left to ask",
            Self::KindNotGranted => "the policy's contextAwareResources lack its kind",
            Self::CapabilityNotGranted => "the policy lacks the host capability kubernetes/get_resource",
            Self::NoCluster => "there is no cluster to ask",
            Self::KindNotServed => "the API server does not serve its kind",
            Self::NoNamespace => "the request names no namespace",
            Self::Malformed => "the host's answer could not be read",
            Self::Other => "the host could not ask",
        })
    }
}

/// The host. It is only asked while there is time left.
pub struct Host {
    start: Instant,
}

impl Host {
    /// Starts the clock; call it when a request begins.
    pub fn new() -> Self {
        Self { start: Instant::now() }
    }

    /// Asks for a Secret, and reads it as the kubelet would.
    pub fn secret(&self, namespace: &str, name: &str) -> Found {
        if namespace.is_empty() {
            return Err(Cause::Unknown(Unknown::NoNamespace));
        }
        match self.get(&SECRET, Some(namespace), name) {
            Ok(Some(secret)) => judge(&secret),
            Ok(None) => Err(Cause::Missing),
            Err(unknown) => Err(Cause::Unknown(unknown)),
        }
    }

    /// Asks for a Namespace. One that does not exist counts as one without labels and annotations.
    pub fn namespace(&self, name: &str) -> Result<NamespaceMetadata, Unknown> {
        if name.is_empty() {
            return Err(Unknown::NoNamespace);
        }
        match self.get(&NAMESPACE, None, name)? {
            Some(namespace) => NamespaceMetadata::of(&namespace).map_err(|_| Unknown::Malformed),
            None => Ok(NamespaceMetadata::default()),
        }
    }

    /// The resource as JSON, or `None` if it does not exist. This replaces the SDK's `get_resource`, which deserialises the
    /// answer with serde_json and would make the module a quarter larger.
    fn get(&self, resource: &Resource, namespace: Option<&str>, name: &str) -> Result<Option<String>, Unknown> {
        if self.start.elapsed() >= TIME_FOR_QUESTIONS {
            return Err(Unknown::OutOfTime);
        }
        let &Resource { kind, field_masks } = resource;
        let request =
            GetResource { api_version: "v1", kind, name, namespace, disable_cache: DISABLE_CACHE, field_masks };
        let request = serde_json::to_vec(&request).map_err(|_| Unknown::Other)?;
        match wapc_guest::host_call("kubewarden", "kubernetes", "get_resource", &request) {
            Ok(answer) => String::from_utf8(answer).map(Some).map_err(|_| Unknown::Malformed),
            Err(error) => classify(&error.to_string(), kind),
        }
    }
}

/// The labels and annotations of a Namespace.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct NamespaceMetadata {
    labels: Vec<(String, String)>,
    annotations: Vec<(String, String)>,
}

impl NamespaceMetadata {
    fn of(namespace: &str) -> Result<Self, JsonError> {
        let [metadata] = json::pick(namespace, ["metadata"])?;
        let [labels, annotations] = metadata.map_or(Ok([None; 2]), |it| json::pick(it, ["labels", "annotations"]))?;
        Ok(Self { labels: texts(labels)?, annotations: texts(annotations)? })
    }

    /// The value of a label.
    pub fn label(&self, key: &str) -> Option<&str> {
        value(&self.labels, key)
    }

    /// The value of an annotation.
    pub fn annotation(&self, key: &str) -> Option<&str> {
        value(&self.annotations, key)
    }
}

/// The members of an object whose values are strings.
fn texts(object: Option<&str>) -> Result<Vec<(String, String)>, JsonError> {
    let mut texts = Vec::new();
    if let Some(object) = object.filter(|text| !json::is_null(text)) {
        json::members(object, &mut |name, value| {
            texts.extend(json::string(value).map(|value| (name.into_owned(), value.into_owned())));
        })?;
    }
    Ok(texts)
}

fn value<'a>(texts: &'a [(String, String)], name: &str) -> Option<&'a str> {
    texts.iter().rfind(|(known, _)| known == name).map(|(_, value)| value.as_str())
}

/// Reads a Secret as the kubelet does.
fn judge(secret: &str) -> Found {
    let malformed = |_| Cause::Unknown(Unknown::Malformed);
    let [secret_type, data] = json::pick(secret, ["type", "data"]).map_err(malformed)?;
    // The API server gives this type to a Secret without one.
    let secret_type = secret_type.and_then(json::string).unwrap_or(Cow::Borrowed("Opaque"));
    let value_of = |key| {
        let [value] = json::pick(data?, [key]).ok()?;
        secret::decode_data(&json::string(value?)?)
    };
    secret::docker_config(&secret_type, value_of).map_err(Cause::Unusable)
}

/// The SDK's `GetResourceRequest` with borrowed fields.
#[derive(Serialize)]
struct GetResource<'a> {
    api_version: &'a str,
    kind: &'a str,
    name: &'a str,
    namespace: Option<&'a str>,
    disable_cache: bool,
    field_masks: &'a [&'a str],
}

/// Finds out what an error means, from its first line. `Ok(None)` means that the resource does not exist.
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
        assert_eq!(classify(&format!("Host error: {text}"), "Secret"), expected);
    }
}
