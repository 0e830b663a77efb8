//! What the Namespace of an object decides: whether its objects are left alone, and which secrets are for it. One question
//! answers both.

use crate::found::{Host, NamespaceMetadata, Unknown};
use crate::wanted::Wanted;
use image_pull_secrets::settings::{NamespaceScope, Settings};

/// What the settings look at of a Namespace, and what was found.
pub struct Namespace<'s> {
    /// The annotation that excludes it.
    annotation: Option<&'s str>,
    /// Whether some secret is for it only if its labels say so.
    by_labels: bool,
    /// Without anything in it where nothing was looked at.
    found: Result<NamespaceMetadata, Unknown>,
}

/// What of a Namespace should have been looked at and could not be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unchecked {
    /// Why not.
    pub why: Unknown,
    /// Whether it was to be looked at for the exclude annotation.
    pub annotation: bool,
    /// Whether it was to be looked at for its labels.
    pub labels: bool,
}

impl<'s> Namespace<'s> {
    /// Asks for the Namespace of this name where it matters: for the annotation, or for one of these secrets.
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

    /// Whether it has the exclude annotation. One that could not be read is not excluded.
    pub fn is_excluded(&self) -> bool {
        let (Some(key), Ok(found)) = (self.annotation, &self.found) else { return false };
        Settings::excludes_by_annotation(found.annotation(key))
    }

    /// Whether a secret is for it, going by its labels; `None` where they are not known.
    pub fn is_in(&self, scope: &NamespaceScope) -> Option<bool> {
        match &self.found {
            _ if !scope.looks_at_labels() => Some(true),
            Ok(found) => Some(scope.includes_labels(&|key| found.label(key))),
            Err(_) => None,
        }
    }

    /// Takes out what is not for it. What may be for it stays.
    pub fn limit(&self, wanted: &mut Wanted<'_>) {
        wanted.secrets.retain_mut(|want| {
            let is_for_it = self.is_in(want.namespaces);
            want.is_uncertain |= is_for_it.is_none();
            is_for_it != Some(false)
        });
    }

    /// What could not be looked at, if anything.
    pub fn unchecked(&self) -> Option<Unchecked> {
        let why = *self.found.as_ref().err()?;
        Some(Unchecked { why, annotation: self.annotation.is_some(), labels: self.by_labels })
    }
}
