//! What is done, as data: the decision table from the point where everything is known.

use crate::found::{Found, Unknown};
use crate::request::{Kind, References};
use crate::wanted::Want;
use image_pull_secrets::image::Images;
use image_pull_secrets::secret::Unusable;
use image_pull_secrets::settings::{Faults, OnMissingSecret};
use std::fmt;

/// What the policy decided about a request.
pub enum Decision<'a> {
    /// Accepted as it is, silently.
    Untouched(Untouched),
    /// Accepted as it is, with a warning: something that the policy needs could not be read.
    Unreadable(Unreadable),
    /// Accepted as it is, with a warning for each secret that is for an ephemeral container, and that the Pod lacks.
    Lacking(Vec<String>),
    /// The wanted secrets were asked for, or need not be.
    Weighed {
        /// What follows from the answers.
        verdict: Verdict,
        /// The references that are there already.
        references: References<'a>,
        /// Set where the Namespace's annotation should have been looked at and could not be.
        namespace_unknown: Option<Unknown>,
    },
}

/// Why a request is none of the policy's business.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Untouched {
    /// Neither a Pod nor a ServiceAccount.
    OtherKind,
    /// A sub-resource, such as `pods/eviction`.
    SubResource,
    /// An operation that cannot, or must not, change imagePullSecrets.
    OtherOperation,
    /// The API server's picture of a static Pod.
    MirrorPod,
    /// Its namespace is excluded by name.
    ExcludedNamespace,
    /// It has the exclude annotation.
    ExcludedObject,
    /// Its Namespace has the exclude annotation.
    ExcludedByNamespaceAnnotation,
    /// A ServiceAccount that goes.
    BeingDeleted,
    /// A ServiceAccount whose name is not selected.
    NotSelected,
    /// Everything that it wants is listed.
    NothingToAdd,
}

impl fmt::Display for Untouched {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Self::OtherKind => "neither a Pod nor a ServiceAccount",
            Self::SubResource => "a sub-resource",
            Self::OtherOperation => "an operation that changes no imagePullSecrets",
            Self::MirrorPod => "a mirror Pod",
            Self::ExcludedNamespace => "its namespace is excluded",
            Self::ExcludedObject => "it has the exclude annotation",
            Self::ExcludedByNamespaceAnnotation => "its Namespace has the exclude annotation",
            Self::BeingDeleted => "it is being deleted",
            Self::NotSelected => "its name is not selected",
            Self::NothingToAdd => "nothing is wanted that is not listed",
        })
    }
}

/// What could not be read. Displays as a warning, without a word of what was there instead.
#[derive(Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// The payload, or its request.
    Payload,
    /// The settings.
    Settings(Faults),
    /// The object is no JSON object.
    Object(Kind),
    /// The Pod has no spec.
    NoSpec,
    /// `imagePullSecrets` is there, and no list.
    NotAList(Kind),
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Payload => {
                f.write_str("The admission request could not be read: accepted unchanged; see policy-server's log")
            }
            Self::Settings(faults) => {
                write!(f, "The policy's settings are not valid: accepted unchanged; correct {faults}")
            }
            Self::Object(kind) => {
                write!(f, "The request has no {kind} in it: accepted unchanged; send the whole object")
            }
            Self::NoSpec => f.write_str("The Pod has no spec: accepted unchanged; give it one"),
            Self::NotAList(Kind::Pod) => {
                f.write_str("The Pod's spec.imagePullSecrets is not a list: accepted unchanged; make it one")
            }
            Self::NotAList(Kind::ServiceAccount) => {
                f.write_str("The ServiceAccount's imagePullSecrets is not a list: accepted unchanged; make it one")
            }
        }
    }
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

/// What is the matter with a wanted secret.
#[derive(Debug, PartialEq, Eq)]
pub enum Cause {
    /// It is not there.
    Missing,
    /// The kubelet cannot pull with it.
    Unusable(Unusable),
    /// The host could not tell.
    Unknown(Unknown),
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
        let (cause, is_added) = match found {
            Found::Usable(config) => {
                if !want.is_listed && (!want.if_it_covers || config.covers_any(images)) {
                    verdict.inject.push(want.name.to_owned());
                }
                continue;
            }
            Found::Missing => (Cause::Missing, on_missing != OnMissingSecret::Skip),
            // The kubelet would fail every image of the Pod.
            Found::Unusable(unusable) => (Cause::Unusable(unusable), false),
            Found::Unknown(unknown) => (Cause::Unknown(unknown), true),
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
