//! The generator's Lease, and what is recorded on it: the footprint, so that what is no longer in the settings is found and
//! removed after a restart too, without a right to list every Secret; and when everything was last as it should be.

use crate::cluster::backoff::Backoff;
use crate::cluster::rbac::Request;
use crate::model::footprint::Footprint;
use crate::model::ownership::{FOOTPRINT_ANNOTATION, LAST_FULL_SYNC_ANNOTATION, MANAGED_BY_LABEL, MANAGER};
use anyhow::{Result, anyhow};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::jiff::Timestamp;
use kube::api::{DeleteParams, ListParams, ObjectMeta, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, Client};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;

/// How often the record is asked for or written again, at most: for three quarters of a minute.
const TRIES: usize = 9;

/// Where a Lease is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LeaseName {
    /// Its namespace.
    pub namespace: String,
    /// Its own name.
    pub name: String,
}

impl fmt::Display for LeaseName {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl LeaseName {
    /// That of a Lease in the cluster.
    pub(crate) fn of(lease: Lease) -> Self {
        let ObjectMeta { namespace, name, .. } = lease.metadata;
        Self { namespace: namespace.unwrap_or_default(), name: name.unwrap_or_default() }
    }
}

/// What lists the Leases of generators, whatever they are called.
pub(crate) const LEASES_OF_GENERATORS: Request<'static> =
    Request { verb: "list", group: "coordination.k8s.io", resource: "leases", namespace: None, name: None };

/// The Leases of all generators of the cluster, by the label that each has; only those of this name where one is given.
///
/// # Errors
/// They cannot be listed.
pub(crate) async fn leases_of_generators(client: &Client, name: Option<&str>) -> kube::Result<Vec<Lease>> {
    let params = ListParams::default().labels(&format!("{MANAGED_BY_LABEL}={MANAGER}"));
    let mut leases = Api::<Lease>::all(client.clone()).list(&params).await?.items;
    leases.retain(|lease| name.is_none_or(|name| lease.metadata.name.as_deref() == Some(name)));
    Ok(leases)
}

/// What a Lease of this name is created with: the label by which it is found from outside.
pub(crate) fn metadata_of_lease(name: &str) -> ObjectMeta {
    let labels = Some([(MANAGED_BY_LABEL.to_owned(), MANAGER.to_owned())].into());
    ObjectMeta { name: Some(name.to_owned()), labels, ..ObjectMeta::default() }
}

/// Where the footprint is recorded.
#[derive(Clone)]
pub(crate) struct Record {
    /// The API server.
    pub client: Client,
    /// The Lease's namespace.
    pub namespace: String,
    /// The Lease's name.
    pub lease: String,
}

impl Record {
    /// What was recorded; nothing where there is no Lease.
    ///
    /// # Errors
    /// The Lease cannot be read: not even after some tries, where another try makes sense.
    pub(crate) async fn read(&self) -> Result<Footprint> {
        Ok(self.lease().await?.map(|lease| recorded_on(&lease)).unwrap_or_default())
    }

    /// The Lease, where there is one.
    ///
    /// # Errors
    /// It cannot be read: not even after some tries, where another try makes sense.
    pub(crate) async fn lease(&self) -> Result<Option<Lease>> {
        self.persistently(|| async { self.api().get_opt(&self.lease).await.map_err(|error| ("get", error)) }).await
    }

    /// Records when everything was last as it should be, for `status` to show. Once: the next time is not far away.
    ///
    /// # Errors
    /// The Lease is not there, or cannot be written.
    pub(crate) async fn write_last_full_sync(&self, time: Timestamp) -> Result<()> {
        let answer = self.patch_annotation(LAST_FULL_SYNC_ANNOTATION, &time.to_string()).await;
        answer.map(drop).map_err(|error| self.explained("patch", &error))
    }

    /// Records this instead.
    ///
    /// # Errors
    /// The Lease cannot be written: not even after some tries, where another try makes sense.
    pub(crate) async fn write(&self, footprint: &Footprint) -> Result<()> {
        self.annotate(FOOTPRINT_ANNOTATION, &serde_json::to_string(footprint)?).await
    }

    /// Gives the Lease an annotation, and makes one where there is none.
    ///
    /// # Errors
    /// The Lease cannot be written: not even after some tries, where another try makes sense.
    pub(crate) async fn annotate(&self, key: &str, value: &str) -> Result<()> {
        let write = || async {
            match self.patch_annotation(key, value).await {
                Err(kube::Error::Api(status)) if status.is_not_found() => {
                    let annotations = Some([(key.to_owned(), value.to_owned())].into());
                    let metadata = ObjectMeta { annotations, ..metadata_of_lease(&self.lease) };
                    let lease = Lease { metadata, ..Lease::default() };
                    let params = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
                    self.api().create(&params, &lease).await.map_err(|error| ("create", error))
                }
                answer => answer.map_err(|error| ("patch", error)),
            }
        };
        self.persistently(write).await.map(drop)
    }

    async fn patch_annotation(&self, key: &str, value: &str) -> kube::Result<Lease> {
        let patch = json!({"metadata": {"annotations": {key: value}}});
        let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        self.api().patch(&self.lease, &params, &Patch::Merge(&patch)).await
    }

    /// Makes a request, and makes it again where that may help. Its error comes with its verb.
    async fn persistently<T, F>(&self, request: impl Fn() -> F) -> Result<T>
    where
        F: Future<Output = Result<T, (&'static str, kube::Error)>>,
    {
        let mut waits = Backoff::new(Duration::from_millis(500), Duration::from_secs(10)).take(TRIES);
        loop {
            let (verb, error) = match request().await {
                Ok(answer) => return Ok(answer),
                Err(refused) => refused,
            };
            let explained = self.explained(verb, &error);
            let Some(wait) = waits.next().filter(|_| may_pass(&error)) else { return Err(explained) };
            tracing::debug!("{explained} (trying again)");
            tokio::time::sleep(wait).await;
        }
    }

    /// Deletes the Lease, unless somebody holds it: a generator that has begun meanwhile. Gives whether there is none any more.
    ///
    /// # Errors
    /// It cannot be read or deleted: not even after some tries, where another try makes sense.
    pub(crate) async fn delete_unless_held(&self) -> Result<bool> {
        self.persistently(|| async {
            let found = self.api().get_opt(&self.lease).await.map_err(|error| ("get", error))?;
            let Some(Lease { metadata, spec, .. }) = found else { return Ok(true) };
            if spec.and_then(|spec| spec.holder_identity).is_some_and(|holder| !holder.is_empty()) {
                return Ok(false);
            }
            // As it was read: whoever takes it now was faster, and is seen at the next look.
            let preconditions = Preconditions { uid: metadata.uid, resource_version: metadata.resource_version };
            let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
            match self.api().delete(&self.lease, &params).await {
                Ok(_) => Ok(true),
                Err(kube::Error::Api(status)) if status.is_not_found() => Ok(true),
                Err(error) => Err(("delete", error)),
            }
        })
        .await
    }

    fn api(&self) -> Api<Lease> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    fn explained(&self, verb: &'static str, error: &kube::Error) -> anyhow::Error {
        let (namespace, name) = (Some(self.namespace.as_str()), Some(self.lease.as_str()));
        let request = Request { verb, group: "coordination.k8s.io", resource: "leases", namespace, name };
        let rule = match error {
            kube::Error::Api(status) => request.missing_rule(status),
            _ => None,
        };
        anyhow!("cannot {verb} Lease {}/{}: {}", self.namespace, self.lease, rule.unwrap_or_else(|| error.to_string()))
    }
}

/// What is recorded on a Lease. A record that somebody spoiled is no reason to stop: what it would have said is lost.
pub(crate) fn recorded_on(lease: &Lease) -> Footprint {
    annotated_on(lease, FOOTPRINT_ANNOTATION)
}

/// What an annotation of a Lease holds, as far as it can be read.
fn annotated_on<T: DeserializeOwned + Default>(lease: &Lease, annotation: &str) -> T {
    let text = lease.metadata.annotations.as_ref().and_then(|annotations| annotations.get(annotation));
    text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
}

/// One entry for each of some secrets, in an annotation of the Lease.
#[derive(Clone)]
pub(crate) struct Entries {
    record: Record,
    annotation: &'static str,
    /// What is there of other secrets is forgotten.
    secrets: Arc<BTreeSet<String>>,
    /// All of them are written at once, so that one is at a time.
    writing: Arc<Mutex<()>>,
}

impl Entries {
    /// Those of these secrets.
    pub(crate) fn new(record: Record, annotation: &'static str, secrets: BTreeSet<String>) -> Self {
        Self { record, annotation, secrets: Arc::new(secrets), writing: Arc::default() }
    }

    /// All that are there.
    ///
    /// # Errors
    /// The Lease cannot be read.
    pub(crate) async fn read<T: DeserializeOwned>(&self) -> Result<BTreeMap<String, T>> {
        Ok(self.record.lease().await?.map(|lease| entries_on(&lease, self.annotation)).unwrap_or_default())
    }

    /// Replaces one.
    ///
    /// # Errors
    /// The Lease cannot be read or written.
    pub(crate) async fn put<T: Serialize + DeserializeOwned>(&self, secret: &str, entry: T) -> Result<()> {
        let _one_at_a_time = self.writing.lock().await;
        let mut all = self.read::<T>().await?;
        all.retain(|name, _| self.secrets.contains(name));
        all.insert(secret.to_owned(), entry);
        self.record.annotate(self.annotation, &serde_json::to_string(&all)?).await
    }
}

/// The entries in an annotation of a Lease, by the name of the secret. What somebody spoiled is lost.
pub(crate) fn entries_on<T: DeserializeOwned>(lease: &Lease, annotation: &str) -> BTreeMap<String, T> {
    annotated_on(lease, annotation)
}

/// Whether the same request may succeed later.
fn may_pass(error: &kube::Error) -> bool {
    match error {
        // 409: somebody else created or changed the Lease meanwhile.
        kube::Error::Api(status) => matches!(status.code, 408 | 409 | 429 | 500..),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::fake_api::{answering, client, refusal};
    use hyper::Method;
    use rstest::rstest;
    use serde_json::Value;
    use std::sync::Mutex;

    fn footprint(name: &str) -> Footprint {
        Footprint { secrets: BTreeSet::from([name.to_owned()]), ..Footprint::default() }
    }

    #[rstest]
    #[case::an_overloaded_server(429)]
    #[case::a_server_that_starts(503)]
    #[case::somebody_else_who_was_faster(409)]
    #[tokio::test(start_paused = true)]
    async fn a_write_is_made_again_after(#[case] code: u16) {
        let answers = Arc::new(Mutex::new(vec![(200, json!({"metadata": {"name": "lease"}})), refusal(code)]));
        let left = answers.clone();
        let client = client(move |_, _| std::future::ready(left.lock().unwrap().pop().unwrap()));
        let record = Record { client, namespace: "default".to_owned(), lease: "lease".to_owned() };
        record.write(&footprint("a")).await.unwrap();
        assert!(answers.lock().unwrap().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_that_is_forbidden_is_told_at_once() {
        let client = client(|method, _| {
            assert_eq!(method, Method::PATCH);
            std::future::ready(refusal(403))
        });
        let record = Record { client, namespace: "default".to_owned(), lease: "lease".to_owned() };
        let start = tokio::time::Instant::now();
        let error = record.write(&footprint("a")).await.unwrap_err().to_string();
        assert!(error.starts_with("cannot patch Lease default/lease: "), "{error}");
        assert_eq!(start.elapsed(), Duration::ZERO);
    }

    fn lease(version: &str, holder: Option<&str>) -> Value {
        json!({
            "metadata": {"name": "lease", "uid": "u", "resourceVersion": version}, "spec": {"holderIdentity": holder},
        })
    }

    #[rstest]
    #[case::it_is_nobodys(&[lease("7", None), json!({})], true, &["7"])]
    #[case::it_was_given_back(&[lease("7", Some("")), json!({})], true, &["7"])]
    #[case::it_is_gone(&[json!({"code": 404, "message": "m", "reason": "NotFound"})], true, &[])]
    #[case::somebody_holds_it(&[lease("7", Some("replica"))], false, &[])]
    #[case::a_generator_takes_it_at_that_moment(
        &[lease("7", None), json!({"code": 409, "message": "m"}), lease("8", Some("replica"))], false, &["7"]
    )]
    #[case::somebody_only_records_on_it_at_that_moment(
        &[lease("7", None), json!({"code": 409, "message": "m"}), lease("8", None), json!({})], true, &["7", "8"]
    )]
    #[tokio::test(start_paused = true)]
    async fn a_lease_is_deleted_as_it_was_seen_or_not_at_all_where(
        #[case] answers: &[Value],
        #[case] gone: bool,
        #[case] deleted: &[&str],
    ) {
        let (asked, client) = answering(answers);
        let record = Record { client, namespace: "default".to_owned(), lease: "lease".to_owned() };
        assert_eq!(record.delete_unless_held().await.unwrap(), gone);
        let asked = asked.lock().unwrap();
        let versions = asked.iter().filter_map(|document| document["preconditions"]["resourceVersion"].as_str());
        assert_eq!(versions.collect::<Vec<_>>(), deleted);
    }
}
