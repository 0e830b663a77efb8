//! Why a Pod pulls its images, or does not: what the kubelet does with the Secrets that the Pod lists, worked out from what is
//! known of the cluster. Nothing here asks anybody, and nothing here says a password.

pub(crate) mod absence;
pub(crate) mod near_miss;
pub(crate) mod problem;
pub(crate) mod secret;
mod sentences;
pub(crate) mod unknown;

use absence::{Absence, Policy};
use image_pull_secrets::image::Image;
use image_pull_secrets::keyring;
use near_miss::{Difference, difference, server_for};
use problem::Problem;
use secret::{Found, Origin, Usable};
pub(crate) use sentences::{Remedy, Verdict};
use std::collections::BTreeMap;
use std::fmt;
use unknown::Unknown;

/// What is known of a Pod, or of one that is yet to be.
#[derive(Debug, Clone, Default)]
pub(crate) struct Facts {
    /// `pod/web`, for people.
    pub(crate) subject: String,
    pub(crate) namespace: String,
    /// Its images.
    pub(crate) images: Vec<PlacedImage>,
    /// The names that it lists, in order, each with where it comes from.
    pub(crate) listed: Vec<(String, Origin)>,
    /// What was found of the Secrets of the namespace, the listed ones and others.
    pub(crate) secrets: BTreeMap<String, Found>,
    /// Secrets of other namespaces with a name that is missing here: their namespace, and what was found.
    pub(crate) elsewhere: BTreeMap<(String, String), Found>,
    /// The policy, where its settings are known.
    pub(crate) policy: Option<Policy>,
    /// Whether the generator is at work, for people, where that is known.
    pub(crate) generator: Option<String>,
    /// What the Pod's ServiceAccount lists now.
    pub(crate) account_lists: Vec<String>,
    /// What could not be looked at, each with what would be needed.
    pub(crate) unknown: Vec<Unknown>,
}

/// An image, and where the Pod has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct PlacedImage {
    /// `container app`, for people.
    pub(crate) place: String,
    /// As written.
    pub(crate) reference: String,
    /// What the kubelet says of it, where there is such a Pod.
    pub(crate) status: Option<Status>,
}

/// What the kubelet says of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Status {
    /// The container has run with it.
    Pulled,
    /// It waits for it.
    Waiting {
        /// The reason as the kubelet gives it.
        reason: String,
        problem: Problem,
        /// The message, fit to be shown.
        message: String,
        /// When the kubelet tries again, at the latest, for people.
        next_try: Option<String>,
    },
}

/// Whether an image is pulled, as far as can be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Outcome {
    /// It is pulled.
    Pulls,
    /// That depends on what cannot be seen from here.
    CannotTell,
    /// It is not pulled.
    DoesNotPull,
}

/// What can be said of a Pod.
#[derive(Debug, Clone)]
pub(crate) struct Explanation {
    pub(crate) images: Vec<ImageExplanation>,
    /// What the Secrets alone make of it: a ServiceAccount has no images.
    secrets: Outcome,
}

/// What can be said of one image.
#[derive(Debug, Clone)]
pub(crate) struct ImageExplanation {
    pub(crate) image: PlacedImage,
    /// Its name as the kubelet reads it, without tag and digest.
    pub(crate) name: Option<String>,
    /// The credentials that the kubelet tries, in its order.
    pub(crate) attempts: Vec<Attempt>,
    pub(crate) verdict: Verdict,
    /// The entry that misses the image least, where none matches.
    pub(crate) nearest: Option<NearMiss>,
    /// A Secret with an entry for the image that the kubelet does not try.
    pub(crate) unlisted: Option<Unlisted>,
    /// The registry's answers to the attempts, where it was asked: of no attempts, that to none.
    pub(crate) answers: Vec<Answer>,
}

/// One credential that the kubelet tries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Attempt {
    pub(crate) secret: String,
    /// The entry, as written.
    pub(crate) server: String,
    /// The user name; empty for none.
    pub(crate) user: String,
    /// Whether it may as well come before the one ahead of it.
    pub(crate) is_interchangeable: bool,
}

/// An entry that is not for the image, and looks as if it were meant for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NearMiss {
    pub(crate) secret: String,
    pub(crate) server: String,
    pub(crate) difference: Difference,
}

/// A Secret that has an entry for the image, and that the Pod does not list, or not in this namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Unlisted {
    /// It is in the Pod's namespace.
    Here { secret: String, absence: Absence },
    /// It is in another one, and the Pod lists its name.
    Elsewhere { secret: String, namespace: String },
}

/// What a registry answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It would hand out the image.
    Accepted,
    /// It would not.
    No(Problem),
}

impl Answer {
    /// Whether it is the registry's word on the image: on the Nodes it would be the same.
    fn tells(&self) -> bool {
        matches!(self, Self::Accepted | Self::No(Problem::Refused | Problem::NoSuchImage | Problem::ImageName))
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Accepted => f.write_str("accepted"),
            Self::No(problem) => problem.fmt(f),
        }
    }
}

impl Facts {
    /// The names of the secrets that the settings want for the Pod, where they are known.
    pub(crate) fn wanted(&self) -> Vec<String> {
        let images = self.parsed_images();
        let found = |name: &str| self.secrets.get(name).unwrap_or(&Found::Missing);
        self.policy.as_ref().map(|policy| policy.wanted(&self.namespace, &images, found)).unwrap_or_default()
    }

    fn parsed_images(&self) -> Vec<Image> {
        Image::parse_all(&self.images.iter().map(|image| &image.reference).collect::<Vec<_>>())
    }
}

/// Says what can be said.
pub(crate) fn explain(facts: &Facts) -> Explanation {
    let found = |(name, _): &(String, Origin)| facts.secrets.get(name).unwrap_or(&Found::Missing);
    let secrets = if facts.listed.iter().any(|listed| matches!(found(listed), Found::Malformed(_))) {
        Outcome::DoesNotPull
    } else if !facts.listed.is_empty() && facts.listed.iter().all(|listed| matches!(found(listed), Found::Usable(_))) {
        Outcome::Pulls
    } else {
        Outcome::CannotTell
    };
    Explanation { images: facts.images.iter().map(|image| explain_image(facts, image)).collect(), secrets }
}

fn explain_image(facts: &Facts, placed: &PlacedImage) -> ImageExplanation {
    let mut explanation = ImageExplanation {
        image: placed.clone(),
        name: None,
        attempts: Vec::new(),
        verdict: Verdict::NoSecret,
        nearest: None,
        unlisted: None,
        answers: Vec::new(),
    };
    let image = match Image::parse(&placed.reference) {
        Ok(image) => image,
        Err(error) => {
            explanation.verdict = Verdict::ImageName(error);
            return explanation;
        }
    };
    explanation.name = Some(image.name().to_owned());
    let found = |name: &str| facts.secrets.get(name).unwrap_or(&Found::Missing);
    let listed = || facts.listed.iter().map(|(name, _)| (name.as_str(), found(name)));
    // The kubelet reads all the Secrets before it pulls any image.
    if let Some((secret, _)) = listed().find(|(_, found)| matches!(found, Found::Malformed(_))) {
        explanation.verdict = Verdict::Malformed { secret: secret.to_owned() };
        return explanation;
    }
    let usable: Vec<(&str, &Usable)> = listed().filter_map(|(name, found)| Some((name, found.usable()?))).collect();
    explanation.attempts = attempts(&usable, &image);
    let unreadable = listed().find(|(_, found)| matches!(found, Found::Unreadable(_)));
    explanation.verdict = match (unreadable, explanation.attempts.first()) {
        (Some((secret, _)), _) => Verdict::Unreadable { secret: secret.to_owned() },
        (None, Some(first)) if first.user.is_empty() => {
            Verdict::NoUser { secret: first.secret.clone(), server: first.server.clone() }
        }
        (None, Some(first)) => {
            Verdict::Pulls { secret: first.secret.clone(), server: first.server.clone(), user: first.user.clone() }
        }
        (None, None) if facts.listed.is_empty() => Verdict::NoSecret,
        (None, None) if usable.is_empty() => Verdict::NothingUsable,
        (None, None) => Verdict::NoEntry { registry: registry(&image).to_owned() },
    };
    if explanation.attempts.is_empty() {
        explanation.nearest = nearest(&usable, &image);
        explanation.unlisted = unlisted(facts, &image);
        // An entry that is nearly right says more than a Secret that nobody names.
        let is_named_by_nobody =
            matches!(explanation.unlisted, Some(Unlisted::Here { absence: Absence::NotConfigured, .. }));
        if is_named_by_nobody && explanation.nearest.as_ref().is_some_and(|near| near.difference != Difference::Path) {
            explanation.unlisted = None;
        }
    }
    explanation
}

fn attempts(usable: &[(&str, &Usable)], image: &Image) -> Vec<Attempt> {
    let configs: Vec<_> = usable.iter().map(|(_, usable)| &usable.config).collect();
    let attempt = |attempt: &keyring::Attempt<'_>| {
        let (secret, usable) = usable[attempt.config];
        let server = attempt.entry.server();
        Attempt {
            secret: secret.to_owned(),
            server: server.to_owned(),
            user: usable.credential(server).username().to_owned(),
            is_interchangeable: attempt.is_interchangeable,
        }
    };
    keyring::attempts(&configs, image).iter().map(attempt).collect()
}

fn nearest(usable: &[(&str, &Usable)], image: &Image) -> Option<NearMiss> {
    let misses = usable.iter().flat_map(|(secret, usable)| {
        usable.servers().filter_map(|server| {
            let difference = difference(server, image)?;
            Some(NearMiss { secret: (*secret).to_owned(), server: server.to_owned(), difference })
        })
    });
    misses.min_by_key(|miss| miss.difference)
}

fn unlisted(facts: &Facts, image: &Image) -> Option<Unlisted> {
    let covers = |found: &Found| found.usable().is_some_and(|usable| usable.config.covers(image));
    let is_listed = |name: &str| facts.listed.iter().any(|(listed, _)| listed == name);
    let elsewhere = facts.elsewhere.iter().find(|((_, name), found)| is_listed(name) && covers(found));
    if let Some(((namespace, secret), _)) = elsewhere {
        return Some(Unlisted::Elsewhere { secret: secret.clone(), namespace: namespace.clone() });
    }
    let images = facts.parsed_images();
    let here = facts.secrets.iter().filter(|(name, found)| !is_listed(name) && covers(found)).map(|(name, _)| {
        let policy = facts.policy.as_ref();
        // A Pod that lists anything itself inherits nothing.
        let absence = if facts.listed.is_empty() && facts.account_lists.contains(name) {
            Absence::OlderThanReference
        } else {
            policy.map_or(Absence::NotConfigured, |policy| policy.why_not_listed(name, &facts.namespace, &images))
        };
        Unlisted::Here { secret: name.clone(), absence }
    });
    // One that the settings name says more than one that nobody speaks of.
    here.min_by_key(|unlisted| matches!(unlisted, Unlisted::Here { absence: Absence::NotConfigured, .. }))
}

fn registry(image: &Image) -> &str {
    image.name().split_once('/').map_or(image.name(), |(host, _)| host)
}

impl Explanation {
    /// The worst of its images; where there are none, what the Secrets make of it.
    pub(crate) fn outcome(&self) -> Outcome {
        self.images.iter().map(ImageExplanation::outcome).max().unwrap_or(self.secrets)
    }
}

impl ImageExplanation {
    /// Whether it is pulled: what was tried counts most, then what the kubelet says, then what follows from the Secrets.
    pub(crate) fn outcome(&self) -> Outcome {
        let was_tried = !self.answers.is_empty() && !self.verdict.fails();
        if was_tried && self.answers.contains(&Answer::Accepted) {
            return Outcome::Pulls;
        }
        if was_tried && self.answers.iter().all(Answer::tells) {
            return Outcome::DoesNotPull;
        }
        match (&self.image.status, &self.verdict) {
            (Some(Status::Pulled), _) => Outcome::Pulls,
            (Some(Status::Waiting { .. }), _) => Outcome::DoesNotPull,
            (None, Verdict::Pulls { .. }) if !was_tried => Outcome::Pulls,
            (None, verdict) if verdict.fails() => Outcome::DoesNotPull,
            (None, _) => Outcome::CannotTell,
        }
    }

    /// What is in the way, where the registry or the kubelet says so. What keeps the registry from answering here need not do
    /// so on the Nodes.
    pub(crate) fn problem(&self) -> Option<Problem> {
        let of_status = match &self.image.status {
            Some(Status::Waiting { problem, .. }) => Some(*problem),
            _ => None,
        };
        match self.answers.last() {
            Some(Answer::Accepted) => None,
            Some(answer @ Answer::No(problem)) if answer.tells() => Some(*problem),
            Some(Answer::No(problem)) => of_status.or(Some(*problem)),
            None => of_status,
        }
    }

    /// What to do, where something is to be done.
    pub(crate) fn remedy(&self, facts: &Facts) -> Option<Remedy> {
        if self.outcome() == Outcome::Pulls {
            let waits = matches!(self.image.status, Some(Status::Waiting { .. }));
            return waits.then_some(Remedy::WaitOrRecreate);
        }
        let of_verdict = || match &self.verdict {
            Verdict::Malformed { secret } => Remedy::Replace { secret: secret.clone() },
            Verdict::ImageName(_) => Remedy::ImageName,
            Verdict::Unreadable { .. } => Remedy::AskForRights,
            Verdict::Pulls { secret, .. } => Remedy::Renew { secret: secret.clone() },
            Verdict::NoUser { secret, server } => Remedy::AddUser { secret: secret.clone(), server: server.clone() },
            Verdict::NoSecret | Verdict::NothingUsable | Verdict::NoEntry { .. } => self.provide(facts),
        };
        Some(match self.problem() {
            _ if self.verdict.fails() => of_verdict(),
            None | Some(Problem::Refused | Problem::MalformedSecret | Problem::ImageName) => of_verdict(),
            // A registry hides what it does not let somebody see.
            Some(Problem::NoSuchImage | Problem::NeverPull | Problem::Other) if self.attempts.is_empty() => {
                of_verdict()
            }
            Some(problem) => Remedy::Of(problem),
        })
    }

    /// What gives the Pod a credential for the image.
    fn provide(&self, facts: &Facts) -> Remedy {
        let mut listed = facts.listed.iter().filter_map(|(name, _)| Some((name, facts.secrets.get(name)?)));
        let not_usable = listed.find(|(_, found)| !matches!(found, Found::Usable(_)));
        if let Some(unlisted) = &self.unlisted {
            return match (unlisted, not_usable) {
                (Unlisted::Here { secret: other, absence: Absence::NotConfigured }, Some((secret, _))) => {
                    Remedy::CreateOrList { secret: secret.clone(), other: other.clone() }
                }
                (Unlisted::Here { secret, absence }, _) => {
                    Remedy::List { secret: secret.clone(), absence: absence.clone() }
                }
                (Unlisted::Elsewhere { secret, .. }, _) => Remedy::Create { secret: secret.clone() },
            };
        }
        let image = Image::parse(&self.image.reference);
        let server = image.as_ref().map(server_for).unwrap_or_default();
        if let Some(near) = &self.nearest {
            return Remedy::NameServer { secret: near.secret.clone(), server };
        }
        if let Some((name, found)) = not_usable {
            let secret = name.clone();
            return match found {
                Found::PassedOver(_) => Remedy::Replace { secret },
                _ => Remedy::Create { secret },
            };
        }
        Remedy::AddEntry { server }
    }
}

#[cfg(test)]
mod tests;
