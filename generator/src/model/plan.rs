//! What to do: from what is, the settings and the sources to a list of writes. Pure, so that `--dry-run` can print it, `status`
//! count it and tests assert it; only the writer writes.

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

/// What the plan follows from, besides the index.
#[derive(Debug, Clone)]
pub(crate) struct Rules {
    /// The settings.
    pub settings: Arc<Settings>,
    /// Which namespaces are for copies, apart from the names that the settings exclude.
    pub selection: Selection,
    /// Which references go where they are not wanted.
    pub removal: Removal,
    /// Whether copies go when their source has gone.
    pub delete_with_source: bool,
    /// The content of each configured secret that has a source, by the secret's name.
    pub sources: BTreeMap<String, SourceState>,
    /// What copies have besides their content and the generator's own marks.
    pub extras: Arc<Extras>,
    /// What this generator copies from and ever copied from, as copies name it. A copy of something else is another
    /// generator's, and is not deleted.
    pub own_sources: BTreeSet<String>,
}

/// Which references of a ServiceAccount go where they are not wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Removal {
    /// Those that the generator added, as the ServiceAccount's annotation says.
    Recorded,
    /// Those to a secret of the settings as well, unless a Secret stands behind it that is somebody else's.
    All,
}

/// What is known of a source.
#[derive(Debug, Clone, Default)]
pub(crate) enum SourceState {
    /// Nothing yet.
    #[default]
    Unread,
    /// It can be copied.
    Ready(Arc<Content>),
    /// It is not there, as far as a watch can tell.
    Missing,
    /// It is not there: the API server, asked for it by name, said so.
    Gone,
    /// It is there, and must not be propagated.
    Unusable(Unusable),
}

impl SourceState {
    /// Whether a copy of the one is a copy of the other.
    pub(crate) fn equals(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Ready(a), Self::Ready(b)) => a.digest == b.digest && a.secret_type == b.secret_type,
            (Self::Unusable(a), Self::Unusable(b)) => a == b,
            (Self::Unread, Self::Unread) | (Self::Missing, Self::Missing) | (Self::Gone, Self::Gone) => true,
            _ => false,
        }
    }
}

/// How a secret fares in one namespace: in the order in which a table lists them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum CopyState {
    /// The copy equals its source.
    InSync,
    /// The copy differs from its source.
    Drifted,
    /// There is no copy.
    Missing,
    /// A Secret that the generator did not make stands there, and is kept.
    Foreign,
    /// The source is missing or unusable; a copy that is there stays as it is.
    Waiting,
    /// The copy, or a reference to it, is still there and is not to be: its namespace is not selected any more, or its secret
    /// not configured.
    Leftover,
    /// The namespace is not selected.
    Excluded,
    /// The namespace is selected, but not for this secret.
    Unselected,
    /// This is the source itself, or that of another entry.
    Source,
    /// The settings name no source: the Secret is somebody else's to make.
    Unmanaged,
    /// The namespace is being deleted.
    Terminating,
    /// What is there has not been listed, or may not be.
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

    /// Whether this is as the settings want it.
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
    /// Make a copy where there is no Secret of its name.
    Create(Target),
    /// Give a Secret the data and marks of a copy, in place: its UID matters to the kubelet.
    Update(Target, SecretSeen),
    /// Delete a Secret, and make a copy in its place: its type, or what is immutable, cannot change.
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
    /// What it writes.
    pub(crate) fn object(&self) -> Object<'_> {
        match self {
            Self::Create(target) | Self::Update(target, _) | Self::Recreate(target, _) | Self::Delete(target, _) => {
                Object::Secret(target)
            }
            Self::Refer(change) => Object::ServiceAccount(change),
        }
    }

    /// What it does, in a word.
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

/// What one namespace is like, and what to do there.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct NamespacePlan {
    /// How each secret fares: the configured ones in their order, then leftovers.
    pub states: Vec<(String, CopyState)>,
    /// What to do, in this order.
    pub actions: Vec<Action>,
}

impl Rules {
    /// What follows from settings alone: every namespace is selected that they do not exclude, and no source is known yet.
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

    /// Whether a namespace is for copies.
    pub(crate) fn selects(&self, name: &str, facts: &NamespaceFacts) -> bool {
        !facts.excluded && !self.settings.excludes_namespace(name) && self.selection.selects(&facts.labels)
    }

    /// Whether a Secret is the source of some entry: such a one is never written, whatever else it is.
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

/// Whether a secret is for this namespace, if it is one for copies.
pub(crate) fn is_for(secret: &ConfiguredSecret, name: &str, facts: &NamespaceFacts) -> bool {
    let label = |key: &str| facts.labels.get(key).map(String::as_str);
    secret.namespaces.includes_name(name) && secret.namespaces.includes_labels(&label)
}

/// The plan for one namespace.
pub(crate) fn plan_namespace(index: &Index, name: &str, rules: &Rules) -> NamespacePlan {
    let Some(seen) = index.namespaces.get(name) else { return NamespacePlan::default() };
    // A Secret may be reported before its Namespace; then there is nothing yet that selects it.
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

/// The plan for everything: each namespace with its own, in the order of their names.
pub(crate) fn plan<'a>(index: &'a Index, rules: &'a Rules) -> impl Iterator<Item = (&'a str, NamespacePlan)> {
    index.namespaces.keys().map(|name| (name.as_str(), plan_namespace(index, name, rules)))
}

/// The copies of this generator that go neither by themselves nor with their namespace: the name and the source of each.
pub(crate) fn own_copies<'a>(index: &'a Index, rules: &'a Rules) -> impl Iterator<Item = (&'a str, &'a str)> {
    let stays = |seen: &&NamespaceSeen| seen.namespace.as_ref().is_some_and(|facts| !facts.terminating);
    let secrets = index.namespaces.values().filter(stays).flat_map(|seen| &seen.secrets);
    let own = secrets.filter(|(_, secret)| rules.is_own_copy(secret) && !secret.deleting);
    own.filter_map(|(name, secret)| Some((name.as_str(), secret.copied_from.as_deref()?)))
}

/// What a selected namespace wants of a secret that has a source.
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

/// What a namespace that is to have no copy wants.
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

/// How a copy names its source.
pub(crate) fn source_label(source: &Source) -> String {
    match source {
        Source::Secret { namespace, name } => format!("{namespace}/{name}"),
        Source::File(path) => format!("file:{path}"),
        Source::Env(name) => format!("env:{name}"),
        Source::Exec(exec) => format!("exec:{}", exec.command),
    }
}

/// Whether a Secret that stands where a copy would be makes it unwise to refer to it: the kubelet cannot use it, and it will
/// stay as it is. One malformed Secret makes the kubelet fail every image of a Pod.
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
