//! What the cluster knows of a Pod's Secrets, read with the rights of whoever asks. What may not be read is noted, with the
//! rule that is missing, and the rest is read all the same.

use super::installed::{self, Admission};
use super::subject::{Existing, Kind, Subject, names, pods_of};
use crate::cluster::rbac::Request;
use crate::engine::settings_source::SettingsSource;
use crate::model::explain::absence::Policy;
use crate::model::explain::problem::{Problem, quoted};
use crate::model::explain::secret::{AccountList, Found, Origin, origins};
use crate::model::explain::unknown::Unknown;
use crate::model::explain::{Facts, Status};
use crate::model::observed::{added_references, is_excluded};
use crate::model::pod::{self, Pod};
use anyhow::{Result, anyhow};
use image_pull_secrets::image::Image;
use image_pull_secrets::secret::SecretFormat;
use image_pull_secrets::settings::Source;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{Event, Namespace, Secret, ServiceAccount};
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
    admission: Option<Admission>,
    generator: Option<String>,
    namespaces: HashMap<String, NamespaceObjects>,
    elsewhere: HashMap<String, BTreeMap<(String, String), Found>>,
    unknown: BTreeSet<Unknown>,
}

/// What one namespace has.
#[derive(Default)]
struct NamespaceObjects {
    metadata: Option<ObjectMeta>,
    secrets: BTreeMap<String, Found>,
    accounts: HashMap<String, Option<AccountList>>,
}

impl Looker {
    /// Finds the settings first: those that are named, or those that are in the cluster.
    ///
    /// # Errors
    /// The settings that are named cannot be used.
    pub(crate) async fn new(client: Client, named: Option<SettingsSource>) -> Result<Self> {
        let mut unknown = BTreeSet::new();
        let admission = installed::admission(&client, named, &mut unknown).await?;
        let generator = installed::generator(&client, &mut unknown).await;
        let (namespaces, elsewhere) = (HashMap::new(), HashMap::new());
        Ok(Self { client, admission, generator, namespaces, elsewhere, unknown })
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
            let pods = self.pods(Some(namespace)).list(&ListParams::default().labels(&selector)).await;
            let mut subjects = pods.iter().flatten().map(Subject::of_pod);
            if let Some(waiting) = subjects.find(Subject::waits) {
                return Ok(Subject { title: format!("{} of {title}", waiting.title), ..waiting });
            }
        }
        Subject::of_object(&object, namespace)?.ok_or_else(|| anyhow!("{title} makes no Pods"))
    }

    /// The Pods of one namespace, or of all.
    fn pods(&self, namespace: Option<&str>) -> Api<Pod> {
        match namespace {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, &pod::resource()),
            None => Api::all_with(self.client.clone(), &pod::resource()),
        }
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
        let api = self.pods(namespace);
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
            let objects = self.objects_of(namespace).await;
            self.namespaces.insert(namespace.to_owned(), objects);
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
            account_lists: account.listed.clone(),
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
        facts.unknown = self.unknown.iter().cloned().collect();
        facts
    }

    /// What is known of the policy, in the light of one Pod.
    fn policy_for(&self, subject: &Subject) -> Option<Policy> {
        let admission = self.admission.as_ref()?;
        let metadata = self.namespaces.get(&subject.namespace).and_then(|found| found.metadata.as_ref());
        let labels = metadata.and_then(|metadata| metadata.labels.clone()).unwrap_or_default();
        use kube::core::SelectorExt as _;
        // What is not known selects, as for the policy.
        let is_not_selected = |(_, selector): &(&String, &Selector)| metadata.is_some() && !selector.matches(&labels);
        let not_selected = admission.selectors.iter().filter(is_not_selected).map(|(secret, _)| secret.clone());
        Some(Policy {
            settings: admission.settings.clone(),
            not_at_work: admission.not_at_work,
            reads_content: admission.reads_content,
            not_selected: not_selected.collect(),
            labels: metadata.map(|_| labels.clone()),
            excludes_namespace: metadata
                .is_some_and(|metadata| is_excluded(metadata.annotations.as_ref(), &admission.settings)),
            excludes_pod: is_excluded(Some(&subject.annotations), &admission.settings),
        })
    }

    async fn objects_of(&mut self, namespace: &str) -> NamespaceObjects {
        let mut found = NamespaceObjects::default();
        let request =
            Request { verb: "get", group: "", resource: "namespaces", namespace: None, name: Some(namespace) };
        match Api::<Namespace>::all(self.client.clone()).get_opt(namespace).await {
            Ok(Some(object)) => found.metadata = Some(object.metadata),
            Ok(None) => self.does_not_know(Unknown::Namespace {
                namespace: namespace.to_owned(),
                reason: "there is no such Namespace".to_owned(),
            }),
            Err(error) => self
                .does_not_know(Unknown::Namespace { namespace: namespace.to_owned(), reason: request.failure(&error) }),
        }
        let api: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
        for format in [SecretFormat::DockerConfigJson, SecretFormat::DockerCfg] {
            let request =
                Request { verb: "list", group: "", resource: "secrets", namespace: Some(namespace), name: None };
            match api.list(&ListParams::default().fields(&format!("type={}", format.secret_type()))).await {
                Ok(secrets) => {
                    found.secrets.extend(secrets.iter().map(|secret| (secret.name_any(), found_of(secret))));
                }
                Err(error) => self.does_not_know(Unknown::OtherSecrets {
                    namespace: namespace.to_owned(),
                    reason: request.failure(&error),
                }),
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
            Ok(Some(account)) => Ok(AccountList {
                name: name.to_owned(),
                listed: names(account.image_pull_secrets.as_deref().unwrap_or_default()),
                by_generator: added_references(&account.metadata).map(str::to_owned).collect(),
            }),
            Ok(None) => Err("there is no such ServiceAccount".to_owned()),
            Err(reason) => Err(reason),
        };
        let found = match found {
            Ok(found) => Some(found),
            Err(reason) => {
                let (namespace, account) = (namespace.to_owned(), name.to_owned());
                self.does_not_know(Unknown::ServiceAccount { namespace, account, reason });
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
                    self.does_not_know(Unknown::Elsewhere { secret: name.to_owned(), reason: request.failure(&error) });
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
                self.does_not_know(Unknown::NextTry { reason: request.failure(&error) });
                return;
            }
        };
        for image in &mut facts.images {
            if let Some(status) = &mut image.status {
                complete(status, &events, &image.reference, existing.created);
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

    fn does_not_know(&mut self, what: Unknown) {
        self.unknown.insert(what);
    }

    /// What could not be looked at so far.
    pub(crate) fn unknown(&self) -> impl Iterator<Item = &Unknown> {
        self.unknown.iter()
    }
}

fn found_of(secret: &Secret) -> Found {
    let no_data = BTreeMap::new();
    Found::of(secret.type_.as_deref().unwrap_or("Opaque"), secret.data.as_ref().unwrap_or(&no_data))
}

/// The Events of the failures to pull an image, each with the cause as the kubelet quotes it.
fn failures<'e>(events: &'e [Event], image: &str) -> Vec<(&'e Event, &'e str)> {
    let start = format!("Failed to pull image \"{image}\": ");
    let cause = |event: &'e Event| Some((event, event.message.as_deref()?.strip_prefix(&start)?));
    events.iter().filter_map(cause).collect()
}

/// Adds to what the kubelet says of an image in the Pod's status what it says in Events: when it tries again, and what is in the
/// way, where it has forgotten that for the status, as after a restart.
fn complete(status: &mut Status, events: &[Event], image: &str, created: Option<Timestamp>) {
    let Status::Waiting { problem, message, next_try, .. } = status else { return };
    let failures = failures(events, image);
    let last = failures.iter().max_by_key(|(event, _)| time_of(event));
    if let (Problem::Other, Some((_, cause))) = (*problem, last) {
        (*problem, *message) = (Problem::of_message(cause), quoted(cause));
    }
    *next_try = next_try_after(&failures, created).map(|time| time.to_string());
}

fn time_of(event: &Event) -> Option<Timestamp> {
    event.last_timestamp.as_ref().map(|time| time.0)
}

/// When the kubelet tries to pull an image again, at the latest: its pauses double after each failure. Events live for an
/// hour, so that those of a Pod that is older may have been more.
fn next_try_after(failures: &[(&Event, &str)], created: Option<Timestamp>) -> Option<Timestamp> {
    let last = failures.iter().filter_map(|(event, _)| time_of(event)).max()?;
    let count: i32 = failures.iter().map(|(event, _)| event.count.unwrap_or(1)).sum();
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
        let found = next_try_after(&failures(events, IMAGE), created).map(|time| time.to_string());
        assert_eq!(found.as_deref(), expected);
        assert_eq!(failures(events, "ghcr.io/acme/other"), []);
    }

    #[rstest]
    #[case::what_the_status_says_counts_more(Problem::RateLimit, "429", Problem::RateLimit, "429")]
    #[case::a_kubelet_that_was_restarted(
        Problem::Other,
        "Back-off pulling image",
        Problem::Refused,
        "unexpected status: 401 Unauthorized"
    )]
    fn what_the_status_does_not_say_the_events_say(
        #[case] problem: Problem,
        #[case] message: &str,
        #[case] expected: Problem,
        #[case] told: &str,
    ) {
        let reason = || "ImagePullBackOff".to_owned();
        let mut status = Status::Waiting { reason: reason(), problem, message: message.to_owned(), next_try: None };
        let mut newest = failed(1, "2026-01-01T12:00:10Z");
        newest.message = Some(format!("Failed to pull image \"{IMAGE}\": unexpected status: 401 Unauthorized"));
        let mut before = failed(1, "2026-01-01T12:00:00Z");
        before.message = Some(format!("Failed to pull image \"{IMAGE}\": no such host"));
        complete(&mut status, &[newest, before], IMAGE, None);
        let next_try = Some("2026-01-01T12:00:30Z".to_owned());
        let expected = Status::Waiting { reason: reason(), problem: expected, message: told.to_owned(), next_try };
        assert_eq!(status, expected);
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
        assert_eq!((facts.wanted(), facts.unknown), (vec!["creds".to_owned(), "late".to_owned()], vec![]));
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
        let beginnings: Vec<_> =
            facts.unknown.iter().map(|it| it.to_string().split(':').next().unwrap_or_default().to_owned()).collect();
        assert_eq!(
            beginnings,
            [
                "what the settings want",
                "whether the generator is at work",
                "the labels and annotations of Namespace shop",
                "which other Secrets namespace shop has",
            ]
        );
    }
}
