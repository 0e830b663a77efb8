//! JSON as text: the members of an object with the text of each value, nothing decoded that nobody asked for.
//!
//! What is only looked at stays borrowed, and what is passed on stays as it was written. Written by hand, where a library
//! would do: deserialising with serde_json weighs 60 KB in the module (the formatting of numbers for errors that nobody
//! reads is a third of that), and a module's size is time in every admission. Properties and a fuzz target hold it against
//! serde_json. Source: RFC 8259, and `encoding/json` of Go, whose limit of nesting and whose reading of half a surrogate
//! pair (as U+FFFD) are those of the API server and of the kubelet.

use std::borrow::Cow;

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

/// A text stopped being JSON; [`Reader`] knows where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed;

/// What is done with a member: its name, and a reader whose next value is the member's.
pub type VisitMember<'f, 'a> = &'f mut dyn FnMut(Cow<'a, str>, &mut Reader<'a>) -> Result<(), Malformed>;

/// As deep as Go nests.
const DEEPEST: usize = 10_000;

/// Calls `visit` with each member of the object in `text`: its name, unescaped, and its value as written. Members come in
/// the order of the text, and a name that is there twice comes twice.
///
/// # Errors
/// [`JsonError`] where `text` is anything but one JSON object; `visit` may have been called by then.
pub fn members<'a>(text: &'a str, visit: &mut dyn FnMut(Cow<'a, str>, &'a str)) -> Result<(), JsonError> {
    Reader::whole(text, &mut |reader| {
        reader.members(&mut |name, reader| {
            visit(name, reader.value()?);
            Ok(())
        })
    })
}

/// The values of some members, each as written (`null` included), or `None` where there is no such member. A name that is
/// there twice has its last value, as in every JSON library that decodes into a map.
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

/// Whether `text` is `null`, perhaps with white space around it.
pub fn is_null(text: &str) -> bool {
    let mut reader = Reader::of(text);
    reader.peek();
    reader.word("null").is_ok() && reader.peek().is_none()
}

/// The elements of the array in `text`, each as written, or `None` where it is no array.
pub fn elements(text: &str) -> Option<Vec<&str>> {
    let mut elements = Vec::new();
    let read = Reader::whole(text, &mut |reader| {
        reader.elements(&mut |reader| {
            elements.push(reader.value()?);
            Ok(())
        })
    });
    read.is_ok().then_some(elements)
}

/// The text that a JSON string stands for, or `None` where `text` is no JSON string.
pub fn string(text: &str) -> Option<Cow<'_, str>> {
    let mut reader = Reader::of(text);
    let string = reader.string().ok()?;
    (reader.at == text.len()).then(|| unescaped(string))
}

/// Reads a JSON text from front to back, checking it as it goes.
#[derive(Debug)]
pub struct Reader<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
}

impl<'a> Reader<'a> {
    fn of(text: &'a str) -> Self {
        Self { text, at: 0, depth: 0 }
    }

    /// Has `read` read the one value that `text` must be; `read` says whether it was of the right kind.
    ///
    /// # Errors
    /// [`JsonError`] where `text` is no JSON, or `read` says no.
    pub fn whole(text: &'a str, read: &mut dyn FnMut(&mut Self) -> Result<bool, Malformed>) -> Result<(), JsonError> {
        let mut reader = Self::of(text);
        let is_right = read(&mut reader).and_then(|is_right| match reader.peek() {
            None => Ok(is_right),
            Some(_) => Err(Malformed),
        });
        match is_right {
            Ok(true) => Ok(()),
            Ok(false) => Err(JsonError::NotAnObject),
            Err(Malformed) => {
                let read = text.as_bytes().get(..reader.at).unwrap_or_default();
                let line = read.iter().filter(|b| **b == b'\n').count() + 1;
                let column = read.iter().rev().take_while(|b| **b != b'\n').count() + 1;
                Err(JsonError::Malformed { line, column })
            }
        }
    }

    /// Reads a value of any kind, and gives its text.
    ///
    /// # Errors
    /// [`Malformed`] where there is none.
    pub fn value(&mut self) -> Result<&'a str, Malformed> {
        self.peek();
        let start = self.at;
        self.skip()?;
        self.text.get(start..self.at).ok_or(Malformed)
    }

    /// Has `read` read one value, and gives the text of what it read, with what it says of it.
    ///
    /// # Errors
    /// What `read` gives.
    pub fn spanned<T>(
        &mut self,
        read: &mut dyn FnMut(&mut Self) -> Result<T, Malformed>,
    ) -> Result<(&'a str, T), Malformed> {
        self.peek();
        let start = self.at;
        let said = read(self)?;
        Ok((self.text.get(start..self.at).ok_or(Malformed)?, said))
    }

    /// Reads an object, and calls `visit` with the name of each member while its value is next; what `visit` does not read
    /// is passed over. `Ok(false)` where the next value, which is passed over then, is no object.
    ///
    /// # Errors
    /// [`Malformed`], and what `visit` gives.
    pub fn members(&mut self, visit: VisitMember<'_, 'a>) -> Result<bool, Malformed> {
        if self.peek() != Some(b'{') {
            return self.skip().map(|()| false);
        }
        self.enter()?;
        if self.accepts(b'}') {
            return self.leave();
        }
        loop {
            self.peek();
            let name = self.string()?;
            self.expect(b':')?;
            self.visit_value(&mut |reader| visit(unescaped(name), reader))?;
            if self.accepts(b'}') {
                return self.leave();
            }
            self.expect(b',')?;
        }
    }

    /// Reads an array, and calls `visit` while each element is next; otherwise as [`Reader::members`].
    ///
    /// # Errors
    /// [`Malformed`], and what `visit` gives.
    pub fn elements(&mut self, visit: &mut dyn FnMut(&mut Self) -> Result<(), Malformed>) -> Result<bool, Malformed> {
        if self.peek() != Some(b'[') {
            return self.skip().map(|()| false);
        }
        self.enter()?;
        if self.accepts(b']') {
            return self.leave();
        }
        loop {
            self.visit_value(visit)?;
            if self.accepts(b']') {
                return self.leave();
            }
            self.expect(b',')?;
        }
    }

    /// Passes over an opening bracket.
    fn enter(&mut self) -> Result<(), Malformed> {
        self.at += 1;
        self.depth += 1;
        if self.depth > DEEPEST { Err(Malformed) } else { Ok(()) }
    }

    fn leave(&mut self) -> Result<bool, Malformed> {
        self.depth -= 1;
        Ok(true)
    }

    fn visit_value(&mut self, visit: &mut dyn FnMut(&mut Self) -> Result<(), Malformed>) -> Result<(), Malformed> {
        self.peek();
        let start = self.at;
        visit(self)?;
        if self.at == start { self.skip() } else { Ok(()) }
    }

    /// The next byte that is no white space.
    fn peek(&mut self) -> Option<u8> {
        while let Some(b' ' | b'\t' | b'\r' | b'\n') = self.byte() {
            self.at += 1;
        }
        self.byte()
    }

    fn byte(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn accepts(&mut self, byte: u8) -> bool {
        let is_next = self.peek() == Some(byte);
        self.at += usize::from(is_next);
        is_next
    }

    fn expect(&mut self, byte: u8) -> Result<(), Malformed> {
        if self.accepts(byte) { Ok(()) } else { Err(Malformed) }
    }

    /// Passes over a value. Not recursive, so that no text can exhaust the stack.
    fn skip(&mut self) -> Result<(), Malformed> {
        let mut open = Vec::new();
        loop {
            match self.peek().ok_or(Malformed)? {
                bracket @ (b'{' | b'[') => {
                    self.at += 1;
                    let close = bracket + 2;
                    if self.depth + open.len() == DEEPEST {
                        return Err(Malformed);
                    }
                    if !self.accepts(close) {
                        open.push(close);
                        if close == b'}' {
                            self.name()?;
                        }
                        continue;
                    }
                }
                b'"' => self.string().map(|_| ())?,
                b't' => self.word("true")?,
                b'f' => self.word("false")?,
                b'n' => self.word("null")?,
                _ => self.number()?,
            }
            loop {
                let Some(close) = open.last().copied() else { return Ok(()) };
                if self.accepts(close) {
                    open.pop();
                    continue;
                }
                self.expect(b',')?;
                if close == b'}' {
                    self.name()?;
                }
                break;
            }
        }
    }

    fn name(&mut self) -> Result<(), Malformed> {
        self.peek();
        self.string()?;
        self.expect(b':')
    }

    fn word(&mut self, word: &str) -> Result<(), Malformed> {
        let rest = self.text.get(self.at..).unwrap_or_default();
        if !rest.starts_with(word) {
            return Err(Malformed);
        }
        self.at += word.len();
        Ok(())
    }

    fn number(&mut self) -> Result<(), Malformed> {
        self.at += usize::from(self.byte() == Some(b'-'));
        if self.byte() == Some(b'0') {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.byte() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.byte() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.byte() {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    fn digits(&mut self) -> Result<(), Malformed> {
        let start = self.at;
        while self.byte().is_some_and(|b| b.is_ascii_digit()) {
            self.at += 1;
        }
        if self.at == start { Err(Malformed) } else { Ok(()) }
    }

    /// Passes over a string, and gives what is between its quotes.
    fn string(&mut self) -> Result<&'a str, Malformed> {
        if self.byte() != Some(b'"') {
            return Err(Malformed);
        }
        self.at += 1;
        let start = self.at;
        loop {
            self.at += plain_length(self.text.as_bytes().get(self.at..).unwrap_or_default());
            match self.byte() {
                Some(b'"') => {
                    self.at += 1;
                    return self.text.get(start..self.at - 1).ok_or(Malformed);
                }
                Some(b'\\') => {
                    let escape = self.text.as_bytes().get(self.at + 1..).unwrap_or_default();
                    self.at += match escape {
                        [b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't', ..] => 2,
                        [b'u', digits @ ..] if code_unit(digits).is_some() => 6,
                        _ => return Err(Malformed),
                    };
                }
                _ => return Err(Malformed),
            }
        }
    }
}

/// How many bytes come before a quote, a backslash or a control character; eight are looked at in one step.
fn plain_length(bytes: &[u8]) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    let below = |word: u64, limit: u64| word.wrapping_sub(ONES * limit) & !word;
    let (words, _) = bytes.as_chunks::<8>();
    let mut length = 0;
    for word in words {
        let word = u64::from_le_bytes(*word);
        let quote = below(word ^ (ONES * u64::from(b'"')), 1);
        let backslash = below(word ^ (ONES * u64::from(b'\\')), 1);
        let special = (below(word, 0x20) | quote | backslash) & HIGH;
        if special != 0 {
            return length + special.trailing_zeros() as usize / 8;
        }
        length += 8;
    }
    let rest = bytes.get(length..).unwrap_or_default();
    length + rest.iter().take_while(|b| !matches!(b, b'"' | b'\\' | 0..0x20)).count()
}

/// The value of four hexadecimal digits.
fn code_unit(digits: &[u8]) -> Option<u32> {
    let digits = digits.get(..4)?;
    digits.iter().try_fold(0, |value, digit| Some(value << 4 | char::from(*digit).to_digit(16)?))
}

/// Resolves the escapes of what is between the quotes of a valid string.
fn unescaped(raw: &str) -> Cow<'_, str> {
    let Some((plain, mut rest)) = raw.split_once('\\') else { return Cow::Borrowed(raw) };
    let mut out = plain.to_owned();
    loop {
        let (character, length) = match rest.as_bytes() {
            [b'u', after @ ..] => unescaped_unicode(after),
            [b'b', ..] => ('\u{8}', 1),
            [b'f', ..] => ('\u{c}', 1),
            [b'n', ..] => ('\n', 1),
            [b'r', ..] => ('\r', 1),
            [b't', ..] => ('\t', 1),
            [itself, ..] => (char::from(*itself), 1),
            [] => return Cow::Owned(out),
        };
        out.push(character);
        match rest.get(length..).unwrap_or_default().split_once('\\') {
            Some((plain, after)) => {
                out.push_str(plain);
                rest = after;
            }
            None => {
                out.push_str(rest.get(length..).unwrap_or_default());
                return Cow::Owned(out);
            }
        }
    }
}

/// The character of a `\u` escape, and how long the escape is from the `u` on; `after` starts behind the `u`.
fn unescaped_unicode(after: &[u8]) -> (char, usize) {
    let unit = code_unit(after).unwrap_or(0xfffd);
    if let (0xd800..=0xdbff, Some([b'\\', b'u', second @ ..])) = (unit, after.get(4..))
        && let Some(low @ 0xdc00..=0xdfff) = code_unit(second)
    {
        let character = 0x1_0000 + ((unit - 0xd800) << 10) + (low - 0xdc00);
        return (char::from_u32(character).unwrap_or('\u{fffd}'), 11);
    }
    (char::from_u32(unit).unwrap_or('\u{fffd}'), 5)
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
    #[case::half_an_object("{\"a\":", JsonError::Malformed { line: 1, column: 6 })]
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
    fn nesting_ends_where_it_does_in_go() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        let within = |depth| pick(&format!("{{\"a\":{}}}", nested(depth)), ["b"]).is_ok();
        assert!(within(9_999) && !within(10_000));
        let within = |depth| pick(&format!("{{\"a\":{}}}", nested(depth).replace("[]", "[1]")), ["b"]).is_ok();
        assert!(within(9_999) && !within(10_000));
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
        assert!(Reader::of(text).value().is_err() || pick(&format!("{{\"a\":{text}}}"), ["a"]).is_err());
        assert!(serde_json::from_str::<Value>(text).is_err());
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
        fn what_serde_json_refuses_is_refused(text in "[\\[\\]{}\":,0-9a-fu.eE+\\\\tnrls -]{0,24}") {
            let ours = Reader::whole(&text, &mut |reader| reader.value().map(|_| true)).is_ok();
            let theirs = serde_json::from_str::<Box<serde_json::value::RawValue>>(&text).is_ok();
            prop_assert_eq!(ours, theirs);
        }
    }
}
