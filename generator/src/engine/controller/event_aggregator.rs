//! Collects what was done and reports it in one Event on each source, at most once a minute, and not in one for each
//! namespace.

use crate::cluster::writer::Failure;
use crate::model::plan::{Action, Object};
use crate::telemetry::events::EventRecorder;
use image_pull_secrets::settings::Settings;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::Instant;

/// How long the next Event about a secret waits after the last one.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// What has not been reported yet, by secret.
#[derive(Default)]
pub(super) struct EventAggregator(BTreeMap<String, Counts>);

#[derive(Default)]
struct Counts {
    created: usize,
    updated: usize,
    deleted: usize,
    written_told: Option<Instant>,
    failed: usize,
    first_failure: Option<String>,
    failed_told: Option<Instant>,
}

impl EventAggregator {
    pub(super) fn succeeded(&mut self, action: &Action) {
        match action {
            Action::Create(target) => self.of(&target.secret).created += 1,
            Action::Update(target, _) | Action::Recreate(target, _) => self.of(&target.secret).updated += 1,
            Action::Delete(target, _) => self.of(&target.secret).deleted += 1,
            // An Event on the source reports copies only.
            Action::Refer(_) => {}
        }
    }

    pub(super) fn failed(&mut self, action: &Action, failure: &Failure) {
        let secret = match action.object() {
            Object::Secret(target) => Some(&target.secret),
            Object::ServiceAccount(change) => {
                change.add.first().or_else(|| change.remove.first().map(|(_, name)| name))
            }
        };
        if let Some(secret) = secret {
            let counts = self.of(secret);
            counts.failed += 1;
            counts.first_failure.get_or_insert_with(|| failure.message.clone());
        }
    }

    /// Records the Events that are due `now`.
    pub(super) fn report(&mut self, settings: &Settings, recorder: &EventRecorder, now: Instant) {
        for (secret, counts) in &mut self.0 {
            let configured = settings.secrets.iter().find(|configured| configured.name == *secret);
            let Some(source) = configured.and_then(|configured| configured.source.as_ref()) else { continue };
            if let Some(note) = counts.written(secret, now) {
                recorder.normal(source, "CopiesWritten", &note);
            }
            if let Some(note) = counts.failures(secret, now) {
                recorder.warning(source, "WriteFailed", &note);
            }
        }
    }

    /// Records all Events, because there is no later opportunity.
    pub(super) fn report_all(&mut self, settings: &Settings, recorder: &EventRecorder) {
        self.report(settings, recorder, Instant::now() + TELL_EVERY);
    }

    fn of(&mut self, secret: &str) -> &mut Counts {
        self.0.entry(secret.to_owned()).or_default()
    }
}

impl Counts {
    fn written(&mut self, secret: &str, now: Instant) -> Option<String> {
        if self.created + self.updated + self.deleted == 0 || !may_tell(&mut self.written_told, now) {
            return None;
        }
        let [created, updated, deleted] = [&mut self.created, &mut self.updated, &mut self.deleted].map(std::mem::take);
        Some(format!("Copies of {secret}: {created} created, {updated} updated, {deleted} deleted."))
    }

    fn failures(&mut self, secret: &str, now: Instant) -> Option<String> {
        if self.failed == 0 || !may_tell(&mut self.failed_told, now) {
            return None;
        }
        let (failed, first) = (std::mem::take(&mut self.failed), self.first_failure.take().unwrap_or_default());
        Some(format!("{failed} writes for {secret} failed; the first: {first}"))
    }
}

fn may_tell(told: &mut Option<Instant>, now: Instant) -> bool {
    let may = told.is_none_or(|told| now.saturating_duration_since(told) >= TELL_EVERY);
    if may {
        *told = Some(now);
    }
    may
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_told_at_once_and_what_follows_together_a_minute_later() {
        let (mut counts, start) = (Counts::default(), Instant::now());
        let after = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(counts.written("creds", start), None, "nothing was done");
        let mut told = Vec::new();
        for second in 0..150 {
            // One namespace every ten seconds, for a minute and a half.
            counts.created += usize::from(second % 10 == 0 && second < 90);
            told.extend(counts.written("creds", after(second)).map(|note| (second, note)));
        }
        let created = |count: usize| format!("Copies of creds: {count} created, 0 updated, 0 deleted.");
        assert_eq!(told, [(0, created(1)), (60, created(6)), (120, created(2))]);
    }

    #[test]
    fn a_failure_is_told_at_once_also_where_writes_were_told_before() {
        let (mut counts, now) = (Counts { created: 1, ..Counts::default() }, Instant::now());
        assert!(counts.written("creds", now).is_some());
        (counts.failed, counts.first_failure) = (2, Some("no".to_owned()));
        assert_eq!(counts.failures("creds", now).as_deref(), Some("2 writes for creds failed; the first: no"));
        assert_eq!(counts.failures("creds", now), None);
    }
}
