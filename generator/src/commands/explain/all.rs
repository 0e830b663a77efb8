//! `explain --all`: every Pod that waits for an image, by what is in the way.

use super::look::Looker;
use super::text::style;
use super::trial::Trial;
use super::{exit_code, json, look_at, print, show_progress};
use crate::commands::cli::{ExplainArgs, ExplainOutput};
use crate::model::explain::{Explanation, Facts, ImageExplanation, Outcome, Status};
use anyhow::Result;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::ExitCode;

/// How many Pods of one cause are named.
const NAMED: usize = 3;

/// What is in the way of Pods: what is said of their image, and what is to be done.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Cause {
    /// What the kubelet says.
    problem: String,
    verdict: String,
    remedy: String,
    outcome: Outcome,
}

/// Prints the causes, that of the most Pods first. The exit code is 0 where no Pod waits.
///
/// # Errors
/// The Pods cannot be listed.
pub(super) async fn explain_all(looker: &mut Looker, mut trial: Option<Trial>, args: &ExplainArgs) -> Result<ExitCode> {
    let namespace = args.namespace.as_deref();
    let (waiting, seen) = looker.waiting(namespace, |seen| show_progress(&format!("{seen} Pods listed"))).await?;
    let mut causes = Causes::default();
    for (at, subject) in waiting.iter().enumerate() {
        show_progress(&format!("{} of {} Pods that wait for an image", at + 1, waiting.len()));
        let (facts, explanation) = look_at(looker, trial.as_mut(), subject).await;
        causes.add(format!("{}/{}", facts.namespace, facts.subject.trim_start_matches("pod/")), &facts, &explanation);
    }
    show_progress("");
    let unknown: Vec<_> = looker.unknown().map(ToString::to_string).collect();
    match args.output {
        ExplainOutput::Text => print(&causes.page(waiting.len(), seen, &unknown))?,
        ExplainOutput::Json => print(&format!("{:#}\n", causes.document(waiting.len(), seen, &unknown)))?,
    }
    Ok(exit_code(if waiting.is_empty() { Outcome::Pulls } else { Outcome::DoesNotPull }))
}

#[derive(Default)]
struct Causes {
    pods: BTreeMap<Cause, Vec<String>>,
}

impl Causes {
    /// Counts a Pod under the image that keeps it from starting: the first one that the kubelet waits for.
    fn add(&mut self, pod: String, facts: &Facts, explanation: &Explanation) {
        let waits = |explained: &&ImageExplanation| matches!(explained.image.status, Some(Status::Waiting { .. }));
        let Some(explained) = explanation.images.iter().find(waits) else { return };
        let problem = match &explained.image.status {
            Some(Status::Waiting { problem, .. }) => problem.to_string(),
            _ => String::new(),
        };
        let cause = Cause {
            problem,
            verdict: explained.to_string(),
            remedy: explained.remedy(facts).map(|remedy| remedy.to_string()).unwrap_or_default(),
            outcome: explained.outcome(),
        };
        self.pods.entry(cause).or_default().push(pod);
    }

    /// That of the most Pods first.
    fn sorted(&self) -> Vec<(&Cause, &Vec<String>)> {
        let mut sorted: Vec<_> = self.pods.iter().collect();
        sorted.sort_by_key(|(_, pods)| std::cmp::Reverse(pods.len()));
        sorted
    }

    fn page(&self, waiting: usize, seen: usize, unknown: &[String]) -> String {
        let mut page = String::new();
        // Writing to a String does not fail.
        for (cause, pods) in self.sorted() {
            let style = style(cause.outcome);
            let _ = writeln!(page, "{}: {style}{}{style:#}", counted(pods.len()), cause.problem);
            let _ = writeln!(page, "  verdict  {}", cause.verdict);
            if !cause.remedy.is_empty() {
                let _ = writeln!(page, "  remedy   {}", cause.remedy);
            }
            let more = pods.len().saturating_sub(NAMED);
            let more = if more == 0 { String::new() } else { format!(" and {more} more") };
            let _ = writeln!(page, "  for      {}{more}\n", pods[..pods.len().min(NAMED)].join(", "));
        }
        for unknown in unknown {
            let _ = writeln!(page, "not known: {unknown}");
        }
        let wait = if waiting == 1 { "waits" } else { "wait" };
        let _ = writeln!(page, "{waiting} of {} {wait} for an image", counted(seen));
        page
    }

    fn document(&self, waiting: usize, seen: usize, unknown: &[String]) -> Value {
        let causes = self.sorted().into_iter().map(|(cause, pods)| {
            json!({
                "count": pods.len(),
                "problem": cause.problem,
                "verdict": cause.verdict,
                "remedy": cause.remedy,
                "outcome": json::outcome(cause.outcome),
                "pods": pods,
            })
        });
        json!({"causes": causes.collect::<Vec<_>>(), "waiting": waiting, "pods": seen, "notKnown": unknown})
    }
}

fn counted(pods: usize) -> String {
    if pods == 1 { "1 Pod".to_owned() } else { format!("{pods} Pods") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::explain::problem::Problem;
    use crate::model::explain::secret::{Found, Origin};
    use crate::model::explain::{PlacedImage, explain};

    fn add(causes: &mut Causes, pod: &str, image: &str, problem: Problem) {
        let status =
            Status::Waiting { reason: "ErrImagePull".to_owned(), problem, message: pod.to_owned(), next_try: None };
        let image =
            PlacedImage { place: "container app".to_owned(), reference: image.to_owned(), status: Some(status) };
        let facts = Facts { images: vec![image], ..Facts::default() };
        causes.add(format!("shop/{pod}"), &facts, &explain(&facts));
    }

    #[test]
    fn pods_are_grouped_by_cause_and_the_most_come_first() {
        let mut causes = Causes::default();
        add(&mut causes, "a", "ghcr.io/acme/app", Problem::HostName);
        for pod in ["b", "c", "d", "e"] {
            add(&mut causes, pod, "ghcr.io/acme/app", Problem::Refused);
        }
        let page = anstream::adapter::strip_str(&causes.page(5, 7, &["a note".to_owned()])).to_string();
        assert_eq!(
            page,
            "4 Pods: the registry refuses access
  verdict  anonymous: the Pod lists no Secret
  remedy   If the image is private, list a Secret with an entry for ghcr.io; if anybody may pull it, nothing is to be done.
  for      shop/b, shop/c, shop/d and 1 more

1 Pod: the registry's host name cannot be resolved
  verdict  anonymous: the Pod lists no Secret
  remedy   Check the registry in the image's name, and the Nodes' DNS.
  for      shop/a

not known: a note
5 of 7 Pods wait for an image
"
        );
        let document = causes.document(5, 7, &[]);
        assert_eq!((&document["causes"][0]["count"], &document["waiting"]), (&json!(4), &json!(5)));
    }

    #[test]
    fn one_cause_in_many_namespaces_is_one() {
        let mut causes = Causes::default();
        for namespace in ["a", "b", "c"] {
            let status = Status::Waiting {
                reason: "ErrImagePull".to_owned(),
                problem: Problem::Refused,
                message: String::new(),
                next_try: None,
            };
            let (place, reference) = ("container app".to_owned(), "ghcr.io/acme/app".to_owned());
            let facts = Facts {
                namespace: namespace.to_owned(),
                images: vec![PlacedImage { place, reference, status: Some(status) }],
                listed: vec![("creds".to_owned(), Origin::Pod)],
                secrets: BTreeMap::from([("creds".to_owned(), Found::Missing)]),
                ..Facts::default()
            };
            causes.add(format!("{namespace}/web"), &facts, &explain(&facts));
        }
        let sorted = causes.sorted();
        assert_eq!(sorted.len(), 1, "{sorted:?}");
        assert_eq!(
            sorted[0].0.remedy,
            "Create Secret creds in the Pod's namespace, or give it a source in the settings, so that the generator does."
        );
    }
}
