//! Glob patterns, matched exactly as Go's `path/filepath.Match` does it on Unix: `*`, `?`, `[a-z]`, `[^a]`, `\x`.
//!
//! The kubelet matches the labels of a registry's host with that function, so this module has to agree with it.
//! Namespaces and ServiceAccounts are selected by the same patterns, so that administrators have to learn only one
//! syntax.

/// The pattern is malformed, so that no text can match it: a `[` without its `]`, or a `\` at the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not a valid pattern: a '[' wants its ']' and a '\\' a character after it")]
pub struct BadPattern;

/// Whether `pattern` matches the whole of `text`. `*` and `?` do not match a `/`.
///
/// # Errors
/// [`BadPattern`] if Go's `filepath.Match` gives `ErrBadPattern`. Like that function, it stops reading the pattern
/// where the text no longer matches, so that a malformed pattern may also give `Ok(false)`. To refuse malformed
/// patterns, use [`check`].
pub fn matches(pattern: &str, text: &str) -> Result<bool, BadPattern> {
    let (mut pattern, mut text) = (pattern, text);
    'pattern: while !pattern.is_empty() {
        let (star, chunk, rest) = next_chunk(pattern);
        pattern = rest;
        if star && chunk.is_empty() {
            return Ok(!text.contains('/'));
        }
        let fits = |remaining: &str| remaining.is_empty() || !pattern.is_empty();
        if let Some(remaining) = match_chunk(chunk, text)?
            && fits(remaining)
        {
            text = remaining;
            continue;
        }
        if star {
            for (at, skipped) in text.char_indices() {
                if skipped == '/' {
                    break;
                }
                let after = text.get(at + skipped.len_utf8()..).unwrap_or_default();
                if let Some(remaining) = match_chunk(chunk, after)?
                    && fits(remaining)
                {
                    text = remaining;
                    continue 'pattern;
                }
            }
        }
        return Ok(false);
    }
    Ok(text.is_empty())
}

/// Checks that the whole of `pattern` is well-formed.
///
/// # Errors
/// [`BadPattern`] if it is not.
pub fn check(pattern: &str) -> Result<(), BadPattern> {
    let mut pattern = pattern;
    while !pattern.is_empty() {
        let (_, chunk, rest) = next_chunk(pattern);
        match_chunk(chunk, "")?;
        pattern = rest;
    }
    Ok(())
}

/// Whether `pattern` has no special characters, so that it matches only itself.
pub fn is_literal(pattern: &str) -> bool {
    !pattern.contains(['*', '?', '[', '\\'])
}

/// Splits the pattern: whether it begins with stars, the part up to the next star, and the rest.
fn next_chunk(pattern: &str) -> (bool, &str, &str) {
    let chunk = pattern.trim_start_matches('*');
    let star = chunk.len() < pattern.len();
    let (mut in_class, mut escaped) = (false, false);
    for (at, c) in chunk.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '[' => in_class = true,
            ']' => in_class = false,
            '*' if !in_class => {
                let (chunk, rest) = chunk.split_at(at);
                return (star, chunk, rest);
            }
            _ => {}
        }
    }
    (star, chunk, "")
}

/// The rest of `text` behind `chunk`, or `None` if `text` does not start with it. The whole chunk is checked in both
/// cases.
fn match_chunk<'t>(chunk: &str, text: &'t str) -> Result<Option<&'t str>, BadPattern> {
    let (mut chunk, mut text) = (chunk.chars(), text.chars());
    let mut failed = false;
    while let Some(c) = chunk.next() {
        failed = failed || text.as_str().is_empty();
        let candidate = if failed { None } else { text.next() };
        let matched = match c {
            '[' => match_class(&mut chunk, candidate)?,
            '?' => candidate.is_some_and(|t| t != '/'),
            '\\' => candidate == Some(chunk.next().ok_or(BadPattern)?),
            literal => candidate == Some(literal),
        };
        failed = failed || !matched;
    }
    Ok((!failed).then_some(text.as_str()))
}

/// Reads a character class up to its `]`, and tells whether `candidate` is in it.
fn match_class(chunk: &mut std::str::Chars<'_>, candidate: Option<char>) -> Result<bool, BadPattern> {
    let negated = chunk.as_str().starts_with('^');
    if negated {
        chunk.next();
    }
    let (mut found, mut ranges) = (false, 0);
    loop {
        if ranges > 0 && chunk.as_str().starts_with(']') {
            chunk.next();
            return Ok(candidate.is_some() && found != negated);
        }
        let low = class_char(chunk)?;
        let high = if chunk.as_str().starts_with('-') {
            chunk.next();
            class_char(chunk)?
        } else {
            low
        };
        found = found || candidate.is_some_and(|c| low <= c && c <= high);
        ranges += 1;
    }
}

/// Reads one character of a class, which may be escaped. It must not be the last of the pattern.
fn class_char(chunk: &mut std::str::Chars<'_>) -> Result<char, BadPattern> {
    let c = match chunk.next().ok_or(BadPattern)? {
        '-' | ']' => return Err(BadPattern),
        '\\' => chunk.next().ok_or(BadPattern)?,
        c => c,
    };
    if chunk.as_str().is_empty() { Err(BadPattern) } else { Ok(c) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rstest::rstest;

    #[rstest]
    #[case::a_literal_matches_itself("abc", "abc", true)]
    #[case::a_literal_is_not_a_prefix("abc", "abcd", false)]
    #[case::a_star_matches_nothing_too("a*", "a", true)]
    #[case::a_star_matches_a_run("kube-*", "kube-system", true)]
    #[case::a_star_in_the_middle("a*c", "abbc", true)]
    #[case::two_stars("*ecr*", "dkr.ecr.eu", true)]
    #[case::a_star_does_not_cross_a_slash("*", "a/b", false)]
    #[case::a_question_mark_is_one_character("a?c", "aéc", true)]
    #[case::a_question_mark_is_not_nothing("a?", "a", false)]
    #[case::a_class("[a-c]x", "bx", true)]
    #[case::a_negated_class("[^a-c]x", "bx", false)]
    #[case::an_escaped_star("a\\*", "a*", true)]
    #[case::an_escaped_star_is_no_star("a\\*", "ab", false)]
    #[case::case_counts("GHCR", "ghcr", false)]
    #[case::an_empty_pattern_matches_only_nothing("", "a", false)]
    #[case::the_brackets_of_an_ipv6_host_are_a_class("[::1]", "[::1]", false)]
    #[case::the_brackets_of_an_ipv6_host_match_one_character("[::1]", ":", true)]
    fn matches_as_filepath_match(#[case] pattern: &str, #[case] text: &str, #[case] expected: bool) {
        assert_eq!(matches(pattern, text), Ok(expected));
    }

    #[rstest]
    #[case::an_open_class("[a")]
    #[case::an_empty_class("[]a]")]
    #[case::a_range_without_its_end("[a-]")]
    #[case::a_range_without_its_start("[-x]")]
    #[case::a_trailing_backslash("a\\")]
    #[case::an_error_behind_a_star("*[")]
    fn malformed_patterns_are_refused(#[case] pattern: &str) {
        assert_eq!(check(pattern), Err(BadPattern));
    }

    proptest! {
        #[test]
        fn a_literal_matches_only_itself(pattern in "[a-c*?\\[\\]\\\\^-]{0,4}", text in "[a-c*?\\[\\]\\\\^-]{0,4}") {
            prop_assume!(is_literal(&pattern));
            prop_assert_eq!(matches(&pattern, &pattern), Ok(true));
            prop_assert_eq!(matches(&pattern, &text), Ok(pattern == text));
        }

        #[test]
        fn no_pattern_and_no_text_panics(pattern in ".{0,12}", text in ".{0,12}") {
            let _ = (matches(&pattern, &text), check(&pattern));
        }
    }
}
