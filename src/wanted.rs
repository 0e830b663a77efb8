//! Which of the configured secrets an object wants and does not list yet.

use crate::request::{Kind, References, Subject};
use image_pull_secrets::image::Image;
use image_pull_secrets::settings::{ConfiguredSecret, Scope, Settings};

/// A secret that an object wants, and does not list.
#[derive(Debug, PartialEq, Eq)]
pub struct Want<'s> {
    /// The Secret's name.
    pub name: &'s str,
    /// Where only the Secret's own credentials can tell whether it is wanted: the images they would have to cover.
    pub if_it_covers: Option<Vec<Image>>,
}

/// The wanted secrets, in the order of the settings.
pub fn wanted<'s>(settings: &'s Settings, subject: &Subject<'_>, references: &References<'_>) -> Vec<Want<'s>> {
    let mut listed: Vec<&str> = references.names.iter().map(AsRef::as_ref).collect();
    listed.sort_unstable();
    let is_not_listed = |secret: &&ConfiguredSecret| listed.binary_search(&secret.name.as_str()).is_err();
    if subject.kind == Kind::ServiceAccount {
        let secrets = settings.service_account_secrets().filter(is_not_listed);
        return secrets.map(|secret| Want { name: &secret.name, if_it_covers: None }).collect();
    }
    let mut images = None;
    let mut wants = Vec::new();
    for secret in settings.secrets.iter().filter(is_not_listed) {
        let if_it_covers = if secret.scope == Scope::Everything {
            None
        } else {
            // An image that is no reference fails in the kubelet before any credential is looked for.
            let images = images.get_or_insert_with(|| -> Vec<_> {
                subject.image_references().iter().filter_map(|reference| Image::parse(reference).ok()).collect()
            });
            match secret.scope.wants(images) {
                Some(false) => continue,
                Some(true) => None,
                None => Some(images.clone()),
            }
        };
        wants.push(Want { name: &secret.name, if_it_covers });
    }
    wants
}
