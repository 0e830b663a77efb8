//! A session works by one configuration: a controller, and the watches and sources that report to it. A new configuration
//! starts a new session, which reads everything again.

use crate::cluster::answers::Answers;
use crate::cluster::record::Entries;
use crate::cluster::watch::{Report, Watched, Watcher};
use crate::engine::context::Context;
use crate::engine::controller::{Controller, SyncStatus};
use crate::engine::provider::{Asking, Provider};
use crate::engine::settings_source::Configuration;
use crate::engine::source;
use crate::engine::verifier::Verifier;
use crate::model::footprint::Footprint;
use crate::model::ownership::VERIFICATIONS_ANNOTATION;
use crate::model::plan::{Removal, Rules};
use crate::model::selection::Selection;
use image_pull_secrets::settings::{ConfiguredSecret, Settings, Source, VerifyCredentials};
use std::sync::Arc;
use tokio::sync::mpsc::{Sender, channel};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Starts a controller that brings everything in sync with `configuration`, and removes everything else that `footprint`
/// names. It reports its progress in `sync_status`. Dropping it ends its watches.
pub(crate) fn start(
    context: &Context,
    configuration: &Configuration,
    footprint: &Footprint,
    sync_status: watch::Sender<SyncStatus>,
) -> Controller {
    let selectors = context.selector.iter().chain(&configuration.selector).cloned().collect();
    let selection = Selection::Matching(selectors);
    begin(context, &configuration.settings, selection, Removal::Recorded, footprint, sync_status)
}

/// Starts a controller that removes everything that `footprint` names. If the command line selects namespaces, it removes
/// only from these.
pub(crate) fn start_removal(
    context: &Context,
    settings: &Arc<Settings>,
    removal: Removal,
    footprint: &Footprint,
) -> Controller {
    let selection = context.selector.clone().map_or(Selection::Nothing, Selection::NothingIn);
    begin(context, settings, selection, removal, footprint, watch::Sender::default())
}

fn begin(
    context: &Context,
    settings: &Arc<Settings>,
    selection: Selection,
    removal: Removal,
    footprint: &Footprint,
    sync_status: watch::Sender<SyncStatus>,
) -> Controller {
    // The queue has room for a page of objects.
    let (sender, reports) = channel(512);
    let watcher = Watcher {
        client: context.client.clone(),
        settings: settings.clone(),
        keep_labels: selection.looks_at_labels() || settings.looks_at_namespace_labels(),
        extras: context.extras.clone(),
        confirm_missing: context.delete_with_source,
        reports: sender.clone(),
    };
    let footprint = Footprint::of(settings).and(footprint.clone());
    let rules = Rules {
        selection,
        removal,
        delete_with_source: context.delete_with_source,
        extras: context.extras.clone(),
        own_sources: footprint.sources.clone(),
        ..Rules::of(settings.clone())
    };
    let mut watches = JoinSet::new();
    let controller = Controller::new(context, rules, footprint, reports, sync_status);
    for watched in controller.watches() {
        watches.spawn(watcher.clone().watch(watched));
    }
    if controller.needs_sources() {
        follow_sources(context, settings, &watcher, &sender, &mut watches);
    }
    let verifier = verifier(context, settings, sender);
    controller.fed_by(watches).verifying_by(verifier, context.asking == Asking::Once)
}

/// Makes the verifier that asks registries, if the settings want that and its answers would be used.
fn verifier(context: &Context, settings: &Settings, reports: Sender<Report>) -> Option<Verifier> {
    if settings.verify_credentials == VerifyCredentials::Off || context.asking == Asking::Never {
        return None;
    }
    let registries = context.registries.clone()?;
    let names = settings.secrets.iter().map(|secret| secret.name.clone()).collect();
    let entries = Entries::new(context.record.clone(), VERIFICATIONS_ANNOTATION, names);
    Some(Verifier { registries, entries: (context.asking != Asking::Try).then_some(entries), reports })
}

fn follow_sources(
    context: &Context,
    settings: &Settings,
    watcher: &Watcher,
    sender: &Sender<Report>,
    watches: &mut JoinSet<()>,
) {
    let is_exec = |secret: &&ConfiguredSecret| matches!(secret.source, Some(Source::Exec(_)));
    let minted = settings.secrets.iter().filter(is_exec).map(|secret| secret.name.clone()).collect();
    let answers = Answers::new(context.record.clone(), minted);
    for secret in &settings.secrets {
        let of = secret.name.clone();
        match secret.source.clone() {
            None => {}
            Some(Source::Secret { namespace, name }) => {
                watches.spawn(watcher.clone().watch(Watched::Source { of, namespace, name }));
            }
            Some(Source::File(path)) => {
                watches.spawn(source::follow_file(of, path, sender.clone()));
            }
            Some(Source::Exec(exec)) => {
                let (directory, asking) = (context.credential_providers.clone(), context.asking);
                let provider = Provider { secret: of, exec, directory, answers: answers.clone(), asking };
                watches.spawn(provider.follow(sender.clone()));
            }
            Some(Source::Env(name)) => {
                let sender = sender.clone();
                watches.spawn(async move {
                    let _ = sender.send(Report::Source(of, source::of_env(&name))).await;
                });
            }
        }
    }
}
