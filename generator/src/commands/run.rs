//! `run`: keeps everything as the settings want it.

use crate::cluster::registry::Registries;
use crate::commands::cli::RunArgs;
use crate::commands::connect::{connect, connect_and_find_lease};
use crate::commands::process::{interrupted, stop_on_signal};
use crate::engine::context::Context;
use crate::engine::controller::{Summary, SyncStatus};
use crate::engine::provider::Asking;
use crate::engine::settings_source::{Configuration, SettingsSource};
use crate::engine::{leadership, recording, session};
use crate::model::footprint::Footprint;
use crate::model::plan;
use crate::telemetry::server::serve;
use anyhow::{Result, bail};
use std::process::ExitCode;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Runs until everything is done, or a signal stops it.
///
/// # Errors
/// It cannot start.
pub(crate) async fn run(args: RunArgs) -> Result<ExitCode> {
    let Some(source) = args.common.settings.source() else {
        bail!("there are no settings: give --settings FILE or --policy NAME");
    };
    let asking = match (args.dry_run, args.once) {
        (true, _) => Asking::Try,
        (false, true) => Asking::Once,
        (false, false) => Asking::WhenDue,
    };
    let is_short = args.dry_run || args.once;
    let context = Context {
        credential_providers: args.credential_providers.clone(),
        asking,
        registries: Some(Registries::new(args.registry_ca.as_deref())?),
        delete_with_source: args.delete_with_source,
        restart_stuck_pods: args.restart_stuck_pods,
        concurrency: args.concurrency.into(),
        ..if is_short { connect_and_find_lease(&args.common).await? } else { connect(&args.common).await? }
    };
    let stop = stop_on_signal()?;
    if is_short {
        let read = stop.run_until_cancelled(source.read(&context.client)).await;
        let Some(configuration) = read.transpose()? else { return Ok(interrupted()) };
        return if args.dry_run {
            stop.run_until_cancelled(dry_run(&context, &configuration)).await.unwrap_or_else(|| Ok(interrupted()))
        } else {
            once(&context, &configuration, &stop).await
        };
    }
    if let SettingsSource::File(_) = &source {
        // If a file cannot be used, this fails at once. A policy may still be created later.
        source.read(&context.client).await?;
    }
    serve(args.listen, context.health.clone()).await?;
    leadership::run(&context, source, !args.no_leader_elect, args.interval, stop).await?;
    Ok(ExitCode::SUCCESS)
}

async fn dry_run(context: &Context, configuration: &Configuration) -> Result<ExitCode> {
    let footprint = recording::recorded(&context.record).await.unwrap_or_default();
    let mut controller = session::start(&context.only_looking(), configuration, &footprint, watch::Sender::default());
    let (index, rules) = controller.snapshot().await?;
    for (_, plan) in plan::plan(index, rules) {
        plan.actions.iter().for_each(|action| println!("{action}"));
    }
    Ok(ExitCode::SUCCESS)
}

async fn once(context: &Context, configuration: &Configuration, stop: &CancellationToken) -> Result<ExitCode> {
    let record = &context.record;
    let remembered = Footprint::default();
    let extending = recording::extend(record, &configuration.settings, &remembered);
    let Some(footprint) = stop.run_until_cancelled(extending).await else { return Ok(interrupted()) };
    let (sender, sync_status) = watch::channel(SyncStatus::default());
    let mut controller = session::start(context, configuration, &footprint, sender);
    let summary = controller.run_once(stop).await?;
    let remaining = sync_status.borrow().remaining.clone();
    let last_full_sync = context.health.metrics.last_full_sync.get();
    stop.run_until_cancelled(recording::record_last_full_sync(record, last_full_sync, &mut 0)).await;
    if let Some(remaining) = remaining {
        stop.run_until_cancelled(recording::reduce(record, &footprint, remaining)).await;
    }
    for failure in &summary.failures {
        tracing::error!("{failure}");
    }
    tracing::info!("{} writes, {} failures", summary.writes, summary.failures.len());
    Ok(match summary {
        Summary { interrupted: true, .. } => interrupted(),
        Summary { failures, .. } if failures.is_empty() => ExitCode::SUCCESS,
        Summary { .. } => ExitCode::FAILURE,
    })
}
