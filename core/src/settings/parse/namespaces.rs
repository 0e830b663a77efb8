//! Reads for which namespaces a secret is.

use super::{Fault, Fields, Node, Path, is_empty_list};
use crate::json::{self, JsonError};
use crate::settings::{LabelCondition, LabelRequirement, NamespaceScope, is_label_value, is_qualified_name};

const LABEL_KEY: &str = "is no key of a label, such as \"team\" or \"example.com/team\"";
const LABEL_VALUE: &str = "is no value of a label: it has letters, digits, '-', '_' and '.', 63 at most";

/// The fields `namespaces` and `namespaceSelector` of a secret.
pub(super) fn read(secret: &Fields<'_, '_>, faults: &mut Vec<Fault>) -> Option<NamespaceScope> {
    let names = secret.get("namespaces").map_or_else(|| Some(Vec::new()), |node| node.globs(faults));
    let labels = secret.get("namespaceSelector").map_or_else(|| Some(Vec::new()), |node| read_selector(&node, faults));
    Some(NamespaceScope { names: names?, labels: labels? })
}

/// A `LabelSelector` of Kubernetes, checked by the rules of the API server (`ValidateLabelSelector`).
fn read_selector(node: &Node<'_, '_>, faults: &mut Vec<Fault>) -> Option<Vec<LabelRequirement>> {
    let fields = node.fields(&["matchLabels", "matchExpressions"], faults)?;
    let labels = fields.get("matchLabels").map_or_else(|| Some(Vec::new()), |node| read_labels(&node, faults));
    let expressions = fields.get("matchExpressions");
    let expressions = expressions.map_or_else(|| Some(Vec::new()), |node| node.list(faults, read_expression));
    let mut requirements = labels?;
    requirements.extend(expressions?);
    Some(requirements)
}

fn read_labels(node: &Node<'_, '_>, faults: &mut Vec<Fault>) -> Option<Vec<LabelRequirement>> {
    let mut requirements = Vec::new();
    let read = json::members(node.text, &mut |key, text| {
        let value = Node { path: Path::Field(&node.path, &key), text };
        if !is_qualified_name(&key) {
            value.fault::<()>(faults, LABEL_KEY);
        } else if let Some(value) = value.string_that(is_label_value, LABEL_VALUE, faults) {
            requirements.push(LabelRequirement { key: key.into_owned(), condition: LabelCondition::In(vec![value]) });
        }
    });
    match read {
        Ok(()) => Some(requirements),
        Err(JsonError::NotAnObject) => node.fault(faults, "must be an object with labels, such as {\"team\": \"a\"}"),
        Err(malformed) => node.fault(faults, malformed.to_string()),
    }
}

fn read_expression(node: &Node<'_, '_>, faults: &mut Vec<Fault>) -> Option<LabelRequirement> {
    let fields = node.fields(&["key", "operator", "values"], faults)?;
    let key = fields.required("key", faults).and_then(|node| node.string_that(is_qualified_name, LABEL_KEY, faults));
    let values = match fields.get("values") {
        Some(node) => node.list(faults, |node, faults| node.string_that(is_label_value, LABEL_VALUE, faults)),
        None => Some(Vec::new()),
    };
    let operator = fields.required("operator", faults)?.word(&OPERATORS, faults)?;
    let has_values = fields.get("values").is_some_and(|node| !is_empty_list(&node));
    let at_values = Path::Field(&node.path, "values");
    let condition = match (operator, has_values) {
        (Operator::In | Operator::NotIn, false) => {
            return at_values.fault(faults, "is empty: In and NotIn need at least one value");
        }
        (Operator::Exists | Operator::DoesNotExist, true) => {
            return at_values.fault(faults, "must not be there: Exists and DoesNotExist have none");
        }
        (Operator::In, true) => LabelCondition::In(values?),
        (Operator::NotIn, true) => LabelCondition::NotIn(values?),
        (Operator::Exists, false) => LabelCondition::Exists,
        (Operator::DoesNotExist, false) => LabelCondition::DoesNotExist,
    };
    Some(LabelRequirement { key: key?, condition })
}

#[derive(Clone, Copy)]
enum Operator {
    In,
    NotIn,
    Exists,
    DoesNotExist,
}

const OPERATORS: [(&str, Operator); 4] = [
    ("In", Operator::In),
    ("NotIn", Operator::NotIn),
    ("Exists", Operator::Exists),
    ("DoesNotExist", Operator::DoesNotExist),
];

#[cfg(test)]
mod tests {
    use crate::settings::{Faults, LabelCondition, LabelRequirement, Settings};
    use rstest::rstest;

    fn read(secret: &str) -> Result<Settings, Faults> {
        Settings::from_json(&format!(r#"{{"secrets": [{{"name": "a", {secret}}}]}}"#))
    }

    #[test]
    fn names_and_both_forms_of_a_selector_are_read() {
        let secret = r#""namespaces": ["team-a-*"], "namespaceSelector": {"matchLabels": {"example.com/team": "a"},
            "matchExpressions": [{"key": "env", "operator": "NotIn", "values": ["dev", ""]}, {"key": "x", "operator": "Exists"},
                {"key": "y", "operator": "DoesNotExist", "values": []}]}"#;
        let scope = read(secret).unwrap().secrets.remove(0).namespaces;
        let requirement = |key: &str, condition| LabelRequirement { key: key.to_owned(), condition };
        let values = |values: &[&str]| values.iter().map(|&value| value.to_owned()).collect();
        assert_eq!(scope.names, ["team-a-*"]);
        assert_eq!(
            scope.labels,
            [
                requirement("example.com/team", LabelCondition::In(values(&["a"]))),
                requirement("env", LabelCondition::NotIn(values(&["dev", ""]))),
                requirement("x", LabelCondition::Exists),
                requirement("y", LabelCondition::DoesNotExist),
            ]
        );
    }

    #[rstest]
    #[case::a_name_alone(r#""namespaces": "team-a""#, "secrets[0].namespaces: must be a list")]
    #[case::an_empty_name(
        r#""namespaces": ["team-a", ""]"#,
        "secrets[0].namespaces[1]: is empty: write a name, or \"*\" for all"
    )]
    #[case::a_malformed_glob(
        r#""namespaces": ["[a"]"#,
        "secrets[0].namespaces[0]: \"[a\" is not a valid pattern: a '[' wants its ']' and a '\\' a character after it"
    )]
    #[case::labels_without_their_field(
        r#""namespaceSelector": {"team": "a"}"#,
        "secrets[0].namespaceSelector.team: is no setting: known here are matchLabels and matchExpressions"
    )]
    #[case::a_selector_as_text(
        r#""namespaceSelector": "team=a""#,
        "secrets[0].namespaceSelector: must be an object with matchLabels and matchExpressions"
    )]
    #[case::labels_as_a_list(
        r#""namespaceSelector": {"matchLabels": ["team"]}"#,
        "secrets[0].namespaceSelector.matchLabels: must be an object with labels, such as {\"team\": \"a\"}"
    )]
    #[case::a_key_that_is_none(
        r#""namespaceSelector": {"matchLabels": {"my team": "a"}}"#,
        "secrets[0].namespaceSelector.matchLabels.my team: is no key of a label, such as \"team\" or \"example.com/team\""
    )]
    #[case::a_value_that_is_no_text(
        r#""namespaceSelector": {"matchLabels": {"team": true}}"#,
        "secrets[0].namespaceSelector.matchLabels.team: must be a string"
    )]
    #[case::a_pattern_as_value(
        r#""namespaceSelector": {"matchLabels": {"team": "a-*"}}"#,
        "secrets[0].namespaceSelector.matchLabels.team: \"a-*\" is no value of a label: it has letters, digits, '-', '_' and \
         '.', 63 at most"
    )]
    #[case::no_operator(
        r#""namespaceSelector": {"matchExpressions": [{"key": "team"}]}"#,
        "secrets[0].namespaceSelector.matchExpressions[0].operator: is missing"
    )]
    #[case::an_unknown_operator(
        r#""namespaceSelector": {"matchExpressions": [{"key": "team", "operator": "in", "values": ["a"]}]}"#,
        "secrets[0].namespaceSelector.matchExpressions[0].operator: must be one of In, NotIn, Exists and DoesNotExist"
    )]
    #[case::no_key(
        r#""namespaceSelector": {"matchExpressions": [{"operator": "Exists"}]}"#,
        "secrets[0].namespaceSelector.matchExpressions[0].key: is missing"
    )]
    #[case::no_values(
        r#""namespaceSelector": {"matchExpressions": [{"key": "team", "operator": "In"}]}"#,
        "secrets[0].namespaceSelector.matchExpressions[0].values: is empty: In and NotIn need at least one value"
    )]
    #[case::values_that_nothing_looks_at(
        r#""namespaceSelector": {"matchExpressions": [{"key": "team", "operator": "Exists", "values": ["a"]}]}"#,
        "secrets[0].namespaceSelector.matchExpressions[0].values: must not be there: Exists and DoesNotExist have none"
    )]
    fn says_what_is_wrong_and_where(#[case] secret: &str, #[case] message: &str) {
        assert_eq!(read(secret).unwrap_err().to_string(), message);
    }

    #[test]
    fn reports_every_fault_at_once() {
        let secret = r#""namespaces": [""], "namespaceSelector": {"matchLabels": {"team": 1}, "matchExpressions": [
            {"key": "", "operator": "Exists"}, {"key": "a", "operator": "In", "values": ["-"]}]}"#;
        let Faults(faults) = read(secret).unwrap_err();
        let paths: Vec<_> = faults.iter().map(|fault| fault.path.as_str()).collect();
        let selector = "secrets[0].namespaceSelector";
        assert_eq!(
            paths,
            [
                "secrets[0].namespaces[0]",
                &format!("{selector}.matchLabels.team"),
                &format!("{selector}.matchExpressions[0].key"),
                &format!("{selector}.matchExpressions[1].values[0]"),
            ]
        );
    }
}
