//! One configuration at work: its watches, its sources and the controller that they report to. A new configuration is a new
//! session, which reads everything anew.

use crate::cluster::watch::{Report, Watched, Watcher};
use crate::cluster::writer::Writer;
use crate::engine::controller::{Controller, Setup, SyncStatus};
use crate::engine::settings_source::Configuration;
use crate::engine::source;
use crate::engine::stuck_pods::StuckPods;
use crate::model::footprint::Footprint;
use crate::model::ownership::Extras;
use crate::model::plan::{Removal, Rules};
use crate::model::selection::Selection;
use crate::telemetry::events::EventRecorder;
use crate::telemetry::metrics::Metrics;
use image_pull_secrets::settings::{Settings, Source};
use kube::Client;
use kube::core::Selector;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tokio::sync::mpsc::{Sender, channel};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// What every session of a process works with.
#[derive(Clone)]
pub(crate) struct Context {
    /// The API server.
    pub client: Client,
    /// Whether Pods that cannot pull are evicted.
    pub restart_stuck_pods: bool,
    /// The metrics.
    pub metrics: Arc<Metrics>,
    /// Where Events go.
    pub recorder: EventRecorder,
    /// The selector of the command line.
    pub selector: Option<Selector>,
    /// What copies have besides their content and the generator's own marks.
    pub extras: Arc<Extras>,
    /// Whether copies go with their source.
    pub delete_with_source: bool,
    /// How many namespaces are written to at the same time.
    pub concurrency: usize,
}

impl Context {
    /// The same, for what must not write.
    pub(crate) fn only_looking(self) -> Self {
        Self { restart_stuck_pods: false, recorder: EventRecorder::default(), ..self }
    }
}

/// A controller with everything that reports to it. Dropping it ends the watches.
pub(crate) struct Session {
    /// The controller.
    pub controller: Controller,
    _watches: JoinSet<()>,
}

impl Session {
    /// Begins to make everything as `configuration` wants it, and to remove what else `footprint` says there may be. How far
    /// that has come is told in `sync_status`.
    pub(crate) fn start(
        context: &Context,
        configuration: &Configuration,
        footprint: &Footprint,
        sync_status: watch::Sender<SyncStatus>,
    ) -> Self {
        let selectors = context.selector.iter().chain(&configuration.selector).cloned().collect();
        Self::new(
            context,
            &configuration.settings,
            Selection::Matching(selectors),
            Removal::Recorded,
            footprint,
            sync_status,
        )
    }

    /// Begins to remove everything that `footprint` says there may be; only from namespaces that the command line selects,
    /// where it selects any.
    pub(crate) fn removing(
        context: &Context,
        settings: &Arc<Settings>,
        removal: Removal,
        footprint: &Footprint,
    ) -> Self {
        let selection = context.selector.clone().map_or(Selection::Nothing, Selection::NothingIn);
        Self::new(context, settings, selection, removal, footprint, watch::Sender::default())
    }

    fn new(
        context: &Context,
        settings: &Arc<Settings>,
        selection: Selection,
        removal: Removal,
        footprint: &Footprint,
        sync_status: watch::Sender<SyncStatus>,
    ) -> Self {
        // What has to be seen before it can be said that all is well. What is only left over may be forbidden to watch.
        let sources_matter = !selection.selects_nothing();
        let everything = Footprint::of(settings).and(footprint.clone());
        let required =
            if sources_matter { Watched::all_of(&Footprint::of(settings)) } else { Watched::all_of(&everything) };
        // Room for a page of objects.
        let (sender, reports) = channel(512);
        let watcher = Watcher {
            client: context.client.clone(),
            settings: settings.clone(),
            keep_labels: selection.looks_at_labels(),
            extras: context.extras.clone(),
            confirm_missing: context.delete_with_source,
            reports: sender.clone(),
        };
        let mut watches = JoinSet::new();
        let leftovers: BTreeSet<Watched> = Watched::all_of(&everything).difference(&required).cloned().collect();
        let mut wanted = &required | &leftovers;
        if context.restart_stuck_pods {
            wanted.insert(Watched::PendingPods);
        }
        for watched in wanted {
            watches.spawn(watcher.clone().watch(watched));
        }
        if sources_matter {
            follow_sources(settings, &watcher, &sender, &mut watches);
        }
        let rules = Rules {
            settings: settings.clone(),
            selection,
            removal,
            delete_with_source: context.delete_with_source,
            sources: BTreeMap::new(),
            extras: context.extras.clone(),
            own_sources: everything.sources.clone(),
        };
        let (client, metrics) = (context.client.clone(), context.metrics.clone());
        let setup = Setup {
            stuck_pods: context.restart_stuck_pods.then(|| StuckPods::new(client, metrics)),
            writer: Writer::new(context.client.clone(), context.metrics.clone()),
            rules: Arc::new(rules),
            required,
            leftovers,
            sources_matter,
            concurrency: context.concurrency,
            recorder: context.recorder.clone(),
            sought: everything,
            sync_status,
        };
        Self { controller: Controller::new(setup, reports), _watches: watches }
    }
}

fn follow_sources(settings: &Settings, watcher: &Watcher, sender: &Sender<Report>, watches: &mut JoinSet<()>) {
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
            Some(Source::Env(name)) => {
                let sender = sender.clone();
                watches.spawn(async move {
                    let _ = sender.send(Report::Source(of, source::of_env(&name))).await;
                });
            }
        }
    }
}
