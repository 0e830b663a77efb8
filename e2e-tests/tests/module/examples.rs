//! `make run` tells the story that examples/ is meant to tell.

use std::{fs, sync::LazyLock};

use image_pull_secrets_e2e::{AdmissionRequest, Cluster, Evaluation, Manifests, Verdict, modules};
use rstest::rstest;
use serde_json::{Value, json};

static EXAMPLES: LazyLock<Vec<(AdmissionRequest, Evaluation)>> = LazyLock::new(|| {
    let examples = modules::root().join("examples");
    let settings: Value = yaml_serde::from_str(&fs::read_to_string(examples.join("settings.yaml")).unwrap()).unwrap();
    let cluster = Cluster::of(Manifests::read_dir(&examples.join("cluster")).unwrap());
    let requests = AdmissionRequest::read(&fs::read_to_string(examples.join("manifests.yaml")).unwrap()).unwrap();
    let answer = modules::policy().validate_settings(settings.to_string().as_bytes());
    assert!(answer.valid, "{:?}", answer.message);
    requests
        .into_iter()
        .map(|request| {
            let evaluation = modules::policy().evaluate(&settings, &request, &cluster);
            (request, evaluation)
        })
        .collect()
});

#[rstest]
#[case::a_plain_pod("Pod plain", Verdict::Mutated, &["registry-credentials"])]
#[case::one_with_its_own_secret("Pod own-secret", Verdict::Mutated, &["team-credentials", "registry-credentials"])]
#[case::one_that_lists_ours("Pod listed-already", Verdict::Accepted, &["registry-credentials"])]
#[case::one_of_the_partners("Pod partner-image", Verdict::Mutated, &["registry-credentials", "partner-credentials"])]
#[case::the_partners_init_container_and_volume(
    "Pod init-and-volume", Verdict::Mutated, &["registry-credentials", "partner-credentials"])]
#[case::before_the_secret_is_there("Pod too-early", Verdict::Mutated, &["registry-credentials"])]
#[case::a_malformed_secret("Pod malformed-secret", Verdict::Accepted, &[])]
#[case::a_secret_of_another_type("Pod secret-of-another-type", Verdict::Accepted, &[])]
#[case::a_mirror_pod("Pod mirror-node-1", Verdict::Accepted, &[])]
#[case::an_excluded_namespace("Pod dns", Verdict::Accepted, &[])]
#[case::an_annotated_namespace("Pod on-its-own", Verdict::Accepted, &[])]
#[case::the_default_service_account("ServiceAccount default", Verdict::Mutated, &["registry-credentials"])]
#[case::another_service_account("ServiceAccount builder", Verdict::Accepted, &[])]
#[case::a_deployment("Deployment web", Verdict::Accepted, &[])]
fn each_example_has_its_verdict(#[case] title: &str, #[case] verdict: Verdict, #[case] secrets: &[&str]) {
    let (request, evaluation) = EXAMPLES
        .iter()
        .find(|(request, _)| title == format!("{} {}", request.kind.kind, request.name.as_deref().unwrap_or_default()))
        .expect("the example is there");
    let object = evaluation.response.apply(request.object.as_ref().unwrap()).unwrap();
    let list = object.get("imagePullSecrets").or(object.pointer("/spec/imagePullSecrets"));
    let named: Vec<Value> = secrets.iter().map(|name| json!({"name": name})).collect();
    assert_eq!(evaluation.verdict(), verdict, "{:?}", evaluation.response);
    assert_eq!(list.cloned().unwrap_or_else(|| json!([])), json!(named));
}

#[test]
fn every_example_is_in_the_table() {
    assert_eq!(EXAMPLES.len(), 14);
}

#[test]
fn no_credential_of_the_examples_is_in_any_answer() {
    for (_, evaluation) in EXAMPLES.iter() {
        let shown = format!("{evaluation:?}");
        assert!(!shown.contains("not-a-real-password") && !shown.contains("cm9ib3Q6"), "{shown}");
    }
}
