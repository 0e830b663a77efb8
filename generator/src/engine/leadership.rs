//! The life of a replica: it follows the settings, takes part in the leader election, and works while it leads.

use crate::cluster::election::Role;
use crate::engine::context::Context;
use crate::engine::controller::SyncStatus;
use crate::engine::settings_source::{Configuration, SettingsSource};
use crate::engine::{recording, session};
use crate::model::footprint::Footprint;
use anyhow::{Context as _, Result};
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// How often it checks that the record still exists.
const LOOK_AT_RECORD: Duration = Duration::from_secs(30);

/// Follows the settings until `stop`, and works by them while this replica leads. With `leader_elect`, it leads while it
/// holds the Lease; otherwise it always leads. Everything is listed again after each `interval`.
///
/// # Errors
/// The leader election ended.
pub(crate) async fn run(
    context: &Context,
    source: SettingsSource,
    leader_elect: bool,
    interval: Option<Duration>,
    stop: CancellationToken,
) -> Result<()> {
    let (sender, mut configuration) = watch::channel(None);
    let client = context.client.clone();
    let (metrics, recorder) = (context.health.metrics.clone(), context.recorder.clone());
    let following = tokio::spawn(source.follow(client, sender, move |validity| {
        metrics.settings_valid.set(validity.as_ref().is_ok_and(|&valid| valid).into());
        if let Err(error) = validity {
            recorder.warning_about_itself(
                "SettingsInvalid",
                &format!("The settings cannot be used, and stay as they were: {error:#}"),
            );
        }
    }));

    let (sender, mut role) = watch::channel(if leader_elect { Role::Unknown } else { Role::Leader });
    let election = context.election();
    let campaign = CancellationToken::new();
    let electing = leader_elect.then(|| tokio::spawn(election.clone().run(sender, campaign.clone())));

    let (mut before, mut remembered) = (None, Footprint::default());
    while !stop.is_cancelled() {
        let now = *role.borrow_and_update();
        let current = configuration.borrow_and_update().clone();
        context.health.metrics.leader.set((now == Role::Leader).into());
        if before.replace((now, current.clone())) != Some((now, current.clone())) {
            // This replica no longer leads, or the settings have changed.
            context.health.metrics.forget();
        }
        let ended = CancellationToken::new();
        let work = async {
            match current {
                Some(current) if now == Role::Leader => work(context, &current, &mut remembered, ended.clone()).await,
                _ => {
                    if now == Role::Standby {
                        // Following the leader is all that a standby has to do, so it is ready.
                        context.health.set_ready();
                    }
                    // The next leader knows only what is recorded, and may record more at any time.
                    let restoring = recording::restore(&context.record, &remembered);
                    if remembered != Footprint::default() && ended.run_until_cancelled(restoring).await.is_some() {
                        remembered = Footprint::default();
                    }
                    ended.cancelled().await;
                }
            }
        };
        let interval = interval.unwrap_or(Duration::MAX);
        let change = async {
            tokio::select! {
                () = stop.cancelled() => {}
                _ = role.changed(), if electing.is_some() => {}
                _ = configuration.changed() => {}
                () = tokio::time::sleep(interval) => {}
            }
            ended.cancel();
        };
        tokio::join!(work, change);
    }
    // The order matters: first the writes end, then the Lease is released.
    following.abort();
    campaign.cancel();
    if let Some(electing) = electing {
        electing.await.context("the leader election ended")?;
        election.release().await;
    }
    tracing::info!("stopped");
    Ok(())
}

/// Does the work of the leader until `stop`. What may be in the cluster afterwards is recorded and also `remembered`, because
/// somebody may delete the Lease and the record with it.
async fn work(context: &Context, configuration: &Configuration, remembered: &mut Footprint, stop: CancellationToken) {
    let record = &context.record;
    let extending = recording::extend(record, &configuration.settings, remembered);
    let Some(footprint) = stop.run_until_cancelled(extending).await else { return };
    *remembered = footprint.clone();
    let (sender, mut sync_status) = watch::channel(SyncStatus::default());
    let mut controller = session::start(context, configuration, &footprint, sender);
    let mut tried = sync_status.clone();
    let getting_ready = async {
        if tried.wait_for(|sync_status| sync_status.has_tried_all).await.is_ok() {
            context.health.set_ready();
        }
    };
    let keeping_record = async {
        let mut told = 0;
        loop {
            recording::record_last_full_sync(record, context.health.metrics.last_full_sync.get(), &mut told).await;
            tokio::select! {
                changed = sync_status.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let remaining = sync_status.borrow_and_update().remaining.clone();
                    let Some(remaining) = remaining else { continue };
                    if let Some(recorded) = recording::reduce(record, &footprint, remaining).await {
                        *remembered = recorded;
                    }
                }
                () = tokio::time::sleep(LOOK_AT_RECORD) => recording::restore(record, remembered).await,
            }
        }
    };
    // A failure to record is no reason to wait, because the next session finds the same.
    let beside = stop.run_until_cancelled(async { tokio::join!(getting_ready, keeping_record) });
    tokio::join!(controller.run(stop.clone()), beside);
}
