//! Which of the configured secrets an object wants, judged without asking the host.

use crate::request::{Kind, References, Subject};
use image_pull_secrets::image::Image;
use image_pull_secrets::settings::{ConfiguredSecret, NamespaceScope, OnMissingSecret, Scope, Settings};

/// What an object wants.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Wanted<'s> {
    /// The wanted secrets, in the order of the settings.
    pub secrets: Vec<Want<'s>>,
    /// The images of the Pod, if a secret is for some images only.
    pub images: Vec<Image>,
}

/// A secret that an object wants.
#[derive(Debug, PartialEq, Eq)]
pub struct Want<'s> {
    /// The Secret's name.
    pub name: &'s str,
    /// Whether the object lists it already.
    pub is_listed: bool,
    /// Whether it is wanted only if its credentials cover one of the images. To know that, it has to be read.
    pub if_it_covers: bool,
    /// Which namespaces it is for. The name of the object's namespace matches; its labels are not known yet.
    pub namespaces: &'s NamespaceScope,
    /// Whether the secret may not be for the object's namespace, because the labels of that could not be read.
    pub is_uncertain: bool,
}

impl<'s> Want<'s> {
    fn of(secret: &'s ConfiguredSecret) -> Self {
        let ConfiguredSecret { name, namespaces, .. } = secret;
        Self { name, is_listed: false, if_it_covers: false, namespaces, is_uncertain: false }
    }
}

/// The wanted secrets that the host has to be asked about: those that are not listed yet, and under `reject` also those
/// that a Pod lists. A Pod gets the references of its ServiceAccount before the policy sees it, so that most Pods already
/// list everything.
pub fn wanted<'s>(settings: &'s Settings, subject: &Subject<'_>, references: &References<'_>) -> Wanted<'s> {
    let is_listed = |secret: &ConfiguredSecret| references.lists(&secret.name);
    let is_here = |secret: &ConfiguredSecret| secret.namespaces.includes_name(&subject.namespace);
    if subject.kind == Kind::ServiceAccount {
        let secrets = settings.service_account_secrets().filter(|secret| is_here(secret) && !is_listed(secret));
        return Wanted { secrets: secrets.map(Want::of).collect(), images: Vec::new() };
    }
    let asks_about_all = settings.on_missing_secret == OnMissingSecret::Reject;
    let mut wanted = Wanted::default();
    let mut images = None;
    for secret in settings.secrets.iter().filter(|secret| is_here(secret)) {
        let is_listed = is_listed(secret);
        if is_listed && !asks_about_all {
            continue;
        }
        let if_it_covers = match &secret.scope {
            Scope::Everything => false,
            scope => match scope.wants(images.get_or_insert_with(|| Image::parse_all(&subject.image_references()))) {
                Some(false) => continue,
                Some(true) => false,
                None => true,
            },
        };
        wanted.secrets.push(Want { is_listed, if_it_covers, ..Want::of(secret) });
    }
    wanted.images = images.unwrap_or_default();
    wanted
}
