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
    /// What the HTTP endpoints report.
    pub health: Health,
    /// Where Events go.
    pub recorder: EventRecorder,
    /// The selector of the command line.
    pub selector: Option<Selector>,
    /// Labels and annotations of the copies, in addition to the generator's own.
    pub extras: Arc<Extras>,
    /// The directory of the credential providers. `None` if none may be run.
    pub credential_providers: Option<PathBuf>,
    /// Whether credential providers may be asked.
    pub asking: Asking,
    /// The client that asks registries about credentials, if that is allowed.
    pub registries: Option<Registries>,
    /// Whether copies are deleted when their source is.
    pub delete_with_source: bool,
    /// Whether Pods that cannot pull are evicted.
    pub restart_stuck_pods: bool,
    /// How many namespaces are written to at the same time.
    pub concurrency: usize,
}

impl Context {
    /// The same context for a command that must not write.
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
