//! `cleanup`: removes every copy and every reference that the generator made.
//!
//! It plans as `run` does, but as if the settings selected no namespace. With --namespace-selector, it leaves the
//! namespaces that do not match as they are. It takes the Lease first, so that a generator that still runs does not make
//! everything again.

use crate::cluster::record::{LeaseName, leases_of_generators};
use crate::commands::cli::CleanupArgs;
use crate::commands::connect::connect_and_find_lease;
use crate::commands::process::{interrupted, stop_on_signal};
use crate::engine::context::Context;
use crate::engine::controller::Controller;
use crate::engine::session;
use crate::model::footprint::Footprint;
use crate::model::plan::{self, Removal};
use anyhow::{Result, bail};
use image_pull_secrets::settings::Settings;
use serde_json::json;
use std::io::{IsTerminal as _, Write as _, stdin, stdout};
use std::ops::ControlFlow;
use std::process::ExitCode;
use std::sync::Arc;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

/// What is to be removed.
struct Job {
    settings: Arc<Settings>,
    removal: Removal,
    footprint: Footprint,
    /// The Leases of other generators, if our own records nothing.
    elsewhere: Option<String>,
}

/// Removes what there is. The exit code is 1 when something could not be removed, or when nothing was found and a generator's
/// Lease is elsewhere; it is 3 when a signal came before the end.
///
/// # Errors
/// It is not known what to remove, or not everything could be read.
pub(crate) async fn cleanup(args: CleanupArgs) -> Result<ExitCode> {
    if !args.dry_run && !args.yes && !stdin().is_terminal() {
        bail!(
            "standard input is not a terminal, so nobody can be asked: give --yes to remove everything, or --dry-run to see it"
        );
    }
    let stop = stop_on_signal()?;
    let context = connect_and_find_lease(&args.common).await?;
    let prepared = stop.run_until_cancelled(prepare(&args, &context)).await;
    match prepared.transpose()? {
        Some(ControlFlow::Continue(job)) => remove(&context, &job, &stop).await,
        Some(ControlFlow::Break(code)) => Ok(code),
        None => Ok(interrupted()),
    }
}

/// Finds out what to remove, shows it, and asks. If there is nothing to remove, it gives the exit code instead. It writes
/// nothing.
async fn prepare(args: &CleanupArgs, context: &Context) -> Result<ControlFlow<ExitCode, Job>> {
    let recorded = context.record.read().await;
    let elsewhere = match &recorded {
        Ok(recorded) if recorded.secrets.is_empty() => leases_elsewhere(args, context).await,
        _ => None,
    };
    let settings = match args.common.settings.source() {
        Some(source) => match source.read(&context.client).await {
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
        let why = format!("No settings were given, and no Lease {} records any", lease(context));
        return Ok(ControlFlow::Break(nothing_to_remove(Some(&why), elsewhere.as_deref())));
    };
    if let Some(elsewhere) = &elsewhere {
        tracing::warn!(
            "no Lease {} records anything, and there is a generator whose Lease is {elsewhere}: if it made the copies, give \
             --lease-namespace and --lease-name, or it will make them again",
            lease(context),
        );
    }
    let removal = if args.all_references { Removal::All } else { Removal::Recorded };
    let job = Job { settings, removal, footprint, elsewhere };
    if args.dry_run || !args.yes {
        let looking = context.only_looking();
        let mut controller = job.start(&looking);
        let (index, rules) = controller.snapshot().await?;
        let actions: Vec<_> = plan::plan(index, rules).flat_map(|(_, plan)| plan.actions).collect();
        actions.iter().for_each(|action| println!("{action}"));
        if actions.is_empty() {
            return Ok(ControlFlow::Break(nothing_to_remove(None, job.elsewhere.as_deref())));
        }
        if args.dry_run {
            return Ok(ControlFlow::Break(ExitCode::SUCCESS));
        }
        if !confirmed(actions.len()).await? {
            println!("Nothing was removed.");
            return Ok(ControlFlow::Break(ExitCode::FAILURE));
        }
    }
    Ok(ControlFlow::Continue(job))
}

/// The Leases of other generators, separated by commas. If the user named our Lease, Leases with other names do not count,
/// because the user chose among several generators. `None` also if listing Leases is forbidden, as in the generator's own
/// Pod.
async fn leases_elsewhere(args: &CleanupArgs, context: &Context) -> Option<String> {
    let leases = leases_of_generators(&context.client, args.common.lease_name.as_deref()).await.unwrap_or_default();
    let (namespace, name) = (&context.record.namespace, &context.record.lease);
    let leases = leases.into_iter().map(LeaseName::of);
    let others = leases.filter(|lease| (&lease.namespace, &lease.name) != (namespace, name));
    let others: Vec<_> = others.map(|lease| lease.to_string()).collect();
    (!others.is_empty()).then(|| others.join(", "))
}

/// Says that there is nothing to remove, and why if it is known. It is a failure if a generator has its Lease elsewhere,
/// because then the copies may be those of that one.
fn nothing_to_remove(why: Option<&str>, elsewhere: Option<&str>) -> ExitCode {
    let because = why.map(|why| format!(" {why}.")).unwrap_or_default();
    let Some(elsewhere) = elsewhere else {
        println!("There is nothing to remove.{because}");
        return ExitCode::SUCCESS;
    };
    println!(
        "Nothing was removed.{because} There is a generator whose Lease is {elsewhere}. To remove what it made, give \
         --lease-namespace and --lease-name."
    );
    ExitCode::FAILURE
}

/// How messages name the generator's Lease.
fn lease(context: &Context) -> String {
    format!("{}/{}", context.record.namespace, context.record.lease)
}

async fn remove(context: &Context, job: &Job, stop: &CancellationToken) -> Result<ExitCode> {
    let taken_over = match stop.run_until_cancelled(context.election().take_over()).await {
        Some(Ok(taken_over)) => taken_over,
        Some(Err(error)) => {
            tracing::warn!("a generator that may still run was not stopped, and would put everything back: {error:#}");
            false
        }
        None => return Ok(interrupted()),
    };
    let summary = job.start(context).run_once(stop).await?;
    for failure in &summary.failures {
        tracing::error!("{failure}");
    }
    println!("{} objects changed, {} failures.", summary.writes, summary.failures.len());
    if summary.interrupted {
        return Ok(interrupted());
    }
    if !summary.failures.is_empty() {
        return Ok(ExitCode::FAILURE);
    }
    if taken_over {
        println!(
            "A generator still runs, and has to wait for five minutes. Remove its Deployment before that, or it makes everything again."
        );
    }
    if context.selector.is_some() {
        println!(
            "Only namespaces that match the selector were cleaned up. The Lease still records what there may be in others."
        );
    } else if !taken_over {
        match stop.run_until_cancelled(context.record.delete_unless_held()).await {
            Some(Ok(false)) => {
                tracing::error!(
                    "a generator took the Lease meanwhile, and makes everything anew: remove its Deployment, and run cleanup again"
                );
                return Ok(ExitCode::FAILURE);
            }
            Some(Err(error)) => tracing::warn!("{error:#}"),
            Some(Ok(true)) | None => {}
        }
    }
    let found_nothing_but_another_generator = summary.writes == 0 && job.elsewhere.is_some();
    Ok(if found_nothing_but_another_generator {
        nothing_to_remove(None, job.elsewhere.as_deref())
    } else {
        ExitCode::SUCCESS
    })
}

impl Job {
    fn start(&self, context: &Context) -> Controller {
        session::start_removal(context, &self.settings, self.removal, &self.footprint)
    }
}

/// Settings that have the recorded names.
fn settings_of(footprint: &Footprint) -> Option<Arc<Settings>> {
    let secrets: Vec<_> = footprint.secrets.iter().map(|name| json!({ "name": name })).collect();
    let document = json!({"secrets": secrets, "serviceAccounts": footprint.service_accounts});
    Settings::from_value(&document).ok().map(Arc::new)
}

async fn confirmed(count: usize) -> Result<bool> {
    print!("Do these {count} things? [y/N] ");
    stdout().flush()?;
    let (sender, answer) = oneshot::channel();
    // This needs a thread of its own, because reading standard input cannot be cancelled.
    std::thread::spawn(move || {
        let mut answer = String::new();
        let _ = sender.send(stdin().read_line(&mut answer).map(|_| answer));
    });
    Ok(matches!(answer.await??.trim(), "y" | "Y" | "yes"))
}
