//! Remembers the last answer of each credential provider. The Lease has the time and a digest of the answer, and the copies
//! have the credentials. After a restart, with a new leader or with new settings, a provider is therefore not asked, and
//! nothing is written, while its last answer is still good.
//!
//! A copy is only used if its digest is the recorded one, because people who may write Secrets in a namespace may not write
//! the Lease.

use crate::cluster::record::{Entries, Record};
use crate::model::content::{Content, Digest};
use crate::model::ownership::{ANSWERS_ANNOTATION, MANAGED_BY_LABEL, MANAGER};
use crate::model::refresh::Times;
use anyhow::Result;
use image_pull_secrets::settings::Exec;
use k8s_openapi::api::core::v1::Secret;
use kube::api::ListParams;
use kube::{Api, Client};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeSet;

/// How many copies are read at most, and the size of a page. The first copy is nearly always the right one.
const PAGE: u32 = 10;
const PAGES: usize = 3;

/// The record of an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Recorded {
    /// A digest of the provider's settings, which are what was asked.
    asked: String,
    /// The digest of the content that is copied.
    digest: String,
    /// When the answer was given.
    #[serde(flatten)]
    pub(crate) times: Times,
}

impl Recorded {
    /// The record of an answer to a provider with these settings.
    pub(crate) fn of(exec: &Exec, digest: Digest, times: Times) -> Self {
        Self { asked: asked(exec), digest: digest.to_string(), times }
    }
}

/// A digest of everything that a provider's answer depends on.
fn asked(exec: &Exec) -> String {
    let mut hash = Sha256::new();
    hash.update(format!("{exec:?}"));
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Where answers are remembered.
#[derive(Clone)]
pub(crate) struct Answers {
    client: Client,
    entries: Entries,
}

impl Answers {
    /// Remembers answers for these secrets on this Lease.
    pub(crate) fn new(record: Record, secrets: BTreeSet<String>) -> Self {
        Self { client: record.client.clone(), entries: Entries::new(record, ANSWERS_ANNOTATION, secrets) }
    }

    /// The last answer for a secret. `None` if it is not recorded, if the settings of the provider have changed, or if no
    /// copy of it is left.
    ///
    /// # Errors
    /// The API server cannot be asked.
    pub(crate) async fn recall(&self, secret: &str, exec: &Exec) -> Result<Option<(Content, Times)>> {
        let recorded = self.entries.read::<Recorded>().await?.remove(secret);
        let Some(recorded) = recorded.filter(|recorded| recorded.asked == asked(exec)) else { return Ok(None) };
        let content = self.copy(secret, &recorded.digest).await?;
        Ok(content.map(|content| (content, recorded.times)))
    }

    /// A copy with this digest.
    async fn copy(&self, secret: &str, digest: &str) -> Result<Option<Content>> {
        let secrets = Api::<Secret>::all(self.client.clone());
        let mut page = ListParams::default()
            .fields(&format!("metadata.name={secret}"))
            .labels(&format!("{MANAGED_BY_LABEL}={MANAGER}"))
            .limit(PAGE);
        for _ in 0..PAGES {
            let list = secrets.list(&page).await?;
            let is_it = |copy: &Secret| copy.data.as_ref().is_some_and(|data| Digest::of(data).to_string() == digest);
            if let Some(copy) = list.items.into_iter().find(is_it) {
                return Ok(Content::of_secret(copy).ok().map(|content| Content { resource_version: None, ..content }));
            }
            match list.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => page = page.continue_token(&token),
                None => return Ok(None),
            }
        }
        Ok(None)
    }

    /// Records an answer.
    ///
    /// # Errors
    /// The Lease cannot be read or written.
    pub(crate) async fn remember(&self, secret: &str, recorded: Recorded) -> Result<()> {
        self.entries.put(secret, recorded).await
    }
}
