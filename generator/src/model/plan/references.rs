//! Decides which Secrets ServiceAccounts refer to.
//!
//! The rule: a reference is removed only if the ServiceAccount's own annotation says that the generator added it. An entry
//! that was there before, that the policy added at admission, or that somebody added by hand is never in that annotation.
//! There are two exceptions. `cleanup --all-references` goes further, because it is told to. And what the policy added goes
//! where the Secret turns out to be one that fails every image of a Pod, as long as nobody has written to the
//! ServiceAccount.

use super::{NamespaceSeen, Removal, Rules, is_harmful};
use crate::model::index::Index;
use crate::model::observed::{ServiceAccountSeen, Version};
use image_pull_secrets::settings::OnMissingSecret;
use std::collections::BTreeSet;
use std::fmt;

/// A change of one ServiceAccount's references. It is only valid for one version of the ServiceAccount.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ReferenceChange {
    /// The namespace.
    pub namespace: String,
    /// The ServiceAccount.
    pub service_account: String,
    /// The version that was read. If the ServiceAccount has changed since, the API server refuses the change.
    pub version: Version,
    /// The names to append, in order.
    pub add: Vec<String>,
    /// The positions and names of the entries to remove, in order.
    pub remove: Vec<(usize, String)>,
    /// The names that the generator added, as recorded after this change.
    pub added: Vec<String>,
    /// Further names that it had added, as recorded before this change.
    pub forgotten: Vec<String>,
    /// Whether the annotation already exists, with any value.
    pub has_record: bool,
    /// Whether there is a list to append to.
    pub has_list: bool,
    /// Whether there are annotations to add one to.
    pub has_annotations: bool,
}

impl ReferenceChange {
    /// The secrets that it concerns: references to them are added, removed or no longer recorded.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        let removed = self.remove.iter().map(|(_, name)| name);
        self.add.iter().chain(removed).chain(&self.forgotten).map(String::as_str)
    }

    /// The names to remove.
    pub(crate) fn removed(&self) -> Vec<&str> {
        self.remove.iter().map(|(_, name)| name.as_str()).collect()
    }
}

impl fmt::Display for ReferenceChange {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "ServiceAccount {}/{}:", self.namespace, self.service_account)?;
        self.add.iter().try_for_each(|name| write!(f, " +{name}"))?;
        self.removed().iter().try_for_each(|name| write!(f, " -{name}"))?;
        if self.add.is_empty() && self.remove.is_empty() { write!(f, " annotation only") } else { Ok(()) }
    }
}

/// The changes that the ServiceAccounts of a namespace need, given the configured secrets for this namespace.
pub(super) fn changes<'a>(
    index: &'a Index,
    namespace: &'a str,
    seen: &'a NamespaceSeen,
    for_it: BTreeSet<&'a str>,
    rules: &'a Rules,
) -> impl Iterator<Item = ReferenceChange> + 'a {
    // References to Secrets that are not watched are neither added nor removed, such as those to another generator's secrets.
    let is_known = |name: &str| index.listed.secrets.contains(name);
    let names = rules.settings.service_account_secrets().map(|secret| secret.name.as_str());
    let (harmful, wanted): (Vec<&str>, Vec<&str>) = names
        .filter(|name| for_it.contains(name) && is_known(name))
        .partition(|name| is_harmful(namespace, seen, name, rules));
    // Under `skip`, no reference to a missing Secret is added. A reference that exists stays, because a copy that somebody
    // deleted is made again.
    let may_be_missing = rules.settings.on_missing_secret != OnMissingSecret::Skip;
    let is_there = |name: &str| seen.secrets.get(name).is_some_and(|secret| secret.usable && !secret.deleting);
    let may_add = move |name: &str| may_be_missing || is_there(name);
    // Under `ignore`, the policy does not read the Secret, and would add the reference again in the same request.
    let policy_asks = rules.settings.on_missing_secret != OnMissingSecret::Ignore;
    seen.service_accounts.iter().filter_map(move |(name, account)| {
        if account.deleting {
            return None;
        }
        let is_selected = !account.excluded && rules.settings.selects_service_account(name);
        let wanted = if is_selected { &wanted[..] } else { &[] };
        // This is another generator's copy, and this one does not take it over here.
        let is_anothers = |name: &str| {
            let is_copied_here = for_it.contains(name) && rules.copies(name);
            !is_copied_here
                && seen.secrets.get(name).is_some_and(|it| it.copied_from.is_some() && !rules.is_own_copy(it))
        };
        let stays = |name: &str| wanted.contains(&name) || !is_known(name) || is_anothers(name);
        let points_to_ours = |name: &str| {
            rules.removal == Removal::All && seen.secrets.get(name).is_none_or(|secret| rules.is_own_copy(secret))
        };
        let is_policys = is_selected && policy_asks && account.references_by_admission;
        let may_go = |name: &str| points_to_ours(name) || is_policys && harmful.contains(&name);
        change(namespace, name, account, wanted, may_add, stays, may_go)
    })
}

fn change(
    namespace: &str,
    name: &str,
    account: &ServiceAccountSeen,
    wanted: &[&str],
    may_add: impl Fn(&str) -> bool,
    stays: impl Fn(&str) -> bool,
    may_go: impl Fn(&str) -> bool,
) -> Option<ReferenceChange> {
    let is_ours = |name: &str| account.added.iter().any(|added| &**added == name);
    let missing = wanted.iter().filter(|name| !account.refers_to(name) && may_add(name));
    let add: Vec<String> = missing.map(|&name| name.to_owned()).collect();
    let listed = account.references.iter().flatten().enumerate();
    let remove: Vec<(usize, String)> = listed
        .filter(|(_, name)| (is_ours(name) || may_go(name)) && !stays(name))
        .map(|(position, name)| (position, name.to_string()))
        .collect();
    let (mut added, forgotten): (Vec<String>, Vec<String>) =
        account.added.iter().map(ToString::to_string).partition(|name| stays(name));
    added.extend(add.iter().filter(|name| !is_ours(name)).cloned());
    let has_change = !(add.is_empty() && remove.is_empty() && forgotten.is_empty());
    has_change.then(|| ReferenceChange {
        namespace: namespace.to_owned(),
        service_account: name.to_owned(),
        version: account.version.clone(),
        add,
        remove,
        added,
        forgotten,
        has_record: !account.added.is_empty(),
        has_list: account.references.is_some(),
        has_annotations: account.has_annotations,
    })
}
