//! Reads the members of JSON objects and gives each value as the text that it has in the document.
//!
//! serde_json's raw values keep that text, so that it can be passed on unchanged. Strings are decoded here and not by
//! serde_json, because serde_json refuses half a surrogate pair. Go, and so the API server and the kubelet, read it as
//! U+FFFD.

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;

/// Why a text is not the JSON that was expected. The message never quotes the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// The text is not JSON.
    #[error("is not JSON (line {line}, column {column})")]
    Malformed {
        /// The line, counted from 1.
        line: usize,
        /// The column of the last byte that was read, counted from 1.
        column: usize,
    },
    /// The text is JSON, but another kind of value.
    #[error("is not a JSON object")]
    NotAnObject,
}

impl From<serde_json::Error> for JsonError {
    fn from(error: serde_json::Error) -> Self {
        Self::Malformed { line: error.line(), column: error.column().max(1) }
    }
}

/// Calls `visit` with each member of the object in `text`: the unescaped name, and the value as it is written. The
/// members come in the order of the text. If a name occurs twice, `visit` is called twice.
///
/// # Errors
/// [`JsonError`] if `text` is not exactly one JSON object. `visit` may have been called before that was noticed.
pub fn members<'a>(text: &'a str, visit: &mut dyn FnMut(Cow<'a, str>, &'a str)) -> Result<(), JsonError> {
    check_object(text)?;
    Ok(read(text, Reading::Members(visit))?)
}

/// The values of some members, each as it is written (also `null`), or `None` if there is no such member. If a name
/// occurs twice, the last value counts, as in every JSON library that decodes into a map.
///
/// # Errors
/// As [`members`].
pub fn pick<'a, const N: usize>(text: &'a str, names: [&str; N]) -> Result<[Option<&'a str>; N], JsonError> {
    let mut picked = [None; N];
    members(text, &mut |name, value| {
        for (wanted, slot) in names.iter().zip(&mut picked) {
            if *wanted == name {
                *slot = Some(value);
            }
        }
    })?;
    Ok(picked)
}

/// Whether `text` is `null`, with or without white space around it.
pub fn is_null(text: &str) -> bool {
    text.trim_matches(WHITE_SPACE) == "null"
}

/// The elements of the array in `text`, each as it is written, or `None` if it is not an array.
pub fn elements(text: &str) -> Option<Vec<&str>> {
    let mut elements = Vec::new();
    let is_array = text.trim_start_matches(WHITE_SPACE).starts_with('[');
    (is_array && read(text, Reading::Elements(&mut elements)).is_ok()).then_some(elements)
}

/// The decoded text of a JSON string, or `None` if `text` is not a JSON string.
pub fn string(text: &str) -> Option<Cow<'_, str>> {
    let string = serde_json::from_str::<&RawValue>(text).ok()?.get();
    (string.len() == text.len() && string.starts_with('"')).then(|| unescaped(string))
}

/// A member to look for in an object.
#[derive(Debug)]
pub enum Field {
    /// A member of this name, with a value of any kind.
    Any(&'static str),
    /// A member of this name whose value is an object, and the members to look for in that object. If the value is
    /// something else, the member counts as missing.
    Object(&'static str, &'static [Field]),
}

impl Field {
    fn name(&self) -> &'static str {
        match self {
            Self::Any(name) | Self::Object(name, _) => name,
        }
    }
}

/// A value with its text, and the members that were looked for and found.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Part<'a> {
    /// As written.
    pub text: &'a str,
    members: Vec<(&'static str, Part<'a>)>,
}

impl<'a> Part<'a> {
    /// Reads an object in one pass. The fields may be at any depth.
    ///
    /// # Errors
    /// As [`members`].
    pub fn read(text: &'a str, fields: &'static [Field]) -> Result<Self, JsonError> {
        check_object(text)?;
        let mut object = Self::default();
        let start = text.find('{').unwrap_or_default();
        read(text, Reading::Fields { document: text, start, fields, part: &mut object })?;
        Ok(object)
    }

    /// A member that was looked for, or `None` if it is not there. If two members have the name, it is the last one.
    pub fn member(&self, name: &str) -> Option<&Self> {
        self.members.iter().find(|(member, _)| *member == name).map(|(_, part)| part)
    }

    /// Removes such a member and returns it.
    pub fn take(&mut self, name: &str) -> Option<Self> {
        let at = self.members.iter().position(|(member, _)| *member == name)?;
        Some(self.members.swap_remove(at).1)
    }

    /// The text of such a member.
    pub fn text_of(&self, name: &str) -> Option<&'a str> {
        self.member(name).map(|part| part.text)
    }
}

const WHITE_SPACE: [char; 4] = [' ', '\t', '\r', '\n'];

fn check_object(text: &str) -> Result<(), JsonError> {
    if text.trim_start_matches(WHITE_SPACE).starts_with('{') {
        return Ok(());
    }
    serde_json::from_str::<&RawValue>(text)?;
    Err(JsonError::NotAnObject)
}

fn read<'a>(text: &'a str, reading: Reading<'_, 'a>) -> serde_json::Result<()> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    reading.deserialize(&mut deserializer)?;
    deserializer.end()
}

/// Decodes a JSON string; `string` is known to be valid.
fn unescaped(string: &str) -> Cow<'_, str> {
    let raw = string.get(1..string.len() - 1).unwrap_or_default();
    let Some((plain, mut rest)) = raw.split_once('\\') else { return Cow::Borrowed(raw) };
    let mut units: Vec<u16> = plain.encode_utf16().collect();
    loop {
        let (unit, length) = match rest.as_bytes() {
            [b'u', ..] => (rest.get(1..5).and_then(|digits| u16::from_str_radix(digits, 16).ok()).unwrap_or(0xfffd), 5),
            [b'b', ..] => (0x8, 1),
            [b'f', ..] => (0xc, 1),
            [b'n', ..] => (0xa, 1),
            [b'r', ..] => (0xd, 1),
            [b't', ..] => (0x9, 1),
            [itself, ..] => (u16::from(*itself), 1),
            [] => break,
        };
        units.push(unit);
        let after = rest.get(length..).unwrap_or_default();
        let (plain, escape) = after.split_once('\\').unwrap_or((after, ""));
        units.extend(plain.encode_utf16());
        rest = escape;
    }
    Cow::Owned(String::from_utf16_lossy(&units))
}

/// The offset in `whole` at which `part`, a slice of it, ends.
fn end_of(whole: &str, part: &str) -> usize {
    (part.as_ptr() as usize + part.len()).saturating_sub(whole.as_ptr() as usize)
}

/// What to read of the next value. The first byte was checked before, so the value is of the right kind.
enum Reading<'f, 'a> {
    /// Each member of an object.
    Members(&'f mut dyn FnMut(Cow<'a, str>, &'a str)),
    /// The elements of an array.
    Elements(&'f mut Vec<&'a str>),
    /// Fields of the object that starts at `start` in `document`.
    Fields { document: &'a str, start: usize, fields: &'static [Field], part: &'f mut Part<'a> },
}

impl<'a> DeserializeSeed<'a> for Reading<'_, 'a> {
    type Value = ();

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

/// This overrides every method of the visitor. serde's own methods would format each unexpected value into an error
/// that nobody reads, and that code would be most of what serde adds to the module's size.
impl<'a> Visitor<'a> for Reading<'_, 'a> {
    type Value = ();

    fn expecting(&self, _: &mut fmt::Formatter) -> fmt::Result {
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'a>>(self, mut list: A) -> Result<(), A::Error> {
        if let Self::Elements(elements) = self {
            while let Some(element) = list.next_element::<&RawValue>()? {
                elements.push(element.get());
            }
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<(), A::Error> {
        match self {
            Self::Members(visit) => {
                while let Some((name, value)) = map.next_entry::<&RawValue, &RawValue>()? {
                    visit(unescaped(name.get()), value.get());
                }
                Ok(())
            }
            Self::Fields { document, start, fields, part } => read_fields(map, document, start, fields, part),
            Self::Elements(_) => Ok(()),
        }
    }
}

/// serde_json gives either the text of an object or its members. The text can be found from the members' positions:
/// between a name and its value there are only a colon and white space, and between the last value and the closing
/// brace there is only white space.
fn read_fields<'a, A: MapAccess<'a>>(
    mut map: A,
    document: &'a str,
    start: usize,
    fields: &'static [Field],
    object: &mut Part<'a>,
) -> Result<(), A::Error> {
    let rest = |at| document.get(at..).unwrap_or_default();
    let mut last_end = start + 1;
    while let Some(name) = map.next_key::<&RawValue>()? {
        let is_between = |c| c == ':' || WHITE_SPACE.contains(&c);
        let value = rest(end_of(document, name.get())).trim_start_matches(is_between);
        let name = unescaped(name.get());
        let field = fields.iter().find(|field| field.name() == name);
        let mut part = Part::default();
        let is_right = match field {
            Some(Field::Object(_, fields)) if value.starts_with('{') => {
                let start = document.len() - value.len();
                map.next_value_seed(Reading::Fields { document, start, fields, part: &mut part })?;
                true
            }
            other => {
                part.text = map.next_value::<&RawValue>()?.get();
                matches!(other, Some(Field::Any(_)))
            }
        };
        last_end = end_of(document, part.text);
        if let Some(field) = field {
            object.members.retain(|(member, _)| *member != field.name());
            if is_right {
                object.members.push((field.name(), part));
            }
        }
    }
    let end = last_end + rest(last_end).find('}').map_or(0, |at| at + 1);
    object.text = document.get(start..end).unwrap_or_default();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rstest::rstest;
    use serde_json::Value;

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
    #[case::null(" null ", JsonError::NotAnObject)]
    #[case::nothing("", JsonError::Malformed { line: 1, column: 1 })]
    #[case::half_an_object("{\"a\":", JsonError::Malformed { line: 1, column: 5 })]
    #[case::something_behind("{}\n x", JsonError::Malformed { line: 2, column: 2 })]
    fn says_what_is_no_object(#[case] text: &str, #[case] expected: JsonError) {
        assert_eq!(pick(text, ["a"]), Err(expected));
    }

    #[rstest]
    #[case::plain(r#""abc""#, Some("abc"))]
    #[case::escapes(r#""\"\\\/\b\f\n\r\t""#, Some("\"\\/\u{8}\u{c}\n\r\t"))]
    #[case::an_escaped_letter(r#""\u00e9t\u00e9""#, Some("été"))]
    #[case::a_surrogate_pair(r#""\ud83d\ude00!""#, Some("😀!"))]
    #[case::half_a_pair(r#""\ud83d!""#, Some("\u{fffd}!"))]
    #[case::the_wrong_half(r#""\ude00\ud83d""#, Some("\u{fffd}\u{fffd}"))]
    #[case::half_a_pair_and_a_letter(r#""\ud83d\u0061""#, Some("\u{fffd}a"))]
    #[case::an_escaped_backslash_before_a_u(r#""\\ud83d""#, Some("\\ud83d"))]
    #[case::a_number("1", None)]
    #[case::an_open_string("\"a", None)]
    #[case::something_behind("\"a\" ", None)]
    fn reads_strings(#[case] text: &str, #[case] expected: Option<&str>) {
        assert_eq!(string(text).as_deref(), expected);
    }

    #[test]
    fn nesting_has_no_end() {
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(pick(&format!("{{\"a\":{deep}}}"), ["a"]), Ok([Some(deep.as_str())]));
    }

    const FIELDS: &[Field] =
        &[Field::Object("a", &[Field::Any("b"), Field::Object("c", &[Field::Any("d")])]), Field::Any("e")];

    #[rstest]
    #[case::the_whole_object(r#" {"x":1} "#, &[], Some(r#"{"x":1}"#))]
    #[case::an_empty_object("{ }", &[], Some("{ }"))]
    #[case::a_member_of_any_kind(r#"{"e":[1, 2]}"#, &["e"], Some("[1, 2]"))]
    #[case::a_member_within("{\"a\" :\n{ \"b\" : 1e3 } }", &["a", "b"], Some("1e3"))]
    #[case::an_object_within("{\"a\" :\n{ \"b\" : 1e3 } ,\"x\":{}}", &["a"], Some("{ \"b\" : 1e3 }"))]
    #[case::an_empty_object_within(r#"{"a":{ }}"#, &["a"], Some("{ }"))]
    #[case::an_object_in_an_object_at_its_end(r#"{"a":{"c":{"d":"}"} }}"#, &["a", "c"], Some(r#"{"d":"}"}"#))]
    #[case::a_brace_in_a_name(r#"{"}":{},"a":{"}":"{"}}"#, &["a"], Some(r#"{"}":"{"}"#))]
    #[case::an_escaped_name(r#"{"\u0061":{"\u0062":1}}"#, &["a", "b"], Some("1"))]
    #[case::another_kind_than_an_object(r#"{"a":["b"]}"#, &["a"], None)]
    #[case::null_is_no_object(r#"{"a":null}"#, &["a"], None)]
    #[case::null_is_a_value(r#"{"e":null}"#, &["e"], Some("null"))]
    #[case::a_number_that_is_too_large(r#"{"a":1e999,"e":1e999}"#, &["e"], Some("1e999"))]
    #[case::the_last_of_two(r#"{"a":{"b":1},"a":{"c":{}}}"#, &["a"], Some(r#"{"c":{}}"#))]
    #[case::nothing_of_the_first_of_two(r#"{"a":{"b":1},"a":{"c":{}}}"#, &["a", "b"], None)]
    #[case::the_last_of_two_is_no_object(r#"{"a":{"b":1},"a":3}"#, &["a"], None)]
    #[case::not_looked_for(r#"{"x":{"b":1}}"#, &["x"], None)]
    fn reads_fields_at_any_depth(#[case] text: &str, #[case] path: &[&str], #[case] expected: Option<&str>) {
        let object = Part::read(text, FIELDS).unwrap();
        let part = path.iter().try_fold(&object, |part, name| part.member(name));
        assert_eq!(part.map(|part| part.text), expected);
    }

    #[rstest]
    #[case::a_leading_zero("01")]
    #[case::a_bare_point("1.")]
    #[case::a_bare_exponent("1e")]
    #[case::a_plus("+1")]
    #[case::a_minus("-")]
    #[case::a_trailing_comma("[1,]")]
    #[case::a_trailing_comma_in_an_object(r#"{"a":1,}"#)]
    #[case::a_name_without_quotes("{a:1}")]
    #[case::brackets_that_do_not_match("[}")]
    #[case::a_control_character("\"a\tb\"")]
    #[case::an_unknown_escape(r#""\x""#)]
    #[case::three_digits(r#""\u00e""#)]
    #[case::a_word_cut_short("nul")]
    #[case::a_form_feed("\u{c}1")]
    fn refuses_what_is_no_json(#[case] text: &str) {
        let object = format!("{{\"a\":{text}}}");
        assert!(pick(&object, ["a"]).is_err() && Part::read(&object, FIELDS).is_err());
        assert!(elements(&format!("[{text}]")).is_none());
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            ".{0,20}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 48, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::btree_map(".{0,12}", inner, 0..6)
                    .prop_map(|m| Value::Object(m.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn every_member_is_what_serde_json_reads(value in any_json(), pretty in any::<bool>()) {
            let document = serde_json::json!({"before": 1, "it": value, "after": "x"});
            let text = if pretty { serde_json::to_string_pretty(&document) } else { serde_json::to_string(&document) }.unwrap();
            let [it] = pick(&text, ["it"]).unwrap();
            let theirs = &serde_json::from_str::<Value>(&text).unwrap()["it"];
            prop_assert_eq!(&serde_json::from_str::<Value>(it.unwrap()).unwrap(), theirs);
            prop_assert_eq!(string(it.unwrap()).map(Cow::into_owned), theirs.as_str().map(str::to_owned));
        }

        #[test]
        fn every_part_is_what_serde_json_reads(a in any_json(), e in any_json(), pretty in any::<bool>()) {
            let document = serde_json::json!({"a": {"b": a, "c": {"x": e, "d": a}}, "e": e, "x": a});
            let text = if pretty { serde_json::to_string_pretty(&document) } else { serde_json::to_string(&document) }.unwrap();
            let object = Part::read(&text, FIELDS).unwrap();
            prop_assert_eq!(object.text, &text);
            for path in [&["a"][..], &["a", "b"], &["a", "c"], &["a", "c", "d"], &["e"]] {
                let part = path.iter().try_fold(&object, |part, name| part.member(name)).unwrap();
                let theirs = &serde_json::from_str::<Value>(&text).unwrap();
                let theirs = path.iter().fold(theirs, |value, name| &value[*name]);
                prop_assert_eq!(&serde_json::from_str::<Value>(part.text).unwrap(), theirs);
            }
        }

        #[test]
        fn what_serde_json_refuses_is_refused(text in "[\\[\\]{}\":,0-9a-fu.eE+\\\\tnrls -]{0,24}") {
            let document = format!("{{\"a\":{{\"b\":{text}}}}}");
            let theirs = serde_json::from_str::<Box<RawValue>>(&document).is_ok();
            prop_assert_eq!(Part::read(&document, FIELDS).is_ok(), theirs);
            prop_assert_eq!(pick(&document, ["a"]).is_ok(), theirs);
        }
    }
}
