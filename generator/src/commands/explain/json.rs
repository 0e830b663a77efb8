//! The explanation for programs.

use super::subject::Subject;
use crate::model::explain::{Answer, Explanation, Facts, ImageExplanation, NearMiss, Outcome, Status, Unlisted};
use serde_json::{Value, json};

/// Everything that is said of one Pod.
pub(super) fn document(subject: &Subject, facts: &Facts, explanation: &Explanation) -> Value {
    let secrets = facts.listed.iter().map(|(name, origin)| {
        let found = facts.secrets.get(name);
        let entries = found.and_then(|found| found.usable()).map(|usable| {
            let entry = |server: &str| json!({"server": server, "user": usable.credential(server).username()});
            usable.servers().map(entry).collect::<Vec<_>>()
        });
        json!({
            "name": name,
            "origin": {"kind": origin.name(), "sentence": origin.to_string()},
            "state": found.map(|found| json!({"kind": found.name(), "sentence": found.to_string()})),
            "entries": entries.unwrap_or_default(),
        })
    });
    json!({
        "subject": facts.subject,
        "namespace": facts.namespace,
        "serviceAccount": subject.account,
        "outcome": outcome(explanation.outcome()),
        "secrets": secrets.collect::<Vec<_>>(),
        "images": explanation.images.iter().map(|explained| image(facts, explained)).collect::<Vec<_>>(),
        "settingsWant": facts.wanted(),
        "policyNotAtWork": facts.policy.as_ref().and_then(|policy| policy.not_at_work).map(|why| why.to_string()),
        "generator": facts.generator,
        "notKnown": facts.unknown.iter().map(ToString::to_string).collect::<Vec<_>>(),
    })
}

/// One word for programs.
pub(super) fn outcome(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Pulls => "pulls",
        Outcome::CannotTell => "cannotTell",
        Outcome::DoesNotPull => "doesNotPull",
    }
}

fn image(facts: &Facts, explained: &ImageExplanation) -> Value {
    let attempts = explained.attempts.iter().enumerate().map(|(at, attempt)| {
        json!({
            "secret": attempt.secret,
            "server": attempt.server,
            "user": attempt.user,
            "interchangeable": attempt.is_interchangeable,
            "answer": explained.answers.get(at).map(answer),
        })
    });
    let anonymous = explained.attempts.is_empty().then(|| explained.answers.first().map(answer)).flatten();
    json!({
        "place": explained.image.place,
        "image": explained.image.reference,
        "name": explained.name,
        "attempts": attempts.collect::<Vec<_>>(),
        "anonymousAnswer": anonymous,
        "verdict": {"kind": explained.verdict.name(), "sentence": explained.to_string()},
        "nearest": explained.nearest.as_ref().map(near_miss),
        "unlisted": explained.unlisted.as_ref().map(unlisted),
        "kubelet": explained.image.status.as_ref().map(status),
        "outcome": outcome(explained.outcome()),
        "remedy": explained.remedy(facts).map(|remedy| remedy.to_string()),
    })
}

fn answer(answer: &Answer) -> &'static str {
    match answer {
        Answer::Accepted => "accepted",
        Answer::No(problem) => problem.name(),
    }
}

fn near_miss(near: &NearMiss) -> Value {
    json!({"secret": near.secret, "server": near.server, "sentence": near.to_string()})
}

fn unlisted(unlisted: &Unlisted) -> Value {
    let (secret, namespace, why) = match unlisted {
        Unlisted::Here { secret, absence } => (secret, None, absence.name()),
        Unlisted::Elsewhere { secret, namespace } => (secret, Some(namespace), "anotherNamespace"),
    };
    json!({"secret": secret, "namespace": namespace, "why": why, "sentence": unlisted.to_string()})
}

fn status(status: &Status) -> Value {
    match status {
        Status::Pulled => json!({"pulled": true}),
        Status::Waiting { reason, problem, message, next_try } => json!({
            "pulled": false,
            "reason": reason,
            "problem": {"kind": problem.name(), "sentence": problem.to_string()},
            "message": message,
            "nextTry": next_try,
        }),
    }
}
