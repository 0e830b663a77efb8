//! JSON as text: the members of an object with the text of each value, nothing decoded that nobody asked for.
//!
//! What is only looked at stays borrowed, and what is passed on stays as it was written.

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;

/// Why a text is not the JSON that was expected. Never quotes the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// No JSON at all.
    #[error("is not JSON (line {line}, column {column})")]
    Malformed {
        /// Counted from 1.
        line: usize,
        /// Counted from 1, in bytes.
        column: usize,
    },
    /// JSON of another kind.
    #[error("is not a JSON object")]
    NotAnObject,
}

/// Calls `visit` with each member of the object in `text`: its name, unescaped, and its value as written. Members come in
/// the order of the text, and a name that is there twice comes twice.
///
/// # Errors
/// [`JsonError`] where `text` is anything but one JSON object; `visit` may have been called by then.
pub fn members<'a>(text: &'a str, visit: impl FnMut(Cow<'a, str>, &'a str)) -> Result<(), JsonError> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    deserializer.deserialize_map(EachMember(visit)).and_then(|()| deserializer.end()).map_err(|error| {
        if error.is_data() {
            JsonError::NotAnObject
        } else {
            JsonError::Malformed { line: error.line(), column: error.column() }
        }
    })
}

/// The values of some members, each as written (`null` included), or `None` where there is no such member. A name that is
/// there twice has its last value, as in every JSON library that decodes into a map.
///
/// # Errors
/// As [`members`].
pub fn pick<'a, const N: usize>(text: &'a str, names: [&str; N]) -> Result<[Option<&'a str>; N], JsonError> {
    let mut picked = [None; N];
    members(text, |name, value| {
        for (wanted, slot) in names.iter().zip(&mut picked) {
            if *wanted == name {
                *slot = Some(value);
            }
        }
    })?;
    Ok(picked)
}

/// The elements of the array in `text`, each as written, or `None` where it is no array.
pub fn elements(text: &str) -> Option<Vec<&str>> {
    let elements: Vec<&RawValue> = serde_json::from_str(text).ok()?;
    Some(elements.into_iter().map(RawValue::get).collect())
}

/// The text that a JSON string stands for, or `None` where `text` is no JSON string.
pub fn string(text: &str) -> Option<Cow<'_, str>> {
    serde_json::from_str::<Text>(text).ok().map(|text| text.0)
}

struct EachMember<F>(F);

impl<'de, F: FnMut(Cow<'de, str>, &'de str)> Visitor<'de> for EachMember<F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        while let Some(Text(name)) = map.next_key()? {
            let value: &RawValue = map.next_value()?;
            (self.0)(name, value.get());
        }
        Ok(())
    }
}

/// A string, borrowed where it has no escapes.
struct Text<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Borrow;
        impl<'de> Visitor<'de> for Borrow {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(Borrow)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::a_value_as_written(r#"{"a": 1e3}"#, Some("1e3"))]
    #[case::white_space_around_is_not_part_of_it("{ \"a\" :\n [ 1, 2 ] }", Some("[ 1, 2 ]"))]
    #[case::the_last_of_two(r#"{"a":1,"a":2}"#, Some("2"))]
    #[case::an_escaped_name(r#"{"\u0061":1}"#, Some("1"))]
    #[case::a_name_within_a_value(r#"{"b":{"a":1}}"#, None)]
    #[case::null_is_a_value(r#"{"a":null}"#, Some("null"))]
    #[case::nothing("{}", None)]
    fn picks_members(#[case] text: &str, #[case] expected: Option<&str>) {
        assert_eq!(pick(text, ["a"]), Ok([expected]));
    }

    #[rstest]
    #[case::a_list("[]", JsonError::NotAnObject)]
    #[case::a_text("\"a\"", JsonError::NotAnObject)]
    #[case::null("null", JsonError::NotAnObject)]
    #[case::nothing("", JsonError::Malformed { line: 1, column: 0 })]
    #[case::half_an_object("{\"a\":", JsonError::Malformed { line: 1, column: 5 })]
    #[case::something_behind("{} x", JsonError::Malformed { line: 1, column: 4 })]
    fn says_what_is_no_object(#[case] text: &str, #[case] expected: JsonError) {
        assert_eq!(pick(text, ["a"]), Err(expected));
    }

    #[test]
    fn nesting_has_no_limit_in_what_is_passed_over() {
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(10_000), "]".repeat(10_000));
        assert!(pick(&deep, ["b"]).is_ok());
    }
}
