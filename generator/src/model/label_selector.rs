//! Label selectors, written as for `kubectl --selector` or as in Kubernetes objects.

use anyhow::{Result, bail};
use image_pull_secrets::settings::{is_label_value, is_qualified_name};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::core::{Expression, Selector};

const WHAT_LABELS_ARE: &str = "keys and values are letters, digits, '-', '_' and '.', at most 63, a key perhaps behind a \
                               DNS name and '/'";

/// Reads a label selector in the form of `kubectl --selector`: `a=b,c!=d,e in (f,g),h notin (i),j,!k`.
///
/// # Errors
/// Names the part that is malformed or that no label can match. Such a selector would select nothing, and all copies would be
/// deleted.
pub(crate) fn parse_selector(text: &str) -> Result<Selector> {
    if text.trim().is_empty() {
        return Ok(Selector::default());
    }
    split_outside_parentheses(text).into_iter().map(parse_requirement).collect()
}

fn parse_requirement(part: &str) -> Result<Expression> {
    let set = |key: &str, values: &str| {
        let values = values.trim().strip_prefix('(').and_then(|rest| rest.strip_suffix(')'));
        // kubectl reads `()` as a set with the empty value. It is more likely that somebody forgot the values.
        let values = values.filter(|values| !values.trim().is_empty());
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
        Some(expression) if can_match(&expression) => Ok(expression),
        _ => bail!(
            "\"{part}\" is no label requirement: write key=value, key!=value, key in (a,b), key notin (a,b), key or !key; \
             {WHAT_LABELS_ARE}"
        ),
    }
}

/// Converts the selector of a Kubernetes object.
///
/// # Errors
/// Names the requirement that is malformed or that no label can match.
pub(crate) fn checked(selector: LabelSelector) -> Result<Selector> {
    let selector = Selector::try_from(selector)?;
    match selector.clone().into_iter().find(|expression| !can_match(expression)) {
        None => Ok(selector),
        Some(expression) => bail!("\"{expression}\" is no label requirement: {WHAT_LABELS_ARE}"),
    }
}

/// Whether a label can have this key and these values (`NewRequirement` in `k8s.io/apimachinery/pkg/labels`).
fn can_match(expression: &Expression) -> bool {
    match expression {
        Expression::In(key, values) | Expression::NotIn(key, values) => {
            is_qualified_name(key) && !values.is_empty() && values.iter().all(|value| is_label_value(value))
        }
        Expression::Equal(key, value) | Expression::NotEqual(key, value) => {
            is_qualified_name(key) && is_label_value(value)
        }
        Expression::Exists(key) | Expression::DoesNotExist(key) => is_qualified_name(key),
    }
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
    use kube::core::SelectorExt as _;
    use rstest::rstest;
    use std::collections::BTreeMap;

    #[rstest]
    #[case::equality("team=a", true)]
    #[case::double_equality("team == a", true)]
    #[case::inequality("team!=a", false)]
    #[case::inequality_of_what_is_absent("zone!=a", true)]
    #[case::membership("team in (a, b),env notin (prod)", true)]
    #[case::existence("team", true)]
    #[case::absence("!team", false)]
    #[case::every_part_counts("team=a,env=prod", false)]
    #[case::an_empty_value("team=", false)]
    #[case::a_set_with_an_empty_value("team in (,a)", true)]
    #[case::a_key_with_a_prefix("!example.com/team", true)]
    #[case::nothing_selects_everything("", true)]
    fn selects_as_kubectl_does(#[case] selector: &str, #[case] expected: bool) {
        let labels = BTreeMap::from([("team", "a"), ("env", "dev")].map(|(k, v)| (k.to_owned(), v.to_owned())));
        assert_eq!(parse_selector(selector).unwrap().matches(&labels), expected);
    }

    #[rstest]
    #[case::a_set_without_parentheses("team in a", "team in a")]
    #[case::no_key("=a", "=a")]
    #[case::a_key_with_a_space("a b", "a b")]
    #[case::a_semicolon("team=a;env=b", "team=a;env=b")]
    #[case::two_equals_signs("team=a=b", "team=a=b")]
    #[case::a_value_in_quotes("team='a'", "team='a'")]
    #[case::a_value_with_a_slash("team=a/b", "team=a/b")]
    #[case::a_value_that_ends_badly("team=a-", "team=a-")]
    #[case::a_value_that_is_too_long(&format!("team={}", "a".repeat(64)), &format!("team={}", "a".repeat(64)))]
    #[case::a_wrong_value_in_a_set("team in (a;b)", "team in (a;b)")]
    #[case::an_empty_set("team in ()", "team in ()")]
    #[case::an_empty_set_of_others("team notin ( )", "team notin ( )")]
    #[case::two_sets("team in (a) in (b)", "team in (a) in (b)")]
    #[case::a_key_that_is_none("Example.com/team", "Example.com/team")]
    #[case::a_comparison("team>5", "team>5")]
    #[case::a_negated_equality("!team=a", "!team=a")]
    #[case::nothing_after_a_comma("team=a,", "")]
    #[case::only_the_wrong_part_is_named("a=b,team in a", "team in a")]
    fn what_is_not_a_selector_is_named(#[case] selector: &str, #[case] named: &str) {
        let error = parse_selector(selector).unwrap_err().to_string();
        assert!(error.starts_with(&format!("\"{named}\" is no label requirement")), "{error}");
    }
}
