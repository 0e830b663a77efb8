//! Publishes the Events that were recorded.

use crate::cluster::error::chain;
use crate::cluster::rbac::Request;
use crate::model::ownership::MANAGER;
use crate::telemetry::events::Message;
use kube::Client;
use kube::runtime::events::{Recorder, Reporter};
use std::time::Duration;
use tokio::sync::mpsc::Receiver;

/// How long the publication of one Event may take.
const LIMIT: Duration = Duration::from_secs(10);

const CREATE: Request<'static> =
    Request { verb: "create", group: "events.k8s.io", resource: "events", namespace: None, name: None };

/// Publishes the Events of the queue one after the other, as the replica `identity`.
pub(crate) async fn publish(client: Client, identity: String, mut messages: Receiver<Message>) {
    let reporter = Reporter { controller: MANAGER.to_owned(), instance: Some(identity) };
    let mut was_forbidden = false;
    while let Some(message) = messages.recv().await {
        let (event, about) = match message {
            Message::Publish(publication) => *publication,
            Message::Flush(done) => {
                let _ = done.send(());
                continue;
            }
        };
        // Each Event gets a recorder of its own. A shared one would repeat the first note of a series instead of the
        // present note.
        let recorder = Recorder::new(client.clone(), reporter.clone());
        let published = tokio::time::timeout(LIMIT, recorder.publish(&event, &about)).await;
        let why = match &published {
            Ok(Ok(())) => continue,
            Ok(Err(error)) => chain(error),
            Err(_) => format!("no answer within {} s", LIMIT.as_secs()),
        };
        let rule = match &published {
            Ok(Err(kube::Error::Api(status))) => CREATE.missing_rule(status),
            _ => None,
        };
        match rule {
            Some(rule) if !was_forbidden => {
                was_forbidden = true;
                tracing::warn!("cannot publish Events: {rule}");
            }
            _ => tracing::debug!("cannot publish an Event {}: {why}", event.reason),
        }
    }
}
