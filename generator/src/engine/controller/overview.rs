//! The overview of all namespaces: whether everything is known and in sync, and if not, why.

use super::{Controller, OVERVIEW_EVERY, PATIENCE, QUIET, SyncStatus};
use crate::cluster::watch::Watched;
use crate::engine::provider;
use crate::model::footprint::Footprint;
use crate::model::index::Index;
use crate::model::plan::{self, Action, CopyState, Rules, SourceState};
use crate::model::verification::Verification;
use crate::telemetry::events::Foreign;
use image_pull_secrets::settings::Source;
use prometheus_client::metrics::gauge::Gauge;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::{Duration, SystemTime};
use tokio::time::Instant;

impl Controller {
    /// Whether everything has been listed and every source read.
    pub(crate) fn is_complete(&self) -> bool {
        self.required.is_subset(&self.listed) && self.unread_sources().next().is_none()
    }

    /// Why something may be left over that was not seen, in sentences.
    pub(crate) fn unseen(&self) -> Vec<String> {
        let watch_errors =
            self.orphan_watches.difference(&self.listed).filter_map(|watched| self.watch_errors.get(watched));
        watch_errors.map(|error| error.message.clone()).collect()
    }

    pub(super) fn has_looked_for_orphans(&self) -> bool {
        let is_forbidden = |watched| self.watch_errors.get(watched).is_some_and(|error| error.forbidden);
        self.orphan_watches.iter().all(|watched| self.listed.contains(watched) || is_forbidden(watched))
    }

    /// Whether each namespace was tried once.
    fn has_tried_all(&self) -> bool {
        self.untried.as_ref().is_some_and(HashSet::is_empty)
    }

    /// When to compute the next overview, even if writes are in flight: at once when everything is known or was tried for
    /// the first time, and later at intervals, even if nothing happens.
    pub(super) fn overview_due(&self) -> Instant {
        let has_news = self.is_complete() && !self.overview_is_complete
            || self.has_tried_all() && !self.sync_status.borrow().has_tried_all;
        match self.overview_is_current {
            _ if has_news => Instant::now(),
            true => self.last_overview + QUIET,
            false => self.last_overview + OVERVIEW_EVERY,
        }
    }

    /// Computes the overview and publishes it in gauges, Events and the sync status.
    pub(super) fn publish_overview(&mut self) {
        self.overview_is_current = true;
        self.last_overview = Instant::now();
        self.overview_is_complete = self.is_complete();
        self.write_backoff.forget_old(Instant::now());
        let overview = Overview::of(&self.index, &self.rules);
        let metrics = &self.writer.metrics;
        let show = |gauge: &Gauge, count: usize| gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
        show(&metrics.failing_objects, self.failures.len());
        show(&metrics.waiting_objects, self.write_backoff.waiting(Instant::now()));
        show(&metrics.failing_watches, self.watch_errors.len());
        // Before that, most states would be unknown, and the figures of an earlier session are better.
        if self.overview_is_complete || self.began.elapsed() >= PATIENCE {
            metrics.show_copies(&overview.counts);
        }
        if self.overview_is_complete {
            self.recorder.foreign_secrets(overview.foreign);
        }
        let sees_all =
            self.overview_is_complete && self.orphan_watches.is_subset(&self.listed) && self.watch_errors.is_empty();
        if sees_all && overview.nothing_to_do && self.failures.is_empty() {
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            metrics.last_full_sync.set(i64::try_from(now.as_secs()).unwrap_or_default());
        }
        let remaining = sees_all.then(|| self.remaining(overview.orphaned_references));
        let sync_status = SyncStatus { has_tried_all: self.has_tried_all(), remaining };
        self.sync_status.send_if_modified(|told| {
            let is_another = *told != sync_status;
            *told = sync_status;
            is_another
        });
        self.events.report(&self.rules.settings, &self.recorder, Instant::now());
    }

    /// What the settings want, the copies that exist, and the orphaned references that still have to be removed.
    fn remaining(&self, orphaned_references: BTreeSet<String>) -> Footprint {
        let copies = plan::own_copies(&self.index, &self.rules);
        let mut all = Footprint::of(&self.rules.settings).with_copies(copies);
        if !orphaned_references.is_empty() {
            // It is unknown which pattern selected their ServiceAccounts.
            all.service_accounts.extend(self.footprint.service_accounts.iter().cloned());
        }
        all.secrets.extend(orphaned_references);
        all
    }

    pub(super) fn required_watch_error(&self) -> Option<&str> {
        let is_required =
            |watched: &Watched| self.required.contains(watched) || matches!(watched, Watched::Source { .. });
        let mut errors = self.watch_errors.iter();
        errors.find(|(watched, error)| error.forbidden && is_required(watched)).map(|(_, error)| error.message.as_str())
    }

    /// Why not everything is known, in a sentence that names what is missing.
    pub(super) fn why_incomplete(&self) -> String {
        let mut reasons: Vec<_> = self.watch_errors.values().map(|error| error.message.clone()).collect();
        let wanted = self.required.union(&self.orphan_watches);
        let silent =
            wanted.filter(|watched| !self.listed.contains(*watched) && !self.watch_errors.contains_key(*watched));
        reasons.extend(silent.map(|watched| format!("{watched} have not been listed yet")));
        let has_error = |of: &str| self.watch_errors.keys().any(|watched| watched.is_source_of(of));
        let silent = self.unread_sources().filter(|(of, _)| !has_error(of));
        reasons
            .extend(silent.map(|(of, source)| {
                format!("the source {} of {of} has not been read yet", plan::source_label(source))
            }));
        format!("not everything could be read within {} s: {}", self.patience().as_secs(), reasons.join("; "))
    }

    /// How long it may take until everything is known. It takes longer if credential providers are asked.
    pub(super) fn patience(&self) -> Duration {
        let images = self.rules.settings.secrets.iter().map(|secret| match &secret.source {
            Some(Source::Exec(exec)) => exec.images.len(),
            _ => 0,
        });
        // Providers are asked at the same time, but the images of one provider one after the other.
        PATIENCE + provider::LIMIT * u32::try_from(images.max().unwrap_or_default()).unwrap_or(u32::MAX)
    }

    /// The sources that have not been read yet, each with the name of its secret.
    fn unread_sources(&self) -> impl Iterator<Item = (&str, &Source)> {
        let is_read = |name: &str| !matches!(self.rules.sources.get(name), None | Some(SourceState::Unread));
        let secrets = self.needs_sources().then_some(&self.rules.settings.secrets).into_iter().flatten();
        let sources = secrets.filter_map(|secret| Some((secret.name.as_str(), secret.source.as_ref()?)));
        sources.filter(move |(name, _)| !is_read(name))
    }

    /// Why sources cannot be copied, in sentences.
    pub(super) fn source_faults(&self) -> Vec<String> {
        let secrets = self.rules.settings.secrets.iter();
        secrets.filter_map(|secret| self.source_fault(&secret.name)).collect()
    }

    /// Why the source of a secret cannot be copied, in a sentence.
    pub(crate) fn source_fault(&self, name: &str) -> Option<String> {
        let secret = self.rules.settings.secrets.iter().find(|secret| secret.name == name)?;
        let label = plan::source_label(secret.source.as_ref()?);
        match self.rules.sources.get(name)? {
            SourceState::Missing => Some(format!("the source {label} of {name} is missing")),
            SourceState::Unusable(fault) => Some(format!("the source {label} of {name}: {fault}")),
            SourceState::Ready(_) => {
                if let Some(refusal) = self.verifications.get(name).and_then(Verification::refusal) {
                    return Some(format!("the source {label} of {name}: {refusal}"));
                }
                let (why, _) = self.provider_failures.get(name)?;
                Some(format!("the source {label} of {name} is not renewed: {why}"))
            }
            SourceState::Unread | SourceState::Gone => None,
        }
    }
}

/// All plans together.
struct Overview {
    /// How many namespaces each secret has in each state.
    counts: BTreeMap<(String, CopyState), i64>,
    /// The foreign Secrets that have the names of copies, by namespace and name.
    foreign: BTreeMap<(String, String), Foreign>,
    /// The Secrets that ServiceAccounts refer to and should not.
    orphaned_references: BTreeSet<String>,
    nothing_to_do: bool,
}

impl Overview {
    fn of(index: &Index, rules: &Rules) -> Self {
        let (mut counts, mut foreign, mut orphaned_references) = (BTreeMap::new(), BTreeMap::new(), BTreeSet::new());
        let mut nothing_to_do = true;
        for (namespace, plan) in plan::plan(index, rules) {
            nothing_to_do &= plan.actions.is_empty();
            for action in &plan.actions {
                if let Action::Refer(change) = action {
                    let removed = change.removed().into_iter();
                    let goes = removed.chain(change.forgotten.iter().map(String::as_str));
                    orphaned_references.extend(goes.map(str::to_owned));
                }
            }
            for (secret, state) in plan.states {
                if state == CopyState::Foreign {
                    let seen = index.namespaces.get(namespace).and_then(|seen| seen.secrets.get(&secret));
                    if let Some(seen) = seen {
                        let found = Foreign { version: seen.version.clone(), usable: seen.usable };
                        foreign.insert((namespace.to_owned(), secret.clone()), found);
                    }
                }
                *counts.entry((secret, state)).or_default() += 1;
            }
        }
        Self { counts, foreign, orphaned_references, nothing_to_do }
    }
}
