//! Makes the plan: a list of writes that follows from the index, the settings and the sources. It is pure, so that
//! `--dry-run` can print the plan, `status` can count it and tests can check it. Only the writer writes.

mod references;

use crate::model::content::{Content, Unusable};
use crate::model::footprint::Footprint;
use crate::model::index::{Index, NamespaceSeen};
use crate::model::observed::{NamespaceFacts, SecretSeen, Version};
use crate::model::ownership::Extras;
use crate::model::selection::Selection;
use image_pull_secrets::settings::{ConfiguredSecret, Conflicts, Settings, Source};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

pub(crate) use references::ReferenceChange;

/// What the plan depends on, in addition to the index.
#[derive(Debug, Clone)]
pub(crate) struct Rules {
    /// The settings.
    pub settings: Arc<Settings>,
    /// Which namespaces are selected by their labels. Those that the settings exclude by name are not considered here.
    pub selection: Selection,
    /// Which references are removed if they are not wanted.
    pub removal: Removal,
    /// Whether copies are deleted when their source is gone.
    pub delete_with_source: bool,
    /// The content of each configured secret that has a source, by the secret's name.
    pub sources: BTreeMap<String, SourceState>,
    /// Labels and annotations of the copies, in addition to the generator's own.
    pub extras: Arc<Extras>,
    /// All present and former sources of this generator, as copies name them. A copy of another source belongs to another
    /// generator and is not deleted.
    pub own_sources: BTreeSet<String>,
}

/// Which references of a ServiceAccount are removed if they are not wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Removal {
    /// Those that the generator added, according to the ServiceAccount's annotation.
    Recorded,
    /// Also all others to a secret of the settings, unless there is a foreign Secret of that name.
    All,
}

/// What is known about a source.
#[derive(Debug, Clone, Default)]
pub(crate) enum SourceState {
    /// Nothing is known yet.
    #[default]
    Unread,
    /// It can be copied.
    Ready(Arc<Content>),
    /// The watch does not show it.
    Missing,
    /// It does not exist. The API server was asked for it by name and said so.
    Gone,
    /// It exists but must not be copied.
    Unusable(Unusable),
}

impl SourceState {
    /// Whether both have the same content, so that a copy of one is a copy of the other.
    pub(crate) fn equals(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Ready(a), Self::Ready(b)) => a.digest == b.digest && a.secret_type == b.secret_type,
            (Self::Unusable(a), Self::Unusable(b)) => a == b,
            (Self::Unread, Self::Unread) | (Self::Missing, Self::Missing) | (Self::Gone, Self::Gone) => true,
            _ => false,
        }
    }
}

/// The state of a secret in one namespace. Tables list the states in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum CopyState {
    /// The copy equals its source.
    InSync,
    /// The copy differs from its source.
    Drifted,
    /// There is no copy.
    Missing,
    /// There is a Secret that the generator did not make. It is kept.
    Foreign,
    /// The source is missing or unusable. A copy that exists stays as it is.
    Waiting,
    /// The copy or a reference to it still exists, although the namespace is no longer selected or the secret is no longer
    /// configured.
    Leftover,
    /// The namespace is not selected.
    Excluded,
    /// The namespace is selected, but not for this secret.
    Unselected,
    /// This is the source itself, or that of another entry.
    Source,
    /// The settings have no source for it, so something else makes the Secret.
    Unmanaged,
    /// The namespace is being deleted.
    Terminating,
    /// It was not listed, or listing is forbidden.
    Unknown,
}

impl CopyState {
    /// Its name in tables, JSON and metrics.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::InSync => "in-sync",
            Self::Drifted => "drifted",
            Self::Missing => "missing",
            Self::Foreign => "foreign",
            Self::Waiting => "waiting",
            Self::Leftover => "leftover",
            Self::Excluded => "excluded",
            Self::Unselected => "unselected",
            Self::Source => "source",
            Self::Unmanaged => "unmanaged",
            Self::Terminating => "terminating",
            Self::Unknown => "unknown",
        }
    }

    /// Whether this is what the settings want.
    pub(crate) fn is_as_wanted(self) -> bool {
        match self {
            Self::InSync | Self::Excluded | Self::Unselected | Self::Source | Self::Unmanaged | Self::Terminating => {
                true
            }
            Self::Drifted | Self::Missing | Self::Foreign | Self::Waiting | Self::Leftover | Self::Unknown => false,
        }
    }
}

impl fmt::Display for CopyState {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.pad(self.name())
    }
}

/// One write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    /// Create a copy.
    Create(Target),
    /// Update a Secret to the data and marks of a copy. It is updated in place, because the kubelet relies on its UID.
    Update(Target, SecretSeen),
    /// Delete a Secret and create a copy in its place, because its type is wrong or it is immutable.
    Recreate(Target, Version),
    /// Delete a copy.
    Delete(Target, Version),
    /// Change which Secrets a ServiceAccount refers to.
    Refer(ReferenceChange),
}

/// A secret in a namespace.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Target {
    /// The namespace.
    pub namespace: String,
    /// The secret's name.
    pub secret: String,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.secret)
    }
}

/// What an action writes.
pub(crate) enum Object<'a> {
    /// A Secret.
    Secret(&'a Target),
    /// A ServiceAccount.
    ServiceAccount(&'a ReferenceChange),
}

impl Action {
    /// The object that it writes.
    pub(crate) fn object(&self) -> Object<'_> {
        match self {
            Self::Create(target) | Self::Update(target, _) | Self::Recreate(target, _) | Self::Delete(target, _) => {
                Object::Secret(target)
            }
            Self::Refer(change) => Object::ServiceAccount(change),
        }
    }

    /// A verb that says what it does.
    pub(crate) fn verb(&self) -> &'static str {
        match self {
            Self::Create(_) => "create",
            Self::Update(..) | Self::Refer(_) => "update",
            Self::Recreate(..) => "recreate",
            Self::Delete(..) => "delete",
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self.object() {
            Object::Secret(target) => write!(f, "{} Secret {target}", self.verb()),
            Object::ServiceAccount(change) => write!(f, "{} {change}", self.verb()),
        }
    }
}

/// The state of one namespace, and what to do there.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct NamespacePlan {
    /// The state of each secret: first the configured ones in their order, then leftovers.
    pub states: Vec<(String, CopyState)>,
    /// What to do, in this order.
    pub actions: Vec<Action>,
}

impl Rules {
    /// Makes rules from settings alone. Every namespace that they do not exclude is selected, and no source is known yet.
    pub(crate) fn of(settings: Arc<Settings>) -> Self {
        Self {
            own_sources: Footprint::of(&settings).sources,
            settings,
            selection: Selection::Matching(vec![]),
            removal: Removal::Recorded,
            delete_with_source: false,
            sources: BTreeMap::new(),
            extras: Arc::default(),
        }
    }

    /// Whether a namespace is selected.
    pub(crate) fn selects(&self, name: &str, facts: &NamespaceFacts) -> bool {
        !facts.excluded && !self.settings.excludes_namespace(name) && self.selection.selects(&facts.labels)
    }

    /// Whether a Secret is the source of some entry. A source is never written, even if it also has the name of a copy.
    fn is_source(&self, target: &Target) -> bool {
        self.settings.secrets.iter().any(|secret| {
            matches!(&secret.source, Some(Source::Secret { namespace, name })
                if *namespace == target.namespace && *name == target.secret)
        })
    }

    /// Whether a Secret is a copy that this generator made.
    fn is_own_copy(&self, secret: &SecretSeen) -> bool {
        secret.copied_from.as_deref().is_some_and(|source| self.own_sources.contains(source))
    }

    /// Whether a secret has a source to copy it from.
    fn copies(&self, secret: &str) -> bool {
        self.settings.secrets.iter().any(|configured| configured.name == secret && configured.source.is_some())
    }

    fn is_configured(&self, secret: &str) -> bool {
        self.settings.secrets.iter().any(|configured| configured.name == secret)
    }
}

/// Whether a secret is for this namespace, provided that the namespace is selected.
pub(crate) fn is_for(secret: &ConfiguredSecret, name: &str, facts: &NamespaceFacts) -> bool {
    let label = |key: &str| facts.labels.get(key).map(String::as_str);
    secret.namespaces.includes_name(name) && secret.namespaces.includes_labels(&label)
}

/// The plan for one namespace.
pub(crate) fn plan_namespace(index: &Index, name: &str, rules: &Rules) -> NamespacePlan {
    let Some(seen) = index.namespaces.get(name) else { return NamespacePlan::default() };
    // A Secret may be reported before its Namespace. Then it is not known yet if the namespace is selected.
    let Some(facts) = &seen.namespace else { return NamespacePlan::default() };
    let mut plan = NamespacePlan::default();
    if facts.terminating {
        let names = rules.settings.secrets.iter().map(|secret| secret.name.clone());
        plan.states = names.map(|name| (name, CopyState::Terminating)).collect();
        return plan;
    }
    if !rules.selection.concerns(&facts.labels) {
        return plan;
    }
    let selected = rules.selects(name, facts);
    let mut for_it = BTreeSet::new();
    for configured in &rules.settings.secrets {
        let is_for_it = selected && is_for(configured, name, facts);
        if is_for_it {
            for_it.insert(configured.name.as_str());
        }
        let target = Target { namespace: name.to_owned(), secret: configured.name.clone() };
        let found = seen.secrets.get(&configured.name);
        let source = configured.source.as_ref();
        let (state, action) = if !index.listed.secrets.contains(&configured.name) {
            (CopyState::Unknown, None)
        } else if rules.is_source(&target) {
            (CopyState::Source, None)
        } else if !is_for_it {
            remove(target, found, rules, if selected { CopyState::Unselected } else { CopyState::Excluded })
        } else {
            match source {
                None => (CopyState::Unmanaged, None),
                Some(source) => copy(target, found, source, rules),
            }
        };
        plan.states.push((configured.name.clone(), state));
        plan.actions.extend(action);
    }
    for (former, found) in seen.secrets.iter().filter(|(secret, _)| !rules.is_configured(secret)) {
        let target = Target { namespace: name.to_owned(), secret: former.clone() };
        if index.listed.secrets.contains(former) && !rules.is_source(&target) {
            let (state, action) = remove(target, Some(found), rules, CopyState::Excluded);
            if state == CopyState::Leftover {
                plan.states.push((former.clone(), state));
            }
            plan.actions.extend(action);
        }
    }
    if index.listed.service_accounts {
        plan.actions.extend(references::changes(index, name, seen, for_it, rules).map(Action::Refer));
    }
    plan
}

/// The plans of all namespaces, in the order of their names.
pub(crate) fn plan<'a>(index: &'a Index, rules: &'a Rules) -> impl Iterator<Item = (&'a str, NamespacePlan)> {
    index.namespaces.keys().map(|name| (name.as_str(), plan_namespace(index, name, rules)))
}

/// The copies of this generator that are not being deleted, and whose namespaces are not: the name and the source of each.
pub(crate) fn own_copies<'a>(index: &'a Index, rules: &'a Rules) -> impl Iterator<Item = (&'a str, &'a str)> {
    let stays = |seen: &&NamespaceSeen| seen.namespace.as_ref().is_some_and(|facts| !facts.terminating);
    let secrets = index.namespaces.values().filter(stays).flat_map(|seen| &seen.secrets);
    let own = secrets.filter(|(_, secret)| rules.is_own_copy(secret) && !secret.deleting);
    own.filter_map(|(name, secret)| Some((name.as_str(), secret.copied_from.as_deref()?)))
}

/// The plan for a secret with a source in a selected namespace.
fn copy(target: Target, found: Option<&SecretSeen>, source: &Source, rules: &Rules) -> (CopyState, Option<Action>) {
    let may_write = |found: &SecretSeen| found.copied_from.is_some() || rules.settings.conflicts == Conflicts::Adopt;
    let content = match rules.sources.get(&target.secret) {
        Some(SourceState::Ready(content)) => content,
        Some(SourceState::Gone) if rules.delete_with_source => return remove(target, found, rules, CopyState::Waiting),
        _ if found.is_some_and(|found| !may_write(found)) => return (CopyState::Foreign, None),
        _ => return (CopyState::Waiting, None),
    };
    let Some(found) = found else { return (CopyState::Missing, Some(Action::Create(target))) };
    if found.deleting {
        return (CopyState::Missing, None);
    }
    if !may_write(found) {
        return (CopyState::Foreign, None);
    }
    let same_type = *found.secret_type == *content.secret_type;
    let same_data = found.digest == content.digest;
    let same_source = found.copied_from.as_deref() == Some(source_label(source).as_str());
    match (same_type, same_data) {
        (true, true) if same_source && found.has_extras => (CopyState::InSync, None),
        (true, same_data) if same_data || !found.immutable => {
            (CopyState::Drifted, Some(Action::Update(target, found.clone())))
        }
        _ => (CopyState::Drifted, Some(Action::Recreate(target, found.version.clone()))),
    }
}

/// The plan for a secret in a namespace that should have no copy.
fn remove(
    target: Target,
    found: Option<&SecretSeen>,
    rules: &Rules,
    otherwise: CopyState,
) -> (CopyState, Option<Action>) {
    match found {
        Some(found) if rules.is_own_copy(found) && !found.deleting => {
            (CopyState::Leftover, Some(Action::Delete(target, found.version.clone())))
        }
        _ => (otherwise, None),
    }
}

/// The name of a source in the annotation of its copies.
pub(crate) fn source_label(source: &Source) -> String {
    match source {
        Source::Secret { namespace, name } => format!("{namespace}/{name}"),
        Source::File(path) => format!("file:{path}"),
        Source::Env(name) => format!("env:{name}"),
        Source::Exec(exec) => format!("exec:{}", exec.command),
    }
}

/// Whether no reference should be added to the Secret that has the name of a copy, because the kubelet cannot use it and it
/// will stay as it is. One malformed Secret makes the kubelet fail every image of a Pod.
fn is_harmful(namespace: &str, seen: &NamespaceSeen, secret: &str, rules: &Rules) -> bool {
    let Some(found) = seen.secrets.get(secret).filter(|found| !found.usable) else { return false };
    let is_copy = found.copied_from.is_some();
    let changes = match rules.sources.get(secret) {
        Some(SourceState::Ready(_)) => is_copy || rules.settings.conflicts == Conflicts::Adopt,
        Some(SourceState::Gone) => is_copy && rules.delete_with_source,
        _ => false,
    };
    !changes || rules.is_source(&Target { namespace: namespace.to_owned(), secret: secret.to_owned() })
}

#[cfg(test)]
#[path = "plan/tests.rs"]
mod tests;

#[cfg(test)]
#[path = "plan/properties.rs"]
mod properties;
