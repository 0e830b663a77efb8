//! What depends on the Namespace object: whether the objects in it are left alone, and which secrets are for it. Both need
//! only one question to the host.

use crate::found::{Host, NamespaceMetadata, Unknown};
use crate::wanted::Wanted;
use image_pull_secrets::settings::{NamespaceScope, Settings};

/// What the settings need to know about a Namespace, and what was found.
pub struct Namespace<'s> {
    /// The annotation that excludes it.
    annotation: Option<&'s str>,
    /// Whether some secret is chosen by labels.
    by_labels: bool,
    /// What the host answered. It is empty if the host was not asked.
    found: Result<NamespaceMetadata, Unknown>,
}

/// What should have been read of a Namespace and could not be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unchecked {
    /// Why it could not be read.
    pub why: Unknown,
    /// Whether it was needed for the exclude annotation.
    pub annotation: bool,
    /// Whether it was needed for its labels.
    pub labels: bool,
}

impl<'s> Namespace<'s> {
    /// Asks for the Namespace of this name if the annotation or one of these secrets needs it.
    pub fn look_at(
        settings: &'s Settings,
        mut secrets: impl Iterator<Item = &'s NamespaceScope>,
        name: &str,
        host: &Host,
    ) -> Self {
        let annotation = settings.exclude.annotation.as_deref();
        let by_labels = secrets.any(NamespaceScope::looks_at_labels);
        let matters = annotation.is_some() || by_labels;
        let found = if matters { host.namespace(name) } else { Ok(NamespaceMetadata::default()) };
        Self { annotation, by_labels, found }
    }

    /// Whether it has the exclude annotation. A Namespace that could not be read is not excluded.
    pub fn is_excluded(&self) -> bool {
        let (Some(key), Ok(found)) = (self.annotation, &self.found) else { return false };
        Settings::excludes_by_annotation(found.annotation(key))
    }

    /// Whether its labels match a secret's selector. `None` if they could not be read.
    pub fn is_in(&self, scope: &NamespaceScope) -> Option<bool> {
        match &self.found {
            _ if !scope.looks_at_labels() => Some(true),
            Ok(found) => Some(scope.includes_labels(&|key| found.label(key))),
            Err(_) => None,
        }
    }

    /// Removes the secrets that are not for it. Those that may be for it stay.
    pub fn limit(&self, wanted: &mut Wanted<'_>) {
        wanted.secrets.retain_mut(|want| {
            let is_for_it = self.is_in(want.namespaces);
            want.is_uncertain |= is_for_it.is_none();
            is_for_it != Some(false)
        });
    }

    /// What could not be read, if anything.
    pub fn unchecked(&self) -> Option<Unchecked> {
        let why = *self.found.as_ref().err()?;
        Some(Unchecked { why, annotation: self.annotation.is_some(), labels: self.by_labels })
    }
}
