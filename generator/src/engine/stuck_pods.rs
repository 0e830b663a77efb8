//! `--restart-stuck-pods`: evicts Pods that cannot pull because they were created before their ServiceAccount referred to a
//! secret. Their controller makes new ones, which inherit the reference.
//!
//! A Pod inherits the list of its ServiceAccount only if it has none of its own (the ServiceAccount admission plugin).
//! Afterwards, nobody can see that a list was inherited. So a Pod with a list is evicted only if the list may be inherited
//! and the Pod is older than the Secret that it lacks. The Pod that replaces it is younger than the Secret, and is
//! therefore never evicted.

use crate::cluster::backoff::Backoff;
use crate::cluster::error::chain;
use crate::cluster::rbac::Request;
use crate::model::index::Index;
use crate::model::observed::NamespaceFacts;
use crate::model::plan::{Rules, is_for};
use crate::model::pod_seen::PodSeen;
use crate::telemetry::metrics::Metrics;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::Eviction;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{DeleteOptions, ObjectMeta, Preconditions};
use kube::api::PostParams;
use kube::core::Status;
use kube::core::response::StatusDetails;
use kube::{Api, Client};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// The greatest number of evictions at the same time.
const AT_ONCE: usize = 8;

/// The longest wait before an eviction is tried again.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// The stuck Pods, and the state of their eviction.
pub(crate) struct StuckPods {
    client: Client,
    metrics: Arc<Metrics>,
    stuck: BTreeMap<(String, String), Stuck>,
    /// The evictions in flight. They end with the session, so that nothing is evicted after another replica leads or the
    /// settings changed.
    evictions: JoinSet<Answer>,
    /// The reason that was reported last, so that a reason that concerns all Pods is reported once.
    told: String,
}

struct Stuck {
    pod: PodSeen,
    waits: Backoff,
    state: EvictionState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum EvictionState {
    /// It will be evicted when that helps.
    Ready,
    /// It is left alone until this time.
    Waits(Instant),
    /// An eviction was sent and not answered yet.
    UnderWay,
    /// The API server says that it has changed. The watch will report how.
    Outdated,
    /// It was evicted and is still terminating.
    Evicted,
}

/// The result of an eviction.
struct Answer {
    pod: PodSeen,
    result: kube::Result<Status>,
}

impl StuckPods {
    /// Evicts through `client`.
    pub(crate) fn new(client: Client, metrics: Arc<Metrics>) -> Self {
        Self { client, metrics, stuck: BTreeMap::new(), evictions: JoinSet::new(), told: String::new() }
    }

    /// Takes in the present state of a Pod.
    pub(crate) fn observe(&mut self, pod: PodSeen) {
        let key = (pod.namespace.clone(), pod.name.clone());
        if !pod.is_stuck {
            self.stuck.remove(&key);
            return;
        }
        match self.stuck.get_mut(&key).filter(|known| known.pod.uid == pod.uid) {
            Some(known) => {
                if known.state == EvictionState::Outdated && known.pod.resource_version != pod.resource_version {
                    known.state = EvictionState::Waits(Instant::now() + known.waits.next().unwrap_or(LONGEST_WAIT));
                }
                known.pod = pod;
            }
            None => {
                let waits = Backoff::new(Duration::from_secs(2), LONGEST_WAIT);
                self.stuck.insert(key, Stuck { pod, waits, state: EvictionState::Ready });
            }
        }
    }

    /// Forgets every Pod that is not in this complete list of Pods that have not started, given by namespace and name.
    pub(crate) fn retain(&mut self, listed: &BTreeSet<(String, String)>) {
        self.stuck.retain(|key, _| listed.contains(key));
    }

    /// Waits until something may have to be evicted: an eviction was answered, or a retry is due.
    pub(crate) async fn changed(&mut self) {
        let waits = self.stuck.values().filter_map(|stuck| match stuck.state {
            EvictionState::Waits(until) => Some(until),
            EvictionState::Ready | EvictionState::UnderWay | EvictionState::Outdated | EvictionState::Evicted => None,
        });
        let due = waits.min();
        tokio::select! {
            Some(answer) = self.evictions.join_next() => {
                if let Ok(answer) = answer {
                    self.observe_answer(answer);
                }
            }
            () = tokio::time::sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {}
            else => std::future::pending().await,
        }
    }

    /// Evicts the stuck Pods for which a new Pod would now have a secret.
    pub(crate) fn evict(&mut self, index: &Index, rules: &Rules) {
        let now = Instant::now();
        for stuck in self.stuck.values_mut() {
            if matches!(stuck.state, EvictionState::Waits(until) if until <= now) {
                stuck.state = EvictionState::Ready;
            }
            let may_go = stuck.state == EvictionState::Ready && self.evictions.len() < AT_ONCE;
            if may_go && is_helped(&stuck.pod, index, rules) {
                stuck.state = EvictionState::UnderWay;
                self.evictions.spawn(evict(self.client.clone(), stuck.pod.clone()));
            }
        }
    }

    /// Waits for the evictions in flight.
    pub(crate) async fn finish(&mut self) {
        while let Some(answer) = self.evictions.join_next().await {
            if let Ok(answer) = answer {
                self.observe_answer(answer);
            }
        }
    }

    fn observe_answer(&mut self, Answer { pod, result }: Answer) {
        if result.is_ok() {
            self.metrics.evictions.inc();
            self.told.clear();
            tracing::info!("evict Pod {}/{}: it could not pull", pod.namespace, pod.name);
        }
        // It may have started or gone in the meantime.
        let key = (pod.namespace.clone(), pod.name.clone());
        let Some(known) = self.stuck.get_mut(&key).filter(|known| known.pod.uid == pod.uid) else { return };
        known.state = match &result {
            Ok(_) => EvictionState::Evicted,
            Err(error) if is_outdated(error) && known.pod.resource_version == pod.resource_version => {
                EvictionState::Outdated
            }
            Err(error) => {
                let why = why(error);
                if is_outdated(error) || known.waits.tries() > 0 || self.told == why {
                    tracing::debug!("cannot evict Pod {}/{}: {why}", pod.namespace, pod.name);
                } else {
                    tracing::warn!("cannot evict Pod {}/{}, and will try again: {why}", pod.namespace, pod.name);
                    self.told = why;
                }
                EvictionState::Waits(Instant::now() + known.waits.next().unwrap_or(LONGEST_WAIT))
            }
        };
    }
}

/// Whether a new Pod of this ServiceAccount would have a secret to pull with that this Pod lacks.
fn is_helped(pod: &PodSeen, index: &Index, rules: &Rules) -> bool {
    let Some(seen) = index.namespaces.get(&pod.namespace) else { return false };
    let is_selected = |facts: &&NamespaceFacts| !facts.terminating && rules.selects(&pod.namespace, facts);
    let Some(facts) = seen.namespace.as_ref().filter(is_selected) else { return false };
    let Some(account) = seen.service_accounts.get(&pod.service_account) else { return false };
    if account.excluded || !rules.settings.selects_service_account(&pod.service_account) {
        return false;
    }
    let may_be_inherited = pod.references.iter().all(|name| account.refers_to(name));
    rules.settings.service_account_secrets().any(|secret| {
        let lacks_it = is_for(secret, &pod.namespace, facts)
            && account.refers_to(&secret.name)
            && !pod.references.contains(&secret.name);
        let Some(found) = seen.secrets.get(&secret.name).filter(|found| found.usable && lacks_it) else { return false };
        let is_older = pod.created.is_some() && pod.created < found.created;
        pod.references.is_empty() || may_be_inherited && is_older
    })
}

async fn evict(client: Client, pod: PodSeen) -> Answer {
    let api = Api::<Pod>::namespaced(client, &pod.namespace);
    // kube's own `evict` cannot be used, because it sends `delete_options`, which the API server does not know.
    let result = api.create_subresource("eviction", &pod.name, &PostParams::default(), &eviction(&pod)).await;
    Answer { pod, result }
}

/// The request to evict this Pod. Its preconditions make the API server refuse if the Pod has started, or was replaced by
/// one of the same name. For a Pod that has not started, the API server checks no PodDisruptionBudget (`canIgnorePDB` in
/// `pkg/registry/core/pod/storage/eviction.go`).
fn eviction(pod: &PodSeen) -> Eviction {
    let preconditions =
        Preconditions { uid: Some(pod.uid.clone()), resource_version: Some(pod.resource_version.clone()) };
    Eviction {
        metadata: ObjectMeta { name: Some(pod.name.clone()), ..ObjectMeta::default() },
        delete_options: Some(DeleteOptions { preconditions: Some(preconditions), ..DeleteOptions::default() }),
    }
}

/// Whether the API server says that the Pod has changed. A refusal because of a budget means the same: budgets are checked
/// only for Pods that have started.
fn is_outdated(error: &kube::Error) -> bool {
    let kube::Error::Api(status) = error else { return false };
    let by_budget = |details: &StatusDetails| details.causes.iter().any(|cause| cause.reason == "DisruptionBudget");
    matches!(status.code, 404 | 409 | 412) || status.details.as_ref().is_some_and(by_budget)
}

fn why(error: &kube::Error) -> String {
    let kube::Error::Api(status) = error else { return chain(error) };
    let request = Request { verb: "create", group: "", resource: "pods/eviction", namespace: None, name: None };
    request.missing_rule(status).unwrap_or_else(|| format!("{} ({})", status.message, status.code))
}

#[cfg(test)]
mod tests;
