//! `validate_settings`: what policy-server asks when it starts.

use image_pull_secrets_e2e::modules;
use rstest::rstest;

#[rstest]
#[case::the_least(r#"{"secrets":[{"name":"a"}]}"#)]
#[case::everything(
    r#"{"secrets":[{"name":"a","source":{"namespace":"x","name":"y"},"matchImages":["ghcr.io/acme","*.dkr.ecr.*.amazonaws.com"]},
        {"name":"b","source":{"file":"/etc/x"},"matchCredentials":true},{"name":"c","source":{"env":"X"}}],
        "serviceAccounts":["*"],"exclude":{"namespaces":["kube-*"],"annotation":"example.com/exclude"},
        "onMissingSecret":"skip","conflicts":"adopt"}"#
)]
fn valid_settings_are_valid(#[case] settings: &str) {
    let answer = modules::policy().validate_settings(settings.as_bytes());
    assert_eq!((answer.valid, answer.message), (true, None));
}

#[rstest]
#[case::no_json("{", "settings: is not JSON (line 1, column 2)")]
#[case::nothing("", "settings: is not JSON (line 1, column 1)")]
#[case::null(
    "null",
    "settings: must be an object with secrets, serviceAccounts, exclude, onMissingSecret and conflicts"
)]
#[case::no_secrets("{}", "secrets: is missing")]
#[case::several_faults(
    r#"{"secrets":[{"name":"A"},{"name":"b","matchImages":["https://ghcr.io"]}],"onMissingSecret":"deny","extra":1}"#,
    "extra: is no setting: known here are secrets, serviceAccounts, exclude, onMissingSecret and conflicts; \
     secrets[0].name: \"A\" is no name of a Secret: it has lower-case letters, digits, '-' and '.', as in \"my-registry\"; \
     secrets[1].matchImages[0]: \"https://ghcr.io\" has a scheme, and images have none: write \"ghcr.io\"; \
     onMissingSecret: must be one of warn, reject, skip and ignore"
)]
fn faults_are_all_said_at_once(#[case] settings: &str, #[case] message: &str) {
    let answer = modules::policy().validate_settings(settings.as_bytes());
    assert_eq!((answer.valid, answer.message.as_deref()), (false, Some(message)));
}

#[test]
fn settings_that_are_no_utf8_are_not_valid() {
    let answer = modules::policy().validate_settings(b"\xff");
    assert_eq!((answer.valid, answer.message.as_deref()), (false, Some("settings: are not UTF-8")));
}
