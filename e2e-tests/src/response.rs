//! Turns the policy's answer into the response that an API server gets.

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use json_patch::Patch;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A policy's answer to a request.
#[derive(Debug, PartialEq, Eq, Deserialize)]
pub struct ValidationResponse {
    pub(crate) accepted: bool,
    pub(crate) message: Option<String>,
    pub(crate) code: Option<u16>,
    pub(crate) mutated_object: Option<Value>,
    pub(crate) audit_annotations: Option<BTreeMap<String, String>>,
    pub(crate) warnings: Option<Vec<String>>,
}

/// A policy's answer about settings.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct SettingsValidationResponse {
    /// Whether the policy can work with them.
    pub valid: bool,
    /// What is wrong with them.
    pub message: Option<String>,
}

/// The response of an AdmissionReview `admission.k8s.io/v1`, written as policy-server writes it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AdmissionResponse {
    /// The request's.
    pub uid: String,
    /// The verdict.
    pub allowed: bool,
    /// `JSONPatch` where there is a patch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub patch_type: Option<String>,
    /// A JSON patch (RFC 6902) in base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub patch: Option<String>,
    /// Why the request is denied.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<Status>,
    /// What the API server's audit log shall say, without the webhook's name in front of each key.
    pub audit_annotations: Option<BTreeMap<String, String>>,
    /// What the client shall be shown.
    pub warnings: Option<Vec<String>>,
}

/// Why a request is denied.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Status {
    /// In words, for the client.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The HTTP status code that the client shall get; 400 where it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<u16>,
}

impl AdmissionResponse {
    /// Denies a request.
    pub fn reject(uid: &str, message: String, code: Option<u16>) -> Self {
        Self { uid: uid.to_owned(), status: Some(Status { message: Some(message), code }), ..Self::default() }
    }

    /// Denies a request because the policy failed. `failurePolicy: Ignore` does not help: the webhook has answered.
    pub fn reject_internal_server_error(uid: &str, message: &str) -> Self {
        Self::reject(uid, format!("internal server error: {message}"), Some(500))
    }

    /// Turns a policy's answer into a response: where it mutates, the patch leads from the request's object to the
    /// mutated one, lists compared by position.
    pub(crate) fn from_policy(uid: &str, object: Option<&Value>, answer: ValidationResponse) -> Self {
        let patch = match (object, answer.mutated_object) {
            (None, Some(_)) => {
                let message = "Incoming object is null, which happens only with DELETE operations, but the policy is \
                               attempting a mutation. This is not allowed";
                return Self::reject(uid, message.to_owned(), None);
            }
            (Some(object), Some(mutated)) => Some(json_patch::diff(object, &mutated)).filter(|patch| !patch.is_empty()),
            (_, None) => None,
        };
        let patch = patch.map(|patch| STANDARD.encode(patch.to_string()));
        Self {
            uid: uid.to_owned(),
            allowed: answer.accepted,
            patch_type: patch.as_ref().map(|_| "JSONPatch".to_owned()),
            patch,
            status: (answer.message.is_some() || answer.code.is_some())
                .then_some(Status { message: answer.message, code: answer.code }),
            audit_annotations: answer.audit_annotations,
            warnings: answer.warnings,
        }
    }

    /// What becomes of the answer of a policy that is not allowed to mutate.
    pub(crate) fn without_mutation(self) -> Self {
        if self.patch.is_none() {
            return self;
        }
        let message = "Request rejected by policy. The policy attempted to mutate the request, but it is currently \
                       configured to not allow mutations.";
        Self {
            allowed: false,
            patch_type: None,
            patch: None,
            status: Some(Status { message: Some(message.to_owned()), code: None }),
            ..self
        }
    }

    /// The patch, decoded; empty where there is none.
    pub fn operations(&self) -> Patch {
        let decode = |patch: &String| serde_json::from_slice(&STANDARD.decode(patch).ok()?).ok();
        self.patch.as_ref().and_then(decode).unwrap_or_default()
    }

    /// The object as the API server would go on with it.
    pub fn apply(&self, object: &Value) -> Result<Value, json_patch::PatchError> {
        let mut object = object.clone();
        json_patch::patch(&mut object, &self.operations())?;
        Ok(object)
    }

    /// The message of the denial, or an empty text.
    pub fn message(&self) -> &str {
        self.status.as_ref().and_then(|status| status.message.as_deref()).unwrap_or_default()
    }
}
