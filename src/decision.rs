//! What the policy does, as data: the part of the decision table (`docs/how-it-decides.md`) that follows from the Secrets.

use crate::found::{Cause, Found};
use crate::namespace::Unchecked;
use crate::request::{Kind, References, Subject};
use crate::wanted::Want;
use image_pull_secrets::image::Images;
use image_pull_secrets::settings::OnMissingSecret;

/// What the policy decided about a Pod or a ServiceAccount, unless it leaves it as it is and has nothing to say.
pub enum Decision<'a> {
    /// The wanted secrets were read, or need not be.
    Weighed(Weighed<'a>),
    /// The Pod lacks secrets that are for its ephemeral containers, and can get none any more.
    Lacking {
        /// The Pod.
        pod: &'a Subject<'a>,
        /// The names of the secrets; at least one.
        secrets: Vec<String>,
    },
}

/// An object, and what follows from the secrets that it wants.
pub struct Weighed<'a> {
    /// The object.
    pub subject: &'a Subject<'a>,
    /// The references that it has already.
    pub references: References<'a>,
    /// What follows from the answers.
    pub verdict: Verdict,
    /// What of the Namespace could not be read, if it should have been.
    pub unchecked: Option<Unchecked>,
}

/// What follows from the Secrets that were found.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// The names to append, in this order.
    pub inject: Vec<String>,
    /// What the administrator should know; at most one for each secret.
    pub troubles: Vec<Trouble>,
    /// Whether the request is denied because of some of them; then nothing is appended.
    pub denied: bool,
}

/// A wanted secret that will not work, or may not work.
#[derive(Debug, PartialEq, Eq)]
pub struct Trouble {
    /// The Secret's name.
    pub secret: String,
    /// What is wrong with it.
    pub cause: Cause,
    /// Whether the object refers to it.
    pub reference: Reference,
    /// Whether the request is denied because of it.
    pub denies: bool,
}

/// Whether an object refers to such a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reference {
    /// It did before the request.
    Listed,
    /// The policy adds the reference.
    Added,
    /// It does not, and the policy adds no reference.
    LeftOut,
}

impl Verdict {
    /// Adds everything that is wanted, without reading a Secret.
    pub fn unasked(wants: &[Want<'_>]) -> Self {
        Self { inject: wants.iter().map(|want| want.name.to_owned()).collect(), ..Self::default() }
    }
}

/// Decides from what was found of each wanted secret.
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
            // With such a Secret in its list, the kubelet would fail every image of the Pod.
            Cause::Unusable(_) => false,
            Cause::Unknown(_) => true,
        };
        // A namespace's `default` ServiceAccount exists before any Secret can. And while a Secret with matchCredentials, or the
        // Namespace that a namespaceSelector is about, cannot be read, nobody knows whether the Pod needs it.
        let is_needed = !want.if_it_covers && !want.is_uncertain;
        let denies = on_missing == OnMissingSecret::Reject && kind == Kind::Pod && is_needed;
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
