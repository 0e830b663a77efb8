//! The policy: adds the configured imagePullSecrets to Pods and ServiceAccounts at admission.
//!
//! One way through: payload → [`request`] → [`wanted`] → [`found`] → [`decision`] → [`words`] → [`response`]. Each step turns plain
//! data into plain data and uses only those before it, and only `found` and the log ask the host. Whatever comes in, an answer goes out: an error returned to the
//! host would deny the request, whatever the policy's failurePolicy says.

mod decision;
mod ephemeral;
mod found;
mod log;
mod request;
mod response;
mod splice;
mod wanted;
mod words;

use decision::{Decision, Verdict, Weighed};
use ephemeral::Suspects;
use found::{Host, Unknown};
use image_pull_secrets::image::Images;
use image_pull_secrets::settings::{OnMissingSecret, Settings};
use request::{Kind, References, Subject, Unchanged, Unreadable, Untouched};
use response::Answer;
use serde::Serialize;
use words::Words;

/// Registers the policy's operations; the host calls it when it starts an instance.
#[unsafe(no_mangle)]
#[allow(unsafe_code)] // an exported symbol is what the waPC protocol asks for
pub extern "C" fn wapc_init() {
    wapc_guest::register_function("validate", |payload| Ok(validate(payload)));
    wapc_guest::register_function("validate_settings", |payload| Ok(validate_settings(payload)));
    wapc_guest::register_function("protocol_version", |_| Ok(PROTOCOL_VERSION.to_vec()));
}

/// The SDK's `protocol_version_guest`, without the 7 KB that it brings along.
const PROTOCOL_VERSION: &[u8] = br#""v1""#;

/// The answer about settings, as the SDK's type of the same name has it.
#[derive(Serialize)]
struct SettingsValidationResponse {
    valid: bool,
    message: Option<String>,
}

/// Answers an admission request: `{"settings": …, "request": …}` in, a `ValidationResponse` out, both JSON.
///
/// Never fails: what cannot be read is accepted as it is, with a warning.
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

/// Answers whether settings are valid, and with everything that is wrong with them where they are not.
pub fn validate_settings(payload: &[u8]) -> Vec<u8> {
    let faults = match std::str::from_utf8(payload) {
        Ok(text) => Settings::from_json(text).err().map(|faults| faults.to_string()),
        Err(_) => Some("settings: are not UTF-8".to_owned()),
    };
    let answer = SettingsValidationResponse { valid: faults.is_none(), message: faults };
    serde_json::to_vec(&answer).unwrap_or_default()
}

/// The rows of the decision table, in their order.
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
    let wanted = wanted::wanted(&settings, subject, &references);
    if wanted.secrets.is_empty() {
        return Err(Untouched::NothingToAdd.into());
    }
    let is_excluded = is_excluded_by_namespace(&settings, subject, host);
    if is_excluded == Ok(true) {
        return Err(Untouched::ExcludedByNamespaceAnnotation.into());
    }
    let verdict = if settings.on_missing_secret == OnMissingSecret::Ignore {
        Verdict::unasked(&wanted.secrets)
    } else {
        let findings = wanted.secrets.iter().map(|want| (want, host.secret(&subject.namespace, want.name))).collect();
        decision::weigh(settings.on_missing_secret, subject.kind, &Images::new(&wanted.images), findings)
    };
    Ok(Decision::Weighed(Weighed { subject, references, verdict, namespace_unknown: is_excluded.err() }))
}

fn decide_about_ephemeral_containers<'a>(
    settings: &Settings,
    pod: &'a Subject<'a>,
    references: &References<'a>,
    host: &Host,
) -> Result<Decision<'a>, Unchanged> {
    let suspects = Suspects::of(settings, pod, references).ok_or(Untouched::NothingToAdd)?;
    if is_excluded_by_namespace(settings, pod, host) == Ok(true) {
        return Err(Untouched::ExcludedByNamespaceAnnotation.into());
    }
    let secrets = suspects.lacks(&pod.namespace, host);
    if secrets.is_empty() { Err(Untouched::NothingToAdd.into()) } else { Ok(Decision::Lacking { pod, secrets }) }
}

/// Whether the Namespace has the exclude annotation, which is asked for only where the settings name one.
fn is_excluded_by_namespace(settings: &Settings, subject: &Subject<'_>, host: &Host) -> Result<bool, Unknown> {
    let Some(key) = &settings.exclude.annotation else { return Ok(false) };
    let value = host.namespace_annotation(&subject.namespace, key)?;
    Ok(Settings::excludes_by_annotation(value.as_deref()))
}

#[cfg(test)]
mod tests {
    use kubewarden_policy_sdk::settings::SettingsValidationResponse as SdkSettingsValidationResponse;
    use rstest::rstest;

    use super::*;

    #[test]
    fn the_protocol_version_is_the_sdks() {
        let theirs = kubewarden_policy_sdk::protocol_version_guest(b"").unwrap();
        assert_eq!(PROTOCOL_VERSION, theirs);
    }

    #[rstest]
    #[case::valid(br#"{"secrets":[{"name":"a"}]}"#)]
    #[case::not_valid(b"{}")]
    fn the_answer_about_settings_is_the_sdks(#[case] settings: &[u8]) {
        let ours = validate_settings(settings);
        let theirs: SdkSettingsValidationResponse = serde_json::from_slice(&ours).unwrap();
        assert_eq!(theirs.valid, theirs.message.is_none());
        assert_eq!(String::from_utf8(ours).unwrap(), serde_json::to_string(&theirs).unwrap());
    }
}
