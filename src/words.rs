//! The words for what is wrong with a secret: a warning each, or one rejection for all.

use crate::decision::{Cause, Trouble};
use crate::found::Unknown;
use crate::request::{Kind, Subject};
use std::fmt::Write;

/// A warning: one sentence on what is wrong, one on what to do.
pub fn warning(subject: &Subject<'_>, trouble: &Trouble) -> String {
    let Trouble { secret, cause, referenced } = trouble;
    let done = if *referenced { "referenced anyway" } else { "not referenced" };
    let name = format!("{}/{secret}", subject.namespace);
    match cause {
        Cause::Missing if *referenced => {
            format!("Secret {name} does not exist: {done}. Create it, or private images will not pull")
        }
        Cause::Missing => format!("Secret {name} does not exist: {done}. Create it, then recreate the Pod"),
        Cause::Unusable(unusable) => {
            format!("Secret {name} is unusable, {unusable}: {done}. {}", remedy_of_unusable(subject))
        }
        Cause::Unknown(unknown) => {
            format!("Secret {name} was not checked, {unknown}: {done}. {}", remedy_of_unknown(*unknown, secret))
        }
    }
}

/// A warning that the exclude annotation of a Namespace could not be looked at.
pub fn namespace_warning(subject: &Subject<'_>, unknown: Unknown) -> String {
    let namespace = &subject.namespace;
    let remedy = match unknown {
        Unknown::Forbidden => "Allow policy-server's ServiceAccount to get namespaces".to_owned(),
        Unknown::KindNotGranted => "Add v1 Namespace to contextAwareResources".to_owned(),
        other => remedy_of_unknown(other, namespace),
    };
    format!("Namespace {namespace} was not checked for the exclude annotation, {unknown}: not excluded. {remedy}")
}

/// The rejection: every secret at once, and the commands that make those which are missing.
pub fn rejection(subject: &Subject<'_>, troubles: &[Trouble]) -> String {
    let namespace = &subject.namespace;
    let mut message = format!("Pod {} needs image pull secrets that it cannot have.", subject.label());
    let missing: Vec<_> = troubles.iter().filter(|t| t.cause == Cause::Missing).map(|t| t.secret.as_str()).collect();
    if !missing.is_empty() {
        let (noun, verb, them) = if missing.len() == 1 { ("Secret", "does", "it") } else { ("Secrets", "do", "them") };
        let list = missing.join(", ");
        let _ =
            write!(message, " {noun} {list} {verb} not exist in namespace {namespace}: create {them}, and try again:");
        for (i, name) in missing.iter().enumerate() {
            let separator = if i == 0 { "" } else { ";" };
            let _ = write!(
                message,
                "{separator} kubectl create secret docker-registry {name} -n {namespace} --docker-server=REGISTRY \
                 --docker-username=USER --docker-password=PASSWORD"
            );
        }
    }
    for Trouble { secret, cause, .. } in troubles {
        let _ = match cause {
            Cause::Missing => Ok(()),
            Cause::Unusable(unusable) => {
                write!(
                    message,
                    " Secret {namespace}/{secret} is unusable, {unusable}: {}.",
                    remedy_of_unusable(subject)
                )
            }
            Cause::Unknown(unknown) => {
                write!(
                    message,
                    " Secret {namespace}/{secret} was not checked, {unknown}: {}.",
                    remedy_of_unknown(*unknown, secret)
                )
            }
        };
    }
    message
}

fn remedy_of_unusable(subject: &Subject<'_>) -> &'static str {
    match subject.kind {
        Kind::Pod => "Replace it with one made by 'kubectl create secret docker-registry', then recreate the Pod",
        Kind::ServiceAccount => "Replace it with one made by 'kubectl create secret docker-registry'",
    }
}

fn remedy_of_unknown(unknown: Unknown, secret: &str) -> String {
    match unknown {
        Unknown::Forbidden => {
            format!("Give policy-server's ServiceAccount the verb get on secrets with resourceNames [\"{secret}\"]")
        }
        Unknown::KindNotGranted => "Add v1 Secret to the policy's contextAwareResources".to_owned(),
        Unknown::CapabilityNotGranted => "Allow kubernetes/get_resource for the policy on its PolicyServer".to_owned(),
        Unknown::NoCluster => "Give kwctl a kubeconfig or a recorded session, and --allow-context-aware".to_owned(),
        Unknown::Unreachable | Unknown::KindNotServed => {
            "Look to the API server, and to policy-server's way to it".to_owned()
        }
        Unknown::NoNamespace => "Name a namespace in the request".to_owned(),
        Unknown::Malformed | Unknown::Other => "Look into policy-server's log".to_owned(),
    }
}
