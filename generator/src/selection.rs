//! Which namespaces are selected by their labels.

use anyhow::{Result, bail};
use kube::core::{Expression, Selector, SelectorExt as _};
use std::collections::BTreeMap;

/// Which namespaces are for copies, going by their labels.
#[derive(Debug, Clone, PartialEq)]
pub enum Selection {
    /// Those that match every one of these selectors.
    Matching(Vec<Selector>),
    /// None at all: what `cleanup` wants.
    Nothing,
}

impl Selection {
    /// Whether a namespace with these labels is selected.
    pub fn selects(&self, labels: &BTreeMap<String, String>) -> bool {
        match self {
            Self::Matching(selectors) => selectors.iter().all(|selector| selector.matches(labels)),
            Self::Nothing => false,
        }
    }

    /// Whether labels matter at all.
    pub fn looks_at_labels(&self) -> bool {
        matches!(self, Self::Matching(selectors) if selectors.iter().any(|selector| !selector.selects_all()))
    }
}

/// Reads a label selector as `kubectl --selector` takes it: `a=b,c!=d,e in (f,g),h notin (i),j,!k`.
///
/// # Errors
/// Names the part that is not understood.
pub fn parse_selector(text: &str) -> Result<Selector> {
    split_outside_parentheses(text).into_iter().filter(|part| !part.is_empty()).map(parse_requirement).collect()
}

fn parse_requirement(part: &str) -> Result<Expression> {
    let set = |key: &str, values: &str| {
        let values = values.trim().strip_prefix('(').and_then(|rest| rest.strip_suffix(')'));
        values.map(|values| (key.trim().to_owned(), values.split(',').map(|v| v.trim().to_owned()).collect()))
    };
    let expression = if let Some((key, values)) = part.split_once(" notin ") {
        set(key, values).map(|(key, values)| Expression::NotIn(key, values))
    } else if let Some((key, values)) = part.split_once(" in ") {
        set(key, values).map(|(key, values)| Expression::In(key, values))
    } else if let Some((key, value)) = part.split_once("!=") {
        Some(Expression::NotEqual(key.trim().to_owned(), value.trim().to_owned()))
    } else if let Some((key, value)) = part.split_once("==").or_else(|| part.split_once('=')) {
        Some(Expression::Equal(key.trim().to_owned(), value.trim().to_owned()))
    } else if let Some(key) = part.strip_prefix('!') {
        Some(Expression::DoesNotExist(key.trim().to_owned()))
    } else {
        Some(Expression::Exists(part.to_owned()))
    };
    match expression {
        Some(expression) if is_key(key_of(&expression)) => Ok(expression),
        _ => bail!(
            "\"{part}\" is no label requirement: write key=value, key!=value, key in (a,b), key notin (a,b), key or !key"
        ),
    }
}

fn key_of(expression: &Expression) -> &str {
    match expression {
        Expression::In(key, _)
        | Expression::NotIn(key, _)
        | Expression::Equal(key, _)
        | Expression::NotEqual(key, _)
        | Expression::Exists(key)
        | Expression::DoesNotExist(key) => key,
    }
}

fn is_key(key: &str) -> bool {
    !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_./".contains(&b))
}

fn split_outside_parentheses(text: &str) -> Vec<&str> {
    let mut inside = false;
    let parts = text.split(|c| {
        inside = if c == '(' { true } else { inside && c != ')' };
        c == ',' && !inside
    });
    parts.map(str::trim).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::equality("team=a", true)]
    #[case::double_equality("team == a", true)]
    #[case::inequality("team!=a", false)]
    #[case::inequality_of_what_is_absent("zone!=a", true)]
    #[case::membership("team in (a, b),env notin (prod)", true)]
    #[case::existence("team", true)]
    #[case::absence("!team", false)]
    #[case::every_part_counts("team=a,env=prod", false)]
    #[case::nothing_selects_everything("", true)]
    fn selects_as_kubectl_does(#[case] selector: &str, #[case] expected: bool) {
        let labels = BTreeMap::from([("team", "a"), ("env", "dev")].map(|(k, v)| (k.to_owned(), v.to_owned())));
        let selection = Selection::Matching(vec![parse_selector(selector).unwrap()]);
        assert_eq!(selection.selects(&labels), expected);
    }

    #[rstest]
    #[case::a_set_without_parentheses("team in a", "team in a")]
    #[case::no_key("=a", "=a")]
    #[case::a_key_with_a_space("a b", "a b")]
    #[case::only_the_wrong_part_is_named("a=b,team in a", "team in a")]
    fn what_is_not_a_selector_is_named(#[case] selector: &str, #[case] named: &str) {
        let error = parse_selector(selector).unwrap_err().to_string();
        assert!(error.starts_with(&format!("\"{named}\" is no label requirement")), "{error}");
    }
}
