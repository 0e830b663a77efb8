//! Which of the configured secrets an object wants, as far as its own text tells.

use crate::request::{Kind, References, Subject};
use image_pull_secrets::image::Image;
use image_pull_secrets::settings::{ConfiguredSecret, OnMissingSecret, Scope, Settings};

/// What an object wants.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Wanted<'s> {
    /// The wanted secrets, in the order of the settings.
    pub secrets: Vec<Want<'s>>,
    /// The images of the Pod, where a secret is only for some.
    pub images: Vec<Image>,
}

/// A secret that an object wants.
#[derive(Debug, PartialEq, Eq)]
pub struct Want<'s> {
    /// The Secret's name.
    pub name: &'s str,
    /// Whether the object lists it already.
    pub is_listed: bool,
    /// Whether it is wanted only where its own credentials cover one of the images, which nobody knows without reading it.
    pub if_it_covers: bool,
}

/// What is wanted and worth asking about: what is not listed yet, and under `reject` what a Pod lists as well. A Pod gets
/// its ServiceAccount's references before the policy sees it, so that the usual Pod lists everything.
pub fn wanted<'s>(settings: &'s Settings, subject: &Subject<'_>, references: &References<'_>) -> Wanted<'s> {
    let is_listed = |secret: &ConfiguredSecret| references.lists(&secret.name);
    if subject.kind == Kind::ServiceAccount {
        let secrets = settings.service_account_secrets().filter(|secret| !is_listed(secret));
        let want = |secret: &'s ConfiguredSecret| Want { name: &secret.name, is_listed: false, if_it_covers: false };
        return Wanted { secrets: secrets.map(want).collect(), images: Vec::new() };
    }
    let asks_about_all = settings.on_missing_secret == OnMissingSecret::Reject;
    let mut wanted = Wanted::default();
    let mut images = None;
    for secret in &settings.secrets {
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
        wanted.secrets.push(Want { name: &secret.name, is_listed, if_it_covers });
    }
    wanted.images = images.unwrap_or_default();
    wanted
}
