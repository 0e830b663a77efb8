//! Which namespaces are selected by their labels.

use kube::core::{Selector, SelectorExt as _};
use std::collections::BTreeMap;

/// Which namespaces are selected, judged by their labels.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Selection {
    /// Those that match every one of these selectors.
    Matching(Vec<Selector>),
    /// None. `cleanup` uses this.
    Nothing,
    /// None, and nothing is done in namespaces that do not match this selector. A `cleanup` of some namespaces uses this.
    NothingIn(Selector),
}

impl Selection {
    /// Whether a namespace with these labels is selected.
    pub(crate) fn selects(&self, labels: &BTreeMap<String, String>) -> bool {
        match self {
            Self::Matching(selectors) => selectors.iter().all(|selector| selector.matches(labels)),
            Self::Nothing | Self::NothingIn(_) => false,
        }
    }

    /// Whether anything may be done in a namespace with these labels.
    pub(crate) fn concerns(&self, labels: &BTreeMap<String, String>) -> bool {
        match self {
            Self::Matching(_) | Self::Nothing => true,
            Self::NothingIn(selector) => selector.matches(labels),
        }
    }

    /// Whether no namespace is selected.
    pub(crate) fn selects_nothing(&self) -> bool {
        matches!(self, Self::Nothing | Self::NothingIn(_))
    }

    /// Whether the labels of namespaces are needed.
    pub(crate) fn looks_at_labels(&self) -> bool {
        match self {
            Self::Matching(selectors) => selectors.iter().any(|selector| !selector.selects_all()),
            Self::Nothing => false,
            Self::NothingIn(_) => true,
        }
    }
}
