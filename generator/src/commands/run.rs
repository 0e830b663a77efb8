//! `run`: keeps everything as the settings want it.

use crate::cluster::client;
use crate::cluster::election::{Election, Role};
use crate::cluster::events;
use crate::cluster::record::Record;
use crate::commands::cli::{CommonArgs, RunArgs};
use crate::engine::controller::{Summary, SyncStatus};
use crate::engine::session::{Context, Session};
use crate::engine::settings_source::{Configuration, SettingsSource};
use crate::model::footprint::Footprint;
use crate::model::ownership::Extras;
use crate::model::plan;
use crate::telemetry::events::EventRecorder;
use crate::telemetry::server::{Health, serve};
use anyhow::{Context as _, Result, bail};
use k8s_openapi::jiff::Timestamp;
use std::env;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// How often it is looked whether the record is still there.
const LOOK_AT_RECORD: Duration = Duration::from_secs(30);

/// How often the time of the last full sync is recorded for `status`, at most, in seconds.
const TELL_LAST_FULL_SYNC_EVERY: i64 = 60;

/// What a process is given by its surroundings.
pub(crate) struct Surroundings {
    /// What sessions work with.
    pub context: Context,
    /// What the endpoints tell.
    pub health: Health,
    /// Where the footprint is recorded.
    pub record: Record,
    /// The name of this replica.
    pub identity: String,
}

impl Surroundings {
    /// What the arguments and the environment say.
    ///
    /// # Errors
    /// There is no API server to connect to.
    pub(crate) async fn of(common: &CommonArgs) -> Result<Self> {
        let config = client::config(common.kubeconfig.as_deref(), common.context.as_deref()).await?;
        let default_namespace = config.default_namespace.clone();
        let client = client::client(config)?;
        let own_pod = env::var("POD_NAMESPACE").ok().zip(env::var("POD_NAME").ok());
        let pod_name = env::var("POD_NAME").or_else(|_| env::var("HOSTNAME")).unwrap_or_else(|_| "local".to_owned());
        // Two processes may well run on one host.
        let identity = format!("{pod_name}_{:08x}", rand::random::<u32>());
        let namespace = common.lease_namespace.clone().or_else(|| env::var("POD_NAMESPACE").ok());
        let health = Health::default();
        let record = Record {
            client: client.clone(),
            namespace: namespace.unwrap_or(default_namespace),
            lease: common.lease_name.clone(),
        };
        let (recorder, recorded) = EventRecorder::new(own_pod);
        tokio::spawn(events::publish(client.clone(), identity.clone(), recorded));
        let context = Context {
            recorder,
            client,
            restart_stuck_pods: false,
            metrics: health.metrics.clone(),
            extras: Arc::new(Extras {
                labels: common.copy_labels.iter().cloned().collect(),
                annotations: common.copy_annotations.iter().cloned().collect(),
            }),
            selector: common.namespace_selector.clone().filter(|selector| !selector.selects_all()),
            delete_with_source: false,
            concurrency: 32,
        };
        Ok(Self { context, health, record, identity })
    }

    /// This replica's part in the leader election.
    pub(crate) fn election(&self) -> Election {
        Election {
            client: self.context.client.clone(),
            namespace: self.record.namespace.clone(),
            lease: self.record.lease.clone(),
            identity: self.identity.clone(),
        }
    }
}

/// Runs until it is done, or told to stop.
///
/// # Errors
/// What keeps it from starting.
pub(crate) async fn run(args: RunArgs) -> Result<ExitCode> {
    let Some(source) = args.common.settings.source() else {
        bail!("there are no settings: give --settings FILE or --policy NAME");
    };
    let mut surroundings = Surroundings::of(&args.common).await?;
    surroundings.context.delete_with_source = args.delete_with_source;
    surroundings.context.concurrency = args.concurrency.into();
    surroundings.context.restart_stuck_pods = args.restart_stuck_pods;
    let stop = stop_on_signal()?;
    if !args.dry_run && !args.once {
        return forever(&args, surroundings, source, stop).await;
    }
    let read = stop.run_until_cancelled(source.read(&surroundings.context.client)).await;
    let Some(configuration) = read.transpose()? else { return Ok(interrupted()) };
    if args.once && !args.dry_run {
        return once(&surroundings, &configuration, &stop).await;
    }
    stop.run_until_cancelled(dry_run(&surroundings, &configuration)).await.unwrap_or_else(|| Ok(interrupted()))
}

async fn dry_run(surroundings: &Surroundings, configuration: &Configuration) -> Result<ExitCode> {
    let context = surroundings.context.clone().only_looking();
    let footprint = recorded(&surroundings.record).await.unwrap_or_default();
    let mut session = Session::start(&context, configuration, &footprint, watch::Sender::default());
    let (index, rules) = session.controller.snapshot().await?;
    for (_, plan) in plan::plan(index, rules) {
        plan.actions.iter().for_each(|action| println!("{action}"));
    }
    Ok(ExitCode::SUCCESS)
}

async fn once(
    surroundings: &Surroundings,
    configuration: &Configuration,
    stop: &CancellationToken,
) -> Result<ExitCode> {
    let begun = stop.run_until_cancelled(begin(&surroundings.record, configuration, &Footprint::default())).await;
    let Some(sought) = begun else { return Ok(interrupted()) };
    let (sender, sync_status) = watch::channel(SyncStatus::default());
    let mut session = Session::start(&surroundings.context, configuration, &sought, sender);
    let summary = session.controller.run_once(stop).await?;
    let left = sync_status.borrow().left.clone();
    let last_full_sync = surroundings.context.metrics.last_full_sync.get();
    stop.run_until_cancelled(tell_last_full_sync(&surroundings.record, last_full_sync, &mut 0)).await;
    if let Some(left) = left {
        stop.run_until_cancelled(end(&surroundings.record, &sought, left)).await;
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

/// Says that not everything was done because of a signal, and gives the exit code for that.
pub(crate) fn interrupted() -> ExitCode {
    tracing::error!("interrupted by a signal: not everything was done");
    ExitCode::from(3)
}

async fn forever(
    args: &RunArgs,
    surroundings: Surroundings,
    source: SettingsSource,
    stop: CancellationToken,
) -> Result<ExitCode> {
    if let SettingsSource::File(_) = &source {
        // A file that cannot be used is told at once; a policy may be created later.
        source.read(&surroundings.context.client).await?;
    }
    serve(args.listen, surroundings.health.clone()).await?;
    let (sender, mut configuration) = watch::channel(None);
    let client = surroundings.context.client.clone();
    let (metrics, recorder) = (surroundings.health.metrics.clone(), surroundings.context.recorder.clone());
    let following = tokio::spawn(source.follow(client, sender, move |validity| {
        metrics.settings_valid.set(validity.as_ref().is_ok_and(|&valid| valid).into());
        if let Err(error) = validity {
            recorder.warning_about_itself("SettingsInvalid", &format!("The settings stay as they were: {error:#}"));
        }
    }));

    let (sender, mut role) = watch::channel(if args.no_leader_elect { Role::Leader } else { Role::Unknown });
    let election = surroundings.election();
    let campaign = CancellationToken::new();
    let electing = (!args.no_leader_elect).then(|| tokio::spawn(election.clone().run(sender, campaign.clone())));

    let (mut before, mut remembered) = (None, Footprint::default());
    while !stop.is_cancelled() {
        let now = *role.borrow_and_update();
        let current = configuration.borrow_and_update().clone();
        surroundings.health.metrics.leader.set((now == Role::Leader).into());
        if before.replace((now, current.clone())) != Some((now, current.clone())) {
            // Another replica counts now, or other settings.
            surroundings.health.metrics.forget();
        }
        let ended = CancellationToken::new();
        let work = async {
            match current {
                Some(current) if now == Role::Leader => {
                    work(&surroundings, &current, &mut remembered, ended.clone()).await
                }
                _ => {
                    if now == Role::Standby {
                        // That is its work.
                        surroundings.health.set_ready();
                    }
                    // Whoever leads from now on knows only what is recorded, and may know better soon.
                    let recording = record_again(&surroundings.record, &remembered);
                    if remembered != Footprint::default() && ended.run_until_cancelled(recording).await.is_some() {
                        remembered = Footprint::default();
                    }
                    ended.cancelled().await;
                }
            }
        };
        let interval = args.interval.unwrap_or(Duration::MAX);
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
    // In this order: nothing is written any more, then the Lease is free.
    following.abort();
    campaign.cancel();
    if let Some(electing) = electing {
        electing.await.context("the leader election ended")?;
        election.release().await;
    }
    tracing::info!("stopped");
    Ok(ExitCode::SUCCESS)
}

/// Does what the leader does until `stop`. What there may be afterwards is `remembered` as well as recorded: somebody may delete
/// the Lease, and the record with it.
async fn work(
    surroundings: &Surroundings,
    configuration: &Configuration,
    remembered: &mut Footprint,
    stop: CancellationToken,
) {
    let record = &surroundings.record;
    let begun = stop.run_until_cancelled(begin(record, configuration, remembered)).await;
    let Some(sought) = begun else { return };
    *remembered = sought.clone();
    let (sender, mut sync_status) = watch::channel(SyncStatus::default());
    let mut session = Session::start(&surroundings.context, configuration, &sought, sender);
    let mut tried = sync_status.clone();
    let getting_ready = async {
        if tried.wait_for(|sync_status| sync_status.has_tried_all).await.is_ok() {
            surroundings.health.set_ready();
        }
    };
    let recording = async {
        let mut told = 0;
        loop {
            tell_last_full_sync(record, surroundings.health.metrics.last_full_sync.get(), &mut told).await;
            tokio::select! {
                changed = sync_status.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let left = sync_status.borrow_and_update().left.clone();
                    let Some(left) = left else { continue };
                    if let Some(recorded) = end(record, &sought, left).await {
                        *remembered = recorded;
                    }
                }
                () = tokio::time::sleep(LOOK_AT_RECORD) => record_again(record, remembered).await,
            }
        }
    };
    // What cannot be recorded now is no reason to wait: the next session finds the same.
    let beside = stop.run_until_cancelled(async { tokio::join!(getting_ready, recording) });
    tokio::join!(session.controller.run(stop.clone()), beside);
}

/// Records what there may be from now on, and gives all that there may be: also what is `remembered` and no longer recorded.
async fn begin(record: &Record, configuration: &Configuration, remembered: &Footprint) -> Footprint {
    let present = Footprint::of(&configuration.settings).and(remembered.clone());
    // What cannot be read is not overwritten either.
    let Some(before) = recorded(record).await else { return present };
    let all = before.clone().and(present);
    if all != before
        && let Err(error) = record.write(&all).await
    {
        tracing::warn!("what leaves the settings will not be removed after a restart: {error:#}");
    }
    all
}

/// Records that of what was sought only this is left, and gives all that is recorded then. What else is recorded stays: it has
/// not been looked for.
async fn end(record: &Record, sought: &Footprint, left: Footprint) -> Option<Footprint> {
    let before = recorded(record).await?;
    let after = before.clone().without(sought).and(left);
    if after != before
        && let Err(error) = record.write(&after).await
    {
        tracing::warn!("{error:#}");
        return None;
    }
    Some(after)
}

/// Records what is `remembered` where it is not recorded any more. What cannot be read or written now is looked at again.
async fn record_again(record: &Record, remembered: &Footprint) {
    let again = async {
        let recorded = record.read().await?;
        let all = recorded.clone().and(remembered.clone());
        if all != recorded {
            record.write(&all).await?;
            tracing::warn!(
                "somebody removed what Lease {}/{} recorded: it is recorded again",
                record.namespace,
                record.lease
            );
        }
        anyhow::Ok(())
    };
    if let Err(error) = again.await {
        tracing::debug!("{error:#}");
    }
}

/// Records when everything was last as it should be, in seconds since 1970, unless that was told not long ago.
async fn tell_last_full_sync(record: &Record, seconds: i64, told: &mut i64) {
    if seconds < *told + TELL_LAST_FULL_SYNC_EVERY {
        return;
    }
    let Ok(time) = Timestamp::from_second(seconds) else { return };
    match record.write_last_full_sync(time).await {
        Ok(()) => *told = seconds,
        Err(error) => tracing::debug!("{error:#}"),
    }
}

async fn recorded(record: &Record) -> Option<Footprint> {
    let recorded = record.read().await;
    recorded.inspect_err(|error| tracing::warn!("what left the settings before now is not known: {error:#}")).ok()
}

/// A token that SIGTERM and SIGINT cancel, which from now on have no other effect. (They have none on process 1 anyway.)
///
/// # Errors
/// The process cannot listen for signals.
pub(crate) fn stop_on_signal() -> Result<CancellationToken> {
    let stop = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    let token = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        token.cancel();
    });
    Ok(stop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::fake_api;
    use crate::model::ownership::FOOTPRINT_ANNOTATION;
    use image_pull_secrets::settings::Settings;
    use serde_json::{Value, json};
    use std::collections::BTreeSet;
    use std::sync::Mutex;

    fn footprint(secrets: &[&str]) -> Footprint {
        let secrets = secrets.iter().map(|&name| name.to_owned()).collect();
        Footprint { secrets, service_accounts: BTreeSet::from(["default".to_owned()]), ..Footprint::default() }
    }

    fn lease(recorded: Option<&Footprint>) -> Value {
        let annotations = recorded.map(|footprint| json!({FOOTPRINT_ANNOTATION: json!(footprint).to_string()}));
        json!({"metadata": {"name": "lease", "annotations": annotations}})
    }

    /// A record that is read as this, and what was asked besides.
    fn record(recorded: Option<&Footprint>) -> (Arc<Mutex<Vec<Value>>>, Record) {
        let (asked, client) = fake_api::answering(&[lease(recorded)]);
        (asked, Record { client, namespace: "default".to_owned(), lease: "lease".to_owned() })
    }

    fn written(asked: &Mutex<Vec<Value>>) -> Vec<Footprint> {
        let texts = asked.lock().unwrap().clone().into_iter();
        let texts =
            texts.filter_map(|patch| Some(patch["metadata"]["annotations"][FOOTPRINT_ANNOTATION].as_str()?.to_owned()));
        texts.map(|text| serde_json::from_str(&text).unwrap()).collect()
    }

    #[tokio::test]
    async fn what_was_recorded_before_somebody_deleted_the_lease_is_sought_and_recorded_again() {
        let settings = Arc::new(Settings::from_value(&json!({"secrets": [{"name": "new"}]})).unwrap());
        let configuration = Configuration { settings, selector: None };
        let (asked, record) = record(None);
        let sought = begin(&record, &configuration, &footprint(&["former"])).await;
        assert_eq!(sought, footprint(&["former", "new"]));
        assert_eq!(written(&asked), [footprint(&["former", "new"])]);
    }

    #[tokio::test]
    async fn a_record_that_is_gone_is_written_again_and_one_that_is_there_is_not() {
        let (asked, gone) = record(None);
        record_again(&gone, &footprint(&["a"])).await;
        assert_eq!(written(&asked), [footprint(&["a"])]);
        let (asked, there) = record(Some(&footprint(&["a", "of-another"])));
        record_again(&there, &footprint(&["a"])).await;
        assert_eq!(written(&asked), []);
    }
}
