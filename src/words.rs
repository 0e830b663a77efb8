//! The words for what is wrong with a secret: a warning each, or one rejection for all.
//!
//! The API server cuts a warning at 256 bytes, and asks for 120 (`k8s.io/api/admission/v1`).

use crate::decision::{Cause, Reference, Trouble};
use crate::found::Unknown;
use crate::request::{Kind, Subject};
use image_pull_secrets::text::shown;

/// A warning: what is wrong, what was done about it, and what to do.
pub fn warning(subject: &Subject<'_>, trouble: &Trouble) -> String {
    let done = match trouble.reference {
        Reference::Listed => "Listed already",
        Reference::Added => "Referenced anyway",
        Reference::LeftOut => "Not referenced",
    };
    let remedy = match (&trouble.cause, trouble.reference, subject.kind) {
        (Cause::Missing, Reference::Listed | Reference::Added, _) => {
            "create it, or private images will not pull".into()
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
pub fn ephemeral_warning(subject: &Subject<'_>, secret: &str) -> String {
    let namespace = shown(&subject.namespace);
    format!(
        "The Pod does not list Secret {namespace}/{secret}, which is for an ephemeral container's image: it may not pull, and \
         a running Pod's list cannot change"
    )
}

/// A warning that the exclude annotation of a Namespace could not be looked at.
pub fn namespace_warning(subject: &Subject<'_>, unknown: Unknown) -> String {
    let remedy = match unknown {
        Unknown::Forbidden => "grant its ServiceAccount get on namespaces".to_owned(),
        Unknown::KindNotGranted => "add v1 Namespace to them".to_owned(),
        other => remedy_of_unknown(other, ""),
    };
    let namespace = shown(&subject.namespace);
    format!("Namespace {namespace} was not checked for the exclude annotation: {unknown}. Not excluded; {remedy}")
}

/// The rejection: every secret that denies at once, and the commands that make those which are missing.
pub fn rejection(subject: &Subject<'_>, troubles: &[Trouble]) -> String {
    let troubles = || troubles.iter().filter(|trouble| trouble.denies);
    let namespace = shown(&subject.namespace);
    let mut message = format!("Pod {} needs image pull secrets that it cannot have.", subject.label());
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
        Unknown::OutOfTime => "see why it is slow, then try again",
        Unknown::Malformed | Unknown::Other => "see policy-server's log",
    }
    .to_owned()
}
