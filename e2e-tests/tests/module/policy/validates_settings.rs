//! `validate_settings`: what policy-server asks when it starts.

use image_pull_secrets_e2e::modules;
use rstest::rstest;
use serde_json::{Map, Value, json};

#[rstest]
#[case::the_least(r#"{"secrets":[{"name":"a"}]}"#)]
#[case::everything(
    r#"{"secrets":[{"name":"a","source":{"namespace":"x","name":"y"},"matchImages":["ghcr.io/acme","*.dkr.ecr.*.amazonaws.com"]},
        {"name":"b","source":{"file":"/etc/x"},"matchCredentials":true},{"name":"c","source":{"env":"X"}}],
        "serviceAccounts":["*"],"exclude":{"namespaces":["kube-*"],"annotation":"example.com/exclude"},
        "onMissingSecret":"skip","conflicts":"adopt"}"#
)]
#[case::nothing_is_asked(r#"{"secrets":[{"name":"a","matchImages":["ghcr.io"]}],"onMissingSecret":"ignore"}"#)]
fn valid_settings_are_valid(#[case] settings: &str) {
    let answer = modules::policy().validate_settings(settings.as_bytes());
    assert_eq!((answer.valid, answer.message), (true, None));
}

#[rstest]
#[case::no_json("{", "settings: is not JSON (line 1, column 1)")]
#[case::nothing("", "settings: is not JSON (line 1, column 1)")]
#[case::null(
    "null",
    "settings: must be an object with secrets, serviceAccounts, exclude, onMissingSecret, conflicts and verifyCredentials"
)]
#[case::no_secrets("{}", "secrets: is missing")]
#[case::several_faults(
    r#"{"secrets":[{"name":"A"},{"name":"b","matchImages":["https://ghcr.io"]}],"onMissingSecret":"deny","extra":1}"#,
    "extra: is no setting: known here are secrets, serviceAccounts, exclude, onMissingSecret, conflicts and verifyCredentials; \
     secrets[0].name: \"A\" is no name of a Secret: it has lower-case letters, digits, '-' and '.', as in \"my-registry\"; \
     secrets[1].matchImages[0]: \"https://ghcr.io\" has a scheme, and images have none: write \"ghcr.io\"; \
     onMissingSecret: must be one of warn, reject, skip and ignore"
)]
fn faults_are_all_said_at_once(#[case] settings: &str, #[case] message: &str) {
    let answer = modules::policy().validate_settings(settings.as_bytes());
    assert_eq!((answer.valid, answer.message.as_deref()), (false, Some(message)));
}

/// Rancher's form gives every question its default as soon as it is shown, `null` included, and a new row of a list all the
/// defaults of its questions.
#[test]
fn what_ranchers_form_makes_of_one_row_is_valid() {
    let text = std::fs::read_to_string(modules::root().join("questions-ui.yml")).unwrap();
    let form: Value = yaml_serde::from_str(&text).unwrap();
    let mut settings = json!({});
    let questions = form["questions"].as_array().unwrap();
    for question in questions.iter().chain(questions.iter().flat_map(|q| q["subquestions"].as_array()).flatten()) {
        let path = format!("/{}", question["variable"].as_str().unwrap().replace('.', "/"));
        let (parent, name) = path.rsplit_once('/').unwrap();
        settings.pointer_mut(parent).unwrap()[name] = question["default"].clone();
    }
    let of_secrets = questions.iter().find(|question| question["variable"] == "secrets").unwrap();
    let row = of_secrets["sequence_questions"].as_array().unwrap().iter();
    let mut row: Map<_, _> =
        row.map(|question| (question["variable"].as_str().unwrap().to_owned(), question["default"].clone())).collect();
    row["name"] = json!("registry-credentials");
    settings["secrets"] = json!([row]);
    assert_eq!(settings["secrets"][0]["matchImages"], json!([]), "{settings}");
    assert_eq!(settings["description"], Value::Null, "{settings}");

    let answer = modules::policy().validate_settings(settings.to_string().as_bytes());
    assert_eq!((answer.valid, answer.message), (true, None), "{settings}");
}

#[test]
fn settings_that_are_no_utf8_are_not_valid() {
    let answer = modules::policy().validate_settings(b"\xff");
    assert_eq!((answer.valid, answer.message.as_deref()), (false, Some("settings: are not UTF-8")));
}
