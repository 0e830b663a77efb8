//! Reads the settings from a file, or from the ClusterAdmissionPolicy that also configures the policy.

use crate::cluster::backoff::{Backoff, waiting_after_errors};
use crate::cluster::error::chain;
use crate::cluster::rbac::Request;
use crate::cluster::watch;
use crate::engine::file;
use crate::model::label_selector::checked;
use anyhow::{Context as _, Result, anyhow, bail};
use futures::StreamExt as _;
use image_pull_secrets::settings::Settings;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind};
use kube::core::Selector;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client};
use serde::Deserialize;
use serde_json::Value;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch::Sender;

/// What the administrator wrote.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Configuration {
    /// The settings.
    pub settings: Arc<Settings>,
    /// The namespaceSelector of the policy, if the settings come from a policy.
    pub selector: Option<Selector>,
}

/// Where the settings are.
#[derive(Debug, Clone)]
pub(crate) enum SettingsSource {
    /// In a file.
    File(PathBuf),
    /// In the ClusterAdmissionPolicy of this name.
    Policy(String),
}

/// The part of a ClusterAdmissionPolicy that matters here.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PolicySpec {
    #[serde(default)]
    settings: Value,
    namespace_selector: Option<LabelSelector>,
}

impl SettingsSource {
    /// Reads the settings once.
    ///
    /// # Errors
    /// They do not exist, or are not valid.
    pub(crate) async fn read(&self, client: &Client) -> Result<Configuration> {
        match self {
            Self::File(path) => of_file(path, tokio::fs::read(path).await),
            Self::Policy(name) => of_policy(name, &policy_named(client, name).await?),
        }
    }

    /// Keeps `configuration` up to date with the settings; it is `None` while there are none. Invalid settings do not
    /// change it. After each read, `validity` receives whether the settings are valid, or why they are not.
    pub(crate) async fn follow(
        self,
        client: Client,
        configuration: Sender<Option<Configuration>>,
        validity: impl Fn(Result<bool, &anyhow::Error>),
    ) {
        let set = |new: Result<Option<Configuration>>| match new {
            Ok(new) => {
                validity(Ok(new.is_some()));
                configuration.send_if_modified(|current| {
                    let changed = *current != new;
                    if changed {
                        *current = new;
                    }
                    changed
                });
            }
            Err(error) => {
                validity(Err(&error));
                tracing::error!("the settings cannot be used, and stay as they were: {error:#}");
            }
        };
        match self {
            Self::File(path) => {
                file::follow(&path, |content| {
                    set(of_file(&path, content).map(Some));
                    async { true }
                })
                .await;
            }
            Self::Policy(name) => follow_policy(client, &name, set).await,
        }
    }
}

async fn follow_policy(client: Client, name: &str, set: impl Fn(Result<Option<Configuration>>)) {
    let waits = Backoff::new(Duration::from_millis(200), Duration::from_secs(10));
    let mut events = pin!(waiting_after_errors(watcher(policies(client), watch::config(Some(name))), waits));
    let (mut found, mut last_reason) = (false, String::new());
    let absent =
        || tracing::warn!("there is no ClusterAdmissionPolicy {name}: the generator does nothing until there is one");
    while let Some(event) = events.next().await {
        if matches!(event, Ok(Event::InitDone | Event::Apply(_) | Event::Delete(_))) {
            last_reason.clear();
        }
        match event {
            Ok(Event::Init) => found = false,
            Ok(Event::InitApply(policy) | Event::Apply(policy)) => {
                found = true;
                set(of_policy(name, &policy).map(Some));
            }
            Ok(Event::InitDone) if found => {}
            Ok(Event::InitDone | Event::Delete(_)) => {
                absent();
                set(Ok(None));
            }
            Err(error) => {
                let reason = match &error {
                    watcher::Error::InitialListFailed(error) | watcher::Error::WatchStartFailed(error) => {
                        policy_request(name).failure(error)
                    }
                    other => chain(other),
                };
                if reason != last_reason {
                    tracing::warn!("cannot watch ClusterAdmissionPolicy {name}: {reason}");
                    last_reason = reason;
                }
            }
        }
    }
}

/// The request that reads the policy of this name.
pub(crate) fn policy_request(name: &str) -> Request<'_> {
    let (group, resource) = ("policies.kubewarden.io", "clusteradmissionpolicies");
    Request { verb: "list", group, resource, namespace: None, name: Some(name) }
}

/// The ClusterAdmissionPolicies of the cluster.
pub(crate) fn policies(client: Client) -> Api<DynamicObject> {
    let kind = GroupVersionKind::gvk("policies.kubewarden.io", "v1", "ClusterAdmissionPolicy");
    Api::all_with(client, &ApiResource::from_gvk_with_plural(&kind, "clusteradmissionpolicies"))
}

/// The ClusterAdmissionPolicy of this name.
///
/// # Errors
/// It does not exist, or cannot be read.
pub(crate) async fn policy_named(client: &Client, name: &str) -> Result<DynamicObject> {
    policies(client.clone()).get(name).await.map_err(|error| {
        let request = Request { verb: "get", ..policy_request(name) };
        anyhow!("cannot read ClusterAdmissionPolicy {name}: {}", request.failure(&error))
    })
}

/// Reads the configuration from a ClusterAdmissionPolicy.
///
/// # Errors
/// Its settings or its namespaceSelector are not valid.
pub(crate) fn of_policy(name: &str, policy: &DynamicObject) -> Result<Configuration> {
    let spec = policy.data.get("spec").cloned().unwrap_or_default();
    let spec: PolicySpec = serde_json::from_value(spec)
        .with_context(|| format!("ClusterAdmissionPolicy {name} has no spec that can be read"))?;
    let settings =
        Settings::from_value(&spec.settings).with_context(|| format!("settings of ClusterAdmissionPolicy {name}"))?;
    let selector = spec.namespace_selector.map(checked).transpose();
    let selector = selector.with_context(|| format!("namespaceSelector of ClusterAdmissionPolicy {name}"))?;
    Ok(Configuration { settings: Arc::new(settings), selector })
}

/// Reads the configuration from the content of a file.
///
/// # Errors
/// It cannot be parsed, or is not valid. Then the error is [`image_pull_secrets::settings::Faults`].
pub(crate) fn of_file(path: &Path, content: io::Result<Vec<u8>>) -> Result<Configuration> {
    let content = content.with_context(|| format!("cannot read the settings {}", path.display()))?;
    let Ok(text) = String::from_utf8(content) else { bail!("the settings {} are not UTF-8 text", path.display()) };
    // The YAML error quotes the document. That is safe, because settings contain no credentials, and the line helps.
    let document: Value = serde_saphyr::from_str(&text).with_context(|| format!("the settings {}", path.display()))?;
    let settings = Settings::from_value(&document).with_context(|| format!("the settings {}", path.display()))?;
    Ok(Configuration { settings: Arc::new(settings), selector: None })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::fake_api;
    use rstest::rstest;
    use serde_json::json;

    fn policy(spec: Value) -> Result<Configuration> {
        let kind =
            ApiResource::from_gvk(&GroupVersionKind::gvk("policies.kubewarden.io", "v1", "ClusterAdmissionPolicy"));
        of_policy("p", &DynamicObject::new("p", &kind).data(json!({ "spec": spec })))
    }

    #[test]
    fn a_policy_gives_its_settings_and_its_namespace_selector() {
        let found = policy(json!({
            "module": "registry://ghcr.io/x", "settings": {"secrets": [{"name": "creds"}]},
            "namespaceSelector": {"matchExpressions": [{"key": "team", "operator": "Exists"}]},
        }));
        let found = found.unwrap();
        assert_eq!(found.settings.secrets[0].name, "creds");
        assert_eq!(found.selector.unwrap().to_string(), "team");
    }

    #[rstest]
    #[case::settings_that_are_not_valid(
        json!({"settings": {"secrets": []}}), "settings of ClusterAdmissionPolicy p")]
    #[case::no_settings(json!({}), "settings of ClusterAdmissionPolicy p")]
    #[case::a_selector_that_is_not_valid(
        json!({"settings": {"secrets": [{"name": "a"}]}, "namespaceSelector": {"matchExpressions": [{"key": "a", "operator": "Like"}]}}),
        "namespaceSelector of ClusterAdmissionPolicy p")]
    #[case::a_selector_that_nothing_can_match(
        json!({"settings": {"secrets": [{"name": "a"}]}, "namespaceSelector": {"matchExpressions": [{"key": "a", "operator": "In", "values": []}]}}),
        "namespaceSelector of ClusterAdmissionPolicy p")]
    #[case::a_selector_with_a_value_that_no_label_has(
        json!({"settings": {"secrets": [{"name": "a"}]}, "namespaceSelector": {"matchLabels": {"team": "a;b"}}}),
        "namespaceSelector of ClusterAdmissionPolicy p")]
    fn a_policy_that_cannot_be_used_is_named(#[case] spec: Value, #[case] expected: &str) {
        assert_eq!(policy(spec).unwrap_err().to_string(), expected);
    }

    #[tokio::test(start_paused = true)]
    async fn a_policy_that_cannot_be_listed_is_asked_for_after_longer_and_longer_waits() {
        let (asked, client) = fake_api::answering(&[json!({"code": 404, "message": "404 page not found"})]);
        let following = SettingsSource::Policy("p".to_owned()).follow(client, Sender::new(None), |_| ());
        let _ = tokio::time::timeout(Duration::from_secs(600), following).await;
        let tries = asked.lock().unwrap().len();
        // The longest waits are 5 s to 10 s.
        assert!((60..135).contains(&tries), "{tries} tries in ten minutes");
    }

    #[tokio::test(start_paused = true)]
    async fn a_second_outage_like_the_first_is_told_as_well() {
        let log = fake_api::log();
        let list = json!({"metadata": {"resourceVersion": "1"}, "items": []});
        let broken = json!({"code": 500, "message": "broken"});
        let kind = ("policies.kubewarden.io/v1", "ClusterAdmissionPolicy");
        let policy = json!({"apiVersion": kind.0, "kind": kind.1, "metadata": {"name": "p", "resourceVersion": "2"}});
        let event = json!({"type": "ADDED", "object": policy});
        // One list, and three attempts to watch.
        let (_, client) = fake_api::answering(&[list, broken.clone(), event, broken]);
        let following = SettingsSource::Policy("p".to_owned()).follow(client, Sender::new(None), |_| ());
        let _ = tokio::time::timeout(Duration::from_secs(600), following).await;
        assert_eq!(log.text().matches("cannot watch ClusterAdmissionPolicy p: ").count(), 2, "{}", log.text());
    }

    #[tokio::test(start_paused = true)]
    async fn whether_there_are_valid_settings_is_told_whenever_they_are_read() {
        let list = |items: Value| json!({"metadata": {"resourceVersion": "1"}, "items": items});
        let policy = |settings: Value| list(json!([{"metadata": {"name": "p"}, "spec": {"settings": settings}}]));
        // After that, everything is listed again.
        let too_old =
            json!({"kind": "Status", "status": "Failure", "reason": "Expired", "code": 410, "message": "too old"});
        let too_old = json!({"type": "ERROR", "object": too_old});
        let answers = [
            policy(json!({"secrets": [{"name": "a"}]})),
            too_old.clone(),
            policy(json!({"secrets": []})),
            too_old.clone(),
            list(json!([])),
            too_old,
            policy(json!({"secrets": [{"name": "b"}]})),
            json!({"code": 500, "message": "broken"}),
        ];
        let (_, client) = fake_api::answering(&answers);
        let told = std::cell::RefCell::new(Vec::new());
        let configuration = Sender::new(None);
        let following = SettingsSource::Policy("p".to_owned()).follow(client, configuration, |validity| {
            told.borrow_mut().push(validity.map_err(|error| format!("{error:#}")));
        });
        let _ = tokio::time::timeout(Duration::from_secs(60), following).await;
        let invalid = "settings of ClusterAdmissionPolicy p: secrets: ";
        let told = told.into_inner();
        assert!(matches!(&told[..], [Ok(true), Err(why), Ok(false), Ok(true)] if why.starts_with(invalid)), "{told:?}");
    }

    #[rstest]
    #[case::yaml("secrets:\n- name: creds\n")]
    #[case::json(r#"{"secrets": [{"name": "creds"}]}"#)]
    fn a_file_is_yaml_or_json(#[case] text: &str) {
        let found = of_file(Path::new("s.yaml"), Ok(text.into())).unwrap();
        assert_eq!(found.settings.secrets[0].name, "creds");
    }
}
