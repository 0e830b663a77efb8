//! The policy's log, which the host writes: one line a decision at debug, one at warning where something is the matter.

use crate::decision::Decision;
use crate::request::Subject;
use crate::words;
use serde::Serialize;

/// An event as the host's `tracing/log` takes it (`PolicyLogEntry` of Kubewarden's policy-evaluator).
#[derive(Debug, Serialize)]
struct Line {
    level: &'static str,
    message: String,
}

/// What is to be logged about a decision.
#[derive(Debug)]
pub struct Lines(Vec<Line>);

/// The lines for a decision.
pub fn lines(subject: Option<&Subject<'_>>, decision: &Decision<'_>) -> Lines {
    let of = subject.map(|subject| format!("{} {}: ", subject.kind, subject.label())).unwrap_or_default();
    let debug = |message: String| Line { level: "debug", message: format!("{of}{message}") };
    let warning = |message: String| Line { level: "warning", message: format!("{of}{message}") };
    Lines(match (decision, subject) {
        (Decision::Untouched(reason), _) => vec![debug(format!("accepted untouched, {reason}"))],
        (Decision::Unreadable(unreadable), _) => vec![warning(unreadable.to_string())],
        (Decision::Lacking(lacks), Some(subject)) => {
            let lacks: Vec<_> = lacks.iter().map(|secret| words::ephemeral_warning(subject, secret)).collect();
            vec![warning(lacks.join("; "))]
        }
        (Decision::Weighed { verdict, namespace_unknown, .. }, Some(subject)) => {
            let done = match (verdict.denied, verdict.inject.is_empty()) {
                (true, _) => "denied".to_owned(),
                (false, true) => "accepted untouched, nothing to add".to_owned(),
                (false, false) => format!("added {}", verdict.inject.join(", ")),
            };
            let mut troubles: Vec<_> =
                verdict.troubles.iter().map(|trouble| words::warning(subject, trouble)).collect();
            troubles.extend(namespace_unknown.map(|unknown| words::namespace_warning(subject, unknown)));
            let mut lines = vec![debug(done)];
            if !troubles.is_empty() {
                lines.push(warning(troubles.join("; ")));
            }
            lines
        }
        (Decision::Lacking(_) | Decision::Weighed { .. }, None) => Vec::new(),
    })
}

impl Lines {
    /// Hands the lines to the host. A host that takes none is no reason to answer otherwise.
    pub fn send(&self) {
        for line in &self.0 {
            if let Ok(event) = serde_json::to_vec(line) {
                let _ = wapc_guest::host_call("kubewarden", "tracing", "log", &event);
            }
        }
    }
}
