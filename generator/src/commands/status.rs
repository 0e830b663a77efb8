//! `status`: what became of every secret in every namespace.

use crate::cluster::answers::Recorded;
use crate::cluster::record::{entries_on, recorded_on};
use crate::cluster::writer::Writer;
use crate::commands::cli::{Output, StatusArgs};
use crate::commands::connect::connect_and_find_lease;
use crate::engine::session;
use crate::model::ownership::{ANSWERS_ANNOTATION, LAST_FULL_SYNC_ANNOTATION, VERIFICATIONS_ANNOTATION};
use crate::model::plan::{self, Action, CopyState, NamespacePlan, Object, ReferenceChange, Rules};
use crate::model::refresh::Times;
use crate::model::verification::Verification;
use anyhow::{Result, bail};
use futures::{StreamExt as _, stream};
use image_pull_secrets::glob;
use image_pull_secrets::settings::{Settings, Source, VerifyCredentials};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::ExitCode;
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
    status.show_only(&args.namespace, &args.secret);
    status
        .ask_why(&actions, &Writer::new(context.client.clone(), context.health.metrics.clone()).dry_run(), rules)
        .await;
    for row in status.rows.iter_mut().filter(|row| row.state == CopyState::Waiting) {
        row.why = controller.source_fault(&row.secret);
    }
    if let Ok(Some(lease)) = &lease {
        status.minted = Minted::all_of(lease, &configuration.settings, &args.secret);
    }
    status.unseen = controller.unseen();
    if let Ok(Some(lease)) = &lease
        && configuration.settings.verify_credentials != VerifyCredentials::Off
    {
        status.verified = Verified::all_of(lease, &controller.source_digests(), &args.secret);
        if configuration.settings.verify_credentials == VerifyCredentials::Hold {
            status.hold();
        }
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
    /// The answers of credential providers that the Lease records.
    minted: Vec<Minted>,
    /// What registries said of the present sources.
    verified: Vec<Verified>,
    /// What the Lease says, where there is one.
    leader: Option<Leader>,
}

/// What registries said of a source.
struct Verified {
    secret: String,
    verification: Verification,
    /// Whether no copy is of it.
    is_new: bool,
}

impl Verified {
    /// What a Lease records of these sources, by secret with their digest and whether a copy has it; of the secrets that these
    /// glob patterns match.
    fn all_of(lease: &Lease, sources: &BTreeMap<String, (String, bool)>, patterns: &[String]) -> Vec<Self> {
        let recorded = entries_on::<Verification>(lease, VERIFICATIONS_ANNOTATION).into_iter();
        let current = recorded.filter_map(|(secret, verification)| {
            let (digest, is_copied) = sources.get(&secret)?;
            (*digest == verification.digest).then_some(Self { secret, verification, is_new: !is_copied })
        });
        current.filter(|verified| is_shown(patterns, &verified.secret)).collect()
    }

    fn line(&self) -> String {
        let servers = self.verification.servers.iter();
        let servers: Vec<_> = servers.map(|(server, verdict)| format!("{} by {server}", verdict.name())).collect();
        let servers = if servers.is_empty() { "nobody to ask".to_owned() } else { servers.join(", ") };
        format!("{}: {servers}, asked {:.0}", self.secret, self.verification.at)
    }
}

/// The last answer of a credential provider.
struct Minted {
    secret: String,
    times: Times,
    /// Whether it holds no longer, as it said itself, or has expired.
    is_old: bool,
}

impl Minted {
    /// Those that a Lease records, of the secrets that these glob patterns match.
    fn all_of(lease: &Lease, settings: &Settings, patterns: &[String]) -> Vec<Self> {
        let is_minted = |name: &str| {
            settings.secrets.iter().any(|secret| secret.name == name && matches!(secret.source, Some(Source::Exec(_))))
        };
        let recorded = entries_on::<Recorded>(lease, ANSWERS_ANNOTATION).into_iter();
        let recorded = recorded.filter(|(secret, _)| is_minted(secret) && is_shown(patterns, secret));
        let now = Timestamp::now();
        let is_old = |times: &Times| times.holds_until < now || times.expires.is_some_and(|expires| expires < now);
        recorded.map(|(secret, Recorded { times, .. })| Self { secret, is_old: is_old(&times), times }).collect()
    }

    fn line(&self) -> String {
        let Times { answered, due, holds_until, expires } = self.times;
        let first = format!("{}: minted {answered:.0}", self.secret);
        let then = if self.is_old { "should have been minted anew" } else { "to be minted anew" };
        let expires = expires.map(|time| format!(", expires {time:.0}")).unwrap_or_default();
        format!("{first}, {then} {due:.0}, holds until {holds_until:.0}{expires}")
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
        for verified in self.verified.iter().filter(|verified| verified.is_new) {
            let Some(refusal) = verified.verification.refusal() else { continue };
            let waits = |row: &&mut Row| {
                row.secret == verified.secret && matches!(row.state, CopyState::Drifted | CopyState::Missing)
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
            && !self.minted.iter().any(|minted| minted.is_old)
            && self.verified.iter().all(|verified| verified.verification.refusal().is_none())
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
        for ((secret, state), count) in self.totals() {
            let _ = writeln!(table, "{secret}: {count} {state}");
        }
        for verified in &self.verified {
            let _ = writeln!(table, "{}", verified.line());
        }
        for minted in &self.minted {
            let _ = writeln!(table, "{}", minted.line());
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
            "credentials": self.verified.iter()
                .map(|verified| (verified.secret.as_str(), json!(verified.verification.servers)))
                .collect::<BTreeMap<_, _>>(),
            "minted": self.minted.iter().map(|minted| (minted.secret.as_str(), json!(minted.times))).collect::<BTreeMap<_, _>>(),
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

    #[rstest]
    #[case::that_holds(3600, "to be minted anew", true)]
    #[case::that_holds_no_longer(-3600, "should have been minted anew", false)]
    fn the_answer_of_a_provider(#[case] seconds_left: i64, #[case] told: &str, #[case] as_wanted: bool) {
        let time = |seconds| Timestamp::from_second(Timestamp::now().as_second() + seconds).unwrap();
        let times = Times {
            answered: time(-7200),
            due: time(seconds_left - 600),
            holds_until: time(seconds_left),
            expires: None,
        };
        let recorded = json!({"asked": "a", "digest": "d", "answered": times.answered, "due": times.due,
            "holdsUntil": times.holds_until});
        let recorded = json!({"creds": recorded, "former": recorded}).to_string();
        let lease = json!({"metadata": {"annotations": {crate::model::ownership::ANSWERS_ANNOTATION: recorded}}});
        let exec = json!({"command": "/p", "images": ["quay.io"]});
        let settings =
            Settings::from_value(&json!({"secrets": [{"name": "creds", "source": {"exec": exec}}]})).unwrap();
        let mut status = Status::of(plans(&[("a", CopyState::InSync)]));
        status.minted = Minted::all_of(&serde_json::from_value(lease).unwrap(), &settings, &[]);
        let line =
            format!("creds: minted {}, {told} {}, holds until {}\n", times.answered, times.due, times.holds_until);
        assert!(status.table().ends_with(&line), "{}", status.table());
        assert_eq!(status.is_as_wanted(), as_wanted);
        assert_eq!(status.json()["minted"]["creds"]["holdsUntil"], json!(times.holds_until));
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
