//! What the cluster knows of a Pod's Secrets, read with the rights of whoever asks. What may not be read is noted, with the
//! rule that is missing, and the rest is read all the same.

use super::subject::{Existing, Kind, Subject, names, pods_of};
use crate::cluster::rbac::Request;
use crate::engine::settings_source::{self, SettingsSource};
use crate::model::explain::absence::Policy;
use crate::model::explain::secret::{AccountList, Found, Origin, origins};
use crate::model::explain::{Facts, Status};
use crate::model::observed::{added_references, is_excluded};
use crate::model::ownership::MANAGER;
use anyhow::{Result, anyhow};
use image_pull_secrets::image::Image;
use image_pull_secrets::secret::SecretFormat;
use image_pull_secrets::settings::{Settings, Source};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Event, Namespace, Pod, Secret, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::api::{DynamicObject, ListParams};
use kube::core::Selector;
use kube::{Api, Client, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Debug;

/// The kubelet's pauses after pulls that failed: the first one, and the longest.
const PAUSES: (i64, i64) = (10, 300);

/// How many Pods are listed at a time.
const PAGE: u32 = 500;

/// Reads, and remembers what it has read: many Pods share a namespace.
pub(crate) struct Looker {
    client: Client,
    policy: Option<PolicyFound>,
    generator: Option<String>,
    namespaces: HashMap<String, Surroundings>,
    elsewhere: HashMap<String, BTreeMap<(String, String), Found>>,
    notes: BTreeSet<String>,
}

/// The policy, wherever it is.
struct PolicyFound {
    settings: Settings,
    selector: Option<Selector>,
    not_at_work: Option<&'static str>,
}

/// What one namespace has.
#[derive(Default)]
struct Surroundings {
    metadata: Option<ObjectMeta>,
    secrets: BTreeMap<String, Found>,
    accounts: HashMap<String, Option<AccountList>>,
}

impl Looker {
    /// Finds the settings first: those that are named, or those of the policy that is in the cluster.
    ///
    /// # Errors
    /// The settings that are named cannot be used.
    pub(crate) async fn new(client: Client, named: Option<SettingsSource>) -> Result<Self> {
        let mut looker = Self {
            client,
            policy: None,
            generator: None,
            namespaces: HashMap::new(),
            elsewhere: HashMap::new(),
            notes: BTreeSet::new(),
        };
        looker.policy = match named {
            Some(SettingsSource::Policy(name)) => {
                Some(policy_of(&settings_source::policy_named(&looker.client, &name).await?)?)
            }
            Some(source) => {
                let configuration = source.read(&looker.client).await?;
                Some(PolicyFound {
                    settings: Settings::clone(&configuration.settings),
                    selector: configuration.selector,
                    not_at_work: None,
                })
            }
            None => looker.discover_policy().await,
        };
        looker.generator = looker.find_generator().await;
        Ok(looker)
    }

    /// The object of this name.
    ///
    /// # Errors
    /// It is not there, or cannot be read.
    pub(crate) async fn subject(&self, kind: &Kind, name: &str, namespace: &str) -> Result<Subject> {
        if kind.is_service_account() {
            return Ok(Subject::of_account(name, namespace));
        }
        let api = Api::<DynamicObject>::namespaced_with(self.client.clone(), namespace, &kind.resource());
        let request = Request {
            verb: "get",
            group: kind.group(),
            resource: kind.plural(),
            namespace: Some(namespace),
            name: Some(name),
        };
        let title = kind.title(name);
        let object =
            api.get_opt(name).await.map_err(|error| anyhow!("cannot read {title}: {}", request.failure(&error)))?;
        let object = object.ok_or_else(|| anyhow!("there is no {title} in namespace {namespace}"))?;
        let mut object = serde_json::to_value(object)?;
        object["kind"] = kind.resource().kind.into();
        if kind.resource().kind == "Pod" {
            return Ok(Subject::of_pod(&serde_json::from_value(object)?));
        }
        if let Some(selector) = pods_of(&object) {
            let pods = Api::<Pod>::namespaced(self.client.clone(), namespace);
            let pods = pods.list(&ListParams::default().labels(&selector)).await;
            let mut subjects = pods.iter().flatten().map(Subject::of_pod);
            if let Some(waiting) = subjects.find(Subject::waits) {
                return Ok(Subject { title: format!("{} of {title}", waiting.title), ..waiting });
            }
        }
        Subject::of_object(&object, namespace)?.ok_or_else(|| anyhow!("{title} makes no Pods"))
    }

    /// The Pods that wait for an image, in one namespace or in all, and how many there are altogether. `progress` is told how
    /// many were looked at so far.
    ///
    /// # Errors
    /// They cannot be listed.
    pub(crate) async fn waiting(
        &self,
        namespace: Option<&str>,
        mut progress: impl FnMut(usize),
    ) -> Result<(Vec<Subject>, usize)> {
        let api: Api<Pod> = match namespace {
            Some(namespace) => Api::namespaced(self.client.clone(), namespace),
            None => Api::all(self.client.clone()),
        };
        let request = Request { verb: "list", group: "", resource: "pods", namespace, name: None };
        let (mut waiting, mut seen) = (Vec::new(), 0);
        // A Pod that has ended waits for nothing.
        let mut page = ListParams::default().fields("status.phase!=Succeeded,status.phase!=Failed").limit(PAGE);
        loop {
            let pods =
                api.list(&page).await.map_err(|error| anyhow!("cannot list Pods: {}", request.failure(&error)))?;
            seen += pods.items.len();
            progress(seen);
            waiting.extend(pods.items.iter().map(Subject::of_pod).filter(Subject::waits));
            match pods.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => page = page.continue_token(&token),
                None => return Ok((waiting, seen)),
            }
        }
    }

    /// Everything that is known of this Pod.
    pub(crate) async fn facts(&mut self, subject: &Subject) -> Facts {
        let namespace = subject.namespace.as_str();
        if !self.namespaces.contains_key(namespace) {
            let surroundings = self.surroundings(namespace).await;
            self.namespaces.insert(namespace.to_owned(), surroundings);
        }
        let account = self.account(namespace, &subject.account).await;
        let policy = self.policy_for(subject);
        let configured: Vec<String> =
            policy.iter().flat_map(|policy| &policy.settings.secrets).map(|secret| secret.name.clone()).collect();
        let inherited = subject.listed.is_empty();
        let listed =
            if inherited && subject.existing.is_none() { account.listed.clone() } else { subject.listed.clone() };
        for name in listed.iter().chain(&configured) {
            self.read_secret(namespace, name).await;
        }
        let mut facts = Facts {
            subject: subject.title.clone(),
            namespace: namespace.to_owned(),
            images: subject.images.clone(),
            secrets: self.namespaces.get(namespace).map(|found| found.secrets.clone()).unwrap_or_default(),
            ..Facts::default()
        };
        let known: Vec<_> = configured.iter().map(String::as_str).collect();
        // What a template lists is its own, whoever else names it.
        let from_account = if inherited || subject.existing.is_some() { account } else { AccountList::default() };
        let configured_here = if subject.existing.is_some() { &known[..] } else { &[] };
        let whence = origins(&listed, &from_account, configured_here);
        facts.listed = listed.iter().cloned().zip(whence).collect();
        if let (None, Some(policy)) = (&subject.existing, &policy) {
            let images = Image::parse_all(&subject.images.iter().map(|image| &image.reference).collect::<Vec<_>>());
            let added =
                policy.will_add(&listed, namespace, &images, |name| facts.secrets.get(name).unwrap_or(&Found::Missing));
            facts.listed.extend(added.into_iter().map(|name| (name, Origin::PolicyWill)));
        }
        for (name, _) in &facts.listed {
            if facts.secrets.get(name) == Some(&Found::Missing) {
                facts.elsewhere.extend(self.elsewhere(name, namespace, &policy).await);
            }
        }
        if let Some(existing) = &subject.existing {
            self.next_tries(namespace, existing, &mut facts).await;
        }
        facts.policy = policy;
        facts.generator.clone_from(&self.generator);
        facts.notes = self.notes.iter().cloned().collect();
        facts
    }

    /// What is known of the policy, in the light of one Pod.
    fn policy_for(&self, subject: &Subject) -> Option<Policy> {
        let policy = self.policy.as_ref()?;
        let metadata = self.namespaces.get(&subject.namespace).and_then(|found| found.metadata.as_ref());
        let labels = metadata.and_then(|metadata| metadata.labels.clone()).unwrap_or_default();
        use kube::core::SelectorExt as _;
        Some(Policy {
            settings: policy.settings.clone(),
            not_at_work: policy.not_at_work,
            // What is not known selects, as for the policy.
            selects_namespace: metadata.is_none() || policy.selector.as_ref().is_none_or(|s| s.matches(&labels)),
            labels: metadata.map(|_| labels),
            excludes_namespace: metadata
                .is_some_and(|metadata| is_excluded(metadata.annotations.as_ref(), &policy.settings)),
            excludes_pod: is_excluded(Some(&subject.annotations), &policy.settings),
        })
    }

    /// The policy that is in the cluster: the first whose settings are such settings.
    async fn discover_policy(&mut self) -> Option<PolicyFound> {
        let policies = settings_source::policies(self.client.clone()).list(&ListParams::default()).await;
        let policies = match policies {
            Ok(policies) => policies.items,
            Err(error) => {
                let request = Request { name: None, ..settings_source::policy_request("") };
                self.note("the settings are not known", &request.failure(&error));
                return None;
            }
        };
        let is_ours = |policy: &&DynamicObject| {
            policy.data["spec"]["module"].as_str().is_some_and(|module| module.contains(MODULE))
        };
        let found = policies.iter().filter(is_ours).find_map(|policy| policy_of(policy).ok());
        if found.is_none() {
            let reason = format!("no ClusterAdmissionPolicy has a module {MODULE} and valid settings");
            self.note("the settings are not known", &reason);
        }
        found
    }

    /// Whether the generator is at work, going by its Lease, wherever that is.
    async fn find_generator(&mut self) -> Option<String> {
        let request = Request {
            verb: "list",
            group: "coordination.k8s.io",
            resource: "leases",
            namespace: None,
            name: Some(MANAGER),
        };
        let leases = Api::<Lease>::all(self.client.clone());
        match leases.list(&ListParams::default().fields(&format!("metadata.name={MANAGER}"))).await {
            Ok(leases) => Some(at_work(leases.items.first(), Timestamp::now())),
            Err(error) => {
                self.note("whether the generator is at work is not known", &request.failure(&error));
                None
            }
        }
    }

    async fn surroundings(&mut self, namespace: &str) -> Surroundings {
        let mut found = Surroundings::default();
        let request =
            Request { verb: "get", group: "", resource: "namespaces", namespace: None, name: Some(namespace) };
        match Api::<Namespace>::all(self.client.clone()).get_opt(namespace).await {
            Ok(Some(object)) => found.metadata = Some(object.metadata),
            Ok(None) => self.note(&format!("Namespace {namespace}"), "it does not exist"),
            Err(error) => self.note(&format!("Namespace {namespace} was not read"), &request.failure(&error)),
        }
        let api: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
        for format in [SecretFormat::DockerConfigJson, SecretFormat::DockerCfg] {
            let request =
                Request { verb: "list", group: "", resource: "secrets", namespace: Some(namespace), name: None };
            match api.list(&ListParams::default().fields(&format!("type={}", format.secret_type()))).await {
                Ok(secrets) => {
                    found.secrets.extend(secrets.iter().map(|secret| (secret.name_any(), found_of(secret))));
                }
                Err(error) => self.note(
                    &format!("which other Secrets namespace {namespace} has is not known"),
                    &request.failure(&error),
                ),
            }
        }
        found
    }

    async fn account(&mut self, namespace: &str, name: &str) -> AccountList {
        let known = self.namespaces.get(namespace).and_then(|found| found.accounts.get(name));
        if let Some(known) = known {
            return known.clone().unwrap_or_default();
        }
        let api: Api<ServiceAccount> = Api::namespaced(self.client.clone(), namespace);
        let found = match self.get(&api, namespace, name, "serviceaccounts").await {
            Ok(Some(account)) => Some(AccountList {
                name: name.to_owned(),
                listed: names(account.image_pull_secrets.as_deref().unwrap_or_default()),
                by_generator: added_references(&account.metadata).map(str::to_owned).collect(),
            }),
            Ok(None) => {
                self.note(&format!("ServiceAccount {namespace}/{name}"), "it does not exist");
                None
            }
            Err(reason) => {
                self.note(&format!("ServiceAccount {namespace}/{name} was not read"), &reason);
                None
            }
        };
        self.namespaces.entry(namespace.to_owned()).or_default().accounts.insert(name.to_owned(), found.clone());
        found.unwrap_or_default()
    }

    async fn read_secret(&mut self, namespace: &str, name: &str) {
        let known = self.namespaces.get(namespace).is_some_and(|found| found.secrets.contains_key(name));
        if known {
            return;
        }
        let api: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
        let found = match self.get(&api, namespace, name, "secrets").await {
            Ok(Some(secret)) => found_of(&secret),
            Ok(None) => Found::Missing,
            Err(reason) => Found::Unreadable(reason),
        };
        self.namespaces.entry(namespace.to_owned()).or_default().secrets.insert(name.to_owned(), found);
    }

    /// Secrets of this name in other namespaces.
    async fn elsewhere(
        &mut self,
        name: &str,
        namespace: &str,
        policy: &Option<Policy>,
    ) -> BTreeMap<(String, String), Found> {
        if let Some(known) = self.elsewhere.get(name) {
            return known.clone();
        }
        let request = Request { verb: "list", group: "", resource: "secrets", namespace: None, name: Some(name) };
        let everywhere = Api::<Secret>::all(self.client.clone());
        let mut found = BTreeMap::new();
        match everywhere.list(&ListParams::default().fields(&format!("metadata.name={name}"))).await {
            Ok(secrets) => {
                for secret in secrets.iter().filter(|secret| secret.namespace().as_deref() != Some(namespace)) {
                    found.insert((secret.namespace().unwrap_or_default(), name.to_owned()), found_of(secret));
                }
            }
            Err(error) => {
                // The source at least may be readable.
                let configured = policy.iter().flat_map(|policy| &policy.settings.secrets);
                let source = configured.filter(|secret| secret.name == name).find_map(|secret| secret.source.as_ref());
                if let Some(Source::Secret { namespace: of_source, name: source }) = source {
                    let api: Api<Secret> = Api::namespaced(self.client.clone(), of_source);
                    if let Ok(Some(secret)) = self.get(&api, of_source, source, "secrets").await {
                        found.insert((of_source.clone(), name.to_owned()), found_of(&secret));
                    }
                }
                if found.is_empty() {
                    let what = format!("whether another namespace has a Secret {name} is not known");
                    self.note(&what, &request.failure(&error));
                }
            }
        }
        self.elsewhere.insert(name.to_owned(), found.clone());
        found
    }

    /// Works out from the Events when the kubelet tries again.
    async fn next_tries(&mut self, namespace: &str, existing: &Existing, facts: &mut Facts) {
        if !facts.images.iter().any(|image| matches!(image.status, Some(Status::Waiting { .. }))) {
            return;
        }
        let request = Request { verb: "list", group: "", resource: "events", namespace: Some(namespace), name: None };
        let api: Api<Event> = Api::namespaced(self.client.clone(), namespace);
        let of_pod = format!("involvedObject.uid={},reason=Failed", existing.uid);
        let events = match api.list(&ListParams::default().fields(&of_pod)).await {
            Ok(events) => events.items,
            Err(error) => {
                self.note("when the kubelet tries again is not known", &request.failure(&error));
                return;
            }
        };
        for image in &mut facts.images {
            if let Some(Status::Waiting { next_try, .. }) = &mut image.status {
                *next_try = next_try_after(&events, &image.reference, existing.created).map(|time| time.to_string());
            }
        }
    }

    async fn get<K>(
        &self,
        api: &Api<K>,
        namespace: &str,
        name: &str,
        resource: &'static str,
    ) -> Result<Option<K>, String>
    where
        K: Resource<Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
    {
        let request = Request { verb: "get", group: "", resource, namespace: Some(namespace), name: Some(name) };
        api.get_opt(name).await.map_err(|error| request.failure(&error))
    }

    fn note(&mut self, what: &str, why: &str) {
        self.notes.insert(format!("{what}: {why}"));
    }

    /// What could not be looked at so far.
    pub(crate) fn notes(&self) -> impl Iterator<Item = &str> {
        self.notes.iter().map(String::as_str)
    }
}

/// Whether the generator holds this Lease now.
fn at_work(lease: Option<&Lease>, now: Timestamp) -> String {
    let spec = lease.and_then(|lease| lease.spec.as_ref());
    let holder = spec.and_then(|spec| spec.holder_identity.as_deref()).filter(|holder| !holder.is_empty());
    let renewed = spec.and_then(|spec| spec.renew_time.as_ref()).map(|time| time.0);
    match (lease, holder, renewed) {
        (None, _, _) => "not found: no namespace has its Lease".to_owned(),
        (Some(_), Some(holder), Some(renewed)) if now.duration_since(renewed) < STALE => format!("at work ({holder})"),
        (Some(_), Some(_), Some(renewed)) => format!("not at work: its Lease was last renewed at {renewed}"),
        (Some(_), _, _) => "not at work: nobody holds its Lease".to_owned(),
    }
}

/// After which time nobody leads any more, for certain.
const STALE: SignedDuration = SignedDuration::from_mins(2);

/// What the module's name contains, wherever it was published.
const MODULE: &str = "image-pull-secrets";

fn policy_of(policy: &DynamicObject) -> Result<PolicyFound> {
    let configuration = settings_source::of_policy(&policy.name_any(), policy)?;
    let text = |pointer: &str| policy.data.pointer(pointer).and_then(|value| value.as_str());
    let not_at_work = match (text("/spec/mode"), text("/status/policyStatus")) {
        (Some("monitor"), _) => Some("its mode is monitor"),
        (_, None | Some("active")) => None,
        (_, Some(_)) => Some("it is not active"),
    };
    Ok(PolicyFound {
        settings: Settings::clone(&configuration.settings),
        selector: configuration.selector,
        not_at_work,
    })
}

fn found_of(secret: &Secret) -> Found {
    let no_data = BTreeMap::new();
    Found::of(secret.type_.as_deref().unwrap_or("Opaque"), secret.data.as_ref().unwrap_or(&no_data))
}

/// When the kubelet tries to pull this image again, at the latest: its pauses double after each failure. Events live for an
/// hour, so that those of a Pod that is older may have been more.
fn next_try_after(events: &[Event], image: &str, created: Option<Timestamp>) -> Option<Timestamp> {
    let of_image = |event: &&Event| {
        event
            .message
            .as_deref()
            .is_some_and(|message| message.starts_with(&format!("Failed to pull image \"{image}\"")))
    };
    let failures: Vec<_> = events.iter().filter(of_image).collect();
    let time = |event: &Event| event.last_timestamp.as_ref().map(|time| time.0);
    let last = failures.iter().filter_map(|event| time(event)).max()?;
    let count: i32 = failures.iter().map(|event| event.count.unwrap_or(1)).sum();
    let is_old = created.is_some_and(|created| last.duration_since(created) > SignedDuration::from_hours(1));
    let exponent = u32::try_from(count.saturating_sub(1)).unwrap_or_default();
    let doubled = 2_i64.checked_pow(exponent).and_then(|factor| PAUSES.0.checked_mul(factor)).unwrap_or(PAUSES.1);
    let pause = if is_old { PAUSES.1 } else { doubled.min(PAUSES.1) };
    last.checked_add(SignedDuration::from_secs(pause)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::fake_api;
    use crate::model::ownership::REFERENCES_ANNOTATION;
    use k8s_openapi::ByteString;
    use rstest::rstest;
    use serde_json::{Value, json};

    const IMAGE: &str = "ghcr.io/acme/app:1";

    fn failed(count: i32, last: &str) -> Event {
        serde_json::from_value(json!({
            "metadata": {}, "involvedObject": {}, "reason": "Failed", "count": count, "lastTimestamp": last,
            "message": format!("Failed to pull image \"{IMAGE}\": 401"),
        }))
        .unwrap()
    }

    #[rstest]
    #[case::the_first_failure(&[failed(1, "2026-01-01T12:00:00Z")], Some("2026-01-01T12:00:10Z"))]
    #[case::the_third(&[failed(3, "2026-01-01T12:00:00Z")], Some("2026-01-01T12:00:40Z"))]
    #[case::with_two_messages(
        &[failed(2, "2026-01-01T12:00:00Z"), failed(1, "2026-01-01T12:01:00Z")], Some("2026-01-01T12:01:40Z"))]
    #[case::the_longest_pause(&[failed(99, "2026-01-01T12:00:00Z")], Some("2026-01-01T12:05:00Z"))]
    #[case::an_old_pod(&[failed(1, "2026-01-01T23:00:00Z")], Some("2026-01-01T23:05:00Z"))]
    #[case::no_event(&[], None)]
    fn the_kubelets_next_try_follows_from_its_events(#[case] events: &[Event], #[case] expected: Option<&str>) {
        let created = "2026-01-01T11:59:00Z".parse().ok();
        let found = next_try_after(events, IMAGE, created).map(|time| time.to_string());
        assert_eq!(found.as_deref(), expected);
        assert_eq!(next_try_after(events, "ghcr.io/acme/other", created), None);
    }

    #[rstest]
    #[case::none(None, "not found: no namespace has its Lease")]
    #[case::led(Some(json!({"holderIdentity": "a", "renewTime": "2026-01-01T12:00:00.000000Z"})), "at work (a)")]
    #[case::left(
        Some(json!({"holderIdentity": "a", "renewTime": "2026-01-01T11:00:00.000000Z"})),
        "not at work: its Lease was last renewed at 2026-01-01T11:00:00Z"
    )]
    #[case::released(Some(json!({"holderIdentity": ""})), "not at work: nobody holds its Lease")]
    fn whether_the_generator_is_at_work(#[case] spec: Option<Value>, #[case] expected: &str) {
        let lease = spec.map(|spec| serde_json::from_value(json!({"metadata": {}, "spec": spec})).unwrap());
        assert_eq!(at_work(lease.as_ref(), "2026-01-01T12:01:00Z".parse().unwrap()), expected);
        let page = include_str!("../../../../docs/troubleshooting.md");
        let documented = expected.replace("2026-01-01T11:00:00Z", "TIME").replace("(a)", "(REPLICA)");
        assert!(page.contains(&format!("`{documented}`")), "docs/troubleshooting.md lacks {documented}");
    }

    #[rstest]
    #[case::at_work(json!({"mode": "protect"}), "active", None)]
    #[case::only_watching(json!({"mode": "monitor"}), "active", Some("its mode is monitor"))]
    #[case::not_yet(json!({}), "pending", Some("it is not active"))]
    fn whether_the_policy_is_at_work(#[case] spec: Value, #[case] status: &str, #[case] expected: Option<&str>) {
        let mut policy = json!({
            "apiVersion": "policies.kubewarden.io/v1", "kind": "ClusterAdmissionPolicy", "metadata": {"name": "p"},
            "spec": spec, "status": {"policyStatus": status},
        });
        policy["spec"]["settings"] = json!({"secrets": [{"name": "creds"}]});
        assert_eq!(policy_of(&serde_json::from_value(policy).unwrap()).unwrap().not_at_work, expected);
    }

    /// A cluster with a policy, a namespace, an account and a Secret, which somebody may read apart from these paths.
    fn cluster(forbidden: &'static [&'static str]) -> Client {
        let list = |items: Value| json!({"metadata": {}, "items": items});
        let config = r#"{"auths": {"ghcr.io": {"username": "bot", "password": "hunter2"}}}"#;
        let policy = json!({
            "apiVersion": "policies.kubewarden.io/v1", "kind": "ClusterAdmissionPolicy",
            "metadata": {"name": "image-pull-secrets"},
            "spec": {
                "module": "registry://ghcr.io/owner/policies/image-pull-secrets:v0.1.0",
                "settings": {"secrets": [{"name": "creds"}, {"name": "late"}]},
                "namespaceSelector": {"matchLabels": {"team": "a"}},
            },
        });
        let secret = json!({
            "metadata": {"name": "creds", "namespace": "shop"}, "type": "kubernetes.io/dockerconfigjson",
            "data": {".dockerconfigjson": ByteString(config.into())},
        });
        let account = json!({
            "metadata": {"name": "default", "annotations": {REFERENCES_ANNOTATION: "creds"}},
            "imagePullSecrets": [{"name": "creds"}],
        });
        fake_api::client_by_path(move |_, path, _| {
            let answer = match path.as_str() {
                path if forbidden.contains(&path) => {
                    let message =
                        format!("x is forbidden: User \"u\" cannot get resource \"x\"; cannot list resource {path}");
                    (403, json!({"kind": "Status", "status": "Failure", "code": 403, "message": message}))
                }
                "/apis/policies.kubewarden.io/v1/clusteradmissionpolicies" => (200, list(json!([policy]))),
                "/apis/coordination.k8s.io/v1/leases" => (200, list(json!([]))),
                "/api/v1/namespaces/shop" => (200, json!({"metadata": {"name": "shop", "labels": {"team": "a"}}})),
                "/api/v1/namespaces/shop/serviceaccounts/default" => (200, account.clone()),
                "/api/v1/namespaces/shop/secrets" | "/api/v1/secrets" => (200, list(json!([secret]))),
                "/api/v1/namespaces/shop/secrets/creds" => (200, secret.clone()),
                _ => fake_api::refusal(404),
            };
            async move { answer }
        })
    }

    async fn facts_of(client: Client, image: &str) -> Facts {
        let mut looker = Looker::new(client, None).await.unwrap();
        looker.facts(&Subject::of_image(image, "shop", None)).await
    }

    #[tokio::test]
    async fn a_pod_that_is_yet_to_be_inherits_and_is_given_what_the_settings_want() {
        let facts = facts_of(cluster(&[]), "ghcr.io/acme/app").await;
        let account = "default".to_owned();
        assert_eq!(
            facts.listed,
            [("creds".to_owned(), Origin::Generator(account)), ("late".to_owned(), Origin::PolicyWill)]
        );
        let states: Vec<_> = facts.secrets.iter().map(|(name, found)| (&**name, found.name())).collect();
        assert_eq!(states, [("creds", "usable"), ("late", "missing")]);
        assert_eq!(facts.generator.as_deref(), Some("not found: no namespace has its Lease"));
        assert_eq!((facts.wanted(), facts.notes), (vec!["creds".to_owned(), "late".to_owned()], vec![]));
    }

    #[tokio::test]
    async fn what_may_not_be_read_is_noted_and_the_rest_is_read() {
        const FORBIDDEN: &[&str] = &[
            "/apis/policies.kubewarden.io/v1/clusteradmissionpolicies",
            "/apis/coordination.k8s.io/v1/leases",
            "/api/v1/namespaces/shop",
            "/api/v1/namespaces/shop/secrets",
            "/api/v1/secrets",
        ];
        let facts = facts_of(cluster(FORBIDDEN), "ghcr.io/acme/app").await;
        assert_eq!(facts.listed, [("creds".to_owned(), Origin::Generator("default".to_owned()))]);
        assert_eq!(facts.secrets["creds"].name(), "usable");
        let beginnings: Vec<_> = facts.notes.iter().map(|note| note.split(": ").next().unwrap()).collect();
        assert_eq!(
            beginnings,
            [
                "Namespace shop was not read",
                "the settings are not known",
                "whether the generator is at work is not known",
                "which other Secrets namespace shop has is not known",
            ]
        );
    }
}
