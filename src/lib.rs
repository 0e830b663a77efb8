//! The policy: adds the configured imagePullSecrets to Pods and ServiceAccounts at admission.
//!
//! A request goes through these steps: payload → [`request`] → [`wanted`] → [`found`] → [`namespace`] → [`decision`] →
//! [`words`] → [`response`]. Each step turns plain data into plain data and uses only the steps before it. Only `found` and
//! the log call the host. Every input leads to an answer, because the host would deny a request for which the policy
//! returns an error, even if the failurePolicy is Ignore.

mod decision;
mod ephemeral;
mod found;
mod log;
mod namespace;
mod request;
mod response;
mod splice;
mod wanted;
mod words;

use decision::{Decision, Verdict, Weighed};
use ephemeral::Suspects;
use found::Host;
use image_pull_secrets::image::Images;
use image_pull_secrets::settings::{OnMissingSecret, Settings};
use namespace::Namespace;
use request::{Kind, References, Subject, Unchanged, Unreadable, Untouched};
use response::Answer;
use serde::Serialize;
use words::Words;

/// Registers the policy's operations. The host calls this when it starts an instance.
#[unsafe(no_mangle)]
#[allow(unsafe_code)] // an exported symbol is what the waPC protocol asks for
pub extern "C" fn wapc_init() {
    wapc_guest::register_function("validate", |payload| Ok(validate(payload)));
    wapc_guest::register_function("validate_settings", |payload| Ok(validate_settings(payload)));
    wapc_guest::register_function("protocol_version", |_| Ok(PROTOCOL_VERSION.to_vec()));
}

/// Does what the SDK's `protocol_version_guest` does, without adding 7 KB to the module.
const PROTOCOL_VERSION: &[u8] = br#""v1""#;

/// The answer about settings, with the fields of the SDK's type of the same name.
#[derive(Serialize)]
struct SettingsValidationResponse {
    valid: bool,
    message: Option<String>,
}

/// Answers an admission request: `{"settings": …, "request": …}` in, a `ValidationResponse` out, both JSON.
///
/// It never fails. A request that cannot be read is accepted unchanged, with a warning.
pub fn validate(payload: &[u8]) -> Vec<u8> {
    let host = Host::new();
    match Subject::read(payload) {
        Err(unchanged) => respond(None, Words::of_unchanged(None, &unchanged)),
        Ok((settings, subject)) => match decide(settings, &subject, &host) {
            Err(unchanged) => respond(None, Words::of_unchanged(Some(&subject), &unchanged)),
            Ok(decision) => respond(Some(&decision), Words::of(&decision)),
        },
    }
}

fn respond(decision: Option<&Decision<'_>>, words: Words) -> Vec<u8> {
    log::send(&words);
    Answer::new(decision, words).into_json()
}

/// Answers whether settings are valid. If they are not, the answer lists everything that is wrong.
pub fn validate_settings(payload: &[u8]) -> Vec<u8> {
    let faults = match std::str::from_utf8(payload) {
        Ok(text) => Settings::from_json(text).err().map(|faults| faults.to_string()),
        Err(_) => Some("settings: are not UTF-8".to_owned()),
    };
    let answer = SettingsValidationResponse { valid: faults.is_none(), message: faults };
    serde_json::to_vec(&answer).unwrap_or_default()
}

/// Goes through the rows of the decision table, in order.
fn decide<'a>(settings: &str, subject: &'a Subject<'a>, host: &Host) -> Result<Decision<'a>, Unchanged> {
    if subject.is_mirror_pod() {
        return Err(Untouched::MirrorPod.into());
    }
    let settings = Settings::from_json(settings).map_err(Unreadable::Settings)?;
    if settings.excludes_namespace(&subject.namespace) {
        return Err(Untouched::ExcludedNamespace.into());
    }
    let annotation = settings.exclude.annotation.as_deref();
    if annotation.is_some_and(|key| Settings::excludes_by_annotation(subject.annotation(key).as_deref())) {
        return Err(Untouched::ExcludedObject.into());
    }
    if subject.kind == Kind::ServiceAccount {
        if subject.is_being_deleted() {
            return Err(Untouched::BeingDeleted.into());
        }
        if !settings.selects_service_account(&subject.name) {
            return Err(Untouched::NotSelected.into());
        }
    }
    let references = subject.references()?;
    if subject.is_about_ephemeral_containers {
        return decide_about_ephemeral_containers(&settings, subject, &references, host);
    }
    let mut wanted = wanted::wanted(&settings, subject, &references);
    if wanted.secrets.is_empty() {
        return Err(Untouched::NothingToAdd.into());
    }
    let secrets = wanted.secrets.iter().map(|want| want.namespaces);
    let namespace = Namespace::look_at(&settings, secrets, &subject.namespace, host);
    if namespace.is_excluded() {
        return Err(Untouched::ExcludedByNamespaceAnnotation.into());
    }
    namespace.limit(&mut wanted);
    if wanted.secrets.is_empty() {
        return Err(Untouched::NothingToAdd.into());
    }
    let verdict = if settings.on_missing_secret == OnMissingSecret::Ignore {
        Verdict::unasked(&wanted.secrets)
    } else {
        let findings = wanted.secrets.iter().map(|want| (want, host.secret(&subject.namespace, want.name))).collect();
        decision::weigh(settings.on_missing_secret, subject.kind, &Images::new(&wanted.images), findings)
    };
    Ok(Decision::Weighed(Weighed { subject, references, verdict, unchecked: namespace.unchecked() }))
}

fn decide_about_ephemeral_containers<'a>(
    settings: &Settings,
    pod: &'a Subject<'a>,
    references: &References<'a>,
    host: &Host,
) -> Result<Decision<'a>, Unchanged> {
    let suspects = Suspects::of(settings, pod, references).ok_or(Untouched::NothingToAdd)?;
    let namespace = Namespace::look_at(settings, suspects.namespaces(), &pod.namespace, host);
    if namespace.is_excluded() {
        return Err(Untouched::ExcludedByNamespaceAnnotation.into());
    }
    let secrets = suspects.lacks(&pod.namespace, &namespace, host);
    if secrets.is_empty() { Err(Untouched::NothingToAdd.into()) } else { Ok(Decision::Lacking { pod, secrets }) }
}
