//! `status`: what became of every secret in every namespace.

use crate::cli::{Output, StatusArgs};
use crate::footprint::Footprint;
use crate::plan::{self, Action, NamespacePlan, State};
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
    // Without a right to the Lease the status is that of the present settings only.
    let footprint = surroundings.record.read().await.unwrap_or_else(|_| Footprint::of(&configuration.settings));
    let context = surroundings.context.only_looking();
    let mut session = Session::start(&context, &configuration, &footprint, watch::Sender::new(None));
    let (index, rules) = session.controller.snapshot().await?;
    let status = Status::of(plan::plan(index, rules));
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
        let mut status = Self { rows: Vec::new(), totals: BTreeMap::new() };
        for (namespace, plan) in plans {
            for (secret, state) in plan.states {
                let changes = plan.actions.iter().filter_map(|action| match action {
                    Action::Refer(change) => Some(change),
                    _ => None,
                });
                let wrong = changes.filter(|change| {
                    change.add.contains(&secret) || change.remove.iter().any(|(_, name)| *name == secret)
                });
                let service_accounts = wrong.map(|change| change.service_account.clone()).collect();
                *status.totals.entry((secret.clone(), state)).or_default() += 1;
                status.rows.push(Row { namespace: namespace.to_owned(), secret, state, service_accounts });
            }
        }
        status
    }

    fn is_settled(&self) -> bool {
        self.rows.iter().all(|row| row.state.is_settled() && row.service_accounts.is_empty())
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
        json!({"inSync": self.is_settled(), "secrets": rows.collect::<Vec<_>>(), "totals": totals})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn what_is_left_alone_on_purpose_is_settled() {
        let status = Status::of(plans(&[("a", State::InSync), ("b", State::Excluded), ("c", State::Source)]));
        assert!(status.is_settled());
        assert_eq!(status.json()["totals"], json!({"creds": {"in-sync": 1, "excluded": 1, "source": 1}}));
    }
}
