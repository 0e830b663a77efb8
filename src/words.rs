//! The words for what is wrong with a secret: a warning each, or one rejection for all.
//!
//! The API server cuts a warning at 256 bytes, and asks for 120 (`k8s.io/api/admission/v1`).

use crate::decision::{Cause, Trouble};
use crate::found::Unknown;
use crate::request::{Kind, Subject};

/// A warning: what is wrong, what was done about it, and what to do.
pub fn warning(subject: &Subject<'_>, trouble: &Trouble) -> String {
    let done = if trouble.referenced { "Referenced anyway" } else { "Not referenced" };
    let is_pod = subject.kind == Kind::Pod;
    let remedy = match &trouble.cause {
        Cause::Missing if trouble.referenced => "create it, or private images will not pull".to_owned(),
        Cause::Missing => "create it, then recreate the Pod".to_owned(),
        Cause::Unusable(_) if is_pod => "replace it, then recreate the Pod".to_owned(),
        Cause::Unusable(_) => "replace it".to_owned(),
        Cause::Unknown(unknown) => remedy_of_unknown(*unknown, &trouble.secret),
    };
    format!("{}. {done}; {remedy}", complaint(subject, trouble))
}

/// A warning that the exclude annotation of a Namespace could not be looked at.
pub fn namespace_warning(subject: &Subject<'_>, unknown: Unknown) -> String {
    let remedy = match unknown {
        Unknown::Forbidden => "grant its ServiceAccount get on namespaces".to_owned(),
        Unknown::KindNotGranted => "add v1 Namespace to them".to_owned(),
        other => remedy_of_unknown(other, ""),
    };
    let namespace = &subject.namespace;
    format!("Namespace {namespace} was not checked for the exclude annotation: {unknown}. Not excluded; {remedy}")
}

/// The rejection: every secret at once, and the commands that make those which are missing.
pub fn rejection(subject: &Subject<'_>, troubles: &[Trouble]) -> String {
    let namespace = &subject.namespace;
    let mut message = format!("Pod {} needs image pull secrets that it cannot have.", subject.label());
    let (mut missing, mut commands) = (String::new(), String::new());
    for trouble in troubles.iter().filter(|trouble| trouble.cause == Cause::Missing) {
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
    for trouble in troubles {
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
    let name = format!("Secret {}/{}", subject.namespace, trouble.secret);
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
        Unknown::Malformed | Unknown::Other => "see policy-server's log",
    }
    .to_owned()
}
