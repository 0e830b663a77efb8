//! Ephemeral containers (`kubectl debug`): a Pod that exists gets no more secrets, so that all the policy can do is to warn.

use crate::found::{Found, Host};
use crate::request::{References, Subject};
use image_pull_secrets::image::Image;
use image_pull_secrets::settings::{ConfiguredSecret, OnMissingSecret, Scope, Settings};
use std::borrow::Cow;

/// A secret that is for an ephemeral container's image, and that the Pod does not list.
#[derive(Debug, PartialEq, Eq)]
pub struct Lack {
    /// The Secret's name.
    pub secret: String,
    /// The image, as it was written.
    pub image: String,
}

/// The ephemeral containers of a Pod, and the secrets that they may lack.
pub struct Suspects<'s, 'a> {
    images: Vec<(Cow<'a, str>, Image)>,
    secrets: Vec<&'s ConfiguredSecret>,
}

impl<'s, 'a> Suspects<'s, 'a> {
    /// What a Pod may lack, as far as its own text tells; `None` where it lacks nothing.
    pub fn of(settings: &'s Settings, subject: &Subject<'a>, references: &References<'_>) -> Option<Self> {
        let references_and_images = subject.ephemeral_image_references().into_iter();
        let images: Vec<_> = references_and_images
            .filter_map(|reference| {
                let image = Image::parse(&reference).ok()?;
                Some((reference, image))
            })
            .collect();
        let may_read = settings.on_missing_secret != OnMissingSecret::Ignore;
        let may_be_for_one = |secret: &&ConfiguredSecret| match &secret.scope {
            Scope::Images(_) => images.iter().any(|(_, image)| matches_by_pattern(secret, image)),
            Scope::Everything | Scope::Credentials => may_read && !images.is_empty(),
        };
        let is_not_listed = |secret: &&ConfiguredSecret| !references.lists(&secret.name);
        let secrets: Vec<_> = settings.secrets.iter().filter(is_not_listed).filter(may_be_for_one).collect();
        (!secrets.is_empty()).then_some(Self { images, secrets })
    }

    /// What it does lack. The host is asked for each secret whose patterns do not tell; one that is not there, or does not
    /// work, would be of no use anyway.
    pub fn lacks(&self, namespace: &str, host: &Host) -> Vec<Lack> {
        let lack = |secret: &&ConfiguredSecret| {
            let found = match &secret.scope {
                Scope::Images(_) => self.images.iter().find(|(_, image)| matches_by_pattern(secret, image)),
                Scope::Everything | Scope::Credentials => match host.secret(namespace, &secret.name) {
                    Found::Usable(config) => self.images.iter().find(|(_, image)| config.covers(image)),
                    _ => None,
                },
            };
            found.map(|(reference, _)| Lack { secret: secret.name.clone(), image: reference.clone().into_owned() })
        };
        self.secrets.iter().filter_map(lack).collect()
    }
}

fn matches_by_pattern(secret: &ConfiguredSecret, image: &Image) -> bool {
    matches!(&secret.scope, Scope::Images(patterns) if patterns.iter().any(|pattern| pattern.matches(image)))
}
