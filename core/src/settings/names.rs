//! Which names are valid, by the rules of the API server (`k8s.io/apimachinery/pkg/util/validation`).

/// Whether this can be the name of a namespace: an RFC 1123 label of at most 63 characters.
pub(super) fn is_dns_label(text: &str) -> bool {
    text.len() <= 63 && is_label(text)
}

/// Whether this can be the name of a Secret: an RFC 1123 subdomain of at most 253 characters.
pub(super) fn is_dns_subdomain(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(is_label)
}

/// Whether this can be the key of an annotation or label: an optional DNS prefix and `/`, and a name of at most 63 characters
/// (`IsQualifiedName`).
pub fn is_qualified_name(text: &str) -> bool {
    let (prefix, name) = text.split_once('/').map_or((None, text), |(prefix, name)| (Some(prefix), name));
    let ends_well = |c: char| c.is_ascii_alphanumeric();
    prefix.is_none_or(is_dns_subdomain)
        && name.len() <= 63
        && name.starts_with(ends_well)
        && name.ends_with(ends_well)
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
}

/// Whether this can be the value of a label: the empty text, or what may be the key of a label without a prefix
/// (`IsValidLabelValue`).
pub fn is_label_value(text: &str) -> bool {
    text.is_empty() || !text.contains('/') && is_qualified_name(text)
}

/// Whether this can be the name of a container's environment variable: printable ASCII without `=`.
pub(super) fn is_env_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic() && b != b'=')
}

fn is_label(text: &str) -> bool {
    let is_word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    text.starts_with(is_word) && text.ends_with(is_word) && text.chars().all(|c| is_word(c) || c == '-')
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::a_name("registry-credentials", true)]
    #[case::dots("a.b-c.0", true)]
    #[case::nothing("", false)]
    #[case::upper_case("Registry", false)]
    #[case::an_underscore("a_b", false)]
    #[case::a_leading_dash("-a", false)]
    #[case::an_empty_label("a..b", false)]
    #[case::a_trailing_dot("a.", false)]
    fn subdomains(#[case] text: &str, #[case] expected: bool) {
        assert_eq!(is_dns_subdomain(text), expected);
    }

    #[test]
    fn lengths() {
        assert!(is_dns_subdomain(&"a".repeat(253)) && !is_dns_subdomain(&"a".repeat(254)));
        assert!(is_dns_label(&"a".repeat(63)) && !is_dns_label(&"a".repeat(64)) && !is_dns_label("a.b"));
    }

    #[rstest]
    #[case::nothing("", true)]
    #[case::a_word("team-a_1.2", true)]
    #[case::upper_case("Prod", true)]
    #[case::a_slash("a/b", false)]
    #[case::a_dash_at_its_end("a-", false)]
    #[case::a_quote("'a'", false)]
    fn label_values(#[case] text: &str, #[case] expected: bool) {
        assert_eq!(is_label_value(text), expected);
    }

    #[rstest]
    #[case::plain("exclude", true)]
    #[case::with_a_prefix("k8s.titansoft.com/imagepullsecret-patcher-exclude", true)]
    #[case::nothing_behind_the_prefix("example.com/", false)]
    #[case::nothing_before_the_slash("/exclude", false)]
    #[case::two_slashes("a/b/c", false)]
    #[case::a_space("a b", false)]
    fn annotation_keys(#[case] text: &str, #[case] expected: bool) {
        assert_eq!(is_qualified_name(text), expected);
    }
}
