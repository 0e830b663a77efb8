//! The sources of answers to the policy's questions about Kubernetes.

mod field_mask;
#[cfg(feature = "cluster")]
pub mod live;
pub mod manifests;
pub mod session;

use std::{collections::BTreeSet, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::object::Object;
use manifests::Manifests;
use session::{Recording, Session};

/// A source of answers. Clones share their source, and every source may be used from several threads.
#[derive(Clone, Debug)]
pub enum Cluster {
    /// No cluster. The answers are those of `kwctl run` without a kubeconfig.
    Absent,
    /// Objects from manifests.
    Manifests(Arc<Manifests>),
    /// A real API server.
    #[cfg(feature = "cluster")]
    Live(Arc<live::Live>),
    /// A recorded session: what a cluster answered, in order.
    Session(Arc<Session>),
    /// Another source whose questions and answers are recorded.
    Recording(Arc<Recording>),
}

/// The question behind `kubernetes/get_resource`.
///
/// Its name and fields are those of kwctl's recorded sessions, and its `Debug` form is part of a replay error.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct KubernetesGetResource {
    /// `v1`, or `group/version`.
    pub api_version: String,
    /// The kind's name, as in `kind: Secret`.
    pub kind: String,
    /// The object's name.
    pub name: String,
    /// The object's namespace; none for a cluster-wide kind.
    pub namespace: Option<String>,
    /// Whether the real host must ask the API server although it asked within the last 5 seconds. Of the sources here only
    /// a live one keeps answers, and a session compares it.
    pub disable_cache: bool,
    /// The fields of the object that are wanted, dotted; all of them when there is no mask or an empty one. The
    /// object's `apiVersion`, `kind` and `metadata` come in any case.
    pub field_masks: Option<BTreeSet<String>>,
}

impl Cluster {
    /// A cluster that holds these objects.
    pub fn of(manifests: Manifests) -> Self {
        Self::Manifests(Arc::new(manifests))
    }

    /// This cluster, and the recording of what it is asked from now on.
    pub fn recorded(self) -> (Self, Arc<Recording>) {
        let recording = Arc::new(Recording::of(self));
        (Self::Recording(Arc::clone(&recording)), recording)
    }

    /// The object asked for, as JSON, or the real host's error.
    pub(crate) fn get_resource(&self, request: &KubernetesGetResource) -> anyhow::Result<Vec<u8>> {
        match self {
            Self::Absent => anyhow::bail!("kube::Client was not initialized properly"),
            Self::Manifests(manifests) => masked(manifests.get(request)?, request),
            #[cfg(feature = "cluster")]
            Self::Live(live) => masked(live.get(request)?, request),
            Self::Session(session) => session.replay(request),
            Self::Recording(recording) => recording.record(request),
        }
    }
}

fn masked(mut object: Object, request: &KubernetesGetResource) -> anyhow::Result<Vec<u8>> {
    if let Some(masks) = &request.field_masks {
        field_mask::prune(&mut object.data, masks);
    }
    Ok(serde_json::to_vec(&object)?)
}
