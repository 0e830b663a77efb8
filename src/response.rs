//! The answer to the host: Kubewarden's `ValidationResponse`, with the mutated object as text.

use crate::decision::{Cause, Decision, Trouble, Verdict};
use crate::request::Subject;
use crate::{splice, words};
use serde::Serialize;

/// A `ValidationResponse` of the SDK, but for the mutated object, which goes out as the text that it came in as.
#[derive(Debug, Default, Serialize)]
pub struct Answer {
    accepted: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    audit_annotations: Option<AuditAnnotations>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
    #[serde(skip)]
    mutated_object: Option<String>,
}

/// Names, with commas between them.
#[derive(Debug, Default, Serialize)]
struct AuditAnnotations {
    #[serde(skip_serializing_if = "String::is_empty")]
    injected: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    missing: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    unusable: String,
}

impl Answer {
    /// The answer that carries a decision out; there is a subject wherever something was weighed.
    pub fn new(subject: Option<&Subject<'_>>, decision: &Decision<'_>) -> Self {
        match (decision, subject) {
            (Decision::Unreadable(unreadable), _) => {
                Self { accepted: true, warnings: vec![unreadable.to_string()], ..Self::default() }
            }
            (Decision::Lacking(lacks), Some(subject)) => {
                let warnings = lacks.iter().map(|secret| words::ephemeral_warning(subject, secret)).collect();
                Self { accepted: true, warnings, ..Self::default() }
            }
            (Decision::Weighed { verdict, references, namespace_unknown }, Some(subject)) => {
                let mut answer = Self::of_verdict(subject, verdict);
                if !verdict.inject.is_empty() {
                    answer.mutated_object = splice::append(subject.text(), references, &verdict.inject);
                }
                if let Some(unknown) = namespace_unknown {
                    answer.warnings.push(words::namespace_warning(subject, *unknown));
                }
                answer
            }
            (Decision::Untouched(_) | Decision::Lacking(_) | Decision::Weighed { .. }, _) => {
                Self { accepted: true, ..Self::default() }
            }
        }
    }

    fn of_verdict(subject: &Subject<'_>, verdict: &Verdict) -> Self {
        let mut audit = AuditAnnotations { injected: verdict.inject.join(","), ..AuditAnnotations::default() };
        for Trouble { secret, cause, .. } in &verdict.troubles {
            let names = match cause {
                Cause::Missing => &mut audit.missing,
                Cause::Unusable(_) => &mut audit.unusable,
                Cause::Unknown(_) => continue,
            };
            if !names.is_empty() {
                names.push(',');
            }
            names.push_str(secret);
        }
        let is_silent = verdict.inject.is_empty() && audit.missing.is_empty() && audit.unusable.is_empty();
        let audit_annotations = (!is_silent).then_some(audit);
        let message = verdict.denied.then(|| words::rejection(subject, &verdict.troubles));
        let to_warn_of = verdict.troubles.iter().filter(|trouble| !trouble.denies);
        let warnings = to_warn_of.map(|trouble| words::warning(subject, trouble)).collect();
        Self { accepted: !verdict.denied, message, audit_annotations, warnings, ..Self::default() }
    }

    /// The JSON that the host reads.
    pub fn into_json(self) -> Vec<u8> {
        let mut json = serde_json::to_vec(&self).unwrap_or_else(|_| br#"{"accepted":true}"#.to_vec());
        if let Some(object) = self.mutated_object {
            json.pop();
            json.reserve_exact(object.len() + 20);
            json.extend_from_slice(b",\"mutated_object\":");
            json.extend_from_slice(object.as_bytes());
            json.push(b'}');
        }
        json
    }
}
