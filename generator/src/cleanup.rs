//! `cleanup`: removes every copy and every reference that the generator made.
//!
//! It is the same plan as ever, with no namespace selected; with a selector, other namespaces are left as they are. It takes the Lease first, so that a generator that still runs does
//! not put everything back meanwhile.

use crate::cli::CleanupArgs;
use crate::footprint::Footprint;
use crate::leader::Election;
use crate::plan::{self, Removal};
use crate::run::Surroundings;
use crate::session::Session;
use crate::settings_source::SettingsSource;
use anyhow::{Result, bail};
use image_pull_secrets::settings::Settings;
use serde_json::json;
use std::io::{IsTerminal as _, Write as _, stdin, stdout};
use std::process::ExitCode;
use std::sync::Arc;

/// Removes what there is. The exit code is 1 when something could not be removed.
///
/// # Errors
/// It is not known what to remove, or not everything could be read.
pub async fn cleanup(args: CleanupArgs) -> Result<ExitCode> {
    if !args.dry_run && !args.yes && !stdin().is_terminal() {
        bail!("standard input is no terminal to ask at: give --yes to remove everything, or --dry-run to see it");
    }
    let surroundings = Surroundings::of(&args.common).await?;
    let recorded = surroundings.record.read().await;
    let settings = match SettingsSource::of(&args.common.settings) {
        Some(source) => match source.read(&surroundings.context.client).await {
            Ok(configuration) => Some(configuration.settings),
            Err(error) if recorded.as_ref().is_ok_and(|recorded| !recorded.secrets.is_empty()) => {
                tracing::warn!("only what the Lease records is removed: {error:#}");
                None
            }
            Err(error) => return Err(error),
        },
        None => None,
    };
    let footprint = match (recorded, &settings) {
        (Ok(recorded), Some(settings)) => recorded.and(Footprint::of(settings)),
        (Ok(recorded), None) => recorded,
        (Err(error), Some(settings)) => {
            tracing::warn!("only what the settings name is removed: {error:#}");
            Footprint::of(settings)
        }
        (Err(error), None) => return Err(error),
    };
    let Some(settings) = settings.or_else(|| settings_of(&footprint)) else {
        let lease = format!("{}/{}", surroundings.record.namespace, surroundings.record.lease);
        println!("There is nothing to remove: no settings were given, and no Lease {lease} records any.");
        return Ok(ExitCode::SUCCESS);
    };
    let removal = if args.all_references { Removal::All } else { Removal::Recorded };
    let looking = surroundings.context.clone().only_looking();

    if args.dry_run || !args.yes {
        let mut session = Session::removing(&looking, &settings, removal, &footprint);
        let (index, rules) = session.controller.snapshot().await?;
        let actions: Vec<_> = plan::plan(index, rules).flat_map(|(_, plan)| plan.actions).collect();
        actions.iter().for_each(|action| println!("{action}"));
        if args.dry_run || actions.is_empty() {
            return Ok(ExitCode::SUCCESS);
        }
        if !confirmed(actions.len())? {
            println!("Nothing was removed.");
            return Ok(ExitCode::FAILURE);
        }
    }

    let election = Election {
        client: surroundings.context.client.clone(),
        namespace: surroundings.record.namespace.clone(),
        lease: surroundings.record.lease.clone(),
        identity: surroundings.identity.clone(),
    };
    let taken_over = match election.take_over().await {
        Ok(taken_over) => taken_over,
        Err(error) => {
            tracing::warn!("a generator that still runs would put everything back: {error:#}");
            false
        }
    };
    let summary =
        Session::removing(&surroundings.context, &settings, removal, &footprint).controller.run_once().await?;
    for failure in &summary.failures {
        tracing::error!("{failure}");
    }
    println!("{} objects changed, {} failures.", summary.writes, summary.failures.len());
    if !summary.failures.is_empty() {
        return Ok(ExitCode::FAILURE);
    }
    if taken_over {
        println!("A generator holds no Lease for the next minutes: remove its Deployment now, or it will begin again.");
    }
    if surroundings.context.selector.is_some() {
        println!(
            "Only namespaces that the selector matches were looked at: the Lease still records what others may have."
        );
    } else if !taken_over && let Err(error) = surroundings.record.delete().await {
        tracing::warn!("{error:#}");
    }
    Ok(ExitCode::SUCCESS)
}

/// Settings that stand for what was recorded.
fn settings_of(footprint: &Footprint) -> Option<Arc<Settings>> {
    let secrets: Vec<_> = footprint.secrets.iter().map(|name| json!({ "name": name })).collect();
    let document = json!({"secrets": secrets, "serviceAccounts": footprint.service_accounts});
    Settings::from_value(&document).ok().map(Arc::new)
}

fn confirmed(count: usize) -> Result<bool> {
    print!("Do these {count} things? [y/N] ");
    stdout().flush()?;
    let mut answer = String::new();
    stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
