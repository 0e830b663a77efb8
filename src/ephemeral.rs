//! Ephemeral containers (`kubectl debug`). The list of an existing Pod cannot change, so the policy can only warn.

use crate::found::Host;
use crate::namespace::Namespace;
use crate::request::{References, Subject};
use image_pull_secrets::image::{Image, Images};
use image_pull_secrets::settings::{ConfiguredSecret, NamespaceScope, OnMissingSecret, Scope, Settings};

/// The images of a Pod's ephemeral containers, and the secrets that may be for them and are not listed by the Pod.
pub struct Suspects<'s> {
    images: Vec<Image>,
    secrets: Vec<&'s ConfiguredSecret>,
}

impl<'s> Suspects<'s> {
    /// What a Pod may lack, judged without asking the host. `None` if it lacks nothing.
    pub fn of(settings: &'s Settings, subject: &Subject<'_>, references: &References<'_>) -> Option<Self> {
        let images = Image::parse_all(&subject.ephemeral_image_references());
        let may_read = settings.on_missing_secret != OnMissingSecret::Ignore;
        let may_be_for_one = |secret: &&ConfiguredSecret| match &secret.scope {
            scope @ Scope::Images(_) => scope.wants(&images) == Some(true),
            Scope::Everything | Scope::Credentials => may_read && !images.is_empty(),
        };
        let is_not_listed = |secret: &&ConfiguredSecret| !references.lists(&secret.name);
        let is_here = |secret: &&ConfiguredSecret| secret.namespaces.includes_name(&subject.namespace);
        let candidates = settings.secrets.iter().filter(is_here).filter(is_not_listed);
        let secrets: Vec<_> = candidates.filter(may_be_for_one).collect();
        (!secrets.is_empty()).then_some(Self { images, secrets })
    }

    /// Which namespaces each of the secrets is for.
    pub fn namespaces(&self) -> impl Iterator<Item = &'s NamespaceScope> {
        self.secrets.iter().map(|secret| &secret.namespaces)
    }

    /// The names of the secrets that it lacks. For a secret without matchImages, the host is asked. If that Secret does not
    /// exist or does not work, it is left out, because it would be of no use.
    pub fn lacks(&self, name: &str, namespace: &Namespace<'_>, host: &Host) -> Vec<String> {
        let images = Images::new(&self.images);
        let is_for_it = |secret: &&&ConfiguredSecret| namespace.is_in(&secret.namespaces) != Some(false);
        let lacks = |secret: &&&ConfiguredSecret| match &secret.scope {
            Scope::Images(_) => true,
            Scope::Everything | Scope::Credentials => {
                host.secret(name, &secret.name).is_ok_and(|config| config.covers_any(&images))
            }
        };
        self.secrets.iter().filter(is_for_it).filter(lacks).map(|secret| secret.name.clone()).collect()
    }
}
