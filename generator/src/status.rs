//! `status`: what became of every secret in every namespace.

use crate::cli::{Output, StatusArgs};
use crate::plan::{self, Action, NamespacePlan, ReferenceChange, State};
use crate::run::Surroundings;
use crate::session::Session;
use crate::settings_source::SettingsSource;
use anyhow::{Result, bail};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::ExitCode;
use tokio::sync::watch;

/// Prints the status. The exit code is 1 when something is not as the settings want it.
///
/// # Errors
/// Not everything could be read.
pub async fn status(args: StatusArgs) -> Result<ExitCode> {
    let Some(source) = SettingsSource::of(&args.common.settings) else {
        bail!("there are no settings: give --settings FILE or --policy NAME");
    };
    let surroundings = Surroundings::of(&args.common).await?;
    let configuration = source.read(&surroundings.context.client).await?;
    let recorded = surroundings.record.read().await;
    let context = surroundings.context.only_looking();
    let footprint = recorded.as_ref().cloned().unwrap_or_default();
    let mut session = Session::start(&context, &configuration, &footprint, watch::Sender::default());
    let (index, rules) = session.controller.snapshot().await?;
    let mut status = Status::of(plan::plan(index, rules));
    status.unseen = session.controller.unseen();
    status.unseen.extend(recorded.err().map(|error| format!("{error:#}")));
    match args.output {
        Output::Table => print!("{}", status.table()),
        Output::Json => println!("{:#}", status.json()),
    }
    Ok(if status.is_settled() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The plan, counted.
struct Status {
    rows: Vec<Row>,
    totals: BTreeMap<(String, State), usize>,
    /// Whether there is anything to do.
    to_do: bool,
    /// Why something may be left over that could not be looked for.
    unseen: Vec<String>,
}

struct Row {
    namespace: String,
    secret: String,
    state: State,
    /// The ServiceAccounts that do not refer to the secret, and should; or do, and should not.
    service_accounts: Vec<String>,
}

impl Status {
    fn of<'a>(plans: impl IntoIterator<Item = (&'a str, NamespacePlan)>) -> Self {
        let mut status = Self { rows: Vec::new(), totals: BTreeMap::new(), to_do: false, unseen: Vec::new() };
        for (namespace, mut plan) in plans {
            status.to_do |= !plan.actions.is_empty();
            let changes = plan.actions.iter().filter_map(|action| match action {
                Action::Refer(change) => Some(change),
                _ => None,
            });
            // References may outlive the copy.
            for name in changes.clone().flat_map(ReferenceChange::names) {
                if !plan.states.iter().any(|(secret, _)| secret == name) {
                    plan.states.push((name.to_owned(), State::Leftover));
                }
            }
            for (secret, state) in plan.states {
                let wrong = changes.clone().filter(|change| change.names().any(|name| name == secret));
                let service_accounts = wrong.map(|change| change.service_account.clone()).collect();
                *status.totals.entry((secret.clone(), state)).or_default() += 1;
                status.rows.push(Row { namespace: namespace.to_owned(), secret, state, service_accounts });
            }
        }
        status
    }

    fn is_settled(&self) -> bool {
        !self.to_do && self.unseen.is_empty() && self.rows.iter().all(|row| row.state.is_settled())
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
        for ((secret, state), count) in &self.totals {
            let _ = writeln!(table, "{secret}: {count} {state}");
        }
        for reason in &self.unseen {
            let _ = writeln!(table, "something may be left over: {reason}");
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
            })
        });
        let mut totals: BTreeMap<&str, BTreeMap<&str, usize>> = BTreeMap::new();
        for ((secret, state), count) in &self.totals {
            totals.entry(secret).or_default().insert(state.name(), *count);
        }
        let rows: Vec<_> = rows.collect();
        json!({"inSync": self.is_settled(), "secrets": rows, "totals": totals, "unseen": self.unseen})
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn plans<'a>(states: &[(&'a str, State)]) -> Vec<(&'a str, NamespacePlan)> {
        let plan = |state| NamespacePlan { states: vec![("creds".to_owned(), state)], actions: vec![] };
        states.iter().map(|&(namespace, state)| (namespace, plan(state))).collect()
    }

    #[test]
    fn a_table_lines_up_and_counts() {
        let status =
            Status::of(plans(&[("a", State::InSync), ("a-longer-name", State::InSync), ("b", State::Foreign)]));
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
        assert!(!status.is_settled());
    }

    fn refers(change: ReferenceChange) -> Vec<(&'static str, NamespacePlan)> {
        let change = ReferenceChange { service_account: "default".to_owned(), ..change };
        let states = vec![("creds".to_owned(), State::InSync)];
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
        assert!(!status.is_settled());
    }

    #[test]
    fn a_missing_reference_shows_with_its_secret() {
        let status = Status::of(refers(ReferenceChange { add: vec!["creds".to_owned()], ..Default::default() }));
        assert_eq!(status.json()["secrets"][0]["serviceAccountsToChange"], json!(["default"]));
        assert!(!status.is_settled() && status.rows.len() == 1);
    }

    #[test]
    fn what_may_be_left_over_and_cannot_be_seen_is_told() {
        let mut status = Status::of(plans(&[("a", State::InSync)]));
        status.unseen.push("cannot watch secrets named former: forbidden".to_owned());
        assert!(!status.is_settled());
        let told = "something may be left over: cannot watch secrets named former: forbidden\n";
        assert!(status.table().ends_with(told), "{}", status.table());
        assert_eq!(status.json()["unseen"], json!(["cannot watch secrets named former: forbidden"]));
    }

    #[test]
    fn what_is_left_alone_on_purpose_is_settled() {
        let status = Status::of(plans(&[("a", State::InSync), ("b", State::Excluded), ("c", State::Source)]));
        assert!(status.is_settled());
        assert_eq!(status.json()["totals"], json!({"creds": {"in-sync": 1, "excluded": 1, "source": 1}}));
    }
}
