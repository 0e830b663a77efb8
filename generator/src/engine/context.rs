//! What everything that runs in one process works with.

use crate::cluster::election::Election;
use crate::cluster::record::Record;
use crate::cluster::registry::Registries;
use crate::engine::provider::Asking;
use crate::model::ownership::Extras;
use crate::telemetry::events::EventRecorder;
use crate::telemetry::server::Health;
use kube::Client;
use kube::core::Selector;
use std::path::PathBuf;
use std::sync::Arc;

/// What everything that runs in one process works with.
#[derive(Clone)]
pub(crate) struct Context {
    /// The API server.
    pub client: Client,
    /// The name of this replica.
    pub identity: String,
    /// What is recorded on the Lease.
    pub record: Record,
    /// What the endpoints tell.
    pub health: Health,
    /// Where Events go.
    pub recorder: EventRecorder,
    /// The selector of the command line.
    pub selector: Option<Selector>,
    /// What copies have besides their content and the generator's own marks.
    pub extras: Arc<Extras>,
    /// Where credential providers may be run from, if anywhere.
    pub credential_providers: Option<PathBuf>,
    /// What may be done to have their answers.
    pub asking: Asking,
    /// Who is asked whether credentials are accepted, where anybody may be.
    pub registries: Option<Registries>,
    /// Whether copies go with their source.
    pub delete_with_source: bool,
    /// Whether Pods that cannot pull are evicted.
    pub restart_stuck_pods: bool,
    /// How many namespaces are written to at the same time.
    pub concurrency: usize,
}

impl Context {
    /// The same, for what must not write.
    pub(crate) fn only_looking(&self) -> Self {
        Self { restart_stuck_pods: false, recorder: EventRecorder::default(), ..self.clone() }
    }

    /// This replica's part in the leader election.
    pub(crate) fn election(&self) -> Election {
        Election {
            client: self.client.clone(),
            namespace: self.record.namespace.clone(),
            lease: self.record.lease.clone(),
            identity: self.identity.clone(),
        }
    }
}
