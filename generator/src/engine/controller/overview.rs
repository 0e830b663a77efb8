//! What can be said of everything together: whether all of it is known, as it should be, and if not, why.

use super::{COUNT_EVERY, Controller, PATIENCE, QUIET, SyncStatus};
use crate::cluster::watch::Watched;
use crate::model::footprint::Footprint;
use crate::model::plan::{self, Action, CopyState, SourceState};
use prometheus_client::metrics::gauge::Gauge;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::SystemTime;
use tokio::time::Instant;

impl Controller {
    /// Whether everything has been listed and every source read.
    pub(crate) fn is_complete(&self) -> bool {
        let read = |secret: &str| !matches!(self.setup.rules.sources.get(secret), None | Some(SourceState::Unread));
        let secrets = &self.setup.rules.settings.secrets;
        self.setup.required.is_subset(&self.listed)
            && (!self.setup.sources_matter
                || secrets.iter().filter(|secret| secret.source.is_some()).all(|secret| read(&secret.name)))
    }

    /// Why something may be left over that has not been seen, in sentences.
    pub(crate) fn unseen(&self) -> Vec<String> {
        let watch_errors =
            self.setup.leftovers.difference(&self.listed).filter_map(|watched| self.watch_errors.get(watched));
        watch_errors.map(|error| error.message.clone()).collect()
    }

    pub(super) fn has_asked_for_leftovers(&self) -> bool {
        let is_forbidden = |watched| self.watch_errors.get(watched).is_some_and(|error| error.forbidden);
        self.setup.leftovers.iter().all(|watched| self.listed.contains(watched) || is_forbidden(watched))
    }

    /// Whether what there was to do in each namespace has been tried once.
    fn has_tried_all(&self) -> bool {
        self.untried.as_ref().is_some_and(HashSet::is_empty)
    }

    /// When everything is to be looked over next, whatever is in flight then: at once when all of it is known, or has been
    /// tried, for the first time; then every while, also where nothing happens.
    pub(super) fn overview_due(&self) -> Instant {
        let has_news = self.is_complete() && !self.counted_all
            || self.has_tried_all() && !self.setup.sync_status.borrow().has_tried_all;
        match self.overview_is_current {
            _ if has_news => Instant::now(),
            true => self.last_count + QUIET,
            false => self.last_count + COUNT_EVERY,
        }
    }

    pub(super) fn publish_overview(&mut self) {
        self.overview_is_current = true;
        self.last_count = Instant::now();
        self.counted_all = self.is_complete();
        self.write_backoff.forget_old(Instant::now());
        let mut counts = BTreeMap::new();
        let mut foreign = BTreeMap::new();
        let mut nothing_to_do = true;
        let mut left = Left::default();
        for (namespace, plan) in plan::plan(&self.index, &self.setup.rules) {
            nothing_to_do &= plan.actions.is_empty();
            plan.actions.iter().for_each(|action| left.note(action));
            for (secret, state) in plan.states {
                if state == CopyState::Foreign {
                    let seen = self.index.namespaces.get(namespace).and_then(|seen| seen.secrets.get(&secret));
                    seen.map(|seen| foreign.insert((namespace.to_owned(), secret.clone()), seen.version.clone()));
                }
                *counts.entry((secret, state)).or_default() += 1;
            }
        }
        let metrics = &self.setup.writer.metrics;
        let show = |gauge: &Gauge, count: usize| gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
        show(&metrics.failing_objects, self.failures.len());
        show(&metrics.waiting_objects, self.write_backoff.waiting(Instant::now()));
        show(&metrics.failing_watches, self.watch_errors.len());
        // Before that, most of it would be unknown: what an earlier session showed is nearer to the truth.
        if self.counted_all || self.began.elapsed() >= PATIENCE {
            metrics.show_copies(&counts);
        }
        if self.counted_all {
            self.setup.recorder.foreign_secrets(foreign);
        }
        let sees_all = self.counted_all && self.setup.leftovers.is_subset(&self.listed) && self.watch_errors.is_empty();
        if sees_all && nothing_to_do && self.failures.is_empty() {
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            metrics.last_full_sync.set(i64::try_from(now.as_secs()).unwrap_or_default());
        }
        let sync_status = SyncStatus { has_tried_all: self.has_tried_all(), left: sees_all.then(|| self.all_of(left)) };
        self.setup.sync_status.send_if_modified(|told| {
            let is_news = *told != sync_status;
            *told = sync_status;
            is_news
        });
        self.events.report(&self.setup.rules.settings, &self.setup.recorder, Instant::now());
    }

    /// What there is to be, the copies that there are, and what else is still to be removed.
    fn all_of(&self, left: Left) -> Footprint {
        let copies = plan::own_copies(&self.index, &self.setup.rules);
        let mut all = Footprint::of(&self.setup.rules.settings).with_copies(copies);
        all.secrets.extend(left.references);
        if left.in_service_accounts {
            // Which pattern it was that selected them is not known.
            all.service_accounts.extend(self.setup.sought.service_accounts.iter().cloned());
        }
        all
    }

    pub(super) fn required_watch_error(&self) -> Option<&str> {
        let is_required =
            |watched: &Watched| self.setup.required.contains(watched) || matches!(watched, Watched::Source { .. });
        let mut watch_errors = self.watch_errors.iter();
        watch_errors.find(|(watched, error)| error.forbidden && is_required(watched)).map(|(_, t)| t.message.as_str())
    }

    pub(super) fn why_incomplete(&self) -> String {
        let watch_errors: Vec<_> = self.watch_errors.values().map(|error| error.message.as_str()).collect();
        format!("not everything could be read within {} s: {}", PATIENCE.as_secs(), watch_errors.join("; "))
    }

    /// What keeps sources from being copied, in sentences.
    pub(super) fn source_faults(&self) -> Vec<String> {
        let secrets = self.setup.rules.settings.secrets.iter();
        secrets.filter_map(|secret| self.source_fault(&secret.name)).collect()
    }

    /// What keeps the source of a secret from being copied, in a sentence.
    pub(crate) fn source_fault(&self, name: &str) -> Option<String> {
        let secret = self.setup.rules.settings.secrets.iter().find(|secret| secret.name == name)?;
        let label = plan::source_label(secret.source.as_ref()?);
        match self.setup.rules.sources.get(name)? {
            SourceState::Missing => Some(format!("the source {label} of {name} is missing")),
            SourceState::Unusable(fault) => Some(format!("the source {label} of {name}: {fault}")),
            SourceState::Unread | SourceState::Ready(_) | SourceState::Gone => None,
        }
    }
}

/// What is to be removed from ServiceAccounts.
#[derive(Default)]
struct Left {
    references: BTreeSet<String>,
    in_service_accounts: bool,
}

impl Left {
    fn note(&mut self, action: &Action) {
        if let Action::Refer(change) = action {
            let goes: Vec<_> =
                change.removed().into_iter().chain(change.forgotten.iter().map(String::as_str)).collect();
            self.in_service_accounts |= !goes.is_empty();
            self.references.extend(goes.into_iter().map(str::to_owned));
        }
    }
}
