//! Which namespaces a secret is for.

use super::any_matches;

/// Which namespaces a secret is for, among those that are not excluded. In all others, the policy and the generator act as
/// if the secret were not configured: they add no reference and make no copy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct NamespaceScope {
    /// Glob patterns for the names of namespaces. If there is none, every name matches.
    pub names: Vec<String>,
    /// Requirements on the labels of a namespace. All of them have to hold. If there is none, every namespace matches.
    pub labels: Vec<LabelRequirement>,
}

/// One requirement of a label selector. An entry of `matchLabels` becomes `In` with one value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelRequirement {
    /// The label's key.
    pub key: String,
    /// What is required of its value.
    pub condition: LabelCondition,
}

/// What a selector requires of a label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LabelCondition {
    /// Its value is one of these.
    In(Vec<String>),
    /// Its value is none of these, or the label does not exist.
    NotIn(Vec<String>),
    /// The label exists, with any value.
    Exists,
    /// The label does not exist.
    DoesNotExist,
}

impl NamespaceScope {
    /// Whether the name of a namespace matches. Its labels may still not match.
    pub fn includes_name(&self, name: &str) -> bool {
        self.names.is_empty() || any_matches(&self.names, name)
    }

    /// Whether the labels of a namespace matter.
    pub fn looks_at_labels(&self) -> bool {
        !self.labels.is_empty()
    }

    /// Whether the labels of a namespace match; `label` gives the value of the label with this key. Its name may still not
    /// match.
    pub fn includes_labels<'l>(&self, label: &dyn Fn(&str) -> Option<&'l str>) -> bool {
        self.labels.iter().all(|requirement| requirement.is_met_by(label(&requirement.key)))
    }
}

impl LabelRequirement {
    /// Whether the label's value is as required; `None` stands for a label that does not exist.
    fn is_met_by(&self, value: Option<&str>) -> bool {
        let is_among = |values: &[String]| value.is_some_and(|value| values.iter().any(|one| one == value));
        match &self.condition {
            LabelCondition::In(values) => is_among(values),
            LabelCondition::NotIn(values) => !is_among(values),
            LabelCondition::Exists => value.is_some(),
            LabelCondition::DoesNotExist => value.is_none(),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::settings::{NamespaceScope, Settings};
    use proptest::prelude::*;
    use rstest::rstest;
    use serde_json::{Value, json};

    fn scope(fields: Value) -> NamespaceScope {
        let mut secret = json!({"name": "a"});
        secret.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        Settings::from_value(&json!({"secrets": [secret]})).unwrap().secrets[0].namespaces.clone()
    }

    #[rstest]
    #[case::no_pattern(json!({}), "team-a", true)]
    #[case::an_empty_list(json!({"namespaces": []}), "team-a", true)]
    #[case::the_name(json!({"namespaces": ["team-a"]}), "team-a", true)]
    #[case::a_pattern(json!({"namespaces": ["ci", "team-*"]}), "team-a", true)]
    #[case::another_name(json!({"namespaces": ["team-a"]}), "team-b", false)]
    #[case::not_by_prefix(json!({"namespaces": ["team-a"]}), "team-a-2", false)]
    fn a_secret_is_for_namespaces_by_name(#[case] fields: Value, #[case] name: &str, #[case] expected: bool) {
        let scope = scope(fields);
        assert_eq!(scope.includes_name(name), expected);
        assert!(!scope.looks_at_labels() && scope.includes_labels(&|_| None));
    }

    /// As `Selector.Matches` in `k8s.io/apimachinery/pkg/labels`.
    #[rstest]
    #[case::an_empty_selector_selects_everything(json!({}), true)]
    #[case::so_do_its_empty_parts(json!({"matchLabels": {}, "matchExpressions": []}), true)]
    #[case::the_label(json!({"matchLabels": {"team": "a"}}), true)]
    #[case::another_value(json!({"matchLabels": {"team": "b"}}), false)]
    #[case::a_label_that_is_not_there(json!({"matchLabels": {"zone": "a"}}), false)]
    #[case::the_empty_value_is_a_value(json!({"matchLabels": {"marked": ""}}), true)]
    #[case::no_label_is_not_the_empty_value(json!({"matchLabels": {"zone": ""}}), false)]
    #[case::every_label_counts(json!({"matchLabels": {"team": "a", "env": "prod"}}), false)]
    #[case::one_of_several(json!({"matchExpressions": [{"key": "team", "operator": "In", "values": ["b", "a"]}]}), true)]
    #[case::none_of_several(json!({"matchExpressions": [{"key": "team", "operator": "In", "values": ["b", "c"]}]}), false)]
    #[case::not_one_of_several(json!({"matchExpressions": [{"key": "team", "operator": "NotIn", "values": ["b"]}]}), true)]
    #[case::one_that_is_not_to_be(json!({"matchExpressions": [{"key": "team", "operator": "NotIn", "values": ["a"]}]}), false)]
    #[case::what_is_absent_is_none_of_them(
        json!({"matchExpressions": [{"key": "zone", "operator": "NotIn", "values": ["a"]}]}), true)]
    #[case::existence(json!({"matchExpressions": [{"key": "team", "operator": "Exists"}]}), true)]
    #[case::existence_of_what_is_absent(json!({"matchExpressions": [{"key": "zone", "operator": "Exists"}]}), false)]
    #[case::absence(json!({"matchExpressions": [{"key": "zone", "operator": "DoesNotExist", "values": []}]}), true)]
    #[case::absence_of_what_is_there(json!({"matchExpressions": [{"key": "team", "operator": "DoesNotExist"}]}), false)]
    #[case::both_forms_have_to_hold(
        json!({"matchLabels": {"team": "a"}, "matchExpressions": [{"key": "env", "operator": "NotIn", "values": ["dev"]}]}),
        false)]
    fn a_secret_is_for_namespaces_by_label(#[case] selector: Value, #[case] expected: bool) {
        let labels = |key: &str| match key {
            "team" => Some("a"),
            "env" => Some("dev"),
            "marked" => Some(""),
            _ => None,
        };
        let scope = scope(json!({"namespaceSelector": selector}));
        assert_eq!(scope.includes_labels(&labels), expected);
        assert!(scope.includes_name("team-a"));
    }

    #[test]
    fn only_a_selector_that_requires_something_looks_at_labels() {
        assert!(!scope(json!({"namespaces": ["a"], "namespaceSelector": {"matchLabels": {}}})).looks_at_labels());
        assert!(scope(json!({"namespaceSelector": {"matchLabels": {"team": "a"}}})).looks_at_labels());
    }

    proptest! {
        #[test]
        fn a_requirement_and_its_opposite_divide_all_namespaces(
            values in prop::collection::vec("[ab]", 1..3), value in prop::option::of("[abc]"),
        ) {
            let of = |operator: &str, values: &[String]| {
                scope(json!({"namespaceSelector": {"matchExpressions": [{"key": "k", "operator": operator, "values": values}]}}))
                    .includes_labels(&|_| value.as_deref())
            };
            prop_assert_ne!(of("In", &values), of("NotIn", &values));
            prop_assert_ne!(of("Exists", &[]), of("DoesNotExist", &[]));
        }
    }
}
