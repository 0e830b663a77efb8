//! The index: the namespaces, Secrets of the configured names and ServiceAccounts that are in the cluster.
//!
//! One task owns the index. It adds the reports of the watches and the API server's answers to its own writes. Each call
//! returns which namespaces have to be planned again.

use crate::model::content::Digest;
use crate::model::observed::{NamespaceFacts, SecretSeen, ServiceAccountSeen, Version};
use std::collections::{BTreeMap, BTreeSet};

/// Something that was seen in the cluster, by a watch or in the answer to a write.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Observation {
    /// A Namespace has this state. `None` means that it is gone.
    Namespace(String, Option<NamespaceFacts>),
    /// These are all Namespaces.
    Namespaces(BTreeSet<String>),
    /// A Secret, given by its namespace and name, has this state.
    Secret(String, String, SecretSeen),
    /// A Secret is gone: its namespace, name and last version.
    NoSecret(String, String, Version),
    /// A Secret of this name is in these namespaces, and in no others.
    Secrets(String, BTreeSet<String>),
    /// A ServiceAccount, given by its namespace and name, has this state.
    ServiceAccount(String, String, ServiceAccountSeen),
    /// A ServiceAccount is gone: its namespace, name and last version.
    NoServiceAccount(String, String, Version),
    /// These are all ServiceAccounts, by namespace and name. If a name is given, they are all of that name.
    ServiceAccounts(Option<String>, BTreeSet<(String, String)>),
}

/// What is in the cluster, reduced to what the plan needs.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Index {
    /// The namespaces by name, including those of which only a Secret or ServiceAccount was seen so far.
    pub namespaces: BTreeMap<String, NamespaceSeen>,
    /// What has been listed completely. Before that, an object may be in the cluster and not in the index.
    pub listed: Listed,
}

/// Which kinds have been listed completely.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Listed {
    /// Secrets, by name.
    pub secrets: BTreeSet<String>,
    /// The ServiceAccounts that the settings select.
    pub service_accounts: bool,
}

/// One namespace.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct NamespaceSeen {
    /// The Namespace itself, once it has been seen.
    pub namespace: Option<NamespaceFacts>,
    /// Its Secrets that have a configured name, by that name.
    pub secrets: BTreeMap<String, SecretSeen>,
    /// Its ServiceAccounts, by name.
    pub service_accounts: BTreeMap<String, ServiceAccountSeen>,
}

impl Index {
    /// Adds an observation to the index, and gives the namespaces in which that changed something.
    pub(crate) fn observe(&mut self, observation: Observation) -> Vec<String> {
        let changed = |changed: bool, namespace: String| changed.then_some(namespace).into_iter().collect();
        match observation {
            Observation::Namespace(name, facts) => changed(self.put_namespace(&name, facts), name),
            Observation::Namespaces(listed) => self.retain_namespaces(&listed),
            Observation::Secret(namespace, name, seen) => changed(self.put_secret(&namespace, &name, seen), namespace),
            Observation::NoSecret(namespace, name, version) => {
                changed(self.remove_secret(&namespace, &name, &version), namespace)
            }
            Observation::Secrets(name, listed) => {
                let changed = self.retain_secrets(&name, &listed);
                if self.listed.secrets.insert(name) { self.namespaces.keys().cloned().collect() } else { changed }
            }
            Observation::ServiceAccount(namespace, name, seen) => {
                changed(self.put_service_account(&namespace, &name, seen), namespace)
            }
            Observation::NoServiceAccount(namespace, name, version) => {
                changed(self.remove_service_account(&namespace, &name, &version), namespace)
            }
            Observation::ServiceAccounts(only, listed) => self.retain_service_accounts(only.as_deref(), &listed),
        }
    }

    /// Whether a copy of a secret has this data.
    pub(crate) fn has_copy(&self, secret: &str, digest: Digest) -> bool {
        let copies = self.namespaces.values().filter_map(|seen| seen.secrets.get(secret));
        copies.filter(|copy| copy.copied_from.is_some()).any(|copy| copy.digest == digest)
    }

    /// Notes that all selected ServiceAccounts were listed. Gives the namespaces to plan again.
    pub(crate) fn service_accounts_are_listed(&mut self) -> Vec<String> {
        let first = !std::mem::replace(&mut self.listed.service_accounts, true);
        if first { self.namespaces.keys().cloned().collect() } else { Vec::new() }
    }

    /// Takes in a Namespace, or `None` if it is gone. Returns whether that changed anything.
    pub(crate) fn put_namespace(&mut self, name: &str, facts: Option<NamespaceFacts>) -> bool {
        let seen = self.entry(name);
        let changed = seen.namespace != facts;
        seen.namespace = facts;
        self.drop_if_empty(name);
        changed
    }

    /// Takes in a Secret. Returns whether that changed anything. A version that is older than the known one does not.
    pub(crate) fn put_secret(&mut self, namespace: &str, name: &str, seen: SecretSeen) -> bool {
        put(&mut self.entry(namespace).secrets, name, seen, |secret| &secret.version)
    }

    /// Takes in a ServiceAccount. Returns whether that changed anything. A version that is older than the known one does not.
    pub(crate) fn put_service_account(&mut self, namespace: &str, name: &str, mut seen: ServiceAccountSeen) -> bool {
        let accounts = &mut self.entry(namespace).service_accounts;
        // What is known already is not new: it is the same once more, or was written to.
        if let Some(known) = accounts.get(name) {
            seen.references_by_admission = known.references_by_admission && known.version == seen.version;
        }
        put(accounts, name, seen, |account| &account.version)
    }

    /// Forgets a Secret that is gone. Returns whether it was known.
    pub(crate) fn remove_secret(&mut self, namespace: &str, name: &str, version: &Version) -> bool {
        let seen = self.entry(namespace);
        let removed = remove(&mut seen.secrets, name, version, |secret| &secret.version);
        self.drop_if_empty(namespace);
        removed
    }

    /// Forgets a ServiceAccount that is gone. Returns whether it was known.
    pub(crate) fn remove_service_account(&mut self, namespace: &str, name: &str, version: &Version) -> bool {
        let seen = self.entry(namespace);
        let removed = remove(&mut seen.service_accounts, name, version, |account| &account.version);
        self.drop_if_empty(namespace);
        removed
    }

    /// Forgets the Namespaces that are not in a complete list, and gives their names.
    pub(crate) fn retain_namespaces(&mut self, listed: &BTreeSet<String>) -> Vec<String> {
        self.retain(|name, seen| {
            let gone = seen.namespace.is_some() && !listed.contains(name);
            if gone {
                seen.namespace = None;
            }
            gone
        })
    }

    /// Forgets the Secrets of one name in all namespaces that are not in a complete list, and gives these namespaces.
    pub(crate) fn retain_secrets(&mut self, secret: &str, listed: &BTreeSet<String>) -> Vec<String> {
        self.retain(|name, seen| !listed.contains(name) && seen.secrets.remove(secret).is_some())
    }

    /// Forgets the ServiceAccounts that are not in a complete list, and gives their namespaces. If `only` is given, the
    /// list has only ServiceAccounts of that name.
    pub(crate) fn retain_service_accounts(
        &mut self,
        only: Option<&str>,
        listed: &BTreeSet<(String, String)>,
    ) -> Vec<String> {
        self.retain(|namespace, seen| {
            let before = seen.service_accounts.len();
            seen.service_accounts.retain(|name, _| {
                only.is_some_and(|only| only != name) || listed.contains(&(namespace.clone(), name.clone()))
            });
            seen.service_accounts.len() < before
        })
    }

    fn entry(&mut self, namespace: &str) -> &mut NamespaceSeen {
        self.namespaces.entry(namespace.to_owned()).or_default()
    }

    fn drop_if_empty(&mut self, namespace: &str) {
        if self.namespaces.get(namespace).is_some_and(NamespaceSeen::is_empty) {
            self.namespaces.remove(namespace);
        }
    }

    fn retain(&mut self, mut forget: impl FnMut(&String, &mut NamespaceSeen) -> bool) -> Vec<String> {
        let mut changed = Vec::new();
        self.namespaces.retain(|name, seen| {
            if forget(name, seen) {
                changed.push(name.clone());
            }
            !seen.is_empty()
        });
        changed
    }
}

impl NamespaceSeen {
    fn is_empty(&self) -> bool {
        self.namespace.is_none() && self.secrets.is_empty() && self.service_accounts.is_empty()
    }
}

fn put<T: PartialEq>(seen: &mut BTreeMap<String, T>, name: &str, new: T, version: impl Fn(&T) -> &Version) -> bool {
    match seen.get(name) {
        Some(old) if version(&new).is_older_than(version(old)) || *old == new => false,
        _ => {
            seen.insert(name.to_owned(), new);
            true
        }
    }
}

fn remove<T>(seen: &mut BTreeMap<String, T>, name: &str, gone: &Version, version: impl Fn(&T) -> &Version) -> bool {
    // The event of a deletion may arrive after the answer to the creation that followed it.
    let known = seen.get(name).is_some_and(|old| version(old).uid == gone.uid);
    known && seen.remove(name).is_some()
}
