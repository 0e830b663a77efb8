//! What was done since everything was last as it should be: told once for each source, not once for each namespace.

use crate::apply::Failure;
use crate::events::Reporter;
use crate::plan::Action;
use image_pull_secrets::settings::Settings;
use std::collections::BTreeMap;

/// Counts by secret.
#[derive(Default)]
pub(super) struct Progress(BTreeMap<String, Counts>);

#[derive(Default)]
struct Counts {
    created: usize,
    updated: usize,
    deleted: usize,
    failed: usize,
    first_failure: Option<String>,
}

impl Progress {
    pub(super) fn succeeded(&mut self, action: &Action) {
        match action {
            Action::Create(target) => self.of(&target.secret).created += 1,
            Action::Update(target, _) | Action::Recreate(target, _) => self.of(&target.secret).updated += 1,
            Action::Delete(target, _) => self.of(&target.secret).deleted += 1,
            // An Event on the source is about copies.
            Action::Refer(_) => {}
        }
    }

    pub(super) fn failed(&mut self, action: &Action, failure: &Failure) {
        let secret = match action {
            Action::Create(target)
            | Action::Update(target, _)
            | Action::Recreate(target, _)
            | Action::Delete(target, _) => Some(&target.secret),
            Action::Refer(change) => change.add.first().or_else(|| change.remove.first().map(|(_, name)| name)),
        };
        if let Some(secret) = secret {
            let counts = self.of(secret);
            counts.failed += 1;
            counts.first_failure.get_or_insert_with(|| failure.message.clone());
        }
    }

    /// Tells, and starts anew.
    pub(super) fn report(&mut self, settings: &Settings, reporter: &Reporter) {
        for (secret, counts) in std::mem::take(&mut self.0) {
            let configured = settings.secrets.iter().find(|configured| configured.name == secret);
            let Some(source) = configured.and_then(|configured| configured.source.as_ref()) else { continue };
            let (created, updated, deleted) = (counts.created, counts.updated, counts.deleted);
            if created + updated + deleted > 0 {
                let note = format!("Copies of {secret}: {created} created, {updated} updated, {deleted} deleted.");
                reporter.note(source, "CopiesWritten", &note);
            }
            if let Some(first) = counts.first_failure {
                reporter.warn(
                    source,
                    "WriteFailed",
                    &format!("{} writes for {secret} failed; the first: {first}", counts.failed),
                );
            }
        }
    }

    fn of(&mut self, secret: &str) -> &mut Counts {
        self.0.entry(secret.to_owned()).or_default()
    }
}
