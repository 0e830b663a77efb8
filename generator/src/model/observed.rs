//! Observed objects, reduced to what the plan needs. Of a Secret's data, only a digest is kept.

use crate::model::content::{self, Digest};
use crate::model::ownership::{Extras, MANAGED_BY_LABEL, MANAGER, REFERENCES_ANNOTATION, SOURCE_ANNOTATION};
use image_pull_secrets::settings::Settings;
use k8s_openapi::api::core::v1::{Namespace, Secret, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::Timestamp;
use kube::core::PartialObjectMeta;
use std::collections::BTreeMap;

/// A Namespace: what decides whether it is selected.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct NamespaceFacts {
    /// Its labels. They are left empty if no selector needs them.
    pub labels: BTreeMap<String, String>,
    /// Whether the exclude annotation is `"true"` on it.
    pub excluded: bool,
    /// Whether it is being deleted.
    pub terminating: bool,
}

/// A Secret that is a copy, or has the name of one.
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
    /// What it was copied from, if it is a copy, which has both the label and the annotation.
    pub copied_from: Option<Box<str>>,
    /// When it was created, on the API server's clock, in whole seconds.
    pub created: Option<Timestamp>,
    /// Whether it has all labels and annotations that copies should have in addition to the generator's own.
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
    /// The names in its `imagePullSecrets`, in order. `None` if there is no such list.
    pub references: Option<Vec<Box<str>>>,
    /// Whether admission added the whole list. This is only known if the creation of the account was seen and nobody has
    /// written to it since.
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

/// Identifies an object and its version.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Version {
    /// `metadata.uid`.
    pub uid: Box<str>,
    /// `metadata.resourceVersion`.
    pub resource_version: Box<str>,
}

impl Version {
    /// Reads it from the metadata that the API server sent.
    pub(crate) fn of(metadata: &ObjectMeta) -> Self {
        let text = |field: &Option<String>| field.as_deref().unwrap_or_default().into();
        Self { uid: text(&metadata.uid), resource_version: text(&metadata.resource_version) }
    }

    /// Whether `self` is older than `other`. Resource versions of one kind increase (KEP-5504). So a watch event can be
    /// recognised that arrives after the answer to a later write.
    pub(super) fn is_older_than(&self, other: &Self) -> bool {
        let number = |version: &Self| version.resource_version.parse::<u64>().ok();
        matches!((number(self), number(other)), (Some(mine), Some(theirs)) if mine < theirs)
    }
}

impl NamespaceFacts {
    /// Reads a Namespace. It keeps the labels only if `keep_labels` is set.
    pub(crate) fn of(namespace: &PartialObjectMeta<Namespace>, settings: &Settings, keep_labels: bool) -> Self {
        let metadata = &namespace.metadata;
        Self {
            labels: if keep_labels { metadata.labels.clone().unwrap_or_default() } else { BTreeMap::new() },
            excluded: is_excluded(metadata.annotations.as_ref(), settings),
            // A Namespace has a deletion timestamp as soon as its phase is Terminating.
            terminating: metadata.deletion_timestamp.is_some(),
        }
    }
}

impl SecretSeen {
    /// Reads a Secret. Its data is examined and not kept.
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
    /// Reads a ServiceAccount.
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

    /// Reads a ServiceAccount that has just been created.
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

/// Whether the creator of the object wrote this field and therefore owns it. A field that admission added has no owner,
/// because the API server records owners before it calls webhooks (`handlers/create.go`). For an object that was changed
/// later this means little: if there was nothing to own at its creation, later writers are not recorded either
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

/// Whether these annotations contain the exclude annotation with the value `"true"`.
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
