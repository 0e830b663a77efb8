//! The answer to the host: Kubewarden's `ValidationResponse`, with the mutated object as text.

use crate::decision::{Decision, Trouble, Verdict};
use crate::found::Cause;
use crate::splice;
use crate::words::Words;
use serde::Serialize;

/// Like the SDK's `ValidationResponse`, except that the mutated object is text.
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
    /// The answer for a decision. If there is none, it accepts the request unchanged.
    pub fn new(decision: Option<&Decision<'_>>, words: Words) -> Self {
        let to_sender = words.warnings.into_iter().filter(|warning| !warning.is_in_rejection);
        let mut answer = Self {
            accepted: words.rejection.is_none(),
            message: words.rejection,
            warnings: to_sender.map(|warning| warning.text).collect(),
            ..Self::default()
        };
        if let Some(Decision::Weighed(weighed)) = decision {
            let verdict = &weighed.verdict;
            answer.audit_annotations = AuditAnnotations::of(verdict);
            if !verdict.inject.is_empty() {
                answer.mutated_object = splice::append(weighed.subject.text(), &weighed.references, &verdict.inject);
            }
        }
        answer
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

impl AuditAnnotations {
    /// The audit annotations; `None` if there are none.
    fn of(verdict: &Verdict) -> Option<Self> {
        let mut audit = Self { injected: verdict.inject.join(","), ..Self::default() };
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
        let is_silent = audit.injected.is_empty() && audit.missing.is_empty() && audit.unusable.is_empty();
        (!is_silent).then_some(audit)
    }
}
