//! `status`: what became of every secret in every namespace.

use crate::cluster::answers::Recorded;
use crate::cluster::record::{entries_on, recorded_on};
use crate::cluster::writer::Writer;
use crate::commands::cli::{Output, StatusArgs};
use crate::commands::connect::connect_and_find_lease;
use crate::engine::session;
use crate::model::expiry::Expiry;
use crate::model::index::Index;
use crate::model::ownership::{ANSWERS_ANNOTATION, LAST_FULL_SYNC_ANNOTATION, VERIFICATIONS_ANNOTATION};
use crate::model::plan::{self, Action, CopyState, NamespacePlan, Object, ReferenceChange, Rules, SourceState};
use crate::model::refresh::Times;
use crate::model::verification::{Verdict, Verification};
use anyhow::{Result, bail};
use futures::{StreamExt as _, stream};
use image_pull_secrets::glob;
use image_pull_secrets::settings::{Source, VerifyCredentials};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::ExitCode;
use std::{array, iter};
use tokio::sync::watch;

/// How many writes the API server is asked about that are yet to be made, at most.
const ASKED: usize = 100;

/// How many of them at the same time.
const AT_ONCE: usize = 8;

/// Prints the status. The exit code is 1 when something is not as the settings want it.
///
/// # Errors
/// Not everything could be read.
pub(crate) async fn status(args: StatusArgs) -> Result<ExitCode> {
    let Some(source) = args.common.settings.source() else {
        bail!("there are no settings: give --settings FILE or --policy NAME");
    };
    let context = connect_and_find_lease(&args.common).await?.only_looking();
    let configuration = source.read(&context.client).await?;
    let lease = context.record.lease().await;
    let footprint = lease.as_ref().ok().and_then(Option::as_ref).map(recorded_on).unwrap_or_default();
    let mut controller = session::start(&context, &configuration, &footprint, watch::Sender::default());
    let (index, rules) = controller.snapshot().await?;
    let plans: Vec<_> = plan::plan(index, rules).collect();
    let actions: Vec<Action> = plans.iter().flat_map(|(_, plan)| plan.actions.iter().cloned()).collect();
    let mut status = Status::of(plans);
    let found = lease.as_ref().ok().and_then(Option::as_ref);
    status.sources = SourceRow::all_of(index, rules, found);
    status.show_only(&args.namespace, &args.secret);
    status
        .ask_why(&actions, &Writer::new(context.client.clone(), context.health.metrics.clone()).dry_run(), rules)
        .await;
    for row in status.rows.iter_mut().filter(|row| row.state == CopyState::Waiting) {
        row.why = controller.source_fault(&row.secret);
    }
    status.unseen = controller.unseen();
    if configuration.settings.verify_credentials == VerifyCredentials::Hold {
        status.hold();
    }
    match lease {
        Ok(lease) => status.leader = lease.as_ref().map(Leader::of),
        Err(error) => status.unseen.push(format!("{error:#}")),
    }
    match args.output {
        Output::Table => print!("{}", status.table()),
        Output::Json => println!("{:#}", status.json()),
    }
    Ok(if status.is_as_wanted() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The plan, as rows.
#[derive(Default)]
struct Status {
    rows: Vec<Row>,
    /// Why something may be left over that could not be looked for.
    unseen: Vec<String>,
    /// About how many writes that are yet to be made the API server was not asked: there are too many.
    not_asked: usize,
    /// The sources, and what is known of their credentials.
    sources: Vec<SourceRow>,
    /// What the Lease says, where there is one.
    leader: Option<Leader>,
}

/// A source, and what is known of its credentials.
struct SourceRow {
    secret: String,
    /// What it is, as its copies say it.
    source: String,
    /// What registries said of it as it is now; `None` where nobody asks them.
    verification: Option<Verification>,
    /// Whether a copy has it.
    is_copied: bool,
    expiry: Expiry,
    /// The times of its provider's last answer, where it is one.
    answer: Option<Times>,
    now: Timestamp,
}

impl SourceRow {
    /// Every source of the settings, with what is recorded of it on the Lease.
    fn all_of(index: &Index, rules: &Rules, lease: Option<&Lease>) -> Vec<Self> {
        let mut verifications: BTreeMap<String, Verification> =
            lease.map(|lease| entries_on(lease, VERIFICATIONS_ANNOTATION)).unwrap_or_default();
        let mut answers: BTreeMap<String, Recorded> =
            lease.map(|lease| entries_on(lease, ANSWERS_ANNOTATION)).unwrap_or_default();
        let verifies = rules.settings.verify_credentials != VerifyCredentials::Off;
        let now = Timestamp::now();
        let secrets = rules.settings.secrets.iter();
        let rows = secrets.filter_map(|secret| {
            let (name, source) = (&secret.name, secret.source.as_ref()?);
            let content = match rules.sources.get(name) {
                Some(SourceState::Ready(content)) => Some(content),
                _ => None,
            };
            let is_of_now = |verification: &Verification| {
                content.is_some_and(|content| content.digest.to_string() == verification.digest)
            };
            Some(Self {
                secret: name.clone(),
                source: plan::source_label(source),
                verification: verifications.remove(name).filter(|verification| verifies && is_of_now(verification)),
                is_copied: content.is_some_and(|content| index.has_copy(name, content.digest)),
                expiry: content.map(|content| content.expiry).unwrap_or_default(),
                answer: answers.remove(name).filter(|_| matches!(source, Source::Exec(_))).map(|answer| answer.times),
                now,
            })
        });
        rows.collect()
    }

    fn refusal(&self) -> Option<String> {
        self.verification.as_ref().and_then(Verification::refusal)
    }

    /// Whether its provider's last answer holds no longer.
    fn is_old(&self) -> bool {
        self.answer.is_some_and(|answer| answer.holds_until < self.now)
    }

    fn is_as_wanted(&self) -> bool {
        self.refusal().is_none() && !self.is_old() && !self.expiry.is_over(self.now)
    }

    fn cells(&self) -> [String; 5] {
        let nothing = || "-".to_owned();
        let verdict = self.verification.as_ref().and_then(Verification::verdict);
        let expires = self.expiry.at.map(|at| {
            let over = if self.expiry.is_over(self.now) { " (expired)" } else { "" };
            format!("{at:.0}{over}")
        });
        let answer = self.answer.map(|answer| {
            let old = if self.is_old() { " (old)" } else { "" };
            format!("{:.0}{old}", answer.holds_until)
        });
        [
            self.secret.clone(),
            self.source.clone(),
            verdict.map_or_else(nothing, |verdict| verdict.name().to_owned()),
            expires.unwrap_or_else(nothing),
            answer.unwrap_or_else(nothing),
        ]
    }

    /// What its columns have no room for, in sentences.
    fn notes(&self) -> Vec<String> {
        let verified = self.verification.as_ref().filter(|verification| !verification.servers.is_empty());
        let verified = verified.map(|verification| {
            let servers = verification.servers.iter();
            let servers: Vec<_> = servers.map(|(server, verdict)| format!("{} by {server}", verdict.name())).collect();
            format!("{}, asked {:.0}", servers.join(", "), verification.at)
        });
        let old = self.answer.filter(|_| self.is_old()).map(|answer| {
            format!(
                "a new answer of its provider was due {:.0}: the generator's log says why there is none",
                answer.due
            )
        });
        [verified, self.expiry.fault(), old].into_iter().flatten().collect()
    }

    fn json(&self) -> Value {
        json!({
            "secret": self.secret,
            "source": self.source,
            "verdict": self.verification.as_ref().and_then(Verification::verdict).map(Verdict::name),
            "servers": self.verification.as_ref().map(|verification| &verification.servers),
            "askedAt": self.verification.as_ref().map(|verification| verification.at),
            "expires": self.expiry.at,
            "answer": self.answer,
        })
    }
}

struct Row {
    namespace: String,
    secret: String,
    state: CopyState,
    /// The ServiceAccounts that do not refer to the secret, and should; or do, and should not.
    service_accounts: Vec<String>,
    /// What is in the way of that, as far as the API server says.
    why: Option<String>,
}

/// Who holds the Lease, and what is recorded on it.
struct Leader {
    holder: Option<String>,
    renewed: Option<String>,
    last_full_sync: Option<String>,
}

impl Leader {
    fn of(lease: &Lease) -> Self {
        let spec = lease.spec.as_ref();
        let annotations = lease.metadata.annotations.as_ref();
        Self {
            holder: spec.and_then(|spec| spec.holder_identity.clone()).filter(|holder| !holder.is_empty()),
            renewed: spec.and_then(|spec| spec.renew_time.as_ref()).map(|time| time.0.to_string()),
            last_full_sync: annotations.and_then(|annotations| annotations.get(LAST_FULL_SYNC_ANNOTATION).cloned()),
        }
    }
}

impl Row {
    fn is_as_wanted(&self) -> bool {
        self.state.is_as_wanted() && self.service_accounts.is_empty()
    }

    fn is_about(&self, action: &Action) -> bool {
        match action.object() {
            Object::Secret(target) => target.namespace == self.namespace && target.secret == self.secret,
            Object::ServiceAccount(change) => {
                change.namespace == self.namespace && change.names().any(|name| name == self.secret)
            }
        }
    }
}

impl Status {
    fn of<'a>(plans: impl IntoIterator<Item = (&'a str, NamespacePlan)>) -> Self {
        let mut status = Self::default();
        for (namespace, mut plan) in plans {
            let changes = plan.actions.iter().filter_map(|action| match action {
                Action::Refer(change) => Some(change),
                _ => None,
            });
            // References may outlive the copy.
            for name in changes.clone().flat_map(ReferenceChange::names) {
                if !plan.states.iter().any(|(secret, _)| secret == name) {
                    plan.states.push((name.to_owned(), CopyState::Leftover));
                }
            }
            for (secret, state) in plan.states {
                let wrong = changes.clone().filter(|change| change.names().any(|name| name == secret));
                let service_accounts = wrong.map(|change| change.service_account.clone()).collect();
                let namespace = namespace.to_owned();
                status.rows.push(Row { namespace, secret, state, service_accounts, why: None });
            }
        }
        status
    }

    /// Leaves out what these glob patterns do not match; none at all match everything.
    fn show_only(&mut self, namespaces: &[String], secrets: &[String]) {
        self.rows.retain(|row| is_shown(namespaces, &row.namespace) && is_shown(secrets, &row.secret));
        self.sources.retain(|source| is_shown(secrets, &source.secret));
    }

    /// Asks the API server what it would say to the writes that are yet to be made: to the first [`ASKED`] of them.
    async fn ask_why(&mut self, actions: &[Action], writer: &Writer, rules: &Rules) {
        let is_shown = |action: &&Action| self.rows.iter().any(|row| row.is_about(action));
        let shown: Vec<_> = actions.iter().filter(is_shown).collect();
        let asked = shown.get(..ASKED).unwrap_or(&shown);
        self.not_asked = shown.len() - asked.len();
        let answers =
            stream::iter(asked.iter().map(async |&action| (action, writer.apply(action, rules).await.failure)));
        let answers: Vec<_> = answers.buffered(AT_ONCE).collect().await;
        for (action, failure) in answers {
            let Some(failure) = failure.filter(|failure| !failure.passes()) else { continue };
            for row in self.rows.iter_mut().filter(|row| row.is_about(action)) {
                row.why.get_or_insert_with(|| failure.message.clone());
            }
        }
    }

    /// Takes account of sources that are held back: their copies are not to be changed for now.
    fn hold(&mut self) {
        for source in self.sources.iter().filter(|source| !source.is_copied) {
            let Some(refusal) = source.refusal() else { continue };
            let waits = |row: &&mut Row| {
                row.secret == source.secret && matches!(row.state, CopyState::Drifted | CopyState::Missing)
            };
            for row in self.rows.iter_mut().filter(waits) {
                row.state = CopyState::Waiting;
                row.why = Some(format!("the source is held back: {refusal}"));
            }
        }
    }

    fn totals(&self) -> BTreeMap<(&str, CopyState), usize> {
        let mut totals = BTreeMap::new();
        for row in &self.rows {
            *totals.entry((row.secret.as_str(), row.state)).or_default() += 1;
        }
        totals
    }

    fn is_as_wanted(&self) -> bool {
        self.unseen.is_empty()
            && self.sources.iter().all(SourceRow::is_as_wanted)
            && self.rows.iter().all(Row::is_as_wanted)
    }

    fn table(&self) -> String {
        let width = |title: &str, cell: fn(&Row) -> &str| {
            self.rows.iter().map(|row| cell(row).len()).chain([title.len()]).max().unwrap_or_default()
        };
        let (first, second) = (width("NAMESPACE", |row| &row.namespace), width("SECRET", |row| &row.secret));
        let mut table =
            format!("{:first$}  {:second$}  {:12}SERVICE ACCOUNTS TO CHANGE\n", "NAMESPACE", "SECRET", "STATE");
        for row in &self.rows {
            let accounts =
                if row.service_accounts.is_empty() { "-".to_owned() } else { row.service_accounts.join(",") };
            // Writing to a String does not fail.
            let _ = writeln!(table, "{:first$}  {:second$}  {:12}{accounts}", row.namespace, row.secret, row.state);
        }
        table.push('\n');
        if !self.sources.is_empty() {
            table.push_str(&self.table_of_sources());
            table.push('\n');
        }
        for ((secret, state), count) in self.totals() {
            let _ = writeln!(table, "{secret}: {count} {state}");
        }
        for source in &self.sources {
            for note in source.notes() {
                let _ = writeln!(table, "{}: {note}", source.secret);
            }
        }
        for row in &self.rows {
            if let Some(why) = &row.why {
                let _ = writeln!(table, "{}/{}: {why}", row.namespace, row.secret);
            }
        }
        if self.not_asked > 0 {
            let _ = writeln!(
                table,
                "why: only the first {ASKED} writes that are to be made were asked about, and {} more were not; \
                 --namespace and --secret show fewer",
                self.not_asked
            );
        }
        for reason in &self.unseen {
            let _ = writeln!(table, "something may be left over: {reason}");
        }
        if let Some(leader) = &self.leader {
            let holder = leader.holder.as_deref().unwrap_or("nobody");
            let _ = match &leader.renewed {
                Some(renewed) if leader.holder.is_some() => writeln!(table, "leader: {holder}, renewed {renewed}"),
                _ => writeln!(table, "leader: {holder}"),
            };
            if let Some(time) = &leader.last_full_sync {
                let _ = writeln!(table, "last full sync: {time}");
            }
        }
        table
    }

    fn table_of_sources(&self) -> String {
        let titles = ["SECRET", "SOURCE", "CREDENTIALS", "EXPIRES", "HOLDS UNTIL"].map(str::to_owned);
        let lines: Vec<_> = iter::once(titles).chain(self.sources.iter().map(SourceRow::cells)).collect();
        let width = |column: usize| lines.iter().map(|line| line[column].len()).max().unwrap_or_default();
        let widths: [usize; 5] = array::from_fn(width);
        let line = |cells: &[String; 5]| {
            let padded: Vec<_> = cells.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
            format!("{}\n", padded.join("  ").trim_end())
        };
        lines.iter().map(line).collect()
    }

    fn json(&self) -> Value {
        let rows = self.rows.iter().map(|row| {
            json!({
                "namespace": row.namespace,
                "secret": row.secret,
                "state": row.state.name(),
                "serviceAccountsToChange": row.service_accounts,
                "why": row.why,
            })
        });
        let mut totals: BTreeMap<&str, BTreeMap<&str, usize>> = BTreeMap::new();
        for ((secret, state), count) in self.totals() {
            totals.entry(secret).or_default().insert(state.name(), count);
        }
        let rows: Vec<_> = rows.collect();
        let leader = self.leader.as_ref();
        json!({
            "inSync": self.is_as_wanted(), "secrets": rows, "totals": totals, "unseen": self.unseen,
            "notAsked": self.not_asked,
            "sources": self.sources.iter().map(SourceRow::json).collect::<Vec<_>>(),
            "leader": leader.map(|leader| json!({"holder": leader.holder, "renewed": leader.renewed})),
            "lastFullSync": leader.and_then(|leader| leader.last_full_sync.clone()),
        })
    }
}

/// Whether one of these glob patterns matches; none at all match everything.
fn is_shown(patterns: &[String], name: &str) -> bool {
    patterns.is_empty() || patterns.iter().any(|pattern| glob::matches(pattern, name) == Ok(true))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::fake_api;
    use crate::model::content::Content;
    use crate::model::observed::Version;
    use crate::model::plan::Target;
    use crate::model::selection::Selection;
    use image_pull_secrets::settings::Settings;
    use rstest::rstest;
    use std::sync::{Arc, Mutex};

    fn plans<'a>(states: &[(&'a str, CopyState)]) -> Vec<(&'a str, NamespacePlan)> {
        let plan = |state| NamespacePlan { states: vec![("creds".to_owned(), state)], actions: vec![] };
        states.iter().map(|&(namespace, state)| (namespace, plan(state))).collect()
    }

    #[test]
    fn a_table_lines_up_and_counts() {
        let status = Status::of(plans(&[
            ("a", CopyState::InSync),
            ("a-longer-name", CopyState::InSync),
            ("b", CopyState::Foreign),
        ]));
        assert_eq!(
            status.table(),
            "NAMESPACE      SECRET  STATE       SERVICE ACCOUNTS TO CHANGE\n\
             a              creds   in-sync     -\n\
             a-longer-name  creds   in-sync     -\n\
             b              creds   foreign     -\n\
             \n\
             creds: 2 in-sync\n\
             creds: 1 foreign\n"
        );
        assert!(!status.is_as_wanted());
    }

    fn refers(change: ReferenceChange) -> Vec<(&'static str, NamespacePlan)> {
        let change = ReferenceChange { service_account: "default".to_owned(), ..change };
        let states = vec![("creds".to_owned(), CopyState::InSync)];
        vec![("a", NamespacePlan { states, actions: vec![Action::Refer(change)] })]
    }

    #[rstest]
    #[case::that_goes(ReferenceChange { remove: vec![(0, "former".to_owned())], ..Default::default() })]
    #[case::that_is_only_recorded(ReferenceChange { forgotten: vec!["former".to_owned()], ..Default::default() })]
    fn a_reference_to_a_former_secret_has_a_row(#[case] change: ReferenceChange) {
        let status = Status::of(refers(change));
        assert_eq!(
            status.table(),
            "NAMESPACE  SECRET  STATE       SERVICE ACCOUNTS TO CHANGE\n\
             a          creds   in-sync     -\n\
             a          former  leftover    default\n\
             \n\
             creds: 1 in-sync\n\
             former: 1 leftover\n"
        );
        assert!(!status.is_as_wanted());
    }

    #[test]
    fn a_missing_reference_shows_with_its_secret() {
        let status = Status::of(refers(ReferenceChange { add: vec!["creds".to_owned()], ..Default::default() }));
        assert_eq!(status.json()["secrets"][0]["serviceAccountsToChange"], json!(["default"]));
        assert!(!status.is_as_wanted() && status.rows.len() == 1);
    }

    #[test]
    fn what_may_be_left_over_and_cannot_be_seen_is_told() {
        let mut status = Status::of(plans(&[("a", CopyState::InSync)]));
        status.unseen.push("cannot watch secrets named former: forbidden".to_owned());
        assert!(!status.is_as_wanted());
        let told = "something may be left over: cannot watch secrets named former: forbidden\n";
        assert!(status.table().ends_with(told), "{}", status.table());
        assert_eq!(status.json()["unseen"], json!(["cannot watch secrets named former: forbidden"]));
    }

    /// A source of which nothing is known.
    fn source() -> SourceRow {
        SourceRow {
            secret: "creds".to_owned(),
            source: "registries/creds".to_owned(),
            verification: None,
            is_copied: true,
            expiry: Expiry::default(),
            answer: None,
            now: NOW.parse().unwrap(),
        }
    }

    const NOW: &str = "2027-01-31T12:00:00Z";

    fn verified(servers: &[(&str, Verdict)]) -> SourceRow {
        let servers = servers.iter().map(|&(server, verdict)| (server.to_owned(), verdict)).collect();
        let at = "2027-01-31T11:00:00Z".parse().unwrap();
        SourceRow { verification: Some(Verification { digest: String::new(), at, servers }), ..source() }
    }

    fn expires(at: &str) -> SourceRow {
        SourceRow { expiry: Expiry { at: Some(at.parse().unwrap()), ..Expiry::default() }, ..source() }
    }

    fn holds_until(time: &str) -> SourceRow {
        let answered = "2027-01-31T06:00:00Z".parse().unwrap();
        let due = "2027-01-31T11:30:00Z".parse().unwrap();
        let answer = Some(Times { answered, due, holds_until: time.parse().unwrap() });
        SourceRow { source: "exec:/providers/ecr".to_owned(), answer, ..source() }
    }

    #[rstest]
    #[case::of_which_nothing_is_known(source(), "registries/creds - - -", "", true)]
    #[case::that_is_accepted(
        verified(&[("a.io", Verdict::Accepted)]),
        "registries/creds accepted - -",
        "accepted by a.io, asked 2027-01-31T11:00:00Z",
        true
    )]
    #[case::that_one_of_two_refuses(
        verified(&[("a.io", Verdict::Accepted), ("b.io", Verdict::Refused)]),
        "registries/creds refused - -",
        "accepted by a.io, refused by b.io, asked 2027-01-31T11:00:00Z",
        false
    )]
    #[case::of_which_one_of_two_cannot_be_asked(
        verified(&[("a.io", Verdict::Accepted), ("b.io", Verdict::Unknown)]),
        "registries/creds unknown - -",
        "accepted by a.io, unknown by b.io, asked 2027-01-31T11:00:00Z",
        true
    )]
    #[case::of_which_nobody_can_be_asked(verified(&[]), "registries/creds - - -", "", true)]
    #[case::that_expires(expires("2027-02-01T00:00:00Z"), "registries/creds - 2027-02-01T00:00:00Z -", "", true)]
    #[case::that_has_expired(
        expires("2027-01-31T12:00:00Z"),
        "registries/creds - 2027-01-31T12:00:00Z (expired) -",
        "",
        false
    )]
    #[case::with_an_annotation_that_is_no_time(
        SourceRow { expiry: Expiry { is_unreadable: true, ..Expiry::default() }, ..source() },
        "registries/creds - - -",
        "the annotation image-pull-secrets.kubewarden.io/expiration-timestamp is no time: write the date and time of the \
         expiration as in 2027-01-31T12:00:00Z",
        true
    )]
    #[case::whose_answer_holds(
        holds_until("2027-01-31T12:00:00Z"),
        "exec:/providers/ecr - - 2027-01-31T12:00:00Z",
        "",
        true
    )]
    #[case::whose_answer_holds_no_longer(
        holds_until("2027-01-31T11:59:59Z"),
        "exec:/providers/ecr - - 2027-01-31T11:59:59Z (old)",
        "a new answer of its provider was due 2027-01-31T11:30:00Z: the generator's log says why there is none",
        false
    )]
    fn a_source(#[case] row: SourceRow, #[case] cells: &str, #[case] note: &str, #[case] as_wanted: bool) {
        let status = Status { sources: vec![row], ..Status::of(plans(&[("a", CopyState::InSync)])) };
        let table = status.table();
        let (_, sources) = table.split_once("\n\n").unwrap();
        let (sources, rest) = sources.split_once("\n\n").unwrap();
        let words =
            |line: &str| line.split("  ").map(str::trim).filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ");
        let told: Vec<_> = sources.lines().map(words).collect();
        assert_eq!(told, ["SECRET SOURCE CREDENTIALS EXPIRES HOLDS UNTIL".to_owned(), format!("creds {cells}")]);
        let note = if note.is_empty() { String::new() } else { format!("creds: {note}\n") };
        assert_eq!(rest, format!("creds: 1 in-sync\n{note}"));
        assert_eq!(status.is_as_wanted(), as_wanted);
    }

    #[test]
    fn sources_line_up() {
        let exec = SourceRow { secret: "ecr".to_owned(), ..holds_until("2027-01-31T18:00:00Z") };
        let status = Status { sources: vec![verified(&[("a.io", Verdict::Accepted)]), exec], ..Status::default() };
        assert_eq!(
            status.table_of_sources(),
            "SECRET  SOURCE               CREDENTIALS  EXPIRES  HOLDS UNTIL\n\
             creds   registries/creds     accepted     -        -\n\
             ecr     exec:/providers/ecr  -            -        2027-01-31T18:00:00Z\n"
        );
        let sources = &status.json()["sources"];
        assert_eq!(
            sources[0],
            json!({
                "secret": "creds", "source": "registries/creds", "verdict": "accepted", "servers": {"a.io": "accepted"},
                "askedAt": "2027-01-31T11:00:00Z", "expires": null, "answer": null,
            })
        );
        assert_eq!(sources[1]["answer"]["holdsUntil"], "2027-01-31T18:00:00Z");
    }

    /// What is recorded of what a source was before, or of a secret that has left the settings, is not told.
    #[rstest]
    #[case::of_what_it_is_now(true, VerifyCredentials::Report, Some(Verdict::Accepted))]
    #[case::of_what_it_was_before(false, VerifyCredentials::Report, None)]
    #[case::of_when_registries_were_asked(true, VerifyCredentials::Off, None)]
    fn what_the_lease_records(
        #[case] is_of_now: bool,
        #[case] mode: VerifyCredentials,
        #[case] expected: Option<Verdict>,
    ) {
        let content = Content::of_docker_config(br#"{"auths":{"a.io":{"auth":"dTpw"}}}"#.to_vec()).ok().unwrap();
        let digest = if is_of_now { content.digest.to_string() } else { "another".to_owned() };
        let verification = json!({"digest": digest, "at": NOW, "servers": {"a.io": "accepted"}});
        let answer = json!({"asked": "a", "digest": "d", "answered": NOW, "due": NOW, "holdsUntil": NOW});
        let annotations = json!({
            VERIFICATIONS_ANNOTATION: json!({"creds": verification, "former": verification}).to_string(),
            ANSWERS_ANNOTATION: json!({"creds": answer, "former": answer}).to_string(),
        });
        let lease = serde_json::from_value(json!({"metadata": {"annotations": annotations}})).unwrap();
        let settings = json!({"secrets": [
            {"name": "creds", "source": {"namespace": "registries"}},
            {"name": "ours", "source": {"exec": {"command": "/p", "images": ["quay.io"]}}},
            {"name": "theirs"},
        ]});
        let mut settings = Settings::from_value(&settings).unwrap();
        settings.verify_credentials = mode;
        let mut rules = Rules::of(Arc::new(settings));
        rules.sources.insert("creds".to_owned(), SourceState::Ready(Arc::new(content)));
        let sources = SourceRow::all_of(&Index::default(), &rules, Some(&lease));
        assert_eq!(sources.iter().map(|source| source.secret.as_str()).collect::<Vec<_>>(), ["creds", "ours"]);
        assert_eq!(sources[0].verification.as_ref().and_then(Verification::verdict), expected);
        // Only a program answers.
        assert!(sources.iter().all(|source| source.answer.is_none() && !source.is_copied));
    }

    #[rstest]
    #[case::nothing_in_particular(&[], &[], &["a", "b", "team-a"])]
    #[case::a_namespace(&["a"], &[], &["a"])]
    #[case::namespaces_by_patterns(&["team-*", "b"], &[], &["b", "team-a"])]
    #[case::another_secret(&[], &["other"], &[])]
    #[case::the_secret_of_a_namespace(&["b"], &["cred*"], &["b"])]
    fn only_that_is_shown_which_is_asked_for(
        #[case] namespaces: &[&str],
        #[case] secrets: &[&str],
        #[case] expected: &[&str],
    ) {
        let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        let mut status =
            Status::of(plans(&[("a", CopyState::InSync), ("b", CopyState::Missing), ("team-a", CopyState::InSync)]));
        status.show_only(&owned(namespaces), &owned(secrets));
        assert_eq!(status.rows.iter().map(|row| &*row.namespace).collect::<Vec<_>>(), expected);
        // What is not shown has no say in the exit code.
        assert_eq!(status.is_as_wanted(), !expected.contains(&"b"));
    }

    fn rules() -> Rules {
        let settings = Settings::from_value(&json!({"secrets": [{"name": "creds"}]})).unwrap();
        Rules { selection: Selection::Nothing, ..Rules::of(Arc::new(settings)) }
    }

    fn delete(namespace: &str) -> Action {
        let target = Target { namespace: namespace.to_owned(), secret: "creds".to_owned() };
        Action::Delete(target, Version::default())
    }

    #[rstest]
    #[case::a_quota(json!({"code": 403, "message": "exceeded quota: q"}), Some("exceeded quota: q (403)"))]
    #[case::nothing_at_all(json!({"metadata": {}}), None)]
    #[case::something_that_passes(json!({"code": 409, "message": "m"}), None)]
    #[tokio::test]
    async fn what_is_in_the_way_of_a_copy_is_asked_without_writing(
        #[case] answer: Value,
        #[case] expected: Option<&str>,
    ) {
        let queries = Arc::<Mutex<Vec<String>>>::default();
        let asked = queries.clone();
        let client = fake_api::client_by_path(move |method, path, document| {
            asked.lock().unwrap().push(format!("{method} {path} dryRun={}", document["dryRun"]));
            let code = u16::try_from(answer["code"].as_u64().unwrap_or(200)).unwrap();
            std::future::ready((code, answer.clone()))
        });
        let mut status = Status::of(plans(&[("a", CopyState::Leftover), ("b", CopyState::Leftover)]));
        status.ask_why(&[delete("a")], &Writer::new(client, Arc::default()).dry_run(), &rules()).await;
        assert_eq!(queries.lock().unwrap()[0], "DELETE /api/v1/namespaces/a/secrets/creds dryRun=[\"All\"]");
        let why = expected.map(|why| format!("cannot delete secrets a/creds: {why}"));
        assert_eq!(status.rows.iter().map(|row| row.why.clone()).collect::<Vec<_>>(), [why.clone(), None]);
        let line = why.map(|why| format!("a/creds: {why}\n")).unwrap_or_default();
        assert!(status.table().ends_with(&format!("creds: 2 leftover\n{line}")), "{}", status.table());
    }

    #[rstest]
    #[case::all_of_them(100, 100, None)]
    #[case::the_first_hundred(
        103,
        100,
        Some(
            "why: only the first 100 writes that are to be made were asked about, and 3 more were not; --namespace and --secret show fewer\n"
        )
    )]
    #[tokio::test]
    async fn what_is_in_the_way_is_asked_of(#[case] writes: usize, #[case] asked: usize, #[case] told: Option<&str>) {
        let (requests, client) = fake_api::answering(&[json!({"metadata": {}})]);
        let namespaces: Vec<_> = (0..writes).map(|n| format!("n{n:03}")).collect();
        let leftover: Vec<_> = namespaces.iter().map(|name| (name.as_str(), CopyState::Leftover)).collect();
        let actions: Vec<_> = namespaces.iter().map(|name| delete(name)).collect();
        let mut status = Status::of(plans(&leftover));
        status.ask_why(&actions, &Writer::new(client, Arc::default()).dry_run(), &rules()).await;
        assert_eq!(requests.lock().unwrap().len(), asked);
        assert!(status.table().ends_with(told.unwrap_or("creds: 100 leftover\n")), "{}", status.table());
        assert_eq!(status.json()["notAsked"], writes - asked);
    }

    #[test]
    fn who_holds_the_lease_and_when_all_was_well_is_told() {
        let lease = json!({
            "metadata": {"annotations": {"image-pull-secrets.kubewarden.io/last-full-sync": "2026-01-02T03:04:05Z"}},
            "spec": {"holderIdentity": "generator-0_1a2b3c4d", "renewTime": "2026-01-02T03:04:06.000000Z"},
        });
        let leader = Leader::of(&serde_json::from_value(lease).unwrap());
        let status = Status { leader: Some(leader), ..Status::of(plans(&[("a", CopyState::InSync)])) };
        let told = "leader: generator-0_1a2b3c4d, renewed 2026-01-02T03:04:06Z\nlast full sync: 2026-01-02T03:04:05Z\n";
        assert!(status.table().ends_with(told), "{}", status.table());
        assert_eq!(status.json()["leader"]["holder"], "generator-0_1a2b3c4d");
        assert_eq!(status.json()["lastFullSync"], "2026-01-02T03:04:05Z");
        let released = Leader::of(&serde_json::from_value(json!({"spec": {"holderIdentity": ""}})).unwrap());
        let status = Status { leader: Some(released), ..Status::default() };
        assert!(status.table().ends_with("leader: nobody\n"), "{}", status.table());
    }

    #[test]
    fn what_is_left_alone_on_purpose_is_settled() {
        let status =
            Status::of(plans(&[("a", CopyState::InSync), ("b", CopyState::Excluded), ("c", CopyState::Source)]));
        assert!(status.is_as_wanted());
        assert_eq!(status.json()["totals"], json!({"creds": {"in-sync": 1, "excluded": 1, "source": 1}}));
    }
}
