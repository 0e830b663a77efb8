//! The reconcile loop: takes in reports, plans the namespaces that they concern, and lets the writer carry out the plan.
//!
//! One task owns the index. Several namespaces are written at the same time, each by one task, so that a namespace that
//! fails or hangs does not delay others. If a write fails, or somebody else keeps changing an object, only that object
//! waits.

mod event_aggregator;
mod overview;
mod work_queue;
mod write_backoff;

use crate::cluster::watch::{Report, WatchError, Watched};
use crate::cluster::writer::{Failure, Outcome, Reason, Writer};
use crate::engine::context::Context;
use crate::engine::stuck_pods::StuckPods;
use crate::engine::verifier::{Verifier, Verifying};
use crate::model::content::{Content, Unusable};
use crate::model::footprint::Footprint;
use crate::model::index::{Index, Observation};
use crate::model::plan::{self, Action, NamespacePlan, Object, Rules, SourceState};
use crate::model::refresh::Asked;
use crate::model::verification::{self, Decision, Verification};
use crate::telemetry::events::EventRecorder;
use anyhow::{Result, bail};
use image_pull_secrets::settings::VerifyCredentials;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::Receiver;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use event_aggregator::EventAggregator;
use work_queue::WorkQueue;
use write_backoff::WriteBackoff;

/// How often the overview is computed while something changes. For thousands of namespaces, that takes some milliseconds.
const OVERVIEW_EVERY: Duration = Duration::from_secs(1);

/// How often it is reported that everything is still in sync.
const QUIET: Duration = Duration::from_secs(15);

/// How long writes in flight may take after the controller was told to stop.
const LAST_WRITES: Duration = Duration::from_secs(10);

/// How long `--once` goes on without a success before it gives up.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often an Event repeats that a failure lasts.
const TELL_AGAIN: Duration = Duration::from_secs(10 * 60);

/// The progress of a controller.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct SyncStatus {
    /// Whether everything was listed and each namespace was tried once.
    pub has_tried_all: bool,
    /// What is left of the footprint, together with what the settings want. `None` while not all of it can be seen.
    pub remaining: Option<Footprint>,
}

/// Keeps the cluster as the rules want it.
pub(crate) struct Controller {
    /// Carries out actions.
    writer: Writer,
    /// What the plan is made from. The sources are filled in by reports.
    rules: Arc<Rules>,
    /// What may be in the cluster because of the settings, now or in the past.
    footprint: Footprint,
    /// What has to be listed before everything is known.
    required: BTreeSet<Watched>,
    /// What else has to be listed to know that there are no orphans. The API server may forbid it.
    orphan_watches: BTreeSet<Watched>,
    /// How many namespaces are written to at the same time.
    concurrency: usize,
    /// Where Events go.
    recorder: EventRecorder,
    /// Evicts Pods that cannot pull, if wanted.
    stuck_pods: Option<StuckPods>,
    /// Receives the progress whenever it changes.
    sync_status: watch::Sender<SyncStatus>,
    reports: Receiver<Report>,
    /// The tasks that send reports. They end with the controller.
    _watches: JoinSet<()>,
    index: Index,
    listed: BTreeSet<Watched>,
    queue: WorkQueue,
    write_backoff: WriteBackoff,
    failures: BTreeMap<String, Failure>,
    watch_errors: BTreeMap<Watched, WatchError>,
    /// Why credential providers fail, by secret, and when an Event last said so.
    provider_failures: BTreeMap<String, (String, Instant)>,
    /// The secrets of whose source an annotation should say when it expires, and does not.
    unreadable_expiries: BTreeSet<String>,
    /// Asks registries about sources, if wanted.
    verifier: Option<Verifier>,
    /// Whether to wait for the registries before a source is used. `--once` does, because it cannot use it later.
    verifies_first: bool,
    /// The verifications, by secret, and their results.
    verifying: BTreeMap<String, Verifying>,
    verifications: BTreeMap<String, Verification>,
    /// Changed sources that are not copied yet, because a registry has not answered or refuses them.
    held: BTreeMap<String, Arc<Content>>,
    tasks: JoinSet<Done>,
    events: EventAggregator,
    /// Once everything is known: the namespaces in which something may not have been tried yet.
    untried: Option<HashSet<String>>,
    /// Whether nothing has changed since the last overview.
    overview_is_current: bool,
    began: Instant,
    /// When the last overview was computed. At first, when the controller started.
    last_overview: Instant,
    /// Whether everything was known at that time.
    overview_is_complete: bool,
}

fn log(action: &Action) {
    match action.object() {
        Object::Secret(target) => {
            tracing::info!(namespace = target.namespace, name = target.secret, "{} Secret", action.verb());
        }
        Object::ServiceAccount(change) => {
            let (namespace, name) = (&change.namespace, &change.service_account);
            tracing::info!(namespace, name, add = ?change.add, remove = ?change.removed(), "{} ServiceAccount", action.verb());
        }
    }
}

/// The watch that has completed its list, if this report says so.
fn listed_by(observation: &Observation) -> Option<Watched> {
    match observation {
        Observation::Namespaces(_) => Some(Watched::Namespaces),
        Observation::Secrets(name, _) => Some(Watched::Secrets(name.clone())),
        Observation::ServiceAccounts(only, _) => Some(Watched::ServiceAccounts(only.clone())),
        Observation::Namespace(..)
        | Observation::Secret(..)
        | Observation::NoSecret(..)
        | Observation::ServiceAccount(..)
        | Observation::NoServiceAccount(..) => None,
    }
}

/// The result of a namespace's actions.
struct Done {
    namespace: String,
    /// Whether nothing was left to do afterwards, as far as is known.
    tried_all: bool,
    outcomes: Vec<(Action, Outcome)>,
}

/// The result of `--once`.
#[derive(Debug, Default)]
pub(crate) struct Summary {
    /// How many writes succeeded.
    pub writes: usize,
    /// The failures, in sentences.
    pub failures: Vec<String>,
    /// Whether it was told to stop before it was done.
    pub interrupted: bool,
}

impl Controller {
    /// A controller that knows nothing yet.
    pub(crate) fn new(
        context: &Context,
        rules: Rules,
        footprint: Footprint,
        reports: Receiver<Report>,
        sync_status: watch::Sender<SyncStatus>,
    ) -> Self {
        let all = Watched::all_of(&footprint);
        // These have to be listed before everything counts as in sync. Watching what is only left over may be forbidden.
        let required = if rules.selection.selects_nothing() {
            all.clone()
        } else {
            Watched::all_of(&Footprint::of(&rules.settings))
        };
        let (client, metrics) = (&context.client, &context.health.metrics);
        Self {
            writer: Writer::new(client.clone(), metrics.clone()),
            orphan_watches: all.difference(&required).cloned().collect(),
            required,
            concurrency: context.concurrency,
            recorder: context.recorder.clone(),
            stuck_pods: context.restart_stuck_pods.then(|| StuckPods::new(client.clone(), metrics.clone())),
            rules: Arc::new(rules),
            footprint,
            sync_status,
            reports,
            _watches: JoinSet::new(),
            index: Index::default(),
            listed: BTreeSet::new(),
            queue: WorkQueue::default(),
            write_backoff: WriteBackoff::default(),
            failures: BTreeMap::new(),
            watch_errors: BTreeMap::new(),
            provider_failures: BTreeMap::new(),
            unreadable_expiries: BTreeSet::new(),
            verifier: None,
            verifies_first: false,
            verifying: BTreeMap::new(),
            verifications: BTreeMap::new(),
            held: BTreeMap::new(),
            tasks: JoinSet::new(),
            events: EventAggregator::default(),
            untried: None,
            overview_is_current: false,
            began: Instant::now(),
            last_overview: Instant::now(),
            overview_is_complete: false,
        }
    }

    /// Adds the watches that report to it. They end with it.
    pub(crate) fn fed_by(self, watches: JoinSet<()>) -> Self {
        Self { _watches: watches, ..self }
    }

    /// Adds the verifier that asks registries about sources.
    pub(crate) fn verifying_by(self, verifier: Option<Verifier>, verifies_first: bool) -> Self {
        Self { verifier, verifies_first, ..self }
    }

    /// What it has to watch, apart from sources.
    pub(crate) fn watches(&self) -> BTreeSet<Watched> {
        let mut watches = &self.required | &self.orphan_watches;
        if self.stuck_pods.is_some() {
            watches.insert(Watched::PendingPods);
        }
        watches
    }

    /// Whether it has to watch the sources as well.
    pub(crate) fn needs_sources(&self) -> bool {
        !self.rules.selection.selects_nothing()
    }

    /// What is in the cluster, after everything was listed and every source was read.
    ///
    /// # Errors
    /// The API server forbids something, or cannot be reached.
    pub(crate) async fn snapshot(&mut self) -> Result<(&Index, &Rules)> {
        let deadline = tokio::time::sleep(self.patience());
        tokio::pin!(deadline);
        while !self.is_complete() || !self.has_looked_for_orphans() {
            tokio::select! {
                report = self.reports.recv() => match report {
                    Some(report) => self.observe(report),
                    None => bail!("the watches ended"),
                },
                () = &mut deadline => bail!("{}", self.why_incomplete()),
            }
            if let Some(error) = self.required_watch_error() {
                bail!("{error}");
            }
        }
        Ok((&self.index, &self.rules))
    }

    /// Brings everything in sync once, or until `stop`. Then it finishes the writes in flight.
    ///
    /// # Errors
    /// The API server forbids a watch, or cannot be reached.
    pub(crate) async fn run_once(&mut self, stop: &CancellationToken) -> Result<Summary> {
        let mut summary = Summary::default();
        let Some(snapshot) = stop.run_until_cancelled(self.snapshot()).await else {
            return Ok(Summary { interrupted: true, ..summary });
        };
        snapshot?;
        let mut last_success = Instant::now();
        loop {
            if stop.is_cancelled() {
                summary.writes += self.finish().await;
                summary.interrupted = true;
                break;
            }
            self.dispatch(stop);
            if self.queue.is_idle() && self.write_backoff.next_wake().is_none() {
                break;
            }
            let only_refused = self.failures.values().all(|f| matches!(f.reason, Reason::Refused | Reason::PutBack));
            if self.queue.is_idle() && (only_refused && !self.failures.is_empty() || last_success.elapsed() > PATIENCE)
            {
                break;
            }
            let successes = stop.run_until_cancelled(self.step(None)).await.unwrap_or_default();
            if successes > 0 {
                last_success = Instant::now();
            }
            summary.writes += successes;
        }
        summary.failures = self.failures.values().map(|failure| failure.message.clone()).collect();
        summary.failures.extend(self.source_faults());
        self.publish_overview();
        self.recorder.flush().await;
        Ok(summary)
    }

    /// Keeps everything in sync until `stop`. Then it finishes the writes in flight.
    pub(crate) async fn run(&mut self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            self.begin_to_try_all();
            self.dispatch(&stop);
            if let Some(stuck) = &mut self.stuck_pods {
                stuck.evict(&self.index, &self.rules);
            }
            let overview_due = self.overview_due();
            if overview_due <= Instant::now() {
                self.publish_overview();
                continue;
            }
            tokio::select! {
                _ = self.step(Some(overview_due)) => {}
                () = stop.cancelled() => {}
            }
        }
        self.finish().await;
        self.events.report_all(&self.rules.settings, &self.recorder);
        self.recorder.flush().await;
    }

    /// Finishes the writes in flight, and gives the number of those that succeeded.
    async fn finish(&mut self) -> usize {
        let mut successes = 0;
        let last_writes = async {
            while let Some(done) = self.tasks.join_next().await {
                successes += done.map_or(0, |done| self.observe_done(done));
            }
            if let Some(stuck) = &mut self.stuck_pods {
                stuck.finish().await;
            }
        };
        if tokio::time::timeout(LAST_WRITES, last_writes).await.is_err() {
            tracing::warn!("{} namespaces were being written to when it stopped", self.queue.in_flight());
        }
        successes
    }

    /// Waits for the next thing to happen, until `wake_at` if that is given, and observes it. Gives the number of writes that
    /// succeeded meanwhile.
    async fn step(&mut self, wake_at: Option<Instant>) -> usize {
        let wake = self.write_backoff.next_wake().into_iter().chain(wake_at).min();
        let sleep = tokio::time::sleep_until(wake.unwrap_or_else(|| Instant::now() + PATIENCE));
        let stuck_pods = async {
            match &mut self.stuck_pods {
                Some(stuck) => stuck.changed().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            Some(done) = self.tasks.join_next() => done.map_or(0, |done| self.observe_done(done)),
            Some(report) = self.reports.recv() => {
                self.observe(report);
                // Takes in the reports that have already arrived, because they may concern the same namespaces.
                while let Ok(report) = self.reports.try_recv() {
                    self.observe(report);
                }
                0
            }
            () = stuck_pods => 0,
            () = sleep => {
                for namespace in self.write_backoff.due(Instant::now()) {
                    self.enqueue(namespace);
                }
                0
            }
        }
    }

    /// As soon as everything is known, queues every namespace, because earlier plans were made with less knowledge.
    fn begin_to_try_all(&mut self) {
        if self.untried.is_none() && self.is_complete() {
            let all: Vec<_> = self.index.namespaces.keys().cloned().collect();
            self.untried = Some(all.iter().cloned().collect());
            all.into_iter().for_each(|namespace| self.enqueue(namespace));
        }
    }

    fn has_tried(&mut self, namespace: &str) {
        if let Some(untried) = &mut self.untried {
            untried.remove(namespace);
        }
    }

    fn enqueue(&mut self, namespace: String) {
        self.overview_is_current = false;
        self.queue.add(namespace);
    }

    fn enqueue_all(&mut self) {
        // The source is new, or something about all sources is. What failed before may succeed now.
        self.write_backoff.clear();
        let all: Vec<_> = self.index.namespaces.keys().cloned().collect();
        all.into_iter().for_each(|namespace| self.enqueue(namespace));
    }

    fn observe(&mut self, report: Report) {
        match report {
            Report::Observed(observation) => {
                let listed = listed_by(&observation);
                self.index.observe(observation).into_iter().for_each(|namespace| self.enqueue(namespace));
                if let Some(watched) = listed {
                    self.observe_listed(watched);
                }
            }
            Report::Source(secret, state) => self.observe_source(secret, state),
            Report::Asked(secret, asked) => self.observe_asked(secret, asked),
            Report::Verified(secret, verification) => self.observe_verified(secret, verification),
            Report::Pod(pod) => {
                if let Some(stuck) = &mut self.stuck_pods {
                    stuck.observe(pod);
                }
            }
            Report::Pods(listed) => {
                if let Some(stuck) = &mut self.stuck_pods {
                    stuck.retain(&listed);
                }
            }
            Report::WatchFailed(watched, error) => {
                if self.watch_errors.get(&watched) != Some(&error) {
                    tracing::warn!("{}", error.message);
                    if error.forbidden {
                        self.recorder.warning_on_every_source(&self.rules.settings, "WatchForbidden", &error.message);
                    }
                    self.watch_errors.insert(watched, error);
                }
            }
            Report::WatchRecovered(watched) => {
                self.watch_errors.remove(&watched);
                self.overview_is_current = false;
            }
        }
    }

    fn observe_listed(&mut self, watched: Watched) {
        if let Watched::Secrets(name) = &watched {
            self.release(&name.clone());
        }
        if self.listed.insert(watched) {
            // This is needed even if nothing changed, because there may be nothing to list.
            self.overview_is_current = false;
        }
        let is_accounts = |watched: &&Watched| matches!(watched, Watched::ServiceAccounts(_));
        if self.required.iter().filter(is_accounts).all(|watched| self.listed.contains(watched)) {
            for namespace in self.index.service_accounts_are_listed() {
                self.enqueue(namespace);
            }
        }
    }

    fn observe_source(&mut self, secret: String, state: SourceState) {
        match (&self.verifier, &state) {
            (Some(verifier), SourceState::Ready(content)) => {
                if self.verifying.get(&secret).is_none_or(|before| before.content.digest != content.digest) {
                    let verifying = verifier.verify(secret.clone(), content.clone());
                    self.verifying.insert(secret.clone(), verifying);
                    self.forget_verification(&secret);
                }
                self.held.insert(secret.clone(), content.clone());
                self.release(&secret);
            }
            _ => {
                self.verifying.remove(&secret);
                self.forget_verification(&secret);
                self.held.remove(&secret);
                self.take_source(secret, state);
            }
        }
    }

    fn forget_verification(&mut self, secret: &str) {
        if let Some(verification) = self.verifications.remove(secret) {
            self.writer.metrics.hide_verified(secret, &verification);
        }
    }

    /// Uses a source that was held back, unless a registry refuses it or has not answered yet.
    fn release(&mut self, secret: &str) {
        let Some(content) = self.held.get(secret).cloned() else { return };
        let mode = self.rules.settings.verify_credentials;
        let is_copied = self.index.has_copy(secret, content.digest);
        match verification::decide(mode, self.verifies_first, self.verifications.get(secret), is_copied) {
            Decision::Wait => {}
            // The previous content stays in use. The copies do not change, and new namespaces get the same as the others.
            Decision::Hold(_) if matches!(self.rules.sources.get(secret), Some(SourceState::Ready(_))) => {}
            Decision::Hold(why) => self.take_source(secret.to_owned(), SourceState::Unusable(Unusable::Refused(why))),
            Decision::Copy => {
                self.held.remove(secret);
                self.take_source(secret.to_owned(), SourceState::Ready(content));
            }
        }
    }

    fn observe_verified(&mut self, secret: String, verification: Verification) {
        let configured = self.rules.settings.secrets.iter().find(|configured| configured.name == secret);
        let Some(source) = configured.and_then(|configured| configured.source.clone()) else { return };
        let is_current = |verifying: &Verifying| verifying.content.digest.to_string() == verification.digest;
        if !self.verifying.get(&secret).is_some_and(is_current) {
            return;
        }
        self.writer.metrics.show_verified(&secret, &verification);
        let refused = |verification: &Verification| verification.refusal();
        let before = self.verifications.insert(secret.clone(), verification.clone());
        let label = plan::source_label(&source);
        match (before.as_ref().and_then(refused), refused(&verification)) {
            (before, Some(refusal)) if before.as_ref() != Some(&refusal) => {
                let holds = self.rules.settings.verify_credentials == VerifyCredentials::Hold;
                let is_held = holds && self.held.contains_key(&secret);
                let held = if is_held { "; it is held back, and the copies stay as they are" } else { "" };
                tracing::warn!(secret, source = label, "{refusal}{held}");
                let note = format!("Source {label} of {secret}: {refusal}{held}.");
                self.recorder.warning(&source, "CredentialRefused", &note);
            }
            (Some(_), None) => tracing::info!(secret, source = label, "no registry refuses its credentials any more"),
            _ => {}
        }
        self.overview_is_current = false;
        self.release(&secret);
    }

    fn take_source(&mut self, secret: String, state: SourceState) {
        let Some(configured) = self.rules.settings.secrets.iter().find(|configured| configured.name == secret) else {
            return;
        };
        let Some(source) = configured.source.clone() else { return };
        let label = plan::source_label(&source);
        let before = self.rules.sources.get(&secret);
        if let SourceState::Ready(content) = &state {
            self.writer.metrics.show_source(&secret, content.resource_version);
            self.writer.metrics.show_expiry(&secret, content.expiry.at);
            match content.expiry.fault() {
                // Once, and not at every resync.
                Some(fault) if self.unreadable_expiries.insert(secret.clone()) => {
                    tracing::warn!(secret, source = label, "{fault}");
                    self.recorder.warning(
                        &source,
                        "ExpirationUnreadable",
                        &format!("Source {label} of {secret}: {fault}."),
                    );
                }
                Some(_) => {}
                None => drop(self.unreadable_expiries.remove(&secret)),
            }
        }
        if before.is_some_and(|before| before.equals(&state)) {
            return;
        }
        let metrics = &self.writer.metrics;
        match &state {
            // This happens at the start and at every resync, and is not worth an Event.
            SourceState::Ready(_) if before.is_none() => tracing::debug!(secret, source = label, "source read"),
            SourceState::Ready(_) => tracing::info!(secret, source = label, "source read"),
            SourceState::Missing => {
                metrics.show_source(&secret, None);
                tracing::warn!(secret, source = label, "the source is missing: copies stay as they are");
                let note = format!("Source {label} of {secret} is missing: copies stay as they are.");
                self.recorder.warning(&source, "SourceMissing", &note);
            }
            SourceState::Gone => {
                metrics.show_source(&secret, None);
                metrics.show_expiry(&secret, None);
                tracing::warn!(secret, source = label, "the source is gone: its copies are deleted");
                let note = format!("Source {label} of {secret} is gone: its copies are deleted.");
                self.recorder.warning(&source, "SourceGone", &note);
            }
            SourceState::Unusable(fault) => {
                metrics.show_source(&secret, None);
                tracing::warn!(secret, source = label, "the source is not copied: {fault}");
                let note = format!("Source {label} of {secret} is not copied: {fault}.");
                self.recorder.warning(&source, "SourceUnusable", &note);
            }
            SourceState::Unread => {}
        }
        Arc::make_mut(&mut self.rules).sources.insert(secret, state);
        // This is needed even if there is no namespace to look at.
        self.overview_is_current = false;
        self.enqueue_all();
    }

    fn observe_asked(&mut self, secret: String, asked: Asked) {
        let configured = self.rules.settings.secrets.iter().find(|configured| configured.name == secret);
        let Some(source) = configured.and_then(|configured| configured.source.clone()) else { return };
        self.writer.metrics.show_asked(&secret, &asked);
        self.overview_is_current = false;
        let label = plan::source_label(&source);
        let Asked::Failed(why) = asked else {
            if self.provider_failures.remove(&secret).is_some() {
                tracing::info!(secret, source = label, "the credential provider answers again");
            }
            return;
        };
        // Report each new reason once, and repeat it while it lasts, because the API server keeps an Event for an hour only.
        let is_known = |(before, told): &(String, Instant)| *before == why && told.elapsed() < TELL_AGAIN;
        if self.provider_failures.get(&secret).is_some_and(is_known) {
            tracing::debug!(secret, source = label, "the credential provider still fails: {why}");
            return;
        }
        tracing::warn!(secret, source = label, "the credential provider fails, and its last answer stays: {why}");
        let note = format!("The credential provider {label} of {secret} fails, and its last answer stays: {why}.");
        self.recorder.warning(&source, "SourceRefreshFailed", &note);
        self.provider_failures.insert(secret, (why, Instant::now()));
    }

    /// Starts work on as many namespaces as may be written to at once. After `stop`, no further write begins.
    fn dispatch(&mut self, stop: &CancellationToken) {
        while self.queue.in_flight() < self.concurrency {
            let Some(namespace) = self.queue.take() else { return };
            let plan = plan::plan_namespace(&self.index, &namespace, &self.rules);
            self.forget_failures(&namespace, &plan);
            let now = Instant::now();
            let actions: Vec<Action> =
                plan.actions.into_iter().filter(|action| self.write_backoff.may_go(action, &namespace, now)).collect();
            if actions.is_empty() {
                self.has_tried(&namespace);
                continue;
            }
            self.queue.begin(namespace.clone());
            let writer = self.writer.clone();
            let rules = self.rules.clone();
            let stop = stop.clone();
            let tried_all = self.untried.is_some();
            self.tasks.spawn(async move {
                let timer = Instant::now();
                let mut outcomes = Vec::with_capacity(actions.len());
                for action in actions {
                    let outcome = writer.apply(&action, &rules).await;
                    let namespace_goes =
                        outcome.failure.as_ref().is_some_and(|failure| failure.reason == Reason::NamespaceGoes);
                    outcomes.push((action, outcome));
                    if namespace_goes || stop.is_cancelled() {
                        break;
                    }
                }
                writer.metrics.reconcile_seconds.observe(timer.elapsed().as_secs_f64());
                Done { namespace, tried_all, outcomes }
            });
        }
    }

    fn observe_done(&mut self, done: Done) -> usize {
        let mut successes = 0;
        self.queue.end(&done.namespace);
        if done.tried_all {
            self.has_tried(&done.namespace);
        }
        for (action, outcome) in done.outcomes {
            outcome.observed.into_iter().for_each(|observation| drop(self.index.observe(observation)));
            let key = write_backoff::key(&action);
            match outcome.failure {
                None => {
                    successes += 1;
                    log(&action);
                    self.failures.remove(&key);
                    self.write_backoff.succeeded(&action, Instant::now());
                    self.events.succeeded(&action);
                }
                Some(failure) => self.observe_failure(&action, key, failure),
            }
        }
        self.enqueue(done.namespace);
        successes
    }

    fn observe_failure(&mut self, action: &Action, key: String, failure: Failure) {
        self.write_backoff.failed(action, &failure, Instant::now());
        match failure.reason {
            Reason::Outdated | Reason::NamespaceGoes | Reason::NotFound => tracing::debug!("{}", failure.message),
            Reason::Refused | Reason::Unavailable | Reason::PutBack => {
                // Report each new reason once. A retry that fails for the same reason is not reported again.
                if self.failures.get(&key).is_none_or(|before| before.message != failure.message) {
                    tracing::warn!("{}", failure.message);
                    self.events.failed(action, &failure);
                }
            }
        }
        self.failures.insert(key, failure);
    }

    /// Forgets the failures of actions that are no longer planned.
    fn forget_failures(&mut self, namespace: &str, plan: &NamespacePlan) {
        if self.failures.is_empty() {
            return;
        }
        let planned: HashSet<String> = plan.actions.iter().map(write_backoff::key).collect();
        let of_namespace = format!("{namespace}/");
        self.failures.retain(|key, _| !key.starts_with(&of_namespace) || planned.contains(key));
    }
}

#[cfg(test)]
mod tests;
