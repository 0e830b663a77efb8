//! The labels and annotations that mark copies, and the references that the generator added to ServiceAccounts.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::collections::BTreeMap;

/// The label that marks a copy, together with [`SOURCE_ANNOTATION`]. Its value is [`MANAGER`].
pub(crate) const MANAGED_BY_LABEL: &str = "app.kubernetes.io/managed-by";

/// The generator's name: in labels, as field manager, and as the component that reports Events.
pub(crate) const MANAGER: &str = "image-pull-secrets-generator";

/// The annotation of a copy that names what it was copied from: `namespace/name`, `file:PATH` or `env:NAME`.
pub(crate) const SOURCE_ANNOTATION: &str = "image-pull-secrets.kubewarden.io/source";

/// The annotation of a ServiceAccount that lists the references that the generator added, separated by commas. Only these
/// are ever removed. Entries that were there before or that somebody else added are not in it.
pub(crate) const REFERENCES_ANNOTATION: &str = "image-pull-secrets.kubewarden.io/references";

/// The annotation of the generator's Lease that records what its settings have selected so far. With it, the generator
/// finds after a restart what they no longer select.
pub(crate) const FOOTPRINT_ANNOTATION: &str = "image-pull-secrets.kubewarden.io/footprint";

/// The annotation of the generator's Lease that records when credential providers answered, and digests of the answers.
pub(crate) const ANSWERS_ANNOTATION: &str = "image-pull-secrets.kubewarden.io/answers";

/// The annotation of the generator's Lease that records what registries said about the sources.
pub(crate) const VERIFICATIONS_ANNOTATION: &str = "image-pull-secrets.kubewarden.io/verifications";

/// The annotation of the generator's Lease that records when everything was last in sync.
pub(crate) const LAST_FULL_SYNC_ANNOTATION: &str = "image-pull-secrets.kubewarden.io/last-full-sync";

/// The annotation of a source Secret that says when its credential expires, as RFC 3339 writes a time. It is for people and tools
/// to set: `expirationTimestamp` is the name that Kubernetes has for it, of a TokenRequest and of an ExecCredential.
pub(crate) const EXPIRATION_ANNOTATION: &str = "image-pull-secrets.kubewarden.io/expiration-timestamp";

/// Labels and annotations that copies should have in addition to the generator's own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Extras {
    /// The labels.
    pub labels: BTreeMap<String, String>,
    /// The annotations.
    pub annotations: BTreeMap<String, String>,
}

impl Extras {
    /// Whether an object has all of them.
    pub(crate) fn are_on(&self, metadata: &ObjectMeta) -> bool {
        let has = |map: &Option<BTreeMap<String, String>>, wanted: &BTreeMap<String, String>| {
            wanted.iter().all(|(key, value)| map.as_ref().and_then(|map| map.get(key)) == Some(value))
        };
        has(&metadata.labels, &self.labels) && has(&metadata.annotations, &self.annotations)
    }
}
