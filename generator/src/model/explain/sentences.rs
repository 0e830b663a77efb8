//! The words for what was found. `docs/troubleshooting.md` has every one of them; a test compares.

use super::absence::{Absence, NotAtWork};
use super::problem::Problem;
use super::secret::UserName;
use super::{ImageExplanation, NearMiss, Outcome, Unlisted};
use image_pull_secrets::image::ImageError;
use image_pull_secrets::text::shown;
use std::fmt;

/// What the kubelet does about an image, as far as the Secrets tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It tries this credential first.
    Pulls { secret: String, server: String, user: String },
    /// What it tries first is an entry without a user name.
    NoUser { secret: String, server: String },
    /// The Pod lists nothing.
    NoSecret,
    /// What the Pod lists is not there, or is passed over.
    NothingUsable,
    /// What the Pod lists is for other registries.
    NoEntry { registry: String },
    /// A listed Secret does not parse.
    Malformed { secret: String },
    /// The image's name is none.
    ImageName(ImageError),
    /// A listed Secret could not be read.
    Unreadable { secret: String },
}

impl Verdict {
    /// Whether the kubelet fails without asking any registry.
    pub(crate) fn fails(&self) -> bool {
        matches!(self, Self::Malformed { .. } | Self::ImageName(_))
    }

    /// One word for programs.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Pulls { .. } => "pulls",
            Self::NoUser { .. } | Self::NoSecret | Self::NothingUsable | Self::NoEntry { .. } => "anonymous",
            Self::Malformed { .. } | Self::ImageName(_) => "fails",
            Self::Unreadable { .. } => "unknown",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Pulls { secret, server, user } => {
                write!(f, "pulls with {secret} ({}, user {})", shown(server), UserName(user))
            }
            Self::NoUser { secret, server } => {
                write!(f, "anonymous: the entry for {} in {secret} has no user name", shown(server))
            }
            Self::NoSecret => f.write_str("anonymous: the Pod lists no Secret"),
            Self::NothingUsable => f.write_str("anonymous: the kubelet can use none of the Secrets that the Pod lists"),
            Self::NoEntry { registry } => write!(f, "anonymous: no Secret has an entry for {registry}"),
            Self::Malformed { secret } => {
                write!(f, "fails: Secret {secret} is malformed, and the kubelet fails every image of the Pod")
            }
            Self::ImageName(error) => write!(f, "fails: the image's name {error}"),
            Self::Unreadable { secret } => write!(f, "cannot tell: Secret {secret} could not be read"),
        }
    }
}

impl fmt::Display for NearMiss {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "nearest: {} in {} {}", shown(&self.server), self.secret, self.difference)
    }
}

impl fmt::Display for Unlisted {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Here { secret, absence } => {
                write!(f, "Secret {secret} has an entry for it, but the Pod does not list it: {absence}")
            }
            Self::Elsewhere { secret, namespace } => {
                write!(f, "Secret {secret} has an entry for it, but is in namespace {namespace}")
            }
        }
    }
}

/// The verdict, and what was nearly right.
impl fmt::Display for ImageExplanation {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match (&self.verdict, self.problem()) {
            (Verdict::Pulls { secret, server, user }, Some(problem)) if self.outcome() == Outcome::DoesNotPull => {
                write!(f, "does not pull with {secret} ({}, user {}): {problem}", shown(server), UserName(user))?;
            }
            (verdict, _) => verdict.fmt(f)?,
        }
        match (&self.unlisted, &self.nearest) {
            (Some(unlisted), _) => write!(f, "; {unlisted}"),
            (None, Some(nearest)) => write!(f, "; {nearest}"),
            (None, None) => Ok(()),
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Self::Pulls => "pulls",
            Self::CannotTell => "cannot tell",
            Self::DoesNotPull => "does not pull",
        })
    }
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Remedy {
    /// The Secret is broken.
    Replace { secret: String },
    /// The Secret is not where it should be.
    Create { secret: String },
    /// The same, and there is another one that is for the image.
    CreateOrList { secret: String, other: String },
    /// The Secret is for the image, and the registry says no.
    Renew { secret: String },
    /// The entry has no user name.
    AddUser { secret: String, server: String },
    /// The entry's server is nearly right.
    NameServer { secret: String, server: String },
    /// There is no entry at all.
    AddEntry { server: String },
    /// There is a Secret that the Pod does not list.
    List { secret: String, absence: Absence },
    /// The image's name is none.
    ImageName,
    /// What is needed to tell could not be read.
    AskForRights,
    /// It will pull at the next try.
    WaitOrRecreate,
    /// It has nothing to do with credentials.
    Of(Problem),
}

impl fmt::Display for Remedy {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Replace { secret } => {
                write!(f, "Create Secret {secret} anew with kubectl create secret docker-registry, or take it out of the list.")
            }
            // Without a name of the namespace: what is to be done is the same in all.
            Self::Create { secret } => write!(
                f,
                "Create Secret {secret} in the Pod's namespace, or give it a source in the settings, so that the generator does."
            ),
            Self::CreateOrList { secret, other } => write!(
                f,
                "Create Secret {secret} with kubectl create secret docker-registry, or list {other} instead and recreate the Pod."
            ),
            Self::Renew { secret } => write!(
                f,
                "Renew the credential in Secret {secret}: it is wrong or has expired, or its account may not pull this image."
            ),
            Self::AddUser { secret, server } => {
                write!(f, "Give the entry for {} in Secret {secret} a user name and a password.", shown(server))
            }
            Self::NameServer { secret, server } => write!(f, "Name the server {server} in Secret {secret}."),
            Self::AddEntry { server } => write!(
                f,
                "If the image is private, list a Secret with an entry for {server}; if anybody may pull it, nothing is to be \
                 done."
            ),
            Self::List { secret, absence } => match absence {
                Absence::NotConfigured => write!(
                    f,
                    "Add {secret} to the secrets of the settings, or to the imagePullSecrets of the Pod or of its \
                     ServiceAccount, and recreate the Pod."
                ),
                Absence::ExcludedNamespace => write!(
                    f,
                    "Take the namespace out of exclude.namespaces of the settings, or list {secret} in the Pod yourself, and \
                     recreate the Pod."
                ),
                Absence::NamespaceAnnotation | Absence::PodAnnotation => {
                    write!(f, "Remove the annotation, or list {secret} in the Pod yourself, and recreate the Pod.")
                }
                Absence::NotSelectedNamespace => write!(
                    f,
                    "Give the namespace the labels that the policy's namespaceSelector asks for, or list {secret} in the Pod \
                     yourself, and recreate the Pod."
                ),
                Absence::OtherNamespaces => write!(
                    f,
                    "Have {secret} be for this namespace, by its namespaces or its namespaceSelector in the settings or by the \
                     namespace's labels, and recreate the Pod."
                ),
                Absence::MatchImages => {
                    write!(f, "Add the image's registry to matchImages of {secret} in the settings, and recreate the Pod.")
                }
                Absence::PolicyNotAtWork(NotAtWork::Monitor) => write!(
                    f,
                    "Set the mode of the policy to protect, then recreate the Pod; or list {secret} in the Pod yourself."
                ),
                Absence::PolicyNotAtWork(NotAtWork::NotActive) => write!(
                    f,
                    "See why with kubectl describe clusteradmissionpolicy, then recreate the Pod; or list {secret} in the Pod \
                     yourself."
                ),
                Absence::PolicyNotAtWork(NotAtWork::NotInstalled) => write!(
                    f,
                    "Install the policy, or select the Pod's ServiceAccount with serviceAccounts of the settings, or list {secret} \
                     in the Pod yourself; then recreate the Pod."
                ),
                Absence::OlderPod | Absence::OlderThanReference => {
                    f.write_str("Recreate the Pod: the list of a Pod that exists cannot change.")
                }
            },
            Self::ImageName => f.write_str("Correct the image's name."),
            Self::AskForRights => {
                f.write_str("Ask for the right to read the Secret, or have somebody run this who has it.")
            }
            Self::WaitOrRecreate => f.write_str("Wait for the kubelet's next try, or recreate the Pod."),
            Self::Of(problem) => f.write_str(match problem {
                Problem::Refused => "Give the Pod a credential that the registry accepts.",
                Problem::NoSuchImage => {
                    "Check the image's name and tag, and that the account may see the image: many registries hide it otherwise."
                }
                Problem::RateLimit => "Wait, or pull with an account that may pull more, or through a mirror.",
                Problem::Certificate => "Give the Nodes' container runtime the authority that signed the registry's certificate.",
                Problem::HostName => "Check the registry in the image's name, and the Nodes' DNS.",
                Problem::Unreachable => "Check firewalls, proxies and routes between the Nodes and the registry.",
                Problem::RegistryError => "Wait until the registry works again; whoever runs it knows more.",
                Problem::Platform => "Build the image for the platform of the Node, or choose other Nodes.",
                Problem::DiskFull => "Make room on the Node.",
                Problem::MalformedSecret => "Create the Secret anew.",
                Problem::ImageName => "Correct the image's name.",
                Problem::NeverPull => "Use another imagePullPolicy, or give the Pod the credential that the image was pulled with.",
                Problem::Other => "Read the message: it is the container runtime's own.",
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::explain::near_miss::Difference;
    use crate::model::explain::secret::{Found, Origin};
    use crate::model::explain::unknown::Unknown;
    use crate::model::explain::{Answer, PlacedImage, Status};
    use image_pull_secrets::image::Image;
    use image_pull_secrets::secret::Unusable;
    use k8s_openapi::ByteString;
    use std::collections::BTreeMap;

    /// Every sentence, with names in capitals as in the documentation.
    fn sentences() -> Vec<String> {
        let secret = || "SECRET".to_owned();
        let server = || "SERVER".to_owned();
        let mut all = Vec::new();
        let verdicts = [
            Verdict::Pulls { secret: secret(), server: server(), user: "USER".to_owned() },
            Verdict::NoUser { secret: secret(), server: server() },
            Verdict::NoSecret,
            Verdict::NothingUsable,
            Verdict::NoEntry { registry: "REGISTRY".to_owned() },
            Verdict::Malformed { secret: secret() },
            Verdict::Unreadable { secret: secret() },
        ];
        all.extend(verdicts.iter().map(ToString::to_string));
        let waiting = PlacedImage {
            status: Some(Status::Waiting {
                reason: "ErrImagePull".to_owned(),
                problem: Problem::Refused,
                message: String::new(),
                next_try: None,
            }),
            ..PlacedImage::default()
        };
        let [pulls, ..] = verdicts;
        let failed = ImageExplanation {
            image: waiting,
            name: None,
            attempts: Vec::new(),
            verdict: pulls,
            nearest: None,
            unlisted: None,
            answers: Vec::new(),
        };
        all.push(failed.to_string().replace(&Problem::Refused.to_string(), "WHAT IS IN THE WAY"));
        let names = ["", "A", &"a".repeat(64), &format!("a/{}", "a".repeat(256)), &format!("a@md5:{}", "0".repeat(32))];
        all.extend(names.map(|name| Verdict::ImageName(Image::parse(name).unwrap_err()).to_string()));
        let differences = [
            Difference::DockerHubName,
            Difference::Slash,
            Difference::Port,
            Difference::Case,
            Difference::LongPath,
            Difference::Labels,
            Difference::NoUrl,
            Difference::Path,
        ];
        let near = |difference| NearMiss { secret: secret(), server: server(), difference };
        all.extend(differences.map(|difference| near(difference).to_string()));
        let absences = [
            Absence::NotConfigured,
            Absence::ExcludedNamespace,
            Absence::NamespaceAnnotation,
            Absence::PodAnnotation,
            Absence::NotSelectedNamespace,
            Absence::OtherNamespaces,
            Absence::MatchImages,
            Absence::PolicyNotAtWork(NotAtWork::Monitor),
            Absence::PolicyNotAtWork(NotAtWork::NotActive),
            Absence::PolicyNotAtWork(NotAtWork::NotInstalled),
            Absence::OlderPod,
            Absence::OlderThanReference,
        ];
        all.extend([NotAtWork::Monitor, NotAtWork::NotActive, NotAtWork::NotInstalled].map(|why| why.to_string()));
        for absence in absences {
            all.push(Unlisted::Here { secret: secret(), absence: absence.clone() }.to_string());
            all.push(Remedy::List { secret: secret(), absence }.to_string());
        }
        all.push(Unlisted::Elsewhere { secret: secret(), namespace: "NAMESPACE".to_owned() }.to_string());
        let problems = [
            Problem::Refused,
            Problem::NoSuchImage,
            Problem::RateLimit,
            Problem::Certificate,
            Problem::HostName,
            Problem::Unreachable,
            Problem::RegistryError,
            Problem::Platform,
            Problem::DiskFull,
            Problem::MalformedSecret,
            Problem::ImageName,
            Problem::NeverPull,
            Problem::Other,
        ];
        for problem in problems {
            all.push(problem.to_string());
            all.push(Remedy::Of(problem).to_string());
        }
        let remedies = [
            Remedy::Replace { secret: secret() },
            Remedy::Create { secret: secret() },
            Remedy::CreateOrList { secret: secret(), other: "OTHER".to_owned() },
            Remedy::Renew { secret: secret() },
            Remedy::AddUser { secret: secret(), server: server() },
            Remedy::NameServer { secret: secret(), server: server() },
            Remedy::AddEntry { server: server() },
            Remedy::ImageName,
            Remedy::AskForRights,
            Remedy::WaitOrRecreate,
        ];
        all.extend(remedies.iter().map(ToString::to_string));
        let account = || "ACCOUNT".to_owned();
        let origins = [
            Origin::Pod,
            Origin::ServiceAccount(account()),
            Origin::Generator(account()),
            Origin::Policy,
            Origin::PolicyWill,
        ];
        all.extend(origins.iter().map(ToString::to_string));
        let of = |config: &str| {
            let data = BTreeMap::from([(".dockerconfigjson".to_owned(), ByteString(config.into()))]);
            Found::of("kubernetes.io/dockerconfigjson", &data)
        };
        let found = [
            of(r#"{"auths": {"SERVER": {"username": "USER", "password": "hunter2"}}}"#),
            of("{}"),
            of("x"),
            of("[]"),
            of(r#"{"auths": []}"#),
            of(r#"{"HttpHeaders": []}"#),
            of(r#"{"auths": {"SERVER": []}}"#),
            of(r#"{"auths": {"SERVER": {"username": 1}}}"#),
            of(r#"{"auths": {"SERVER": {"auth": "hunter2!"}}}"#),
            of(r#"{"auths": {"SERVER": {"auth": "hunter2="}}}"#),
            Found::Missing,
            Found::PassedOver(Unusable::NoData(".dockerconfigjson")),
            Found::PassedOver(Unusable::Type("Opaque".to_owned())),
            Found::Unreadable("REASON".to_owned()),
        ];
        all.extend(found.iter().map(ToString::to_string));
        all.extend([Outcome::Pulls, Outcome::CannotTell, Outcome::DoesNotPull].map(|outcome| outcome.to_string()));
        all.push(Answer::Accepted.to_string());
        let reason = || "REASON".to_owned();
        let namespace = || "NAMESPACE".to_owned();
        let unknown = [
            Unknown::Settings { in_policies: reason(), in_config_maps: reason() },
            Unknown::NativePolicies { reason: reason() },
            Unknown::Generator { reason: reason() },
            Unknown::Namespace { namespace: namespace(), reason: reason() },
            Unknown::ServiceAccount { namespace: namespace(), account: account(), reason: reason() },
            Unknown::OtherSecrets { namespace: namespace(), reason: reason() },
            Unknown::Elsewhere { secret: secret(), reason: reason() },
            Unknown::NextTry { reason: reason() },
        ];
        all.extend(unknown.iter().map(|unknown| format!("not known: {unknown}")));
        all
    }

    #[test]
    fn every_sentence_is_in_the_documentation() {
        let page = include_str!("../../../../docs/troubleshooting.md");
        let missing: Vec<_> = sentences().into_iter().filter(|s| !page.contains(&format!("`{s}`"))).collect();
        assert!(missing.is_empty(), "docs/troubleshooting.md lacks:\n{}", missing.join("\n"));
    }
}
