//! Pods that may be unable to pull.

use crate::model::observed::is_excluded;
use crate::model::pod::{ContainerStatus, Pod};
use image_pull_secrets::settings::Settings;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;

/// The annotation of a mirror Pod, which shows a static Pod of a Node. Evicting it has no use, because the kubelet of the
/// Node creates it again.
const MIRROR_ANNOTATION: &str = "kubernetes.io/config.mirror";

/// A Pod, reduced to what is needed here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PodSeen {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// Its version.
    pub resource_version: String,
    /// Its ServiceAccount.
    pub service_account: String,
    /// When it was created, on the API server's clock, in whole seconds.
    pub created: Option<Timestamp>,
    /// The names in its `imagePullSecrets`.
    pub references: Vec<String>,
    /// Whether it cannot pull, has a controller that will replace it, and is not excluded.
    pub is_stuck: bool,
}

impl PodSeen {
    /// Reads a Pod.
    pub(crate) fn of(pod: &Pod, settings: &Settings) -> Self {
        let has_controller = pod.owner_references().iter().any(|owner| owner.controller == Some(true));
        let references = pod.spec.image_pull_secrets.iter().flatten();
        let is_mirror = pod.annotations().contains_key(MIRROR_ANNOTATION);
        let stays =
            pod.metadata.deletion_timestamp.is_none() && !is_excluded(pod.metadata.annotations.as_ref(), settings);
        Self {
            namespace: pod.namespace().unwrap_or_default(),
            name: pod.name_any(),
            uid: pod.uid().unwrap_or_default(),
            resource_version: pod.resource_version().unwrap_or_default(),
            service_account: pod.spec.service_account_name.clone().unwrap_or_else(|| "default".to_owned()),
            created: pod.creation_timestamp().map(|time| time.0),
            references: references.map(|reference| reference.name.clone()).collect(),
            is_stuck: has_controller && !is_mirror && stays && cannot_pull(pod),
        }
    }
}

fn cannot_pull(pod: &Pod) -> bool {
    let Some(status) = &pod.status else { return false };
    let containers = status.container_statuses.iter().chain(&status.init_container_statuses).flatten();
    containers
        .filter_map(ContainerStatus::waiting)
        .any(|(reason, _)| matches!(reason, "ImagePullBackOff" | "ErrImagePull"))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use rstest::rstest;
    use serde_json::{Value, json};

    pub(crate) fn pod() -> Value {
        json!({
            "metadata": {"name": "web-1", "namespace": "team-a", "uid": "u",
                "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": "r", "controller": true}]},
            "spec": {"containers": [], "serviceAccountName": "default"},
            "status": {"containerStatuses": [{"name": "app", "image": "i", "imageID": "", "ready": false, "restartCount": 0,
                "state": {"waiting": {"reason": "ImagePullBackOff"}}}]},
        })
    }

    #[rstest]
    #[case::as_it_is("/x", json!(null), true)]
    #[case::it_just_failed("/status/containerStatuses/0/state/waiting/reason", json!("ErrImagePull"), true)]
    #[case::it_is_only_starting("/status/containerStatuses/0/state/waiting/reason", json!("ContainerCreating"), false)]
    #[case::nothing_would_replace_it("/metadata/ownerReferences", json!([]), false)]
    #[case::it_is_excluded("/metadata/annotations", json!({"example.com/exclude": "true"}), false)]
    #[case::it_mirrors_a_static_pod("/metadata/annotations", json!({"kubernetes.io/config.mirror": "0f3a"}), false)]
    #[case::it_is_going("/metadata/deletionTimestamp", json!("2026-01-01T00:00:00Z"), false)]
    fn a_pod_is_stuck(#[case] path: &str, #[case] value: Value, #[case] expected: bool) {
        let mut pod = pod();
        let patch: json_patch::Patch =
            serde_json::from_value(json!([{"op": "add", "path": path, "value": value}])).unwrap();
        json_patch::patch(&mut pod, &patch).unwrap();
        let settings = json!({"secrets": [{"name": "creds"}], "exclude": {"annotation": "example.com/exclude"}});
        let settings = Settings::from_value(&settings).unwrap();
        let pod: Pod = serde_json::from_value(pod).unwrap();
        assert_eq!(PodSeen::of(&pod, &settings).is_stuck, expected);
    }
}
