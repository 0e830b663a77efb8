//! The policy's log, which the host writes: one line for each decision at level debug, and one at level warning if
//! something is wrong.

use crate::words::Words;
use serde::Serialize;

/// A log line in the form that the host's `tracing/log` expects (`PolicyLogEntry` of Kubewarden's policy-evaluator).
#[derive(Serialize)]
struct Line {
    level: &'static str,
    message: String,
}

/// Gives the lines to the host. If that fails, the answer to the request stays the same.
pub fn send(words: &Words) {
    if let Some(done) = &words.done {
        send_line("debug", words, done);
    }
    let warnings: Vec<_> = words.warnings.iter().map(|warning| warning.text.as_str()).collect();
    if !warnings.is_empty() {
        send_line("warning", words, &warnings.join("; "));
    }
}

fn send_line(level: &'static str, words: &Words, said: &str) {
    let message = match &words.about {
        Some(about) => format!("{about}: {said}"),
        None => said.to_owned(),
    };
    if let Ok(event) = serde_json::to_vec(&Line { level, message }) {
        let _ = wapc_guest::host_call("kubewarden", "tracing", "log", &event);
    }
}
