//! What the generator may have left in the cluster: the names and sources of the secrets that its settings ever had, and the
//! patterns for ServiceAccounts. Recorded on the Lease, so that what is no longer in the settings is found and removed after a restart too,
//! without a right to list every Secret.

use crate::backoff::Backoff;
use crate::ownership::{FOOTPRINT_ANNOTATION, MANAGER};
use crate::plan::source_label;
use crate::rbac::Request;
use crate::watch::Watched;
use anyhow::{Result, anyhow};
use image_pull_secrets::settings::Settings;
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{DeleteParams, ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::BTreeSet;
use std::time::Duration;

/// How often the record is asked for, at most: for three quarters of a minute.
const TRIES: usize = 9;

/// What there may be.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Footprint {
    /// The names of copies.
    pub secrets: BTreeSet<String>,
    /// What they were copied from, as a copy names it.
    pub sources: BTreeSet<String>,
    /// Glob patterns for the names of ServiceAccounts with references.
    pub service_accounts: BTreeSet<String>,
}

impl Footprint {
    /// What there is to be by these settings.
    pub fn of(settings: &Settings) -> Self {
        Self {
            secrets: settings.secrets.iter().map(|secret| secret.name.clone()).collect(),
            sources: settings.secrets.iter().filter_map(|secret| secret.source.as_ref()).map(source_label).collect(),
            service_accounts: settings.service_accounts.iter().cloned().collect(),
        }
    }

    /// All of both.
    pub fn and(mut self, other: Self) -> Self {
        self.secrets.extend(other.secrets);
        self.sources.extend(other.sources);
        self.service_accounts.extend(other.service_accounts);
        self
    }

    /// What has to be watched to see all of it.
    pub fn watches(&self) -> BTreeSet<Watched> {
        let mut watches: BTreeSet<Watched> = self.secrets.iter().cloned().map(Watched::Secrets).collect();
        watches.insert(Watched::Namespaces);
        // One literal name is watched by a field selector; there is none for several, or for a pattern.
        match self.service_accounts.iter().collect::<Vec<_>>().as_slice() {
            [] => {}
            [name] if !name.contains(['*', '?', '[', '\\']) => {
                watches.insert(Watched::ServiceAccounts(Some((*name).clone())));
            }
            _ => {
                watches.insert(Watched::ServiceAccounts(None));
            }
        }
        watches
    }
}

/// Where the footprint is recorded.
#[derive(Clone)]
pub struct Record {
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
    pub async fn read(&self) -> Result<Footprint> {
        let mut waits = Backoff::new(Duration::from_millis(500), Duration::from_secs(10)).take(TRIES);
        let lease = loop {
            match self.api().get_opt(&self.lease).await {
                Ok(lease) => break lease,
                Err(error) => match waits.next().filter(|_| may_pass(&error)) {
                    Some(wait) => {
                        tracing::debug!("{} (trying again)", self.explained("get", &error));
                        tokio::time::sleep(wait).await;
                    }
                    None => return Err(self.explained("get", &error)),
                },
            }
        };
        let annotations = lease.and_then(|lease| lease.metadata.annotations).unwrap_or_default();
        // A record that somebody spoiled is no reason to stop: what it would have said is lost.
        Ok(annotations.get(FOOTPRINT_ANNOTATION).and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default())
    }

    /// Records this instead.
    ///
    /// # Errors
    /// The Lease cannot be written.
    pub async fn write(&self, footprint: &Footprint) -> Result<()> {
        let text = serde_json::to_string(footprint)?;
        let patch = json!({"metadata": {"annotations": {FOOTPRINT_ANNOTATION: text}}});
        let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        match self.api().patch(&self.lease, &params, &Patch::Merge(&patch)).await {
            Err(kube::Error::Api(status)) if status.is_not_found() => {
                let annotations = Some([(FOOTPRINT_ANNOTATION.to_owned(), text)].into());
                let metadata = ObjectMeta { name: Some(self.lease.clone()), annotations, ..ObjectMeta::default() };
                let lease = Lease { metadata, ..Lease::default() };
                let params = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
                self.api().create(&params, &lease).await.map_err(|error| self.explained("create", &error))?;
            }
            Err(error) => return Err(self.explained("patch", &error)),
            Ok(_) => {}
        }
        Ok(())
    }

    /// Deletes the Lease.
    ///
    /// # Errors
    /// It cannot be deleted.
    pub async fn delete(&self) -> Result<()> {
        match self.api().delete(&self.lease, &DeleteParams::default()).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
            Err(error) => Err(self.explained("delete", &error)),
        }
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

/// Whether the same request may succeed later.
fn may_pass(error: &kube::Error) -> bool {
    match error {
        kube::Error::Api(status) => matches!(status.code, 408 | 429 | 500..),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::one_literal_name(&["default"], Some(Watched::ServiceAccounts(Some("default".to_owned()))))]
    #[case::two_names(&["default", "builder"], Some(Watched::ServiceAccounts(None)))]
    #[case::a_pattern(&["build*"], Some(Watched::ServiceAccounts(None)))]
    #[case::none(&[], None)]
    fn service_accounts_are_watched_as_narrowly_as_possible(
        #[case] patterns: &[&str],
        #[case] expected: Option<Watched>,
    ) {
        let service_accounts = patterns.iter().map(|&pattern| pattern.to_owned()).collect();
        let footprint = Footprint { service_accounts, ..Footprint::default() };
        let mut watches = footprint.watches();
        assert!(watches.remove(&Watched::Namespaces));
        assert_eq!(watches.pop_first(), expected);
    }
}
