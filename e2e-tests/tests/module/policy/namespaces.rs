//! Secrets that are for some namespaces only: elsewhere they do not exist.

use super::outcome::{SECRETS, evaluate, request, settings, summary, warnings};
use image_pull_secrets_e2e::{AdmissionRequest, Cluster, Evaluation, Fault, Manifests, ObjectRef};
use rstest::rstest;
use serde_json::Value;

/// The namespace `shop` is that of team a, and `left-alone` has the exclude annotation besides.
const NAMESPACES: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {team: a, env: prod}}
---
apiVersion: v1
kind: Namespace
metadata: {name: left-alone, labels: {team: a}, annotations: {example.com/exclude: 'true'}}
---
apiVersion: v1
kind: Namespace
metadata: {name: bare}
";

fn manifests() -> Manifests {
    let (secrets, _) = SECRETS.split_once("---\napiVersion: v1\nkind: Namespace").unwrap();
    Manifests::parse(&format!("{secrets}---{NAMESPACES}")).unwrap()
}

fn cluster() -> Cluster {
    Cluster::of(manifests())
}

fn pod(namespace: &str, spec: &str) -> AdmissionRequest {
    request(&format!("{{apiVersion: v1, kind: Pod, metadata: {{name: web, namespace: {namespace}}}, spec: {spec}}}"))
}

fn account(namespace: &str) -> AdmissionRequest {
    request(&format!("{{apiVersion: v1, kind: ServiceAccount, metadata: {{name: default, namespace: {namespace}}}}}"))
}

/// The kinds that the host was asked about, in order.
fn asked(evaluation: &Evaluation) -> Vec<&str> {
    evaluation.host_calls.iter().map(|call| call.request["kind"].as_str().unwrap()).collect()
}

const IN_TEAM_A: &str = "namespaceSelector: {matchLabels: {team: a}}";
const IN_TEAM_B: &str = "namespaceSelector: {matchLabels: {team: b}}";

#[rstest]
#[case::its_name("namespaces: [shop]", "added usable", &["Secret"])]
#[case::a_pattern("namespaces: [ci, 's*p']", "added usable", &["Secret"])]
#[case::another_name("namespaces: [shop-2]", "untouched", &[])]
#[case::an_empty_list("namespaces: []", "added usable", &["Secret"])]
#[case::an_empty_selector("namespaceSelector: {}", "added usable", &["Secret"])]
#[case::its_label(IN_TEAM_A, "added usable", &["Namespace", "Secret"])]
#[case::another_label(IN_TEAM_B, "untouched", &["Namespace"])]
#[case::an_expression(
    "namespaceSelector: {matchExpressions: [{key: env, operator: In, values: [dev, prod]}]}", "added usable",
    &["Namespace", "Secret"])]
#[case::an_expression_that_does_not_hold(
    "namespaceSelector: {matchLabels: {team: a}, matchExpressions: [{key: env, operator: DoesNotExist}]}", "untouched",
    &["Namespace"])]
#[case::another_name_and_its_label("namespaces: [shop-2], namespaceSelector: {matchLabels: {team: a}}", "untouched", &[])]
#[case::its_name_and_another_label("namespaces: [shop], namespaceSelector: {matchLabels: {team: b}}", "untouched", &["Namespace"])]
#[case::both("namespaces: [shop], namespaceSelector: {matchLabels: {team: a}}", "added usable", &["Namespace", "Secret"])]
fn pods_and_service_accounts_get_what_is_for_their_namespace(
    #[case] chosen_by: &str,
    #[case] expected: &str,
    #[case] questions: &[&str],
) {
    let settings = settings(&format!("{{secrets: [{{name: usable, {chosen_by}}}]}}"));
    for request in [pod("shop", "{}"), account("shop")] {
        let evaluation = evaluate(&settings, &request, &cluster());
        assert_eq!(summary(&request, &evaluation), expected);
        assert_eq!(asked(&evaluation), questions);
        assert_eq!(warnings(&evaluation), [""; 0]);
    }
}

#[rstest]
#[case::warn("warn")]
#[case::reject("reject")]
#[case::skip("skip")]
#[case::ignore("ignore")]
fn what_is_for_others_is_not_missed_listed_or_not(#[case] on_missing: &str) {
    let settings = settings(&format!(
        "{{secrets: [{{name: nope, {IN_TEAM_B}}}, {{name: nope-2, namespaces: [team-b]}}], onMissingSecret: {on_missing}}}"
    ));
    for spec in ["{}", "{imagePullSecrets: [{name: nope}, {name: nope-2}]}"] {
        let request = pod("shop", spec);
        let evaluation = evaluate(&settings, &request, &cluster());
        assert_eq!(summary(&request, &evaluation), "untouched", "{spec}");
        assert_eq!(warnings(&evaluation), [""; 0], "{spec}");
    }
}

#[test]
fn one_question_about_the_namespace_is_for_all_secrets_and_the_annotation() {
    let settings = settings(&format!(
        "{{secrets: [{{name: usable, {IN_TEAM_A}}}, {{name: nope, {IN_TEAM_B}}}, {{name: usable-2, {IN_TEAM_A}}}],
           exclude: {{annotation: example.com/exclude}}}}"
    ));
    for (namespace, expected, questions) in [
        ("shop", "added usable, usable-2", vec!["Namespace", "Secret", "Secret"]),
        ("left-alone", "untouched", vec!["Namespace"]),
    ] {
        let request = pod(namespace, "{}");
        let evaluation = evaluate(&settings, &request, &cluster());
        assert_eq!(summary(&request, &evaluation), expected);
        assert_eq!(asked(&evaluation), questions);
    }
}

#[rstest]
#[case::everything_is_listed("{imagePullSecrets: [{name: usable}]}", "matchImages: []", &[])]
#[case::it_is_for_no_image_of_the_pod("{containers: [{image: nginx}]}", "matchImages: [ghcr.io]", &[])]
#[case::it_is_for_an_image("{containers: [{image: ghcr.io/acme/app}]}", "matchImages: [ghcr.io]", &["Namespace", "Secret"])]
#[case::its_credentials_are_for_an_image(
    "{containers: [{image: ghcr.io/acme/app}]}", "matchCredentials: true", &["Namespace", "Secret"])]
fn the_namespace_is_asked_for_only_where_it_matters(
    #[case] spec: &str,
    #[case] secret: &str,
    #[case] questions: &[&str],
) {
    let settings = settings(&format!(
        "{{secrets: [{{name: usable, {secret}, {IN_TEAM_A}}}, {{name: usable-2, namespaces: [x]}}]}}"
    ));
    let request = pod("shop", spec);
    let evaluation = evaluate(&settings, &request, &cluster());
    assert_eq!(asked(&evaluation), questions);
    assert_eq!(summary(&request, &evaluation), if questions.is_empty() { "untouched" } else { "added usable" });
}

#[test]
fn ignore_asks_about_the_namespace_only() {
    let settings = settings(&format!(
        "{{secrets: [{{name: nope, {IN_TEAM_A}}}, {{name: nope-2, {IN_TEAM_B}}}, {{name: nope-3}}], onMissingSecret: ignore}}"
    ));
    let request = pod("shop", "{}");
    let evaluation = evaluate(&settings, &request, &cluster());
    assert_eq!(summary(&request, &evaluation), "added nope, nope-3");
    assert_eq!(asked(&evaluation), ["Namespace"]);
}

#[rstest]
#[case::one_without_labels("bare")]
#[case::one_that_is_not_there("nowhere")]
fn a_namespace_without_labels_is_chosen_by_their_absence(#[case] namespace: &str) {
    let settings = settings(&format!(
        "{{secrets: [{{name: nope, {IN_TEAM_A}}},
           {{name: nope-2, namespaceSelector: {{matchExpressions: [{{key: team, operator: NotIn, values: [a]}}]}}}}]}}"
    ));
    let request = pod(namespace, "{}");
    assert_eq!(summary(&request, &evaluate(&settings, &request, &cluster())), "added nope-2");
}

const FORBIDDEN: &str = "policy-server may not read it";
const GRANT: &str = "grant its ServiceAccount get on namespaces";

fn where_the_namespace_is_forbidden(settings: &Value, request: &AdmissionRequest) -> (String, Vec<String>) {
    let cluster = Cluster::of(manifests().fail(ObjectRef::namespace("shop"), Fault::Forbidden));
    let evaluation = evaluate(settings, request, &cluster);
    (summary(request, &evaluation), warnings(&evaluation))
}

#[rstest]
#[case::its_labels("", "its labels", "Secrets chosen by label are for it")]
#[case::both(
    "exclude: {annotation: example.com/exclude}, ",
    "the exclude annotation and its labels",
    "Not excluded, and secrets chosen by label are for it"
)]
fn a_namespace_that_cannot_be_read_has_every_label_and_it_is_said(
    #[case] exclude: &str,
    #[case] what: &str,
    #[case] done: &str,
) {
    let settings = settings(&format!(
        "{{{exclude}secrets: [{{name: usable, {IN_TEAM_A}}}, {{name: usable-2, {IN_TEAM_B}}}, {{name: other, namespaces: [x]}}]}}"
    ));
    for request in [pod("shop", "{}"), account("shop")] {
        let said = where_the_namespace_is_forbidden(&settings, &request);
        let warning = format!("Namespace shop was not checked for {what}: {FORBIDDEN}. {done}; {GRANT}");
        assert_eq!(said, ("added usable, usable-2".to_owned(), vec![warning]));
    }
}

/// Nobody knows whether the Pod is to have it.
#[test]
fn what_may_be_for_others_never_denies() {
    let request = pod("shop", "{imagePullSecrets: [{name: nope-2}]}");
    let secrets = format!("{{name: nope, {IN_TEAM_A}}}, {{name: nope-2, {IN_TEAM_B}}}");
    let unsure = settings(&format!("{{secrets: [{secrets}], onMissingSecret: reject}}"));
    let (verdict, warnings) = where_the_namespace_is_forbidden(&unsure, &request);
    assert_eq!((verdict.as_str(), warnings.len()), ("added nope", 3), "{warnings:?}");
    // What is for every namespace still does, and what is known to be for this one.
    let sure = settings(&format!("{{secrets: [{secrets}, {{name: nope-3}}], onMissingSecret: reject}}"));
    assert_eq!(where_the_namespace_is_forbidden(&sure, &request).0, "denied");
    let known = settings(&format!("{{secrets: [{{name: nope, {IN_TEAM_A}}}], onMissingSecret: reject}}"));
    assert_eq!(summary(&request, &evaluate(&known, &request, &cluster())), "denied");
}

#[rstest]
#[case::for_this_namespace("namespaces: [shop]", true, &[])]
#[case::for_another("namespaces: [x]", false, &[])]
#[case::for_its_label(IN_TEAM_A, true, &["Namespace"])]
#[case::for_another_label(IN_TEAM_B, false, &["Namespace"])]
fn an_ephemeral_container_lacks_only_what_is_for_its_namespace(
    #[case] chosen_by: &str,
    #[case] warns: bool,
    #[case] questions: &[&str],
) {
    let mut debugged = pod("shop", "{ephemeralContainers: [{name: debug, image: 'ghcr.io/acme/debug:1'}]}");
    debugged.operation = "UPDATE".to_owned();
    debugged.sub_resource = Some("ephemeralcontainers".to_owned());
    let settings = settings(&format!("{{secrets: [{{name: nope, matchImages: [ghcr.io], {chosen_by}}}]}}"));
    let evaluation = evaluate(&settings, &debugged, &cluster());
    assert_eq!(warnings(&evaluation).len(), usize::from(warns), "{:?}", warnings(&evaluation));
    assert_eq!(asked(&evaluation), questions);
}
