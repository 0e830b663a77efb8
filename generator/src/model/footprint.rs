//! What the generator may have left in the cluster: the names and sources of the secrets that its settings ever had, and the
//! patterns for ServiceAccounts.

use crate::model::plan::source_label;
use image_pull_secrets::settings::Settings;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// What may be in the cluster because of the generator.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Footprint {
    /// The names of copies.
    pub secrets: BTreeSet<String>,
    /// The sources of the copies, as a copy names its source.
    pub sources: BTreeSet<String>,
    /// Glob patterns for the names of ServiceAccounts with references.
    pub service_accounts: BTreeSet<String>,
}

impl Footprint {
    /// What may be in the cluster because of these settings.
    pub(crate) fn of(settings: &Settings) -> Self {
        Self {
            secrets: settings.secrets.iter().map(|secret| secret.name.clone()).collect(),
            sources: settings.secrets.iter().filter_map(|secret| secret.source.as_ref()).map(source_label).collect(),
            service_accounts: settings.service_accounts.iter().cloned().collect(),
        }
    }

    /// Everything that is in one of the two.
    pub(crate) fn and(mut self, other: Self) -> Self {
        self.secrets.extend(other.secrets);
        self.sources.extend(other.sources);
        self.service_accounts.extend(other.service_accounts);
        self
    }

    /// Adds the names and sources of these copies.
    pub(crate) fn with_copies<'a>(mut self, copies: impl Iterator<Item = (&'a str, &'a str)>) -> Self {
        for (name, source) in copies {
            // There may be thousands of copies of one source, so their names are not cloned each time.
            if !(self.secrets.contains(name) && self.sources.contains(source)) {
                self.secrets.insert(name.to_owned());
                self.sources.insert(source.to_owned());
            }
        }
        self
    }

    /// Everything of this that is not in the other.
    pub(crate) fn without(mut self, other: &Self) -> Self {
        self.secrets.retain(|name| !other.secrets.contains(name));
        self.sources.retain(|source| !other.sources.contains(source));
        self.service_accounts.retain(|pattern| !other.service_accounts.contains(pattern));
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn footprint(name: &str) -> Footprint {
        Footprint { secrets: BTreeSet::from([name.to_owned()]), ..Footprint::default() }
    }

    #[test]
    fn what_was_looked_for_and_does_not_remain_goes_and_what_was_not_looked_for_stays() {
        let recorded = footprint("gone").and(footprint("remaining")).and(footprint("not-looked-for"));
        let looked_for = footprint("gone").and(footprint("remaining"));
        let remaining = Footprint::default().with_copies([("remaining", "source/remaining")].into_iter());
        let after = recorded.without(&looked_for).and(remaining);
        assert_eq!(after.secrets, ["not-looked-for", "remaining"].map(str::to_owned).into());
        assert_eq!(after.sources, BTreeSet::from(["source/remaining".to_owned()]));
    }
}
