//! What is at work in the cluster: who adds secrets to Pods, by which settings, and whether the generator runs.

use crate::cluster::rbac::Request;
use crate::cluster::record::{LEASES_OF_GENERATORS, leases_of_generators};
use crate::engine::settings_source::{self, Configuration, SettingsSource};
use crate::model::explain::absence::NotAtWork;
use crate::model::explain::unknown::Unknown;
use crate::model::label_selector::checked;
use anyhow::Result;
use image_pull_secrets::settings::Settings;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::api::{ApiResource, DynamicObject, GroupVersionKind, ListParams};
use kube::core::Selector;
use kube::{Api, Client, ResourceExt as _};
use std::collections::HashMap;
use std::path::Path;

/// What the module's name contains, wherever it was published.
const MODULE: &str = "image-pull-secrets";

/// The label of everything that the chart and `deploy/` install.
const PART_OF: &str = "app.kubernetes.io/part-of=image-pull-secrets";

/// Where the ConfigMap of a generator without Kubewarden's policy has the settings.
const SETTINGS_KEY: &str = "settings.yaml";

/// After which time nobody leads any more, for certain.
const STALE: SignedDuration = SignedDuration::from_mins(2);

/// Who adds secrets to Pods, and by which settings.
pub(super) struct Admission {
    pub(super) settings: Settings,
    /// The namespaces that it is asked about, for each secret; all of them for one that is not here.
    pub(super) selectors: HashMap<String, Selector>,
    pub(super) not_at_work: Option<NotAtWork>,
    /// Whether it reads what is in a Secret, as Kubewarden's policy does and the API server does not.
    pub(super) reads_content: bool,
}

impl Admission {
    /// Kubewarden's policy with these settings, at work.
    fn of(configuration: Configuration) -> Self {
        let settings = Settings::clone(&configuration.settings);
        let names = settings.secrets.iter().map(|secret| secret.name.clone());
        let selectors =
            configuration.selector.iter().flat_map(|selector| names.clone().map(|name| (name, selector.clone())));
        Self { selectors: selectors.collect(), settings, not_at_work: None, reads_content: true }
    }

    fn of_policy(policy: &DynamicObject) -> Result<Self> {
        let text = |pointer: &str| policy.data.pointer(pointer).and_then(|value| value.as_str());
        let not_at_work = match (text("/spec/mode"), text("/status/policyStatus")) {
            (Some("monitor"), _) => Some(NotAtWork::Monitor),
            (_, None | Some("active")) => None,
            (_, Some(_)) => Some(NotAtWork::NotActive),
        };
        let configuration = settings_source::of_policy(&policy.name_any(), policy)?;
        Ok(Self { not_at_work, ..Self::of(configuration) })
    }

    /// The settings of a generator that runs without Kubewarden's policy, with the MutatingAdmissionPolicies that there are.
    fn native(settings: Settings, policies: &[DynamicObject]) -> Self {
        let mut selectors = HashMap::new();
        let mut is_at_work = false;
        for policy in policies {
            let name = policy.name_any();
            // The chart's names: the release's, the secret's, and what it is for.
            let secrets = settings.secrets.iter().map(|secret| &secret.name);
            let is_for = |secret: &&String| name.ends_with(&format!("-{secret}-pods"));
            let Some(secret) = secrets.filter(is_for).max_by_key(|secret| secret.len()) else { continue };
            is_at_work = true;
            let selector = policy.data.pointer("/spec/matchConstraints/namespaceSelector").cloned();
            let selector = selector.and_then(|selector| checked(serde_json::from_value(selector).ok()?).ok());
            selectors.extend(selector.map(|selector| (secret.clone(), selector)));
        }
        let not_at_work = (!is_at_work).then_some(NotAtWork::NotInstalled);
        Self { settings, selectors, not_at_work, reads_content: false }
    }
}

/// The settings that are named, or those that are found in the cluster.
///
/// # Errors
/// The settings that are named cannot be used.
pub(super) async fn admission(
    client: &Client,
    named: Option<SettingsSource>,
    unknown: &mut impl Extend<Unknown>,
) -> Result<Option<Admission>> {
    match named {
        Some(SettingsSource::Policy(name)) => {
            Admission::of_policy(&settings_source::policy_named(client, &name).await?).map(Some)
        }
        Some(source) => Ok(Some(Admission::of(source.read(client).await?))),
        None => Ok(discovered(client, unknown).await),
    }
}

/// Those of Kubewarden's policy, or else those of a generator that runs without it: the first that are such settings.
async fn discovered(client: &Client, unknown: &mut impl Extend<Unknown>) -> Option<Admission> {
    let in_policies = match settings_source::policies(client.clone()).list(&ListParams::default()).await {
        Ok(policies) => {
            let is_ours = |policy: &&DynamicObject| {
                policy.data["spec"]["module"].as_str().is_some_and(|module| module.contains(MODULE))
            };
            let found = policies.iter().filter(is_ours).find_map(|policy| Admission::of_policy(policy).ok());
            if found.is_some() {
                return found;
            }
            format!("none has a module {MODULE} and valid settings")
        }
        Err(error) => Request { name: None, ..settings_source::policy_request("") }.failure(&error),
    };
    let labelled = ListParams::default().labels(PART_OF);
    let in_config_maps = match Api::<ConfigMap>::all(client.clone()).list(&labelled).await {
        Ok(config_maps) => match config_maps.items.into_iter().find_map(settings_in) {
            Some(settings) => return Some(native(client, settings, unknown).await),
            None => format!("none with the label {PART_OF} has valid settings"),
        },
        Err(error) => {
            Request { verb: "list", group: "", resource: "configmaps", namespace: None, name: None }.failure(&error)
        }
    };
    unknown.extend([Unknown::Settings { in_policies, in_config_maps }]);
    None
}

fn settings_in(config_map: ConfigMap) -> Option<Settings> {
    let text = config_map.data?.remove(SETTINGS_KEY)?;
    let configuration = settings_source::of_file(Path::new(SETTINGS_KEY), Ok(text.into_bytes())).ok()?;
    Some(Settings::clone(&configuration.settings))
}

async fn native(client: &Client, settings: Settings, unknown: &mut impl Extend<Unknown>) -> Admission {
    let (group, resource) = ("admissionregistration.k8s.io", "mutatingadmissionpolicies");
    for version in ["v1", "v1beta1"] {
        let kind = GroupVersionKind::gvk(group, version, "MutatingAdmissionPolicy");
        let api = Api::<DynamicObject>::all_with(client.clone(), &ApiResource::from_gvk_with_plural(&kind, resource));
        match api.list(&ListParams::default().labels(PART_OF)).await {
            Ok(policies) => return Admission::native(settings, &policies.items),
            // An older API server.
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            Err(error) => {
                let request = Request { verb: "list", group, resource, namespace: None, name: None };
                unknown.extend([Unknown::NativePolicies { reason: request.failure(&error) }]);
                return Admission { not_at_work: None, ..Admission::native(settings, &[]) };
            }
        }
    }
    Admission::native(settings, &[])
}

/// Whether the generator is at work, going by its Lease, wherever that is and whatever it is called. Of several generators, what
/// is said is of the one that was at work last.
pub(super) async fn generator(client: &Client, unknown: &mut impl Extend<Unknown>) -> Option<String> {
    match leases_of_generators(client, None).await {
        Ok(leases) => Some(at_work(&leases, Timestamp::now())),
        Err(error) => {
            unknown.extend([Unknown::Generator { reason: LEASES_OF_GENERATORS.failure(&error) }]);
            None
        }
    }
}

fn at_work(leases: &[Lease], now: Timestamp) -> String {
    let renewed = |lease: &Lease| {
        let spec = lease.spec.as_ref()?;
        let holder = spec.holder_identity.clone().filter(|holder| !holder.is_empty())?;
        Some((spec.renew_time.as_ref()?.0, holder))
    };
    match leases.iter().filter_map(renewed).max() {
        Some((renewed, holder)) if now.duration_since(renewed) < STALE => format!("at work ({holder})"),
        Some((renewed, _)) => format!("not at work: its Lease was last renewed at {renewed}"),
        None if leases.is_empty() => "not found: no namespace has its Lease".to_owned(),
        None => "not at work: nobody holds its Lease".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::fake_api;
    use rstest::rstest;
    use serde_json::{Value, json};

    const HELD: &str = "2026-01-01T12:00:00.000000Z";
    const LEFT: &str = "2026-01-01T11:00:00.000000Z";

    fn held(by: &str, renewed: &str) -> Value {
        json!({"holderIdentity": by, "renewTime": renewed})
    }

    #[rstest]
    #[case::none(&[], "not found: no namespace has its Lease")]
    #[case::led(&[held("a", HELD)], "at work (a)")]
    #[case::left(&[held("a", LEFT)], "not at work: its Lease was last renewed at 2026-01-01T11:00:00Z")]
    #[case::released(&[json!({"holderIdentity": ""})], "not at work: nobody holds its Lease")]
    #[case::a_second_one_that_was_left(&[held("b", LEFT), held("a", HELD)], "at work (a)")]
    fn whether_the_generator_is_at_work(#[case] specs: &[Value], #[case] expected: &str) {
        let lease = |spec: &Value| serde_json::from_value(json!({"metadata": {}, "spec": spec})).unwrap();
        let leases: Vec<_> = specs.iter().map(lease).collect();
        assert_eq!(at_work(&leases, "2026-01-01T12:01:00Z".parse().unwrap()), expected);
        let page = include_str!("../../../../docs/troubleshooting.md");
        let documented = expected.replace("2026-01-01T11:00:00Z", "TIME").replace("(a)", "(REPLICA)");
        assert!(page.contains(&format!("`{documented}`")), "docs/troubleshooting.md lacks {documented}");
    }

    #[rstest]
    #[case::at_work(json!({"mode": "protect"}), "active", None)]
    #[case::only_watching(json!({"mode": "monitor"}), "active", Some(NotAtWork::Monitor))]
    #[case::not_yet(json!({}), "pending", Some(NotAtWork::NotActive))]
    fn whether_the_policy_is_at_work(#[case] spec: Value, #[case] status: &str, #[case] expected: Option<NotAtWork>) {
        let mut policy = json!({
            "apiVersion": "policies.kubewarden.io/v1", "kind": "ClusterAdmissionPolicy", "metadata": {"name": "p"},
            "spec": spec, "status": {"policyStatus": status},
        });
        policy["spec"]["settings"] = json!({"secrets": [{"name": "creds"}]});
        let found = Admission::of_policy(&serde_json::from_value(policy).unwrap()).unwrap();
        assert_eq!(found.not_at_work, expected);
    }

    fn native_policy(name: &str, team: &str) -> Value {
        let selector = json!({"matchLabels": {"team": team}});
        json!({"metadata": {"name": name}, "spec": {"matchConstraints": {"namespaceSelector": selector}}})
    }

    /// A path of the API, and what is listed there.
    type Path = (&'static str, fn() -> Vec<Value>);

    /// A cluster without Kubewarden, where these paths have these items. What is not named is not there.
    fn cluster(paths: &'static [Path]) -> Client {
        fake_api::client_by_path(move |_, path, _| {
            let items = paths.iter().find(|(known, _)| *known == path).map(|(_, items)| items());
            let answer = match items {
                Some(items) => (200, json!({"metadata": {}, "items": items})),
                None => (404, json!({"code": 404, "message": "404 page not found"})),
            };
            async move { answer }
        })
    }

    fn config_map() -> Vec<Value> {
        let settings = "secrets:\n- name: creds\n- name: more-creds\n";
        let other = json!({"metadata": {"name": "other"}, "data": {"settings.yaml": "secrets: []"}});
        vec![other, json!({"metadata": {"name": "generator"}, "data": {"settings.yaml": settings}})]
    }

    const CONFIG_MAPS: &str = "/api/v1/configmaps";

    #[rstest]
    #[case::the_api_server_adds_them(
        &[(CONFIG_MAPS, config_map as fn() -> Vec<Value>),
          ("/apis/admissionregistration.k8s.io/v1/mutatingadmissionpolicies",
           || vec![native_policy("x-creds-pods", "a"), native_policy("x-more-creds-pods", "b")])],
        None, &[("creds", "team=a"), ("more-creds", "team=b")])]
    #[case::an_older_api_server_does(
        &[(CONFIG_MAPS, config_map as fn() -> Vec<Value>),
          ("/apis/admissionregistration.k8s.io/v1beta1/mutatingadmissionpolicies",
           || vec![native_policy("x-creds-pods", "a")])],
        None, &[("creds", "team=a")])]
    #[case::only_service_accounts_are_given_them(
        &[(CONFIG_MAPS, config_map as fn() -> Vec<Value>)], Some(NotAtWork::NotInstalled), &[])]
    #[tokio::test]
    async fn without_kubewarden_the_settings_are_those_of_the_generators_config_map(
        #[case] paths: &'static [Path],
        #[case] not_at_work: Option<NotAtWork>,
        #[case] selectors: &[(&str, &str)],
    ) {
        let mut unknown = Vec::new();
        let found = admission(&cluster(paths), None, &mut unknown).await.unwrap().unwrap();
        let secrets: Vec<_> = found.settings.secrets.iter().map(|secret| secret.name.as_str()).collect();
        assert_eq!(
            (secrets, found.not_at_work, found.reads_content),
            (vec!["creds", "more-creds"], not_at_work, false)
        );
        let mut found: Vec<_> = found.selectors.iter().map(|(name, s)| (name.clone(), s.to_string())).collect();
        found.sort();
        let expected: Vec<_> = selectors.iter().map(|&(name, s)| (name.to_owned(), s.to_owned())).collect();
        assert_eq!((found, unknown), (expected, vec![]));
    }

    #[tokio::test]
    async fn where_the_settings_are_nowhere_it_says_what_to_name() {
        let mut unknown = Vec::new();
        assert!(admission(&cluster(&[(CONFIG_MAPS, Vec::new)]), None, &mut unknown).await.unwrap().is_none());
        assert_eq!(
            unknown.iter().map(ToString::to_string).collect::<Vec<_>>(),
            [
                "what the settings want: they are not in a ClusterAdmissionPolicy (Kubewarden is not installed in this cluster) and \
              not in a ConfigMap (none with the label app.kubernetes.io/part-of=image-pull-secrets has valid settings); name \
              them with --settings FILE"
            ]
        );
    }

    #[tokio::test]
    async fn the_generators_lease_is_found_under_any_name() {
        let lease = || vec![json!({"metadata": {"name": "of-my-own"}, "spec": held("a", LEFT)})];
        let asked = std::sync::Arc::new(std::sync::Mutex::new(String::new()));
        let seen = asked.clone();
        let client = fake_api::client_by_path(move |_, path, _| {
            seen.lock().unwrap().push_str(&path);
            async move { (200, json!({"metadata": {}, "items": lease()})) }
        });
        let said = generator(&client, &mut Vec::new()).await.unwrap();
        assert_eq!(said, "not at work: its Lease was last renewed at 2026-01-01T11:00:00Z");
        assert_eq!(*asked.lock().unwrap(), "/apis/coordination.k8s.io/v1/leases");
    }
}
