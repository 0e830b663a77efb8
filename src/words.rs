//! Puts a decision into words: the warnings, the rejection (one message for everything that is wrong), and the line in the
//! log.
//!
//! The API server cuts a warning after 256 bytes and recommends at most 120 (`k8s.io/api/admission/v1`).

use crate::decision::{Decision, Reference, Trouble, Weighed};
use crate::found::{Cause, Unknown};
use crate::namespace::Unchecked;
use crate::request::{Kind, Subject, Unchanged, Unreadable, Untouched};
use image_pull_secrets::text::shown;

/// What is said about a request, in the response to whoever sent it and in the log.
#[derive(Debug, Default)]
pub struct Words {
    /// The object that it is about. `None` if the request could not be read that far.
    pub about: Option<String>,
    /// What was done, if the warnings do not say it.
    pub done: Option<String>,
    /// What is wrong, in one or two sentences each.
    pub warnings: Vec<Warning>,
    /// Why the request is denied.
    pub rejection: Option<String>,
}

/// A warning: what is wrong, what was done about it, and what to do.
#[derive(Debug)]
pub struct Warning {
    /// The text, in one line.
    pub text: String,
    /// Whether the rejection says it too.
    pub is_in_rejection: bool,
}

impl From<String> for Warning {
    fn from(text: String) -> Self {
        Self { text, is_in_rejection: false }
    }
}

impl Words {
    /// About a request that is accepted unchanged.
    pub fn of_unchanged(subject: Option<&Subject<'_>>, unchanged: &Unchanged) -> Self {
        let about = subject.map(about);
        match unchanged {
            Unchanged::Untouched(reason) => {
                Self { about, done: Some(format!("accepted untouched, {}", reason_of(*reason))), ..Self::default() }
            }
            Unchanged::Unreadable(part) => {
                Self { about, warnings: vec![unreadable_warning(part).into()], ..Self::default() }
            }
        }
    }

    /// About a decision.
    pub fn of(decision: &Decision<'_>) -> Self {
        match decision {
            Decision::Lacking { pod, secrets } => {
                let warnings = secrets.iter().map(|secret| Warning::from(ephemeral_warning(pod, secret))).collect();
                Self { about: Some(about(pod)), warnings, ..Self::default() }
            }
            Decision::Weighed(Weighed { subject, verdict, unchecked, .. }) => {
                let done = match (verdict.denied, verdict.inject.is_empty()) {
                    (true, _) => "denied".to_owned(),
                    (false, true) => "accepted untouched, nothing to add".to_owned(),
                    (false, false) => format!("added {}", verdict.inject.join(", ")),
                };
                let warning = |trouble: &Trouble| Warning {
                    text: trouble_warning(subject, trouble),
                    is_in_rejection: trouble.denies,
                };
                let mut warnings: Vec<_> = verdict.troubles.iter().map(warning).collect();
                warnings.extend(unchecked.map(|unchecked| Warning::from(namespace_warning(subject, unchecked))));
                let rejection = verdict.denied.then(|| rejection(subject, &verdict.troubles));
                Self { about: Some(about(subject)), done: Some(done), warnings, rejection }
            }
        }
    }
}

fn about(subject: &Subject<'_>) -> String {
    format!("{} {}", subject.kind, subject.label())
}

fn reason_of(untouched: Untouched) -> &'static str {
    match untouched {
        Untouched::OtherKind => "neither a Pod nor a ServiceAccount",
        Untouched::SubResource => "a sub-resource",
        Untouched::OtherOperation => "an operation that changes no imagePullSecrets",
        Untouched::MirrorPod => "a mirror Pod",
        Untouched::ExcludedNamespace => "its namespace is excluded",
        Untouched::ExcludedObject => "it has the exclude annotation",
        Untouched::ExcludedByNamespaceAnnotation => "its Namespace has the exclude annotation",
        Untouched::BeingDeleted => "it is being deleted",
        Untouched::NotSelected => "its name is not selected",
        Untouched::NothingToAdd => "nothing to add",
    }
}

/// A warning that something could not be read. It does not quote the text, which may be a credential.
fn unreadable_warning(part: &Unreadable) -> String {
    match part {
        Unreadable::Payload => {
            "The admission request could not be read: accepted unchanged; see policy-server's log".to_owned()
        }
        Unreadable::Settings(faults) => {
            format!("The policy's settings are not valid: accepted unchanged; correct {faults}")
        }
        Unreadable::Object(kind) => {
            format!("The request has no {kind} in it: accepted unchanged; send the whole object")
        }
        Unreadable::NoSpec => "The Pod has no spec: accepted unchanged; give it one".to_owned(),
        Unreadable::NotAList(kind) => {
            let path = match kind {
                Kind::Pod => "spec.imagePullSecrets",
                Kind::ServiceAccount => "imagePullSecrets",
            };
            format!("The {kind}'s {path} is not a list: accepted unchanged; make it one")
        }
    }
}

/// A warning about one of the wanted secrets.
fn trouble_warning(subject: &Subject<'_>, trouble: &Trouble) -> String {
    let done = match trouble.reference {
        Reference::Listed => "It was listed already",
        Reference::Added => "It was added anyway",
        Reference::LeftOut => "It was not added",
    };
    let remedy = match (&trouble.cause, trouble.reference, subject.kind) {
        (Cause::Missing, Reference::Listed | Reference::Added, _) => {
            "create it, or private images cannot be pulled".into()
        }
        (Cause::Missing, Reference::LeftOut, Kind::Pod) => "create it, then recreate the Pod".into(),
        (Cause::Missing, Reference::LeftOut, Kind::ServiceAccount) => {
            "create it: the generator, or the account's next update, then adds the reference".into()
        }
        (Cause::Unusable(_), Reference::LeftOut, Kind::Pod) => "replace it, then recreate the Pod".into(),
        (Cause::Unusable(_), _, _) => "replace it".into(),
        (Cause::Unknown(unknown), _, _) => remedy_of_unknown(*unknown, &trouble.secret),
    };
    format!("{}. {done}; {remedy}", complaint(subject, trouble))
}

/// A warning that a Pod lacks a secret which is for an ephemeral container.
fn ephemeral_warning(subject: &Subject<'_>, secret: &str) -> String {
    let namespace = shown(&subject.namespace);
    format!(
        "The Pod does not list Secret {namespace}/{secret}, which is for an ephemeral container's image: it may not pull, and \
         a running Pod's list cannot change"
    )
}

/// A warning that something of a Namespace could not be read.
fn namespace_warning(subject: &Subject<'_>, unchecked: Unchecked) -> String {
    let (what, done) = match unchecked {
        Unchecked { labels: false, .. } => ("the exclude annotation", "Not excluded"),
        Unchecked { annotation: false, .. } => ("its labels", "Secrets chosen by label are for it"),
        _ => ("the exclude annotation and its labels", "Not excluded, and secrets chosen by label are for it"),
    };
    let remedy = match unchecked.why {
        Unknown::Forbidden => "grant its ServiceAccount get on namespaces".to_owned(),
        Unknown::KindNotGranted => "add v1 Namespace to them".to_owned(),
        other => remedy_of_unknown(other, ""),
    };
    format!("Namespace {} was not checked for {what}: {}. {done}; {remedy}", shown(&subject.namespace), unchecked.why)
}

/// The rejection. It names every secret that is a reason to deny the Pod, and the commands that create the missing ones.
fn rejection(subject: &Subject<'_>, troubles: &[Trouble]) -> String {
    let troubles = || troubles.iter().filter(|trouble| trouble.denies);
    let namespace = shown(&subject.namespace);
    let mut message = format!("Pod {} is denied because of its image pull secrets.", subject.label());
    let (mut missing, mut commands) = (String::new(), String::new());
    for trouble in troubles().filter(|trouble| trouble.cause == Cause::Missing) {
        let name = &trouble.secret;
        let (comma, semicolon) = if missing.is_empty() { ("", "") } else { (", ", ";") };
        missing.extend([comma, name]);
        commands.push_str(&format!(
            "{semicolon} kubectl create secret docker-registry {name} -n {namespace} --docker-server=REGISTRY \
             --docker-username=USER --docker-password=PASSWORD"
        ));
    }
    if !missing.is_empty() {
        message.push_str(&format!(
            " Missing in namespace {namespace}: {missing}. Create what is missing, then try again:{commands}"
        ));
    }
    for trouble in troubles() {
        let remedy = match trouble.cause {
            Cause::Missing => continue,
            Cause::Unusable(_) => "Replace it".to_owned(),
            Cause::Unknown(unknown) => remedy_of_unknown(unknown, &trouble.secret),
        };
        let stop = if message.ends_with('.') { "" } else { "." };
        message.push_str(&format!("{stop} {}: {remedy}.", complaint(subject, trouble)));
    }
    message
}

/// What is wrong, in one sentence without its full stop.
fn complaint(subject: &Subject<'_>, trouble: &Trouble) -> String {
    let name = format!("Secret {}/{}", shown(&subject.namespace), trouble.secret);
    match &trouble.cause {
        Cause::Missing => format!("{name} does not exist"),
        Cause::Unusable(unusable) => format!("{name} is unusable: {unusable}"),
        Cause::Unknown(unknown) => format!("{name} was not checked: {unknown}"),
    }
}

fn remedy_of_unknown(unknown: Unknown, secret: &str) -> String {
    match unknown {
        Unknown::Forbidden => {
            return format!("grant its ServiceAccount get on secrets, resourceNames [\"{secret}\"]");
        }
        Unknown::KindNotGranted => "add v1 Secret to them",
        Unknown::CapabilityNotGranted => "allow it on the PolicyServer",
        Unknown::NoCluster => "give kwctl a kubeconfig and --allow-context-aware",
        Unknown::Unreachable | Unknown::KindNotServed => "check policy-server's connection to it",
        Unknown::NoNamespace => "name one",
        Unknown::OutOfTime => "find out why it is slow, then try again",
        Unknown::Malformed | Unknown::Other => "see policy-server's log",
    }
    .to_owned()
}
