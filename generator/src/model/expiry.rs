//! When the credentials of a source expire, as far as that is known: because one is a token that says so itself, or because an
//! annotation of the source says so.

use crate::model::ownership::EXPIRATION_ANNOTATION;
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use image_pull_secrets::credential::Credential;
use k8s_openapi::jiff::Timestamp;
use serde_json::Value;
use std::collections::BTreeMap;

/// What is known of when the credentials of a source expire.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Expiry {
    /// When the first of them does.
    pub at: Option<Timestamp>,
    /// Whether there is an annotation that is no time.
    pub is_unreadable: bool,
}

impl Expiry {
    /// What these credentials say themselves.
    pub(crate) fn of_credentials<'a>(credentials: impl Iterator<Item = &'a Credential>) -> Self {
        Self { at: credentials.filter_map(|credential| of_token(credential.password())).min(), ..Self::default() }
    }

    /// The same, with what the annotations of the source say besides. The earlier of two times counts.
    pub(crate) fn and_annotated(self, annotations: Option<&BTreeMap<String, String>>) -> Self {
        let Some(text) = annotations.and_then(|annotations| annotations.get(EXPIRATION_ANNOTATION)) else {
            return self;
        };
        match of_text(text) {
            Some(annotated) => Self { at: Some(self.at.map_or(annotated, |at| at.min(annotated))), ..self },
            None => Self { is_unreadable: true, ..self },
        }
    }

    /// Whether one of them has expired.
    pub(crate) fn is_over(self, now: Timestamp) -> bool {
        self.at.is_some_and(|at| at <= now)
    }

    /// What is wrong with the annotation, in a sentence with its remedy. It is not quoted: whoever writes a credential into the
    /// wrong place is not to read it in a log.
    pub(crate) fn fault(self) -> Option<String> {
        self.is_unreadable.then(|| {
            format!(
                "the annotation {EXPIRATION_ANNOTATION} is no time: write the date and time of the expiration as in \
                 2027-01-31T12:00:00Z"
            )
        })
    }
}

/// When a password expires that says so itself: a JSON Web Token with an `exp`. It is read, not verified.
fn of_token(password: &str) -> Option<Timestamp> {
    let (_, rest) = password.split_once('.')?;
    let (payload, signature) = rest.split_once('.')?;
    if signature.contains('.') {
        return None;
    }
    let payload = BASE64_URL_SAFE_NO_PAD.decode(payload.trim_end_matches('=')).ok()?;
    let claims: Value = serde_json::from_slice(&payload).ok()?;
    // With or without a fraction; a cast of what is too large gives the largest, which is no time.
    let seconds = claims.get("exp")?.as_f64()?;
    Timestamp::from_second(seconds as i64).ok()
}

/// The time that RFC 3339 writes so.
fn of_text(text: &str) -> Option<Timestamp> {
    // The library reads more than that: other separators, dates without hyphens, names of time zones.
    let shape: String = text.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    let rest = shape.strip_prefix("0000-00-00T00:00:00")?;
    let offset = rest.strip_prefix(".0").map_or(rest, |fraction| fraction.trim_start_matches('0'));
    if !matches!(offset, "Z" | "+00:00" | "-00:00") {
        return None;
    }
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rstest::rstest;

    fn token(claims: &str) -> String {
        format!("eyJhbGciOiJub25lIn0.{}.c2ln", BASE64_URL_SAFE_NO_PAD.encode(claims))
    }

    #[rstest]
    #[case::a_token(&token(r#"{"exp":1764000000,"iss":"x"}"#), Some(1_764_000_000))]
    #[case::a_time_with_a_fraction(&token(r#"{"exp":1764000000.9}"#), Some(1_764_000_000))]
    #[case::a_token_that_lasts(&token("{}"), None)]
    #[case::a_time_that_is_none(&token(r#"{"exp":"tomorrow"}"#), None)]
    #[case::a_time_beyond_all_calendars(&token(r#"{"exp":1e300}"#), None)]
    #[case::a_password("hunter2", None)]
    #[case::a_password_with_dots("a.b.c", None)]
    fn the_expiry_of_a_password(#[case] password: &str, #[case] expected: Option<i64>) {
        assert_eq!(of_token(password).map(Timestamp::as_second), expected);
    }

    #[rstest]
    #[case::in_utc("2027-01-31T12:00:00Z", Some("2027-01-31T12:00:00Z"))]
    #[case::with_a_fraction("2027-01-31T12:00:00.25Z", Some("2027-01-31T12:00:00.25Z"))]
    #[case::elsewhere("2027-01-31T12:00:00+02:00", Some("2027-01-31T10:00:00Z"))]
    #[case::west_of_greenwich("2027-01-31T12:00:00-05:30", Some("2027-01-31T17:30:00Z"))]
    #[case::nothing("", None)]
    #[case::a_date("2027-01-31", None)]
    #[case::no_time_zone("2027-01-31T12:00:00", None)]
    #[case::a_space_for_the_t("2027-01-31 12:00:00Z", None)]
    #[case::no_hyphens("20270131T120000Z", None)]
    #[case::no_colon_in_the_offset("2027-01-31T12:00:00+0200", None)]
    #[case::the_name_of_a_time_zone("2027-01-31T12:00:00+01:00[Europe/Berlin]", None)]
    #[case::a_dot_and_no_fraction("2027-01-31T12:00:00.Z", None)]
    #[case::a_day_that_is_none("2027-02-30T12:00:00Z", None)]
    #[case::seconds_since_1970("1801396800", None)]
    #[case::white_space_around_it(" 2027-01-31T12:00:00Z", None)]
    #[case::something_else("hunter2", None)]
    fn the_annotation(#[case] text: &str, #[case] expected: Option<&str>) {
        let annotations = BTreeMap::from([(EXPIRATION_ANNOTATION.to_owned(), text.to_owned())]);
        let expiry = Expiry::default().and_annotated(Some(&annotations));
        assert_eq!(expiry.at.map(|at| at.to_string()).as_deref(), expected);
        let told = "the annotation image-pull-secrets.kubewarden.io/expiration-timestamp is no time: write the date and \
                    time of the expiration as in 2027-01-31T12:00:00Z";
        assert_eq!(expiry.fault().as_deref(), expected.is_none().then_some(told));
    }

    #[rstest]
    #[case::neither(None, None, None)]
    #[case::the_token(Some(5), None, Some(5))]
    #[case::the_annotation(None, Some(7), Some(7))]
    #[case::the_token_before_the_annotation(Some(5), Some(7), Some(5))]
    #[case::the_annotation_before_the_token(Some(9), Some(7), Some(7))]
    fn what_comes_first_counts(
        #[case] token: Option<i64>,
        #[case] annotated: Option<i64>,
        #[case] expected: Option<i64>,
    ) {
        let time = |seconds| Timestamp::from_second(seconds).unwrap();
        let annotated = annotated.map(|seconds| (EXPIRATION_ANNOTATION.to_owned(), time(seconds).to_string()));
        let token = Expiry { at: token.map(time), ..Expiry::default() };
        let expiry = token.and_annotated(Some(&annotated.into_iter().collect()));
        assert_eq!(expiry.at, expected.map(time));
        assert_eq!(expiry.is_over(time(6)), expected.is_some_and(|seconds| seconds <= 6));
    }

    proptest! {
        #[test]
        fn nothing_panics(text in "[0-9TZ:.+\\-\\[\\]a-zA-Z =]{0,40}") {
            let _ = of_text(&text);
            let _ = of_token(&text);
        }
    }
}
