//! Asks registries whether they accept the credentials of a source: after every change of it, and every few hours.

use crate::cluster::record::Entries;
use crate::cluster::registry::Registries;
use crate::cluster::watch::Report;
use crate::model::content::Content;
use crate::model::verification::{Question, Verdict, Verification, questions_about};
use futures::future::join_all;
use k8s_openapi::jiff::Timestamp;
use std::sync::Arc;
use tokio::sync::mpsc::Sender;
use tokio::task::JoinHandle;

/// What verifying takes.
#[derive(Clone)]
pub(crate) struct Verifier {
    /// Who is asked.
    pub(crate) registries: Registries,
    /// Where it is recorded what they say; `None` for what leaves nothing behind.
    pub(crate) entries: Option<Entries>,
    /// Where it is reported.
    pub(crate) reports: Sender<Report>,
}

/// The verification of a source. Ends when it is dropped.
pub(crate) struct Verifying {
    /// What is verified.
    pub(crate) content: Arc<Content>,
    task: JoinHandle<()>,
}

impl Drop for Verifying {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Verifier {
    /// Begins to verify the source of a secret.
    pub(crate) fn verify(&self, secret: String, content: Arc<Content>) -> Verifying {
        let task = tokio::spawn(self.clone().follow(secret, content.clone()));
        Verifying { content, task }
    }

    async fn follow(self, secret: String, content: Arc<Content>) {
        let questions = questions_about(&content);
        // What was said before a restart, too.
        let mut before = self.recorded(&secret).await;
        let (mut tries, mut recorded) = (0, None);
        loop {
            let ask = async |question: &Question| {
                let answer = self.registries.accepts(&question.host, &question.credential).await;
                (question.server.clone(), Verdict::of(answer))
            };
            let servers = join_all(questions.iter().map(ask)).await.into_iter().collect();
            let verification = Verification { digest: content.digest.to_string(), at: Timestamp::now(), servers };
            let verification = verification.after(before.as_ref());
            before = Some(verification.clone());
            let wait = verification.asked_again_after(tries, rand::random());
            tries += 1;
            if self.reports.send(Report::Verified(secret.clone(), verification.clone())).await.is_err() {
                return;
            }
            if let Some(entries) = &self.entries
                && recorded.as_ref() != Some(&verification.servers)
            {
                match entries.put(&secret, verification.clone()).await {
                    Ok(()) => recorded = Some(verification.servers),
                    Err(error) => tracing::debug!(secret, "what registries say is not recorded: {error:#}"),
                }
            }
            if questions.is_empty() {
                return;
            }
            tokio::time::sleep(wait).await;
        }
    }

    /// What is recorded of the source of a secret.
    async fn recorded(&self, secret: &str) -> Option<Verification> {
        let read = self.entries.as_ref()?.read::<Verification>().await;
        let mut recorded =
            read.inspect_err(|error| tracing::debug!(secret, "what registries said is not known: {error:#}"));
        recorded.as_mut().ok()?.remove(secret)
    }
}
