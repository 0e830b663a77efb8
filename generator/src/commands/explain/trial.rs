//! `explain --try`: the registry of each image, asked with each credential that the kubelet would try.

use crate::cluster::registry::Registries;
use crate::model::explain::{Answer, Explanation, Facts};
use image_pull_secrets::credential::Credential;
use image_pull_secrets::image::Image;
use std::collections::HashMap;
use std::collections::hash_map::Entry;

/// Registries, and what they have answered so far: with `--all`, many Pods have one image and copies of one Secret.
pub(super) struct Trial {
    registries: Registries,
    answers: HashMap<(String, Vec<Option<Credential>>), Vec<Answer>>,
}

impl Trial {
    pub(super) fn new(registries: Registries) -> Self {
        Self { registries, answers: HashMap::new() }
    }

    /// Asks the registry of each image with each credential, in the kubelet's order, or without a credential if there is none.
    /// It does not ask about an image that the kubelet fails before it reaches the registry.
    pub(super) async fn ask(&mut self, facts: &Facts, explanation: &mut Explanation) {
        for explained in explanation.images.iter_mut().filter(|explained| !explained.verdict.fails()) {
            let Ok(image) = Image::parse(&explained.image.reference) else { continue };
            let credential = |secret: &str, server: &str| Some(facts.secrets.get(secret)?.usable()?.credential(server));
            let mut credentials: Vec<_> =
                explained.attempts.iter().map(|attempt| credential(&attempt.secret, &attempt.server)).collect();
            if credentials.is_empty() {
                credentials.push(None);
            }
            let answers = match self.answers.entry((explained.image.reference.clone(), credentials)) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(new) => {
                    let (reference, credentials) = new.key();
                    let answers = self.registries.manifest(reference, &image, credentials).await;
                    let said = |answer: Result<(), _>| answer.map_or_else(Answer::No, |()| Answer::Accepted);
                    new.insert(answers.into_iter().map(said).collect())
                }
            };
            explained.answers.clone_from(answers);
        }
    }
}
