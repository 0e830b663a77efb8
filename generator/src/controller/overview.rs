//! What can be said of everything together: whether all of it is known, as it should be, and if not, why.

use super::{Controller, PATIENCE};
use crate::footprint::Footprint;
use crate::plan::{self, SourceState, State};
use crate::watch::Watched;
use std::collections::BTreeMap;
use std::time::{Instant, SystemTime};

impl Controller {
    /// Whether everything has been listed and every source read.
    pub fn is_complete(&self) -> bool {
        let read = |secret: &str| !matches!(self.setup.rules.sources.get(secret), None | Some(SourceState::Unread));
        let secrets = &self.setup.rules.settings.secrets;
        self.setup.required.is_subset(&self.listed)
            && (!self.setup.sources_matter
                || secrets.iter().filter(|secret| secret.source.is_some()).all(|secret| read(&secret.name)))
    }

    /// Why something may be left over that has not been seen, in sentences.
    pub fn unseen(&self) -> Vec<String> {
        let troubles = self.setup.leftovers.difference(&self.listed).filter_map(|watched| self.troubles.get(watched));
        troubles.map(|trouble| trouble.message.clone()).collect()
    }

    pub(super) fn has_asked_for_leftovers(&self) -> bool {
        let is_forbidden = |watched| self.troubles.get(watched).is_some_and(|trouble| trouble.forbidden);
        self.setup.leftovers.iter().all(|watched| self.listed.contains(watched) || is_forbidden(watched))
    }

    pub(super) fn report_settled(&mut self) {
        self.settled = true;
        self.last_count = Instant::now();
        self.counted_all = self.is_complete();
        self.paces.forget_old(Instant::now());
        let mut counts = BTreeMap::new();
        let mut foreign = BTreeMap::new();
        let mut nothing_to_do = true;
        for (namespace, plan) in plan::plan(&self.index, &self.setup.rules) {
            nothing_to_do &= plan.actions.is_empty();
            for (secret, state) in plan.states {
                if state == State::Foreign {
                    let seen = self.index.namespaces.get(namespace).and_then(|seen| seen.secrets.get(&secret));
                    seen.map(|seen| foreign.insert((namespace.to_owned(), secret.clone()), seen.version.clone()));
                }
                *counts.entry((secret, state)).or_default() += 1;
            }
        }
        self.setup.writer.metrics.show_copies(&counts);
        if self.counted_all {
            self.setup.reporter.foreign(foreign);
        }
        let sees_all = self.is_complete() && self.setup.leftovers.is_subset(&self.listed);
        if sees_all && nothing_to_do && self.failures.is_empty() && self.troubles.is_empty() {
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            self.setup.writer.metrics.last_full_sync.set(i64::try_from(now.as_secs()).unwrap_or_default());
            let copies = plan::own_copies(&self.index, &self.setup.rules);
            let left = Some(Footprint::of(&self.setup.rules.settings).with_copies(copies));
            self.setup.footprint.send_if_modified(|told| {
                let is_news = *told != left;
                *told = left;
                is_news
            });
        }
        self.progress.report(&self.setup.rules.settings, &self.setup.reporter, Instant::now());
    }

    pub(super) fn required_trouble(&self) -> Option<&str> {
        let is_required =
            |watched: &Watched| self.setup.required.contains(watched) || matches!(watched, Watched::Source { .. });
        let mut troubles = self.troubles.iter();
        troubles.find(|(watched, trouble)| trouble.forbidden && is_required(watched)).map(|(_, t)| t.message.as_str())
    }

    pub(super) fn why_incomplete(&self) -> String {
        let troubles: Vec<_> = self.troubles.values().map(|trouble| trouble.message.as_str()).collect();
        format!("not everything could be read within {} s: {}", PATIENCE.as_secs(), troubles.join("; "))
    }

    pub(super) fn source_faults(&self) -> Vec<String> {
        let secrets = self.setup.rules.settings.secrets.iter();
        secrets
            .filter_map(|secret| {
                let label = plan::source_label(secret.source.as_ref()?);
                match self.setup.rules.sources.get(&secret.name)? {
                    SourceState::Missing => Some(format!("the source {label} of {} is missing", secret.name)),
                    SourceState::Unusable(fault) => Some(format!("the source {label} of {}: {fault}", secret.name)),
                    SourceState::Unread | SourceState::Ready(_) | SourceState::Gone => None,
                }
            })
            .collect()
    }
}
