//! The only module that writes. A write only succeeds if the object is still as the plan saw it, and the answer updates the
//! index. So nothing has to be read before or after a write.

mod failure;

use crate::cluster::rbac::Request;
use crate::model::content::Content;
use crate::model::index::Observation;
use crate::model::observed::{SecretSeen, ServiceAccountSeen, Version};
use crate::model::ownership::{Extras, MANAGED_BY_LABEL, MANAGER, REFERENCES_ANNOTATION, SOURCE_ANNOTATION};
use crate::model::plan::{Action, Object, ReferenceChange, Rules, SourceState, Target, source_label};
use crate::telemetry::metrics::Metrics;
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use kube::api::{DeleteParams, ObjectMeta, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, Client};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, SemaphorePermit};

pub(crate) use failure::{Failure, Reason};

/// How long one write may take. (An admission webhook may take up to 30 s, the API server a minute.)
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// The total size of Secrets that may be sent at the same time, in KiB. A write needs several times the size of its Secret,
/// for the request, the answer and the parsed answer. Copies of the usual size are so small that this limits nothing.
const ON_THE_WAY: usize = 4 * 1024;

/// Carries out actions.
#[derive(Clone)]
pub(crate) struct Writer {
    /// The API server.
    client: Client,
    /// Where writes are counted.
    pub metrics: Arc<Metrics>,
    /// One permit for each KiB that may be sent at the same time.
    room: Arc<Semaphore>,
    /// Whether all writes are dry runs.
    dry_run: bool,
}

/// The result of an action: what is known afterwards, and the failure, if there was one.
pub(crate) struct Outcome {
    /// What was seen, for the index.
    pub observed: Vec<Observation>,
    /// Why it did not succeed.
    pub failure: Option<Failure>,
}

impl Writer {
    /// Writes through `client`.
    pub(crate) fn new(client: Client, metrics: Arc<Metrics>) -> Self {
        Self { client, metrics, room: Arc::new(Semaphore::new(ON_THE_WAY)), dry_run: false }
    }

    /// Makes all writes dry runs. The API server still checks quotas, webhooks and rights, and answers as it would otherwise.
    pub(crate) fn dry_run(self) -> Self {
        Self { dry_run: true, ..self }
    }

    /// Carries out one action.
    pub(crate) async fn apply(&self, action: &Action, rules: &Rules) -> Outcome {
        let mut observed = Vec::new();
        let mut result = match action {
            Action::Create(target) => self.create(target, rules, &mut observed).await,
            Action::Update(target, seen) => self.update(target, seen, rules, &mut observed).await,
            Action::Recreate(target, version) => match self.delete(target, version, &mut observed).await {
                // The old Secret is still there, so the new one cannot be created.
                Ok(()) if self.dry_run => Ok(()),
                Ok(()) => self.create(target, rules, &mut observed).await,
                Err(failure) => Err(failure),
            },
            Action::Delete(target, version) => self.delete(target, version, &mut observed).await,
            Action::Refer(change) => self.refer(change, rules, &mut observed).await,
        };
        if let Err(Failure { reason: Reason::Outdated, .. }) = &result {
            // The object has changed since the plan, and the watch may be late. Read it, so that the next plan is right.
            if let Err(refused @ Failure { reason: Reason::Refused, .. }) =
                self.read_again(action, rules, &mut observed).await
            {
                result = Err(refused);
            }
        }
        Outcome { observed, failure: result.err() }
    }

    async fn create(&self, target: &Target, rules: &Rules, observed: &mut Vec<Observation>) -> Result<(), Failure> {
        let (content, source) = content_of(target, rules)?;
        let _room = self.room_for(content).await;
        let Extras { mut labels, mut annotations } = rules.extras.as_ref().clone();
        labels.insert(MANAGED_BY_LABEL.to_owned(), MANAGER.to_owned());
        annotations.insert(SOURCE_ANNOTATION.to_owned(), source);
        let secret = Secret {
            metadata: ObjectMeta {
                name: Some(target.secret.clone()),
                labels: Some(labels),
                annotations: Some(annotations),
                ..ObjectMeta::default()
            },
            type_: Some(content.secret_type.to_owned()),
            data: Some(content.data.clone()),
            ..Secret::default()
        };
        let params = PostParams { field_manager: Some(MANAGER.to_owned()), dry_run: self.dry_run };
        let api = self.secrets(target);
        let written = self.send(secrets("create", target), api.create(&params, &secret)).await?;
        observe_copy(target, &written, content, rules, observed)
    }

    async fn update(
        &self,
        target: &Target,
        seen: &SecretSeen,
        rules: &Rules,
        observed: &mut Vec<Observation>,
    ) -> Result<(), Failure> {
        let (content, source) = content_of(target, rules)?;
        let _room = self.room_for(content).await;
        let mut operations = vec![
            // The API server compares this with the present version, and answers 409 if the plan is outdated.
            json!({"op": "replace", "path": "/metadata/resourceVersion", "value": seen.version.resource_version}),
            // Replaces the whole map, so that keys that the source does not have are removed.
            json!({"op": "add", "path": "/data", "value": content.data}),
        ];
        operations.push(put_in_map("labels", MANAGED_BY_LABEL, MANAGER, seen.has_labels));
        operations.push(put_in_map("annotations", SOURCE_ANNOTATION, &source, seen.has_annotations));
        // From here on, both maps exist.
        let extras = &rules.extras;
        operations.extend(extras.labels.iter().map(|(key, value)| put_in_map("labels", key, value, true)));
        operations.extend(extras.annotations.iter().map(|(key, value)| put_in_map("annotations", key, value, true)));
        let api = self.secrets(target);
        let patch = json_patch(operations)?;
        let written = self.send(secrets("patch", target), api.patch(&target.secret, &self.by_us(), &patch)).await?;
        observe_copy(target, &written, content, rules, observed)
    }

    async fn delete(&self, target: &Target, version: &Version, observed: &mut Vec<Observation>) -> Result<(), Failure> {
        let params = DeleteParams {
            preconditions: Some(Preconditions {
                uid: Some(version.uid.to_string()),
                resource_version: Some(version.resource_version.to_string()),
            }),
            dry_run: self.dry_run,
            ..DeleteParams::default()
        };
        let api = self.secrets(target);
        match self.send(secrets("delete", target), api.delete(&target.secret, &params)).await {
            Ok(_) => {}
            Err(Failure { reason: Reason::NotFound, .. }) => {}
            Err(failure) => return Err(failure),
        }
        observed.push(Observation::NoSecret(target.namespace.clone(), target.secret.clone(), version.clone()));
        Ok(())
    }

    async fn refer(
        &self,
        change: &ReferenceChange,
        rules: &Rules,
        observed: &mut Vec<Observation>,
    ) -> Result<(), Failure> {
        let api = Api::<ServiceAccount>::namespaced(self.client.clone(), &change.namespace);
        let patch = json_patch(reference_operations(change))?;
        let request = service_accounts("patch", change);
        let written = self.send(request, api.patch(&change.service_account, &self.by_us(), &patch)).await?;
        let seen = ServiceAccountSeen::of(&written, &rules.settings);
        let put_back: Vec<&str> = change.removed().into_iter().filter(|name| seen.refers_to(name)).collect();
        let taken_out = change.add.iter().find(|name| !seen.refers_to(name));
        let failure = match (put_back.first(), taken_out) {
            (Some(name), _) => Some(Failure::put_back(name, &change.namespace, &change.service_account)),
            (_, Some(name)) => Some(Failure::taken_out(name, &change.namespace, &change.service_account)),
            (None, None) => None,
        };
        let seen = if put_back.is_empty() { seen } else { self.record_again(change, &put_back, seen, rules).await };
        observed.push(Observation::ServiceAccount(change.namespace.clone(), change.service_account.clone(), seen));
        failure.map_or(Ok(()), Err)
    }

    /// Records references as the generator's again, if they were to be removed and somebody put them back. So they can be
    /// told from the references of others when nobody puts them back any more.
    async fn record_again(
        &self,
        change: &ReferenceChange,
        put_back: &[&str],
        seen: ServiceAccountSeen,
        rules: &Rules,
    ) -> ServiceAccountSeen {
        let names: Vec<&str> = change.added.iter().map(String::as_str).chain(put_back.iter().copied()).collect();
        let operations = vec![
            json!({"op": "replace", "path": "/metadata/resourceVersion", "value": seen.version.resource_version}),
            put_in_map("annotations", REFERENCES_ANNOTATION, &names.join(","), seen.has_annotations),
        ];
        let Ok(patch) = json_patch(operations) else { return seen };
        let api = Api::<ServiceAccount>::namespaced(self.client.clone(), &change.namespace);
        let request = service_accounts("patch", change);
        match self.send(request, api.patch(&change.service_account, &self.by_us(), &patch)).await {
            Ok(written) => ServiceAccountSeen::of(&written, &rules.settings),
            Err(failure) => {
                tracing::warn!("{failure}: a reference that was put back is no longer known as the generator's");
                seen
            }
        }
    }

    /// Reads the object of an action, for the index. If that fails, the watch will report it.
    async fn read_again(&self, action: &Action, rules: &Rules, observed: &mut Vec<Observation>) -> Result<(), Failure> {
        match action.object() {
            Object::Secret(target) => {
                let api = self.secrets(target);
                let (namespace, name) = (target.namespace.clone(), target.secret.clone());
                match self.send(secrets("get", target), api.get(&target.secret)).await {
                    Ok(secret) => {
                        observed.push(Observation::Secret(namespace, name, SecretSeen::of(&secret, &rules.extras)))
                    }
                    Err(Failure { reason: Reason::NotFound, .. }) => {
                        if let Action::Update(_, SecretSeen { version, .. })
                        | Action::Recreate(_, version)
                        | Action::Delete(_, version) = action
                        {
                            observed.push(Observation::NoSecret(namespace, name, version.clone()));
                        }
                    }
                    Err(failure) => return Err(failure),
                }
            }
            Object::ServiceAccount(change) => {
                let api = Api::<ServiceAccount>::namespaced(self.client.clone(), &change.namespace);
                let (namespace, name) = (change.namespace.clone(), change.service_account.clone());
                match self.send(service_accounts("get", change), api.get(&change.service_account)).await {
                    Ok(account) => {
                        let seen = ServiceAccountSeen::of(&account, &rules.settings);
                        observed.push(Observation::ServiceAccount(namespace, name, seen));
                    }
                    Err(Failure { reason: Reason::NotFound, .. }) => {
                        observed.push(Observation::NoServiceAccount(namespace, name, change.version.clone()));
                    }
                    Err(failure) => return Err(failure),
                }
            }
        }
        Ok(())
    }

    /// Waits until content of this size may be sent.
    async fn room_for(&self, content: &Content) -> Option<SemaphorePermit<'_>> {
        let permits = (content.size() / 1024 + 1).min(ON_THE_WAY);
        // The semaphore is never closed.
        self.room.acquire_many(u32::try_from(permits).ok()?).await.ok()
    }

    fn by_us(&self) -> PatchParams {
        PatchParams { field_manager: Some(MANAGER.to_owned()), dry_run: self.dry_run, ..PatchParams::default() }
    }

    fn secrets(&self, target: &Target) -> Api<Secret> {
        Api::namespaced(self.client.clone(), &target.namespace)
    }

    async fn send<T>(&self, request: Request<'_>, answer: impl Future<Output = kube::Result<T>>) -> Result<T, Failure> {
        let answer = tokio::time::timeout(WRITE_TIMEOUT, answer).await;
        let result = match answer {
            Ok(Ok(written)) => Ok(written),
            Ok(Err(error)) => Err(Failure::of(request, &error)),
            Err(_) => Err(Failure::timeout(request, WRITE_TIMEOUT)),
        };
        let counted = result.as_ref().map(|_| ()).map_err(|failure| failure.code);
        self.metrics.count_request(request.verb, request.resource, counted);
        result
    }
}

fn secrets<'a>(verb: &'static str, target: &'a Target) -> Request<'a> {
    Request { verb, group: "", resource: "secrets", namespace: Some(&target.namespace), name: Some(&target.secret) }
}

fn service_accounts<'a>(verb: &'static str, change: &'a ReferenceChange) -> Request<'a> {
    let (namespace, name) = (Some(change.namespace.as_str()), Some(change.service_account.as_str()));
    Request { verb, group: "", resource: "serviceaccounts", namespace, name }
}

/// The content of a target's source, and the name of that source.
fn content_of<'a>(target: &Target, rules: &'a Rules) -> Result<(&'a Content, String), Failure> {
    let source = rules.settings.secrets.iter().find(|secret| secret.name == target.secret);
    match (source.and_then(|secret| secret.source.as_ref()), rules.sources.get(&target.secret)) {
        (Some(source), Some(SourceState::Ready(content))) => Ok((content, source_label(source))),
        _ => Err(Failure::outdated(format!("the source of {target} is no longer there"))),
    }
}

/// Takes in the answer to the write of a copy. It differs from the source if an admission webhook or policy changed it.
fn observe_copy(
    target: &Target,
    written: &Secret,
    content: &Content,
    rules: &Rules,
    observed: &mut Vec<Observation>,
) -> Result<(), Failure> {
    let seen = SecretSeen::of(written, &rules.extras);
    let is_a_copy = seen.digest == content.digest && seen.copied_from.is_some() && seen.has_extras;
    observed.push(Observation::Secret(target.namespace.clone(), target.secret.clone(), seen));
    if is_a_copy { Ok(()) } else { Err(Failure::changed(&target.to_string())) }
}

fn json_patch(operations: Vec<Value>) -> Result<Patch<()>, Failure> {
    serde_json::from_value(Value::Array(operations))
        .map(Patch::Json)
        .map_err(|error| Failure::outdated(format!("cannot express the patch: {error}")))
}

/// Adds an entry to a map of the metadata. A JSON patch can add only to a map that exists.
fn put_in_map(map: &str, key: &str, value: &str, map_is_there: bool) -> Value {
    if map_is_there {
        let path = format!("/metadata/{map}/{}", key.replace('~', "~0").replace('/', "~1"));
        json!({"op": "add", "path": path, "value": value})
    } else {
        json!({"op": "add", "path": format!("/metadata/{map}"), "value": {key: value}})
    }
}

/// The JSON patch for a change of references: entries of other writers are neither repeated nor moved in it.
fn reference_operations(change: &ReferenceChange) -> Vec<Value> {
    let version = &change.version.resource_version;
    let mut operations = vec![json!({"op": "replace", "path": "/metadata/resourceVersion", "value": version})];
    // Remove from the last to the first, so that the remaining positions stay right.
    for (position, _) in change.remove.iter().rev() {
        operations.push(json!({"op": "remove", "path": format!("/imagePullSecrets/{position}")}));
    }
    if !change.has_list && !change.add.is_empty() {
        operations.push(json!({"op": "add", "path": "/imagePullSecrets", "value": []}));
    }
    for name in &change.add {
        operations.push(json!({"op": "add", "path": "/imagePullSecrets/-", "value": {"name": name}}));
    }
    if !change.added.is_empty() {
        let added = change.added.join(",");
        operations.push(put_in_map("annotations", REFERENCES_ANNOTATION, &added, change.has_annotations));
    } else if change.has_record {
        let path = format!("/metadata/annotations/{}", REFERENCES_ANNOTATION.replace('/', "~1"));
        operations.push(json!({"op": "remove", "path": path}));
    }
    operations
}

#[cfg(test)]
mod tests {
    use super::*;
    use image_pull_secrets::settings::Settings;
    use rstest::rstest;

    fn change(add: &[&str], remove: &[(usize, &str)], added: &[&str]) -> ReferenceChange {
        let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        ReferenceChange {
            namespace: "team-a".to_owned(),
            service_account: "default".to_owned(),
            version: Version { uid: "u".into(), resource_version: "7".into() },
            add: owned(add),
            remove: remove.iter().map(|&(position, name)| (position, name.to_owned())).collect(),
            added: owned(added),
            forgotten: vec![],
            has_record: false,
            has_list: true,
            has_annotations: true,
        }
    }

    #[rstest]
    #[case::appends_to_a_list(
        change(&["a"], &[], &["a"]),
        json!({"metadata": {"annotations": {"x": "y", "image-pull-secrets.kubewarden.io/references": "a"}},
            "imagePullSecrets": [{"name": "mine"}, {"name": "other"}, {"name": "a"}]})
    )]
    #[case::removes_by_position(
        change(&[], &[(0, "mine"), (1, "other")], &[]),
        json!({"metadata": {"annotations": {"x": "y"}}, "imagePullSecrets": []})
    )]
    #[case::removes_and_appends(
        change(&["a", "b"], &[(0, "mine")], &["a", "b"]),
        json!({"metadata": {"annotations": {"x": "y", "image-pull-secrets.kubewarden.io/references": "a,b"}},
            "imagePullSecrets": [{"name": "other"}, {"name": "a"}, {"name": "b"}]})
    )]
    fn a_change_of_references(#[case] change: ReferenceChange, #[case] mut expected: Value) {
        let mut account = json!({
            "metadata": {"resourceVersion": "7", "annotations": {"x": "y"}},
            "imagePullSecrets": [{"name": "mine"}, {"name": "other"}],
        });
        let patch: json_patch::Patch = serde_json::from_value(json!(reference_operations(&change))).unwrap();
        json_patch::patch(&mut account, &patch).unwrap();
        expected["metadata"]["resourceVersion"] = json!("7");
        assert_eq!(account, expected);
    }

    #[rstest]
    #[case::is_forbidden(
        json!({"code": 403, "message": "serviceaccounts \"default\" is forbidden: User \"u\" cannot get resource \"serviceaccounts\""}),
        Reason::Refused,
        "verbs: [\"get\"], resourceNames: [\"default\"]}"
    )]
    #[case::fails(json!({"code": 500, "message": "broken"}), Reason::Outdated, "changed meanwhile (409)")]
    #[tokio::test]
    async fn where_the_look_after_a_conflict(#[case] answer: Value, #[case] reason: Reason, #[case] told: &str) {
        let conflict = json!({"code": 409, "message": "changed meanwhile"});
        let (_, client) = crate::cluster::fake_api::answering(&[conflict, answer]);
        let writer = Writer::new(client, Arc::default());
        let settings = Settings::from_value(&json!({"secrets": [{"name": "a"}]})).unwrap();
        let rules = Rules::of(Arc::new(settings));
        let failure = writer.apply(&Action::Refer(change(&["a"], &[], &["a"])), &rules).await.failure.unwrap();
        assert_eq!(failure.reason, reason);
        assert!(failure.message.contains(told), "{failure}");
    }

    #[test]
    fn a_bare_service_account_gets_its_list_and_annotations() {
        let change = ReferenceChange { has_list: false, has_annotations: false, ..change(&["a"], &[], &["a"]) };
        let mut account = json!({"metadata": {"resourceVersion": "7"}});
        let patch: json_patch::Patch = serde_json::from_value(json!(reference_operations(&change))).unwrap();
        json_patch::patch(&mut account, &patch).unwrap();
        assert_eq!(
            account,
            json!({"metadata": {"resourceVersion": "7", "annotations": {"image-pull-secrets.kubewarden.io/references": "a"}},
                "imagePullSecrets": [{"name": "a"}]})
        );
    }

    #[test]
    fn every_change_of_references_holds_for_one_version_only() {
        let operations = reference_operations(&change(&["a"], &[], &["a"]));
        assert_eq!(operations[0], json!({"op": "replace", "path": "/metadata/resourceVersion", "value": "7"}));
    }
}
