//! Makes text from outside safe to show in a message or in one line of a log.
//!
//! The names in an admission request have not been validated yet, and a Secret's `type` may be any text. A line break in
//! one of them would begin a new line in the log.

use std::fmt;

/// How many characters of a text are shown. The names of Pods are usually shorter.
const LONGEST: usize = 100;

/// Shows `text` in one line, without control characters, and shortened if it is long.
pub fn shown(text: &str) -> Shown<'_> {
    shown_up_to(text, LONGEST)
}

/// As [`shown`], but shortened after this many characters.
pub fn shown_up_to(text: &str, longest: usize) -> Shown<'_> {
    Shown { text, longest }
}

/// What [`shown`] gives; its `Display` is the text.
#[derive(Debug, Clone, Copy)]
pub struct Shown<'a> {
    text: &'a str,
    longest: usize,
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        use fmt::Write as _;
        for (i, c) in self.text.chars().enumerate() {
            if i == self.longest {
                return f.write_char('…');
            }
            f.write_char(if is_plain(c) { c } else { char::REPLACEMENT_CHARACTER })?;
        }
        Ok(())
    }
}

/// Whether a character can be shown: it is no control character, breaks no line and does not change the direction of writing.
fn is_plain(c: char) -> bool {
    !c.is_control() && !matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::a_name_stays("web-7d4b9", "web-7d4b9")]
    #[case::letters_of_any_script_stay("été 日本", "été 日本")]
    #[case::a_line_break("web\nINFO granted", "web\u{fffd}INFO granted")]
    #[case::an_escape_of_a_terminal("\u{1b}[31mweb", "\u{fffd}[31mweb")]
    #[case::a_separator_of_lines("a\u{2028}b", "a\u{fffd}b")]
    #[case::a_change_of_direction("a\u{202e}b", "a\u{fffd}b")]
    fn control_characters_are_replaced(#[case] text: &str, #[case] expected: &str) {
        assert_eq!(shown(text).to_string(), expected);
    }

    #[test]
    fn a_long_text_is_cut_at_a_character() {
        let of = |length| shown(&"é".repeat(length)).to_string();
        assert_eq!(of(100), "é".repeat(100));
        assert_eq!(of(101), format!("{}…", "é".repeat(100)));
    }
}
