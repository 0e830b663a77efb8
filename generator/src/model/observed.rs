//! What was seen of objects, pruned to what the plan needs: of a Secret's data only a digest is kept.

use crate::model::content::{self, Digest};
use crate::model::ownership::{Extras, MANAGED_BY_LABEL, MANAGER, REFERENCES_ANNOTATION, SOURCE_ANNOTATION};
use image_pull_secrets::settings::Settings;
use k8s_openapi::api::core::v1::{Namespace, Secret, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::Timestamp;
use kube::core::PartialObjectMeta;
use std::collections::BTreeMap;

/// What selects a namespace, or leaves it alone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct NamespaceFacts {
    /// Its labels; left empty where no selector looks at them.
    pub labels: BTreeMap<String, String>,
    /// Whether the exclude annotation is `"true"` on it.
    pub excluded: bool,
    /// Whether it is being deleted.
    pub terminating: bool,
}

/// A Secret that is a copy, or stands where a copy would be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SecretSeen {
    /// Which object and version of it was seen.
    pub version: Version,
    /// Its `type`.
    pub secret_type: Box<str>,
    /// The digest of its data.
    pub digest: Digest,
    /// Whether the kubelet can pull with it.
    pub usable: bool,
    /// Whether it is `immutable`.
    pub immutable: bool,
    /// What it was copied from, where it is the generator's own: it has both the label and the annotation of a copy.
    pub copied_from: Option<Box<str>>,
    /// When it was created, on the API server's clock, in whole seconds.
    pub created: Option<Timestamp>,
    /// Whether it has the labels and annotations that every copy is to have besides the generator's own.
    pub has_extras: bool,
    /// Whether it has any labels.
    pub has_labels: bool,
    /// Whether it has any annotations.
    pub has_annotations: bool,
    /// Whether it is being deleted.
    pub deleting: bool,
}

/// A ServiceAccount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ServiceAccountSeen {
    /// Which object and version of it was seen.
    pub version: Version,
    /// The names in its `imagePullSecrets`, in order; `None` where there is no such list.
    pub references: Option<Vec<Box<str>>>,
    /// Whether all of that list was put there by admission. Known only of one that was seen to be created, and has not been
    /// written to since.
    pub references_by_admission: bool,
    /// The names that the generator added, as its annotation says.
    pub added: Vec<Box<str>>,
    /// Whether the exclude annotation is `"true"` on it.
    pub excluded: bool,
    /// Whether it has any annotations.
    pub has_annotations: bool,
    /// Whether it is being deleted.
    pub deleting: bool,
}

/// Which object, and which version of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Version {
    /// `metadata.uid`.
    pub uid: Box<str>,
    /// `metadata.resourceVersion`.
    pub resource_version: Box<str>,
}

impl Version {
    /// Of an object as the API server sent it.
    pub(crate) fn of(metadata: &ObjectMeta) -> Self {
        let text = |field: &Option<String>| field.as_deref().unwrap_or_default().into();
        Self { uid: text(&metadata.uid), resource_version: text(&metadata.resource_version) }
    }

    /// Whether `self` was there before `other`. Resource versions of one kind count up (KEP-5504), so that a watch event which
    /// was overtaken by the answer to a write of ours can be told.
    pub(super) fn is_older_than(&self, other: &Self) -> bool {
        let number = |version: &Self| version.resource_version.parse::<u64>().ok();
        matches!((number(self), number(other)), (Some(mine), Some(theirs)) if mine < theirs)
    }
}

impl NamespaceFacts {
    /// Of a Namespace. Labels are kept only where `keep_labels`.
    pub(crate) fn of(namespace: &PartialObjectMeta<Namespace>, settings: &Settings, keep_labels: bool) -> Self {
        let metadata = &namespace.metadata;
        Self {
            labels: if keep_labels { metadata.labels.clone().unwrap_or_default() } else { BTreeMap::new() },
            excluded: is_excluded(metadata.annotations.as_ref(), settings),
            // A Namespace has a deletion timestamp from the moment its phase is Terminating.
            terminating: metadata.deletion_timestamp.is_some(),
        }
    }
}

impl SecretSeen {
    /// Of a Secret. Its data is looked at and let go.
    pub(crate) fn of(secret: &Secret, extras: &Extras) -> Self {
        let metadata = &secret.metadata;
        let secret_type = secret.type_.as_deref().unwrap_or("Opaque");
        let no_data = BTreeMap::new();
        let data = secret.data.as_ref().unwrap_or(&no_data);
        let label = metadata.labels.as_ref().and_then(|labels| labels.get(MANAGED_BY_LABEL));
        let source = annotation(metadata, SOURCE_ANNOTATION).filter(|_| label.is_some_and(|label| label == MANAGER));
        Self {
            version: Version::of(metadata),
            digest: Digest::of(data),
            usable: content::is_usable(secret_type, data).is_ok(),
            secret_type: secret_type.into(),
            immutable: secret.immutable == Some(true),
            copied_from: source.map(Into::into),
            created: metadata.creation_timestamp.as_ref().map(|time| time.0),
            has_extras: extras.are_on(metadata),
            has_labels: metadata.labels.as_ref().is_some_and(|labels| !labels.is_empty()),
            has_annotations: has_annotations(metadata),
            deleting: metadata.deletion_timestamp.is_some(),
        }
    }
}

impl ServiceAccountSeen {
    /// Of a ServiceAccount.
    pub(crate) fn of(account: &ServiceAccount, settings: &Settings) -> Self {
        let metadata = &account.metadata;
        let references = account.image_pull_secrets.as_ref();
        Self {
            version: Version::of(metadata),
            references: references.map(|list| list.iter().map(|reference| reference.name.as_str().into()).collect()),
            references_by_admission: false,
            added: added_references(metadata).map(Into::into).collect(),
            excluded: is_excluded(metadata.annotations.as_ref(), settings),
            has_annotations: has_annotations(metadata),
            deleting: metadata.deletion_timestamp.is_some(),
        }
    }

    /// Of a ServiceAccount that has just been created.
    pub(crate) fn of_new(account: &ServiceAccount, settings: &Settings) -> Self {
        let seen = Self::of(account, settings);
        let references_by_admission = seen.references.is_some() && !is_owned(&account.metadata, "f:imagePullSecrets");
        Self { references_by_admission, ..seen }
    }

    /// Whether it refers to a Secret of this name.
    pub(crate) fn refers_to(&self, name: &str) -> bool {
        self.references.iter().flatten().any(|reference| &**reference == name)
    }
}

/// Whether whoever created the object wrote this field. Then they own it. What admission adds to their request has no owner, for
/// the API server takes note of owners before it asks webhooks (`handlers/create.go`). It says little of an object that was
/// changed since: where there was nothing to own at its creation, later writers are not noted either
/// (`managedfields/internal/skipnonapplied.go`).
fn is_owned(metadata: &ObjectMeta, field: &str) -> bool {
    let mut managers = metadata.managed_fields.iter().flatten();
    managers.any(|manager| manager.fields_v1.as_ref().is_some_and(|owned| owned.0.get(field).is_some()))
}

/// The names that the generator added to the references of a ServiceAccount, as its annotation says.
pub(crate) fn added_references(metadata: &ObjectMeta) -> impl Iterator<Item = &str> {
    let added = annotation(metadata, REFERENCES_ANNOTATION).unwrap_or_default();
    added.split(',').map(str::trim).filter(|name| !name.is_empty())
}

/// Whether the exclude annotation is `"true"` on an object with these annotations.
pub(crate) fn is_excluded(annotations: Option<&BTreeMap<String, String>>, settings: &Settings) -> bool {
    settings.exclude.annotation.as_deref().is_some_and(|key| {
        let value = annotations.and_then(|annotations| annotations.get(key));
        Settings::excludes_by_annotation(value.map(String::as_str))
    })
}

fn annotation<'a>(metadata: &'a ObjectMeta, key: &str) -> Option<&'a str> {
    metadata.annotations.as_ref()?.get(key).map(String::as_str)
}

fn has_annotations(metadata: &ObjectMeta) -> bool {
    metadata.annotations.as_ref().is_some_and(|annotations| !annotations.is_empty())
}
