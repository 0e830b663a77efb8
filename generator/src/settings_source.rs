//! Where the settings come from: a file, or the ClusterAdmissionPolicy that the policy itself is configured by.

use crate::backoff::Backoff;
use crate::cli::SettingsArgs;
use crate::error::chain;
use crate::file;
use crate::rbac::Request;
use crate::selection::checked;
use crate::watch;
use anyhow::{Context as _, Result, anyhow, bail};
use futures::StreamExt as _;
use image_pull_secrets::settings::Settings;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind};
use kube::core::Selector;
use kube::runtime::WatchStreamExt as _;
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
pub struct Configuration {
    /// The settings.
    pub settings: Arc<Settings>,
    /// The policy's own namespaceSelector, where the settings are a policy's.
    pub selector: Option<Selector>,
}

/// Where the settings are.
#[derive(Debug, Clone)]
pub enum SettingsSource {
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
    /// Where the arguments say; `None` if they do not.
    pub fn of(args: &SettingsArgs) -> Option<Self> {
        match (&args.settings, &args.policy) {
            (Some(file), _) => Some(Self::File(file.clone())),
            (None, Some(policy)) => Some(Self::Policy(policy.clone())),
            (None, None) => None,
        }
    }

    /// Reads the settings once.
    ///
    /// # Errors
    /// They are not there, or not valid.
    pub async fn read(&self, client: &Client) -> Result<Configuration> {
        match self {
            Self::File(path) => of_file(path, tokio::fs::read(path).await),
            Self::Policy(name) => {
                let policy = policies(client.clone()).get(name).await.map_err(|error| {
                    let request = Request { verb: "get", ..policy_request(name) };
                    anyhow!("cannot read ClusterAdmissionPolicy {name}: {}", reason(request, &error))
                })?;
                of_policy(name, &policy)
            }
        }
    }

    /// Keeps `configuration` as the settings are: `None` while there are none. Settings that are not valid change nothing.
    pub async fn follow(self, client: Client, configuration: Sender<Option<Configuration>>) {
        let set = |new: Result<Option<Configuration>>| match new {
            Ok(new) => {
                configuration.send_if_modified(|current| {
                    let changed = *current != new;
                    if changed {
                        *current = new;
                    }
                    changed
                });
            }
            Err(error) => tracing::error!("the settings stay as they were: {error:#}"),
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
    let backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(10));
    let mut events = pin!(watcher(policies(client), watch::config(Some(name))).backoff(backoff));
    let (mut found, mut last_trouble) = (false, String::new());
    let absent = || tracing::warn!("ClusterAdmissionPolicy {name} is not there: nothing is done until it is");
    while let Some(event) = events.next().await {
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
                let trouble = match &error {
                    watcher::Error::InitialListFailed(error) | watcher::Error::WatchStartFailed(error) => {
                        reason(policy_request(name), error)
                    }
                    other => chain(other),
                };
                if trouble != last_trouble {
                    tracing::warn!("cannot watch ClusterAdmissionPolicy {name}: {trouble}");
                    last_trouble = trouble;
                }
            }
        }
    }
}

fn reason(request: Request<'_>, error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if status.code == 404 && status.message.contains("404 page not found") => {
            "Kubewarden is not installed in this cluster".to_owned()
        }
        kube::Error::Api(status) => request
            .missing_rule(status)
            .or_else(|| Request { verb: "watch", ..request }.missing_rule(status))
            .unwrap_or_else(|| status.message.clone()),
        other => chain(other),
    }
}

fn policy_request(name: &str) -> Request<'_> {
    let (group, resource) = ("policies.kubewarden.io", "clusteradmissionpolicies");
    Request { verb: "list", group, resource, namespace: None, name: Some(name) }
}

fn policies(client: Client) -> Api<DynamicObject> {
    let kind = GroupVersionKind::gvk("policies.kubewarden.io", "v1", "ClusterAdmissionPolicy");
    Api::all_with(client, &ApiResource::from_gvk_with_plural(&kind, "clusteradmissionpolicies"))
}

fn of_policy(name: &str, policy: &DynamicObject) -> Result<Configuration> {
    let spec = policy.data.get("spec").cloned().unwrap_or_default();
    let spec: PolicySpec = serde_json::from_value(spec)
        .with_context(|| format!("ClusterAdmissionPolicy {name} has no spec that can be read"))?;
    let settings =
        Settings::from_value(&spec.settings).with_context(|| format!("settings of ClusterAdmissionPolicy {name}"))?;
    let selector = spec.namespace_selector.map(checked).transpose();
    let selector = selector.with_context(|| format!("namespaceSelector of ClusterAdmissionPolicy {name}"))?;
    Ok(Configuration { settings: Arc::new(settings), selector })
}

fn of_file(path: &Path, content: io::Result<Vec<u8>>) -> Result<Configuration> {
    let content = content.with_context(|| format!("cannot read the settings {}", path.display()))?;
    let Ok(text) = String::from_utf8(content) else { bail!("the settings {} are not UTF-8 text", path.display()) };
    // YAML's own error quotes the document: settings hold no credential, and the line helps.
    let document: Value = serde_saphyr::from_str(&text).with_context(|| format!("the settings {}", path.display()))?;
    let settings = Settings::from_value(&document).with_context(|| format!("the settings {}", path.display()))?;
    Ok(Configuration { settings: Arc::new(settings), selector: None })
}

#[cfg(test)]
mod tests {
    use super::*;
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

    #[rstest]
    #[case::yaml("secrets:\n- name: creds\n")]
    #[case::json(r#"{"secrets": [{"name": "creds"}]}"#)]
    fn a_file_is_yaml_or_json(#[case] text: &str) {
        let found = of_file(Path::new("s.yaml"), Ok(text.into())).unwrap();
        assert_eq!(found.settings.secrets[0].name, "creds");
    }
}
