//! Verdicts for people and for programs. Neither form shows the data of a Secret.

use std::{fmt::Write as _, time::Duration};

use anstyle::{AnsiColor, Style};
use anyhow::{Context as _, Result};
use image_pull_secrets_e2e::{AdmissionRequest, Engine, Evaluation, Verdict};
use serde_json::{Value, json};
use similar::{ChangeTag, TextDiff};

const BOLD: Style = Style::new().bold();
const DIM: Style = Style::new().dimmed();
const RED: Style = AnsiColor::Red.on_default();
const GREEN: Style = AnsiColor::Green.on_default();
const YELLOW: Style = AnsiColor::Yellow.on_default();
const CYAN: Style = AnsiColor::Cyan.on_default();

/// One request and its result.
pub(crate) struct Evaluated<'a> {
    pub(crate) request: &'a AdmissionRequest,
    pub(crate) evaluation: &'a Evaluation,
    /// Whether an API server would call the policy for it.
    pub(crate) selected: bool,
}

impl Evaluated<'_> {
    /// Several lines, styled.
    pub(crate) fn text(&self) -> Result<String> {
        let Evaluation { response, host_calls, start, validate, .. } = self.evaluation;
        let mut text = format!("{} {}\n", paint(BOLD, &self.title()), verdict(self.evaluation));
        if !self.selected {
            line(&mut text, &paint(DIM, "no rule in metadata.yml selects it: an API server would not ask"));
        }
        if !response.allowed {
            line(&mut text, response.message());
        }
        for warning in response.warnings.iter().flatten() {
            line(&mut text, &format!("{} {warning}", paint(YELLOW, "warning:")));
        }
        for (key, value) in response.audit_annotations.iter().flatten() {
            line(&mut text, &format!("{} {key}={value}", paint(CYAN, "audit:")));
        }
        let calls = match host_calls.len() {
            0 => "no host call".to_owned(),
            1 => "1 host call".to_owned(),
            calls => format!("{calls} host calls"),
        };
        let cost = format!("{calls}, start {}, validate {}", milliseconds(*start), milliseconds(*validate));
        line(&mut text, &paint(DIM, &cost));
        if self.evaluation.verdict() == Verdict::Mutated {
            text.push_str(&self.diff()?);
        }
        text.push('\n');
        Ok(text)
    }

    /// One line of JSON.
    pub(crate) fn json(&self) -> Result<String> {
        let Evaluation { response, failure, host_calls, logs, start, validate } = self.evaluation;
        let mut response = response.clone();
        if self.is_secret() {
            response.patch = None;
            response.patch_type = None;
        }
        let line = json!({
            "kind": self.request.kind.kind,
            "namespace": self.request.namespace,
            "name": self.request.name,
            "operation": self.request.operation,
            "selectedByRules": self.selected,
            "verdict": self.evaluation.verdict(),
            "response": response,
            "failure": failure,
            "hostCalls": host_calls,
            "logs": logs,
            "startMicroseconds": start.as_micros() as u64,
            "validateMicroseconds": validate.as_micros() as u64,
        });
        Ok(format!("{line}\n"))
    }

    /// `Pod shop/web`, with the operation where it is not the usual one.
    fn title(&self) -> String {
        let AdmissionRequest { kind, namespace, name, operation, object, .. } = self.request;
        let prefix = || object.as_ref()?.pointer("/metadata/generateName")?.as_str();
        let name = match (name, prefix()) {
            (Some(name), _) => name.clone(),
            (None, Some(prefix)) => format!("{prefix}*"),
            (None, None) => "(no name)".to_owned(),
        };
        let mut title = kind.kind.clone();
        match namespace {
            Some(namespace) => title.push_str(&format!(" {namespace}/{name}")),
            None => title.push_str(&format!(" {name}")),
        }
        if operation != "CREATE" {
            title.push_str(&format!(" ({operation})"));
        }
        title
    }

    /// What the patch changes, as a unified diff of the object's YAML.
    fn diff(&self) -> Result<String> {
        let before = self.request.object.clone().unwrap_or_default();
        let after = self.evaluation.response.apply(&before).context("the policy's patch does not apply")?;
        let [before, after] = [before, after].map(|object| yaml_serde::to_string(&self.shown(object)));
        let (before, after) = (before?, after?);
        let diff = TextDiff::from_lines(&before, &after);
        let mut text = String::new();
        for hunk in diff.unified_diff().context_radius(3).iter_hunks() {
            line(&mut text, &paint(CYAN, &hunk.header().to_string()));
            for change in hunk.iter_changes() {
                let style = match change.tag() {
                    ChangeTag::Delete => RED,
                    ChangeTag::Insert => GREEN,
                    ChangeTag::Equal => Style::new(),
                };
                line(&mut text, &paint(style, &format!("{}{}", change.tag(), change.value().trim_end_matches('\n'))));
            }
        }
        Ok(text)
    }

    fn is_secret(&self) -> bool {
        self.request.kind.group.is_empty() && self.request.kind.kind == "Secret"
    }

    /// A Secret without what it keeps: its data, and the copy of it that `kubectl apply` leaves in an annotation.
    fn shown(&self, mut object: Value) -> Value {
        if !self.is_secret() {
            return object;
        }
        for field in ["data", "stringData"] {
            for (_, value) in object.get_mut(field).and_then(Value::as_object_mut).into_iter().flatten() {
                *value = json!("(hidden)");
            }
        }
        if let Some(annotations) = object.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut) {
            annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
        }
        object
    }
}

/// The results of all requests.
#[derive(Default)]
pub(crate) struct Summary {
    verdicts: Vec<Verdict>,
    host_calls: usize,
    starts: Vec<Duration>,
    validations: Vec<Duration>,
}

impl Summary {
    pub(crate) fn add(&mut self, evaluation: &Evaluation) {
        self.verdicts.push(evaluation.verdict());
        self.host_calls += evaluation.host_calls.len();
        self.starts.push(evaluation.start);
        self.validations.push(evaluation.validate);
    }

    /// How many requests the policy failed on.
    pub(crate) fn failed(&self) -> usize {
        self.count(Verdict::Failed)
    }

    /// One line, styled. Times are worth something only with the engine that they were measured on.
    pub(crate) fn text(&self, engine: Engine) -> String {
        let mut text = format!(
            "{} {}: {} accepted untouched, {} mutated, {} rejected",
            self.verdicts.len(),
            if self.verdicts.len() == 1 { "object" } else { "objects" },
            self.count(Verdict::Accepted),
            self.count(Verdict::Mutated),
            self.count(Verdict::Rejected),
        );
        if self.failed() > 0 {
            text.push_str(&format!(", {} failed", self.failed()));
        }
        let figures = format!(
            "; {} host calls; medians on {engine}: start {}, validate {}",
            self.host_calls,
            milliseconds(median(&self.starts)),
            milliseconds(median(&self.validations)),
        );
        format!("{}{}\n", paint(BOLD, &text), paint(DIM, &figures))
    }

    fn count(&self, verdict: Verdict) -> usize {
        self.verdicts.iter().filter(|&&given| given == verdict).count()
    }
}

fn verdict(evaluation: &Evaluation) -> String {
    match evaluation.verdict() {
        Verdict::Accepted => "accepted untouched".to_owned(),
        Verdict::Mutated => paint(GREEN, "mutated"),
        Verdict::Rejected => paint(RED, "rejected"),
        Verdict::Failed => paint(RED, "failed"),
    }
}

fn line(text: &mut String, content: &str) {
    for part in content.lines() {
        let _ = writeln!(text, "  {part}"); // Writing to a String cannot fail.
    }
}

fn paint(style: Style, text: &str) -> String {
    format!("{style}{text}{style:#}")
}

fn milliseconds(duration: Duration) -> String {
    format!("{:.2} ms", duration.as_secs_f64() * 1e3)
}

fn median(durations: &[Duration]) -> Duration {
    let mut sorted = durations.to_vec();
    sorted.sort();
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}
