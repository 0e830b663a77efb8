//! Decides what the policy does, as data: the part of the decision table (`docs/how-it-decides.md`) that depends on the
//! Secrets.

use crate::found::{Cause, Found};
use crate::namespace::Unchecked;
use crate::request::{Kind, References, Subject};
use crate::wanted::Want;
use image_pull_secrets::image::Images;
use image_pull_secrets::settings::OnMissingSecret;

/// What the policy decided about a Pod or a ServiceAccount that it changes, denies or warns about.
pub enum Decision<'a> {
    /// A decision from the wanted secrets, which were read or need not be.
    Weighed(Weighed<'a>),
    /// The Pod lacks secrets for its ephemeral containers. Its list cannot change any more.
    Lacking {
        /// The Pod.
        pod: &'a Subject<'a>,
        /// The names of these secrets. There is at least one.
        secrets: Vec<String>,
    },
}

/// An object, and what is decided about it.
pub struct Weighed<'a> {
    /// The object.
    pub subject: &'a Subject<'a>,
    /// The references that it already has.
    pub references: References<'a>,
    /// The decision.
    pub verdict: Verdict,
    /// What should have been read of the Namespace and could not be.
    pub unchecked: Option<Unchecked>,
}

/// The decision that follows from the Secrets that were found.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// The names to append, in order.
    pub inject: Vec<String>,
    /// What the administrator should know. There is at most one entry for each secret.
    pub troubles: Vec<Trouble>,
    /// Whether the request is denied because of one of them. Then nothing is appended.
    pub denied: bool,
}

/// A wanted secret that does not work, or may not work.
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

/// Whether the object refers to such a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reference {
    /// It already did before the request.
    Listed,
    /// The policy adds the reference.
    Added,
    /// It does not, and the policy does not add the reference.
    LeftOut,
}

impl Verdict {
    /// Adds every wanted secret without reading one.
    pub fn unasked(wants: &[Want<'_>]) -> Self {
        Self { inject: wants.iter().map(|want| want.name.to_owned()).collect(), ..Self::default() }
    }
}

/// Decides, given what was found for each wanted secret.
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
            // If the Pod listed such a Secret, the kubelet would fail every one of its images.
            Cause::Unusable(_) => false,
            Cause::Unknown(_) => true,
        };
        // A ServiceAccount is never denied, because a namespace's `default` account exists before any Secret can. Nor is a
        // Pod, if it is unknown whether the Pod needs the secret: a Secret with matchCredentials, or the Namespace, could
        // not be read.
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
