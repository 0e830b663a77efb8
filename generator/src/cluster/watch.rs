//! The watches. Each has the narrowest selector that shows what is needed. Their reports are reduced to the needed fields
//! before they are queued, so that no credential and no whole object is kept in memory.

use crate::cluster::backoff::{Backoff, waiting_after_errors};
use crate::cluster::client::retry_after;
use crate::cluster::error::chain;
use crate::cluster::rbac::Request;
use crate::model::content::Content;
use crate::model::footprint::Footprint;
use crate::model::index::Observation;
use crate::model::observed::{NamespaceFacts, SecretSeen, ServiceAccountSeen, Version};
use crate::model::ownership::Extras;
use crate::model::plan::SourceState;
use crate::model::pod::{self, Pod};
use crate::model::pod_seen::PodSeen;
use crate::model::refresh::Asked;
use crate::model::verification::Verification;
use futures::{Stream, StreamExt as _};
use image_pull_secrets::glob;
use image_pull_secrets::settings::Settings;
use k8s_openapi::api::core::v1::{Namespace, Secret, ServiceAccount};
use kube::core::{PartialObjectMeta, Status};
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, ResourceExt};
use std::collections::BTreeSet;
use std::fmt;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::Sender;
use tokio::time::Instant;

/// How long a watch lasts, in seconds, before it is renewed from where it was. If the API server has not ended it five
/// seconds after that, the connection is dead and is given up. (kube's default is nearly 5 minutes.)
pub(crate) const QUIET_SECONDS: u32 = 45;

/// How many Secrets are listed at a time. Each may have 1 MiB, and a page is in memory several times while it is read.
const SECRETS_A_PAGE: u32 = 10;

/// How long a watch has to go without an error to count as working again. This is a guess, because a watch reports nothing
/// if nothing happens. It is longer than an attempt without an answer takes: 10 s until it begins, 10 s to connect, and 55
/// s to wait. A wait that the API server asks for is added.
const LAPSE: Duration = Duration::from_secs(80);

/// How long a source has to be missing before its copies are deleted. It may be created again soon, as `kubectl replace
/// --force` does.
const GRACE: Duration = Duration::from_secs(10);

/// A report to the controller.
pub(crate) enum Report {
    /// Something was seen in the cluster.
    Observed(Observation),
    /// The source of the secret of this name has this state.
    Source(String, SourceState),
    /// The credential provider of the secret of this name was asked, with this result.
    Asked(String, Asked),
    /// The registries were asked about the source of the secret of this name, with this result.
    Verified(String, Verification),
    /// The present state of a Pod that may be stuck.
    Pod(PodSeen),
    /// These are all the Pods that have not started yet, by namespace and name.
    Pods(BTreeSet<(String, String)>),
    /// A watch does not work at present.
    WatchFailed(Watched, WatchError),
    /// A watch works again.
    WatchRecovered(Watched),
}

/// What is watched.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Watched {
    /// Every Namespace, its metadata only.
    Namespaces,
    /// The Secrets of this name in every namespace.
    Secrets(String),
    /// Every ServiceAccount, or those of one name.
    ServiceAccounts(Option<String>),
    /// The Pods that have not started yet.
    PendingPods,
    /// The source of the secret `of`.
    Source {
        /// The configured secret.
        of: String,
        /// The source's namespace.
        namespace: String,
        /// The source's name there.
        name: String,
    },
}

/// Why a watch does not work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WatchError {
    /// A sentence about it.
    pub message: String,
    /// Whether the API server forbids it, so that it will not recover by itself.
    pub forbidden: bool,
}

/// Where reports are sent, and which fields they need.
#[derive(Clone)]
pub(crate) struct Watcher {
    /// The API server.
    pub client: Client,
    /// The settings: they say which annotation excludes.
    pub settings: Arc<Settings>,
    /// Whether a Namespace's labels are needed.
    pub keep_labels: bool,
    /// Labels and annotations of the copies, in addition to the generator's own.
    pub extras: Arc<Extras>,
    /// Whether to ask by name for a source that its watch does not show.
    pub confirm_missing: bool,
    /// Where reports go.
    pub reports: Sender<Report>,
}

impl Watched {
    /// What has to be watched to see all of a footprint.
    pub(crate) fn all_of(footprint: &Footprint) -> BTreeSet<Self> {
        let mut watches: BTreeSet<Self> = footprint.secrets.iter().cloned().map(Self::Secrets).collect();
        watches.insert(Self::Namespaces);
        // A literal name is watched by a field selector, as a Secret is. There is none for a pattern.
        if footprint.service_accounts.iter().all(|name| glob::is_literal(name)) {
            watches.extend(footprint.service_accounts.iter().cloned().map(Some).map(Self::ServiceAccounts));
        } else {
            watches.insert(Self::ServiceAccounts(None));
        }
        watches
    }

    fn request(&self) -> Request<'_> {
        let core = |resource, namespace, name| Request { verb: "list", group: "", resource, namespace, name };
        match self {
            Self::Namespaces => core("namespaces", None, None),
            Self::Secrets(name) => core("secrets", None, Some(name)),
            Self::ServiceAccounts(name) => core("serviceaccounts", None, name.as_deref()),
            Self::PendingPods => core("pods", None, None),
            Self::Source { namespace, name, .. } => core("secrets", Some(namespace), Some(name)),
        }
    }

    /// Whether it is the source of the secret of this name.
    pub(crate) fn is_source_of(&self, secret: &str) -> bool {
        matches!(self, Self::Source { of, .. } if of == secret)
    }

    fn missing(&self) -> Option<Report> {
        match self {
            Self::Source { of, .. } => Some(Report::Source(of.clone(), SourceState::Missing)),
            _ => None,
        }
    }

    /// What an error of this watch means. `None` if the watch recovers by itself.
    fn error(&self, error: &watcher::Error) -> Option<WatchError> {
        let request = self.request();
        let status = status_of(error);
        // 410 means that the API server no longer keeps the version to continue from. The watcher lists again by itself.
        if status.is_some_and(|status| status.code == 410) {
            return None;
        }
        let rule = status.and_then(|status| request.missing_rule(status));
        let forbidden = rule.is_some();
        let reason = rule.unwrap_or_else(|| status.map_or_else(|| chain(error), told));
        Some(WatchError { message: format!("cannot watch {self}: {reason}"), forbidden })
    }
}

impl fmt::Display for Watched {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let request = self.request();
        f.write_str(request.resource)?;
        match (request.namespace, request.name) {
            (Some(namespace), Some(name)) => write!(f, " {namespace}/{name}"),
            (_, Some(name)) => write!(f, " named {name}"),
            _ => Ok(()),
        }
    }
}

fn told(status: &Status) -> String {
    format!("{} ({})", status.message, status.code)
}

impl Watcher {
    /// Watches until nobody receives the reports any more.
    pub(crate) async fn watch(self, watched: Watched) {
        let client = self.client.clone();
        // The result is `None` when nobody receives the reports any more.
        let _ = match &watched {
            Watched::Namespaces => {
                let stream = watcher(Api::<PartialObjectMeta<Namespace>>::all(client), config(None));
                let facts = |namespace: &_| NamespaceFacts::of(namespace, &self.settings, self.keep_labels);
                let reports = reports(
                    |namespace: &PartialObjectMeta<Namespace>| namespace.name_any(),
                    |name, namespace| Report::Observed(Observation::Namespace(name, Some(facts(&namespace)))),
                    |name, _| Report::Observed(Observation::Namespace(name, None)),
                    |names| Some(Report::Observed(Observation::Namespaces(names))),
                );
                self.follow(&watched, stream, reports).await
            }
            Watched::Secrets(name) => {
                let stream = watcher(Api::<Secret>::all(client), config(Some(name)).page_size(SECRETS_A_PAGE));
                let secret = |namespace, secret: Secret| {
                    Observation::Secret(namespace, name.clone(), SecretSeen::of(&secret, &self.extras))
                };
                let no_secret = |namespace, secret: Secret| {
                    Observation::NoSecret(namespace, name.clone(), Version::of(&secret.metadata))
                };
                let reports = reports(
                    |secret: &Secret| secret.namespace().unwrap_or_default(),
                    |namespace, seen| Report::Observed(secret(namespace, seen)),
                    |namespace, last| Report::Observed(no_secret(namespace, last)),
                    |namespaces| Some(Report::Observed(Observation::Secrets(name.clone(), namespaces))),
                );
                self.follow(&watched, stream, reports).await
            }
            Watched::ServiceAccounts(only) => {
                let stream = watcher(Api::<ServiceAccount>::all(client), config(only.as_deref()));
                let account = |(namespace, name), account: ServiceAccount| {
                    Observation::ServiceAccount(namespace, name, ServiceAccountSeen::of(&account, &self.settings))
                };
                // The event does not say which of the two it is. The index knows.
                let new_or_changed = |account: &ServiceAccount| {
                    let (namespace, name) = namespace_and_name(account);
                    let seen = ServiceAccountSeen::of_new(account, &self.settings);
                    Report::Observed(Observation::ServiceAccount(namespace, name, seen))
                };
                let no_account = |(namespace, name), account: ServiceAccount| {
                    Observation::NoServiceAccount(namespace, name, Version::of(&account.metadata))
                };
                let mut listed_or_gone = reports(
                    namespace_and_name,
                    |key, seen| Report::Observed(account(key, seen)),
                    |key, last| Report::Observed(no_account(key, last)),
                    |keys| Some(Report::Observed(Observation::ServiceAccounts(only.clone(), keys))),
                );
                let reports = |event| match event {
                    Event::Apply(account) => Some(new_or_changed(&account)),
                    event => listed_or_gone(event),
                };
                self.follow(&watched, stream, reports).await
            }
            Watched::PendingPods => {
                let pods = Api::<Pod>::all_with(client, &pod::resource());
                let stream = watcher(pods, config(None).fields("status.phase=Pending"));
                let seen = |pod: &Pod| PodSeen::of(pod, &self.settings);
                let reports = reports(
                    namespace_and_name,
                    |_, pod| Report::Pod(seen(&pod)),
                    |_, pod| Report::Pod(PodSeen { is_stuck: false, ..seen(&pod) }),
                    |keys| Some(Report::Pods(keys)),
                );
                self.follow(&watched, stream, reports).await
            }
            Watched::Source { of, namespace, name } => {
                let stream = watcher(Api::<Secret>::namespaced(client, namespace), config(Some(name)));
                self.follow(&watched, stream, source_reports(of)).await
            }
        };
    }

    /// Reports what the events mean. `None` when nobody receives the reports any more.
    async fn follow<K>(
        &self,
        watched: &Watched,
        stream: impl Stream<Item = watcher::Result<Event<K>>> + Send,
        mut report_of: impl FnMut(Event<K>) -> Option<Report>,
    ) -> Option<()> {
        // The longest wait is also how long it can take to notice that an outage is over.
        let waits = Backoff::new(Duration::from_millis(200), Duration::from_secs(10));
        let mut events = pin!(waiting_after_errors(stream, waits.clone()));
        let (mut is_failing, mut lapse) = (false, LAPSE);
        // When to ask again for a missing source by name.
        let (mut ask_at, mut asks) = (None, waits.clone());
        // Since when the API server has said that there is none.
        let mut gone_since: Option<Instant> = None;
        loop {
            let report = tokio::select! {
                event = events.next() => match event? {
                    Ok(event) => {
                        let is_part_of_a_list = matches!(event, Event::Init | Event::InitApply(_));
                        if !is_part_of_a_list && std::mem::take(&mut is_failing) {
                            self.reports.send(Report::WatchRecovered(watched.clone())).await.ok()?;
                        }
                        report_of(event)
                    }
                    Err(error) => {
                        lapse = LAPSE + status_of(&error).and_then(retry_after).unwrap_or_default();
                        let error = watched.error(&error);
                        is_failing |= error.is_some();
                        error.map(|error| Report::WatchFailed(watched.clone(), error))
                    }
                },
                () = tokio::time::sleep_until(ask_at.unwrap_or_else(Instant::now)), if ask_at.is_some() => {
                    watched.missing()
                }
                () = tokio::time::sleep(lapse), if is_failing => {
                    is_failing = false;
                    Some(Report::WatchRecovered(watched.clone()))
                }
            };
            let report = match (watched, report) {
                // An empty list is not enough evidence to delete anything.
                (Watched::Source { of, namespace, name }, Some(Report::Source(_, SourceState::Missing)))
                    if self.confirm_missing =>
                {
                    match self.ask_for(namespace, name).await {
                        Ok(SourceState::Gone) if gone_since.get_or_insert_with(Instant::now).elapsed() < GRACE => {
                            ask_at = Some(Instant::now() + GRACE);
                            None
                        }
                        Ok(state) => {
                            (ask_at, asks, gone_since) = (None, waits.clone(), None);
                            Some(Report::Source(of.clone(), state))
                        }
                        Err(error) => {
                            ask_at = asks.next().map(|wait| Instant::now() + wait);
                            self.reports.send(Report::Source(of.clone(), SourceState::Missing)).await.ok()?;
                            // The watch itself also reports errors; this one would be a repetition.
                            let is_first = !std::mem::replace(&mut is_failing, true);
                            is_first.then(|| Report::WatchFailed(watched.clone(), error))
                        }
                    }
                }
                (_, report) => {
                    if matches!(report, Some(Report::Source(..))) {
                        (ask_at, gone_since) = (None, None);
                    }
                    report
                }
            };
            if let Some(report) = report {
                self.reports.send(report).await.ok()?;
            }
        }
    }

    /// Asks by name for a source that its watch does not show.
    async fn ask_for(&self, namespace: &str, name: &str) -> Result<SourceState, WatchError> {
        let error = match Api::<Secret>::namespaced(self.client.clone(), namespace).get(name).await {
            Ok(secret) => return Ok(source_state(secret)),
            Err(error) => error,
        };
        let status = if let kube::Error::Api(status) = &error { Some(&**status) } else { None };
        // A proxy in between may also answer 404. Only the API server's answer names the object.
        let is_about_it = |status: &Status| status.details.as_ref().is_some_and(|details| details.name == name);
        if status.is_some_and(|status| status.is_not_found() && is_about_it(status)) {
            return Ok(SourceState::Gone);
        }
        let request =
            Request { verb: "get", group: "", resource: "secrets", namespace: Some(namespace), name: Some(name) };
        let rule = status.and_then(|status| request.missing_rule(status));
        let forbidden = rule.is_some();
        let reason = rule.unwrap_or_else(|| status.map_or_else(|| chain(&error), told));
        let message = format!("cannot tell whether the source {namespace}/{name} was deleted: {reason}");
        Err(WatchError { message, forbidden })
    }
}

/// Translates the events of a watch: an object has this state (`seen`), an object is gone (`gone`), or, at the end of a
/// list, these are all objects (`listed`). Objects are identified by a key.
fn reports<K, Key: Ord + Clone>(
    key: impl Fn(&K) -> Key,
    seen: impl Fn(Key, K) -> Report,
    gone: impl Fn(Key, K) -> Report,
    listed: impl Fn(BTreeSet<Key>) -> Option<Report>,
) -> impl FnMut(Event<K>) -> Option<Report> {
    let mut keys = BTreeSet::new();
    move |event| match event {
        Event::Init => {
            keys.clear();
            None
        }
        Event::InitApply(object) => {
            let key = key(&object);
            keys.insert(key.clone());
            Some(seen(key, object))
        }
        Event::InitDone => listed(std::mem::take(&mut keys)),
        Event::Apply(object) => Some(seen(key(&object), object)),
        Event::Delete(object) => Some(gone(key(&object), object)),
    }
}

/// Translates the events of a source's watch, in which the source is the only object.
fn source_reports(of: &str) -> impl FnMut(Event<Secret>) -> Option<Report> {
    let missing = move || Report::Source(of.to_owned(), SourceState::Missing);
    reports(
        |_| (),
        move |(), secret| Report::Source(of.to_owned(), source_state(secret)),
        move |(), _| missing(),
        move |found| found.is_empty().then(missing),
    )
}

fn namespace_and_name(object: &impl ResourceExt) -> (String, String) {
    (object.namespace().unwrap_or_default(), object.name_any())
}

/// Watches all objects, or the ones of this name.
pub(crate) fn config(name: Option<&str>) -> watcher::Config {
    let config = watcher::Config::default().timeout(QUIET_SECONDS);
    match name {
        Some(name) => config.fields(&format!("metadata.name={name}")),
        None => config,
    }
}

/// The API server's answer in an error, if there is one.
pub(crate) fn status_of(error: &watcher::Error) -> Option<&Status> {
    match error {
        watcher::Error::WatchError(status) => Some(status),
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status))
        | watcher::Error::WatchFailed(kube::Error::Api(status)) => Some(status),
        _ => None,
    }
}

/// The state of a source that is this Secret.
pub(crate) fn source_state(secret: Secret) -> SourceState {
    match Content::of_secret(secret) {
        Ok(content) => SourceState::Ready(Arc::new(content)),
        Err(fault) => SourceState::Unusable(fault),
    }
}

#[cfg(test)]
mod tests;
