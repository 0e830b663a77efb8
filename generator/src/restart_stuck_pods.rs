//! `--restart-stuck-pods`: evicts Pods that cannot pull because they were created before their ServiceAccount referred to a
//! secret. Their controller makes new ones, which inherit the reference.
//!
//! A Pod inherits its ServiceAccount's list only where it has none of its own (the ServiceAccount admission plugin), and an
//! inherited list looks like its own afterwards. So a Pod with a list is evicted only if it may be an inherited one, and the Pod
//! is older than the Secret that it lacks: its successor is younger, and left alone whatever it lists.

use crate::backoff::Backoff;
use crate::index::Index;
use crate::metrics::Metrics;
use crate::plan::Rules;
use crate::rbac::Request;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use k8s_openapi::jiff::Timestamp;
use kube::api::EvictParams;
use kube::{Api, Client, ResourceExt as _};
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

/// How often an eviction that a budget does not allow is tried again.
const TRIES: usize = 20;

/// A Pod, as far as it matters here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodSeen {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// Its ServiceAccount.
    pub service_account: String,
    /// When it was created, on the API server's clock, in whole seconds.
    pub created: Option<Timestamp>,
    /// The names in its `imagePullSecrets`.
    pub references: Vec<String>,
    /// Whether it cannot pull, and has a controller that makes another in its place.
    pub is_stuck: bool,
}

impl PodSeen {
    /// Of a Pod.
    pub fn of(pod: &Pod) -> Self {
        let has_controller = pod.owner_references().iter().any(|owner| owner.controller == Some(true));
        let references = pod.spec.iter().flat_map(|spec| spec.image_pull_secrets.iter().flatten());
        let is_going = pod.metadata.deletion_timestamp.is_some();
        let account = pod.spec.as_ref().and_then(|spec| spec.service_account_name.clone());
        Self {
            namespace: pod.namespace().unwrap_or_default(),
            name: pod.name_any(),
            uid: pod.uid().unwrap_or_default(),
            service_account: account.unwrap_or_else(|| "default".to_owned()),
            created: pod.creation_timestamp().map(|time| time.0),
            references: references.map(|reference| reference.name.clone()).collect(),
            is_stuck: has_controller && !is_going && cannot_pull(pod),
        }
    }
}

fn cannot_pull(pod: &Pod) -> bool {
    let Some(status) = &pod.status else { return false };
    let containers = status.container_statuses.iter().flatten();
    containers
        .chain(status.init_container_statuses.iter().flatten())
        .filter_map(waiting_reason)
        .any(|reason| matches!(reason, "ImagePullBackOff" | "ErrImagePull"))
}

fn waiting_reason(status: &ContainerStatus) -> Option<&str> {
    status.state.as_ref()?.waiting.as_ref()?.reason.as_deref()
}

/// The Pods that are stuck, and those that were evicted already.
pub struct StuckPods {
    client: Client,
    metrics: Arc<Metrics>,
    stuck: BTreeMap<(String, String), PodSeen>,
    evicted: HashSet<String>,
}

impl StuckPods {
    /// Evicts through `client`.
    pub fn new(client: Client, metrics: Arc<Metrics>) -> Self {
        Self { client, metrics, stuck: BTreeMap::new(), evicted: HashSet::new() }
    }

    /// Takes in what a Pod is like, and evicts it if that helps.
    pub fn take_in(&mut self, pod: PodSeen, index: &Index, rules: &Rules) {
        let namespace = pod.namespace.clone();
        let key = (pod.namespace.clone(), pod.name.clone());
        if pod.is_stuck {
            self.stuck.insert(key, pod);
            self.look_again(&namespace, index, rules);
        } else {
            self.stuck.remove(&key);
            self.evicted.remove(&pod.uid);
        }
    }

    /// Evicts the stuck Pods of a namespace that are helped by what is there now.
    pub fn look_again(&mut self, namespace: &str, index: &Index, rules: &Rules) {
        let of_namespace = self.stuck.iter().filter(|((of, _), _)| of == namespace);
        let helped: Vec<PodSeen> =
            of_namespace.filter(|(_, pod)| is_helped(pod, index, rules)).map(|(_, pod)| pod.clone()).collect();
        for pod in helped {
            if self.evicted.insert(pod.uid.clone()) {
                tokio::spawn(evict(self.client.clone(), self.metrics.clone(), pod));
            }
        }
    }
}

/// Whether a new Pod of this ServiceAccount would have a secret to pull with that this one has not.
fn is_helped(pod: &PodSeen, index: &Index, rules: &Rules) -> bool {
    let Some(seen) = index.namespaces.get(&pod.namespace) else { return false };
    let Some(account) = seen.service_accounts.get(&pod.service_account) else { return false };
    let may_be_inherited = pod.references.iter().all(|name| account.refers_to(name));
    rules.settings.service_account_secrets().any(|secret| {
        let lacks_it = account.refers_to(&secret.name) && !pod.references.contains(&secret.name);
        let Some(found) = seen.secrets.get(&secret.name).filter(|found| found.usable && lacks_it) else { return false };
        let is_older = pod.created.is_some() && pod.created < found.created;
        pod.references.is_empty() || may_be_inherited && is_older
    })
}

async fn evict(client: Client, metrics: Arc<Metrics>, pod: PodSeen) {
    let api = Api::<Pod>::namespaced(client, &pod.namespace);
    let waits = Backoff::new(Duration::from_secs(2), Duration::from_secs(60)).take(TRIES);
    for wait in waits {
        match api.evict(&pod.name, &EvictParams::default()).await {
            Ok(_) => {
                metrics.evictions.inc();
                tracing::info!("evict Pod {}/{}: it could not pull", pod.namespace, pod.name);
                return;
            }
            Err(kube::Error::Api(status)) if status.code == 404 => return,
            Err(kube::Error::Api(status)) if status.code == 403 => {
                let (namespace, name) = (Some(pod.namespace.as_str()), None);
                let request = Request { verb: "create", group: "", resource: "pods/eviction", namespace, name };
                let why = request.missing_rule(&status).unwrap_or_else(|| status.message.clone());
                tracing::warn!("cannot evict Pod {}/{}: {why}", pod.namespace, pod.name);
                return;
            }
            // 429 is how a budget says no.
            Err(error) => {
                tracing::debug!("cannot evict Pod {}/{} yet: {error}", pod.namespace, pod.name);
                tokio::time::sleep(wait).await;
            }
        }
    }
    tracing::warn!("Pod {}/{} cannot pull, and is not evicted: a budget does not allow it", pod.namespace, pod.name);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::{SecretSeen, ServiceAccountSeen};
    use crate::plan::Removal;
    use crate::selection::Selection;
    use image_pull_secrets::settings::Settings;
    use k8s_openapi::ByteString;
    use rstest::rstest;
    use serde_json::{Value, json};

    fn pod() -> Value {
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
    #[case::it_is_going("/metadata/deletionTimestamp", json!("2026-01-01T00:00:00Z"), false)]
    fn a_pod_is_stuck(#[case] path: &str, #[case] value: Value, #[case] expected: bool) {
        let mut pod = pod();
        let patch: json_patch::Patch =
            serde_json::from_value(json!([{"op": "add", "path": path, "value": value}])).unwrap();
        json_patch::patch(&mut pod, &patch).unwrap();
        let pod: Pod = serde_json::from_value(pod).unwrap();
        assert_eq!(PodSeen::of(&pod).is_stuck, expected);
    }

    const SECRET: &str = "creds";

    /// Where ServiceAccount `default` refers to `mine` and to the secret, which was created then.
    fn index(usable: bool, created: &str) -> Index {
        let mut index = Index::default();
        let account =
            json!({"metadata": {"name": "default"}, "imagePullSecrets": [{"name": "mine"}, {"name": SECRET}]});
        let account = ServiceAccountSeen::of(&serde_json::from_value(account).unwrap(), &settings());
        index.put_service_account("team-a", "default", account);
        let config = if usable { "{\"auths\": {}}" } else { "{" };
        let secret = json!({
            "metadata": {"creationTimestamp": created},
            "type": "kubernetes.io/dockerconfigjson",
            "data": {".dockerconfigjson": ByteString(config.into())},
        });
        index.put_secret("team-a", SECRET, SecretSeen::of(&serde_json::from_value(secret).unwrap()));
        index
    }

    fn settings() -> Settings {
        Settings::from_value(&json!({"secrets": [{"name": SECRET}]})).unwrap()
    }

    #[rstest]
    #[case::it_lists_nothing(&[], "2026-01-01T00:00:10Z", true, true)]
    #[case::it_lists_nothing_and_is_younger_than_the_secret(&[], "2026-01-01T00:00:01Z", true, true)]
    #[case::the_secret_is_not_usable(&[], "2026-01-01T00:00:10Z", false, false)]
    #[case::it_lists_the_secret(&["mine", SECRET], "2026-01-01T00:00:10Z", true, false)]
    #[case::it_inherited_a_list_before_there_was_the_secret(&["mine"], "2026-01-01T00:00:10Z", true, true)]
    #[case::it_is_as_old_as_the_secret(&["mine"], "2026-01-01T00:00:05Z", true, false)]
    #[case::it_is_younger_than_the_secret(&["mine"], "2026-01-01T00:00:01Z", true, false)]
    #[case::it_has_a_list_of_its_own(&["another"], "2026-01-01T00:00:10Z", true, false)]
    fn a_stuck_pod_is_helped(
        #[case] references: &[&str],
        #[case] created: &str,
        #[case] usable: bool,
        #[case] expected: bool,
    ) {
        let mut pod = pod();
        pod["metadata"]["creationTimestamp"] = json!("2026-01-01T00:00:05Z");
        pod["spec"]["imagePullSecrets"] = references.iter().map(|name| json!({"name": name})).collect();
        let pod = PodSeen::of(&serde_json::from_value(pod).unwrap());
        let rules = Rules {
            settings: Arc::new(settings()),
            selection: Selection::Matching(vec![]),
            removal: Removal::Recorded,
            delete_with_source: false,
            sources: BTreeMap::new(),
            own_sources: Default::default(),
        };
        assert_eq!(is_helped(&pod, &index(usable, created), &rules), expected);
    }
}
