//! Sources that are not Secrets: a file, or an environment variable.

use crate::cluster::watch::Report;
use crate::engine::file;
use crate::model::content::Content;
use crate::model::plan::SourceState;
use std::path::Path;
use std::sync::Arc;
use tokio::sync::mpsc::Sender;

/// Reports the content of the file `path` as the source of `secret`, or why it is unusable: now, and whenever it changes.
pub(crate) async fn follow_file(secret: String, path: String, reports: Sender<Report>) {
    file::follow(Path::new(&path), |content| {
        let state = match content {
            Ok(document) => state_of(document),
            Err(error) => {
                tracing::warn!(secret, "cannot read {path}: {error}");
                SourceState::Missing
            }
        };
        let report = Report::Source(secret.clone(), state);
        let reports = &reports;
        async move { reports.send(report).await.is_ok() }
    })
    .await;
}

/// Reads an environment variable as a source.
pub(crate) fn of_env(name: &str) -> SourceState {
    match std::env::var(name) {
        Ok(document) => state_of(document.into_bytes()),
        Err(_) => SourceState::Missing,
    }
}

fn state_of(document: Vec<u8>) -> SourceState {
    match Content::of_docker_config(document) {
        Ok(content) => SourceState::Ready(Arc::new(content)),
        Err(fault) => SourceState::Unusable(fault),
    }
}
