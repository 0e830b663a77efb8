//! Kubernetes Events. Those on a source Secret report what was done and what failed; those on a foreign Secret report that
//! it is in the way of a copy.

use crate::model::observed::Version;
use image_pull_secrets::settings::{Settings, Source};
use k8s_openapi::api::core::v1::ObjectReference;
use kube::runtime::events::{Event, EventType};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::sync::oneshot;

/// The longest note of an Event, in bytes (`validateV1EventSeries` and its neighbours in `events/v1` validation).
const LONGEST_NOTE: usize = 1024;

/// How many Events may wait to be published. More are dropped while the API server is away; the log says the same.
const QUEUE: usize = 4096;

/// Records Events in a queue, so that the caller does not wait until they are published. The default recorder records
/// nothing and is for commands that only read.
#[derive(Clone, Default)]
pub(crate) struct EventRecorder {
    /// The queue. `None` if nothing is recorded.
    queue: Option<Sender<Message>>,
    /// The generator's own Pod, for Events that are not about a Secret.
    own_pod: Option<ObjectReference>,
    foreign: Arc<Mutex<BTreeMap<(String, String), Foreign>>>,
}

/// A Secret that is in the way of a copy.
#[derive(Clone)]
pub(crate) struct Foreign {
    /// Which object and version of it was seen.
    pub version: Version,
    /// Whether the kubelet can pull with it.
    pub usable: bool,
}

/// What is in the queue.
pub(crate) enum Message {
    /// An Event, and the object that it is about.
    Publish(Box<(Event, ObjectReference)>),
    /// A request that is answered when everything before it was published.
    Flush(oneshot::Sender<()>),
}

impl EventRecorder {
    /// Makes a recorder, and the queue that has to be published. `own_pod` is the namespace and name of the process's Pod,
    /// if it runs in one.
    pub(crate) fn new(own_pod: Option<(String, String)>) -> (Self, Receiver<Message>) {
        let own_pod = own_pod.map(|(namespace, name)| reference("Pod", &namespace, &name));
        let (queue, messages) = channel(QUEUE);
        (Self { queue: Some(queue), own_pod, foreign: Arc::default() }, messages)
    }

    /// Reports what was done with a source.
    pub(crate) fn normal(&self, source: &Source, reason: &str, note: &str) {
        self.record(self.about(source), EventType::Normal, reason, note);
    }

    /// Reports what is wrong with a source or its copies.
    pub(crate) fn warning(&self, source: &Source, reason: &str, note: &str) {
        self.record(self.about(source), EventType::Warning, reason, note);
    }

    /// Reports what is wrong with the generator, on its own Pod.
    pub(crate) fn warning_about_itself(&self, reason: &str, note: &str) {
        self.record(self.own_pod.clone(), EventType::Warning, reason, note);
    }

    /// Reports what is wrong with the generator, on every source.
    pub(crate) fn warning_on_every_source(&self, settings: &Settings, reason: &str, note: &str) {
        let sources = settings.secrets.iter().filter_map(|secret| secret.source.as_ref());
        let mut told = Vec::new();
        for about in sources.map(|source| self.about(source)) {
            if !told.contains(&about) {
                self.record(about.clone(), EventType::Warning, reason, note);
                told.push(about);
            }
        }
    }

    /// Reports on each foreign Secret, given by namespace and name, that it is in the way. It does so once for each object,
    /// and once more if the Secret becomes harmful.
    pub(crate) fn foreign_secrets(&self, secrets: BTreeMap<(String, String), Foreign>) {
        let known = self.foreign.lock().map(|known| known.clone()).unwrap_or_default();
        for ((namespace, name), Foreign { version, usable }) in &secrets {
            let before = known.get(&(namespace.clone(), name.clone()));
            if before.is_some_and(|before| before.version.uid == version.uid && (*usable || !before.usable)) {
                continue;
            }
            let harm = if *usable {
                ""
            } else {
                ". The kubelet cannot use it, and a malformed one keeps every image from Pods that refer to it"
            };
            tracing::warn!(
                "Secret {namespace}/{name} was not made by the generator: it is kept, and no copy is made{harm}"
            );
            let about = ObjectReference { uid: Some(version.uid.to_string()), ..reference("Secret", namespace, name) };
            let note = format!(
                "This Secret is where a copy would be, and was not made by the generator. It is kept as it is; delete it, \
                 or set `conflicts: adopt`, to have a copy here{harm}."
            );
            self.record(Some(about), EventType::Warning, "ForeignSecret", &note);
        }
        if let Ok(mut known) = self.foreign.lock() {
            *known = secrets;
        }
    }

    /// Waits a short time until everything is published.
    pub(crate) async fn flush(&self) {
        let Some(queue) = &self.queue else { return };
        let (done, published) = oneshot::channel();
        let _ = tokio::time::timeout(Duration::from_secs(3), async {
            if queue.send(Message::Flush(done)).await.is_ok() {
                let _ = published.await;
            }
        })
        .await;
    }

    fn about(&self, source: &Source) -> Option<ObjectReference> {
        match source {
            Source::Secret { namespace, name } => Some(reference("Secret", namespace, name)),
            Source::File(_) | Source::Env(_) | Source::Exec(_) => self.own_pod.clone(),
        }
    }

    fn record(&self, about: Option<ObjectReference>, type_: EventType, reason: &str, note: &str) {
        let (Some(about), Some(queue)) = (about, &self.queue) else { return };
        let event = Event {
            type_,
            reason: reason.to_owned(),
            note: Some(shortened(note)),
            action: "Copy".to_owned(),
            secondary: None,
        };
        if queue.try_send(Message::Publish(Box::new((event, about)))).is_err() {
            tracing::debug!("an Event {reason} is not published: {QUEUE} others wait for it");
        }
    }
}

fn reference(kind: &str, namespace: &str, name: &str) -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some(kind.to_owned()),
        namespace: Some(namespace.to_owned()),
        name: Some(name.to_owned()),
        ..ObjectReference::default()
    }
}

fn shortened(note: &str) -> String {
    let mut end = note.len().min(LONGEST_NOTE);
    while !note.is_char_boundary(end) {
        end -= 1;
    }
    note.get(..end).unwrap_or_default().to_owned()
}
