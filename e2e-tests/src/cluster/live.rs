//! A real API server, asked as policy-server asks it: discovery first, then `get`, and 5 seconds of memory.

use std::{
    collections::HashMap,
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Result, anyhow};
use kube::{
    Api, Client,
    core::{ApiResource, DynamicObject},
};
use tokio::runtime::Handle;

use super::KubernetesGetResource;
use crate::object::Object;

/// How long the real host keeps an object that it found. What it did not find it asks for again each time.
const MEMORY: Duration = Duration::from_secs(5);

/// An API server, with the rights of whoever the client is.
pub struct Live {
    client: Client,
    runtime: Handle,
    kinds: Mutex<HashMap<(String, String), (ApiResource, bool)>>,
    objects: Mutex<HashMap<Key, (Instant, Object)>>,
}

/// API version, kind, name and namespace.
type Key = (String, String, String, Option<String>);

impl Live {
    /// Asks by this client. Questions come from threads that may block, and are waited for on the runtime that this is
    /// called in.
    pub fn new(client: Client) -> Self {
        Self { client, runtime: Handle::current(), kinds: Mutex::default(), objects: Mutex::default() }
    }

    pub(super) fn get(&self, request: &KubernetesGetResource) -> Result<Object> {
        let KubernetesGetResource { api_version, kind, name, namespace, .. } = request;
        let key = (api_version.clone(), kind.clone(), name.clone(), namespace.clone());
        let remembered = lock(&self.objects).get(&key).filter(|(when, _)| when.elapsed() < MEMORY).cloned();
        if let Some((_, object)) = remembered.filter(|_| !request.disable_cache) {
            return Ok(object);
        }
        let object = self.runtime.block_on(self.find(request))?;
        if !request.disable_cache {
            lock(&self.objects).insert(key, (Instant::now(), object.clone()));
        }
        Ok(object)
    }

    async fn find(&self, request: &KubernetesGetResource) -> Result<Object> {
        let KubernetesGetResource { api_version, kind, name, namespace, .. } = request;
        let (resource, namespaced) = self.kind(api_version, kind).await?;
        let api = if namespaced {
            let namespace = namespace
                .as_deref()
                .ok_or_else(|| anyhow!("Resource {api_version}/{kind} is namespaced, but no namespace was provided"))?;
            Api::namespaced_with(self.client.clone(), namespace, &resource)
        } else {
            Api::all_with(self.client.clone(), &resource)
        };
        let object: DynamicObject = api.get_opt(name).await?.ok_or_else(|| {
            anyhow!("Cannot find {api_version}/{kind} named '{name}' inside of namespace '{:?}'", namespace.as_deref())
        })?;
        Ok(serde_json::from_value(serde_json::to_value(object)?)?)
    }

    /// The resource of a kind and whether it is namespaced, by discovery; asked for once.
    async fn kind(&self, api_version: &str, kind: &str) -> Result<(ApiResource, bool)> {
        let key = (api_version.to_owned(), kind.to_owned());
        let known = lock(&self.kinds).get(&key).cloned();
        if let Some(known) = known {
            return Ok(known);
        }
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let served = if group.is_empty() {
            self.client.list_core_api_resources(version).await?
        } else {
            let served = self.client.list_api_group_resources(api_version).await;
            served.map_err(|error| anyhow!("error finding resource {api_version} / {kind}: {error}"))?
        };
        let resource = served.resources.into_iter().find(|resource| resource.kind == kind);
        let resource = resource.ok_or_else(|| anyhow!("Cannot find resource {api_version}/{kind}"))?;
        let found = ApiResource {
            group: group.to_owned(),
            version: version.to_owned(),
            api_version: api_version.to_owned(),
            kind: kind.to_owned(),
            plural: resource.name,
        };
        lock(&self.kinds).insert(key, (found.clone(), resource.namespaced));
        Ok((found, resource.namespaced))
    }
}

/// What was found may hold credentials.
impl fmt::Debug for Live {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Live").finish_non_exhaustive()
    }
}

/// A thread that panicked half-way through an insertion has left the map whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
