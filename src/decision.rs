//! What is done, as data: the decision table from the point where everything is known.

use crate::found::{Cause, Found, Unknown};
use crate::request::{Kind, References, Subject};
use crate::wanted::Want;
use image_pull_secrets::image::Images;
use image_pull_secrets::settings::OnMissingSecret;

/// What the policy decided about a Pod or a ServiceAccount that it does not leave as it is without a word.
pub enum Decision<'a> {
    /// The wanted secrets were asked for, or need not be.
    Weighed(Weighed<'a>),
    /// The Pod lacks secrets that are for its ephemeral containers, and can get none any more.
    Lacking {
        /// The Pod.
        pod: &'a Subject<'a>,
        /// The names of the secrets; at least one.
        secrets: Vec<String>,
    },
}

/// What an object wants, weighed.
pub struct Weighed<'a> {
    /// The object.
    pub subject: &'a Subject<'a>,
    /// The references that it has already.
    pub references: References<'a>,
    /// What follows from the answers.
    pub verdict: Verdict,
    /// Set where the Namespace's annotation should have been looked at and could not be.
    pub namespace_unknown: Option<Unknown>,
}

/// What follows from what was found.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// The names to append, in this order.
    pub inject: Vec<String>,
    /// What the administrator should know, one a secret.
    pub troubles: Vec<Trouble>,
    /// Whether the request is denied because of some of the troubles; then nothing is appended.
    pub denied: bool,
}

/// A wanted secret that will not work, or may not.
#[derive(Debug, PartialEq, Eq)]
pub struct Trouble {
    /// The Secret's name.
    pub secret: String,
    /// What is the matter with it.
    pub cause: Cause,
    /// Whether the object refers to it.
    pub reference: Reference,
    /// Whether the request is denied because of it.
    pub denies: bool,
}

/// Whether an object refers to a secret that will not work, or may not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reference {
    /// It did before.
    Listed,
    /// It does now.
    Added,
    /// It does not.
    LeftOut,
}

impl Verdict {
    /// Adds what is wanted without a question.
    pub fn unasked(wants: &[Want<'_>]) -> Self {
        Self { inject: wants.iter().map(|want| want.name.to_owned()).collect(), ..Self::default() }
    }
}

/// Weighs what was found of each wanted secret.
pub fn weigh(
    on_missing: OnMissingSecret,
    kind: Kind,
    images: &Images<'_>,
    findings: Vec<(&Want<'_>, Found)>,
) -> Verdict {
    let mut verdict = Verdict::default();
    for (want, found) in findings {
        let cause = match found {
            Ok(config) => {
                if !want.is_listed && (!want.if_it_covers || config.covers_any(images)) {
                    verdict.inject.push(want.name.to_owned());
                }
                continue;
            }
            Err(cause) => cause,
        };
        let is_added = match &cause {
            Cause::Missing => on_missing != OnMissingSecret::Skip,
            // The kubelet would fail every image of the Pod.
            Cause::Unusable(_) => false,
            Cause::Unknown(_) => true,
        };
        // A namespace's `default` ServiceAccount exists before any Secret can, and whether a Pod needs a Secret that only its
        // own credentials can tell of is not known.
        let denies = on_missing == OnMissingSecret::Reject && kind == Kind::Pod && !want.if_it_covers;
        let reference = match (want.is_listed, is_added && !denies) {
            (true, _) => Reference::Listed,
            (false, true) => Reference::Added,
            (false, false) => Reference::LeftOut,
        };
        if reference == Reference::Added {
            verdict.inject.push(want.name.to_owned());
        }
        verdict.denied |= denies;
        verdict.troubles.push(Trouble { secret: want.name.to_owned(), cause, reference, denies });
    }
    if verdict.denied {
        verdict.inject.clear();
        for trouble in verdict.troubles.iter_mut().filter(|trouble| trouble.reference == Reference::Added) {
            trouble.reference = Reference::LeftOut;
        }
    }
    verdict
}
