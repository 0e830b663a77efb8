//! The explanation for people.

use super::subject::Subject;
use crate::model::explain::secret::{Found, UserName};
use crate::model::explain::{Answer, Explanation, Facts, ImageExplanation, Outcome, Status};
use anstyle::{AnsiColor, Style};
use image_pull_secrets::text::shown;
use std::fmt::Write as _;

const TITLE: Style = Style::new().bold();
const GOOD: Style = AnsiColor::Green.on_default();
const BAD: Style = AnsiColor::Red.on_default();
const UNSURE: Style = AnsiColor::Yellow.on_default();
const QUIET: Style = Style::new().dimmed();

/// The style of what has come out so.
pub(super) const fn style(outcome: Outcome) -> Style {
    match outcome {
        Outcome::Pulls => GOOD,
        Outcome::CannotTell => UNSURE,
        Outcome::DoesNotPull => BAD,
    }
}

/// Everything that is said of one Pod. Writing to a String does not fail.
pub(super) fn page(subject: &Subject, facts: &Facts, explanation: &Explanation) -> String {
    let mut page = String::new();
    let _ = writeln!(page, "{TITLE}{}{TITLE:#} in namespace {}", facts.subject, facts.namespace);
    let mut line = |name: &str, text: &str| row(&mut page, name, text);
    line("ServiceAccount", &subject.account);
    if let Some(policy) = &facts.policy {
        let wanted = facts.wanted();
        line(
            "settings want",
            if wanted.is_empty() { "nothing for this Pod".to_owned() } else { wanted.join(", ") }.as_str(),
        );
        line("policy", &policy.not_at_work.map_or_else(|| "at work".to_owned(), |why| why.to_string()));
    }
    if let Some(generator) = &facts.generator {
        line("generator", generator);
    }
    page.push('\n');
    secrets(&mut page, facts);
    for explained in &explanation.images {
        image(&mut page, facts, explained);
    }
    for unknown in &facts.unknown {
        let _ = writeln!(page, "{UNSURE}not known:{UNSURE:#} {unknown}");
    }
    page
}

fn row(page: &mut String, name: &str, text: &str) {
    let _ = writeln!(page, "  {QUIET}{name:16}{QUIET:#}{text}");
}

fn secrets(page: &mut String, facts: &Facts) {
    if facts.listed.is_empty() {
        let _ = writeln!(page, "{TITLE}It lists no Secret.{TITLE:#}");
        return;
    }
    let _ = writeln!(page, "{TITLE}Secrets that it lists, in order{TITLE:#}");
    for (name, origin) in &facts.listed {
        let found = facts.secrets.get(name).unwrap_or(&Found::Missing);
        let style = match found {
            Found::Usable(_) => GOOD,
            Found::Malformed(_) => BAD,
            Found::Missing | Found::PassedOver(_) | Found::Unreadable(_) => UNSURE,
        };
        let _ = writeln!(page, "  {style}{name}{style:#} {found} {QUIET}({origin}){QUIET:#}");
    }
}

fn image(page: &mut String, facts: &Facts, explained: &ImageExplanation) {
    let image = &explained.image;
    let _ = writeln!(page, "\n{TITLE}{}: {}{TITLE:#}", image.place, shown(&image.reference));
    let mut line = |name: &str, text: &str| row(page, name, text);
    if let Some(name) = &explained.name {
        line("kubelet reads", name);
    }
    for (at, attempt) in explained.attempts.iter().enumerate() {
        let order = if attempt.is_interchangeable { ", in either order with the one above" } else { "" };
        let answer = explained.answers.get(at).map(|answer| format!(": {}", said(answer))).unwrap_or_default();
        let server = shown(&attempt.server);
        let text = format!("{server}, user {}, of {}{order}{answer}", UserName(&attempt.user), attempt.secret);
        line(&format!("tries {}.", at + 1), &text);
    }
    if let (true, Some(answer)) = (explained.attempts.is_empty(), explained.answers.first()) {
        line("without one", &said(answer));
    }
    match &image.status {
        Some(Status::Pulled) => line("kubelet says", "the image was pulled"),
        Some(Status::Waiting { reason, problem, message, next_try }) => {
            line("kubelet says", &format!("{reason}: {problem}"));
            // The parser's error is both.
            if !message.is_empty() && message != reason {
                line("", &format!("{QUIET}{message}{QUIET:#}"));
            }
            if let Some(time) = next_try {
                line("next try", &format!("at {time}, or before"));
            }
        }
        None => {}
    }
    let style = style(explained.outcome());
    line("verdict", &format!("{style}{explained}{style:#}"));
    if let Some(remedy) = explained.remedy(facts) {
        line("remedy", &remedy.to_string());
    }
}

fn said(answer: &Answer) -> String {
    let style = if *answer == Answer::Accepted { GOOD } else { BAD };
    format!("{style}{answer}{style:#}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::explain::absence::tests::policy;
    use crate::model::explain::problem::Problem;
    use crate::model::explain::secret::Origin;
    use crate::model::explain::unknown::Unknown;
    use crate::model::explain::{PlacedImage, explain};
    use k8s_openapi::ByteString;
    use serde_json::json;
    use std::collections::{BTreeMap, BTreeSet};

    fn plain(page: &str) -> String {
        anstream::adapter::strip_str(page).to_string()
    }

    fn facts() -> Facts {
        let document = r#"{"auths": {"ghcr.io": {"username": "bot", "password": "hunter2"}}}"#;
        let data = BTreeMap::from([(".dockerconfigjson".to_owned(), ByteString(document.into()))]);
        let status = Status::Waiting {
            reason: "ImagePullBackOff".to_owned(),
            problem: Problem::Refused,
            message: "401 Unauthorized".to_owned(),
            next_try: Some("2026-01-01T12:00:10Z".to_owned()),
        };
        let image = |place: &str, reference: &str, status| PlacedImage {
            place: place.to_owned(),
            reference: reference.to_owned(),
            status,
        };
        Facts {
            subject: "pod/web".to_owned(),
            namespace: "shop".to_owned(),
            images: vec![
                image("container app", "ghcr.io/acme/app:1", Some(status)),
                image("container side", "nginx", Some(Status::Pulled)),
            ],
            listed: vec![("creds".to_owned(), Origin::Policy), ("gone".to_owned(), Origin::Pod)],
            secrets: BTreeMap::from([("creds".to_owned(), Found::of("kubernetes.io/dockerconfigjson", &data))]),
            unknown: vec![Unknown::Generator { reason: "no right".to_owned() }],
            ..Facts::default()
        }
    }

    #[test]
    fn a_page_for_people() {
        let subject = Subject { account: "default".to_owned(), ..Subject::default() };
        let facts = facts();
        assert_eq!(
            plain(&page(&subject, &facts, &explain(&facts))),
            "pod/web in namespace shop
  ServiceAccount  default

Secrets that it lists, in order
  creds is usable: it has entries for ghcr.io (user bot) (added by the policy)
  gone does not exist (listed by the Pod itself)

container app: ghcr.io/acme/app:1
  kubelet reads   ghcr.io/acme/app
  tries 1.        ghcr.io, user bot, of creds
  kubelet says    ImagePullBackOff: the registry refuses access
                  401 Unauthorized
  next try        at 2026-01-01T12:00:10Z, or before
  verdict         does not pull with creds (ghcr.io, user bot): the registry refuses access
  remedy          Renew the credential in Secret creds: it is wrong or has expired, or its account may not pull this image.

container side: nginx
  kubelet reads   docker.io/library/nginx
  kubelet says    the image was pulled
  verdict         anonymous: no Secret has an entry for docker.io
not known: whether the generator is at work: no right
"
        );
    }

    #[test]
    fn every_line_is_in_the_documentation() {
        let documentation = include_str!("../../../../docs/troubleshooting.md");
        let facts = Facts {
            policy: Some(policy(json!({"secrets": [{"name": "creds"}]}))),
            generator: Some("at work (a)".to_owned()),
            ..facts()
        };
        let mut explanation = explain(&facts);
        explanation.images[1].answers = vec![Answer::Accepted];
        let pages = [&facts, &Facts::default()].map(|facts| plain(&page(&Subject::default(), facts, &explanation)));
        let rows = pages.iter().flat_map(|page| page.lines()).filter_map(|line| line.strip_prefix("  ")?.get(..16));
        let names: BTreeSet<_> = rows.map(str::trim).filter(|name| !name.is_empty()).collect();
        let missing = |name: &&&str| !documentation.contains(&format!("`{name}`"));
        let secrets = ["creds is usable:", "gone does not ex"];
        let missing: Vec<_> = names.iter().filter(missing).filter(|name| !secrets.contains(name)).collect();
        assert_eq!((missing, names.len()), (vec![], 11 + secrets.len()), "{names:?}");
        for sentence in ["Secrets that it lists, in order", "It lists no Secret.", "the image was pulled"] {
            assert!(
                pages.concat().contains(sentence) && documentation.contains(&format!("`{sentence}`")),
                "{sentence}"
            );
        }
    }

    #[test]
    fn the_answers_of_the_registry_stand_beside_the_credentials() {
        let subject = Subject::default();
        let facts = facts();
        let mut explanation = explain(&facts);
        explanation.images[0].answers = vec![Answer::No(Problem::Refused)];
        explanation.images[1].answers = vec![Answer::Accepted];
        let page = plain(&page(&subject, &facts, &explanation));
        assert!(
            page.contains("  tries 1.        ghcr.io, user bot, of creds: the registry refuses access\n"),
            "{page}"
        );
        assert!(page.contains("  without one     accepted\n"), "{page}");
    }
}
