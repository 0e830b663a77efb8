//! Which Pods want a secret that is only for some images: the kubelet's rules, through the module.

use super::outcome::{evaluate, request, settings, summary};
use image_pull_secrets_e2e::{Cluster, Manifests};
use rstest::rstest;
use serde_json::json;

fn pod_with(spec: &str) -> String {
    format!("{{apiVersion: v1, kind: Pod, metadata: {{name: web, namespace: shop}}, spec: {{{spec}}}}}")
}

fn secret_with(server: &str) -> Cluster {
    let config = json!({"auths": {server: {"auth": "Y2k6Y29ycmVjdC1ob3JzZQ=="}}}).to_string();
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "its-own", "namespace": "shop"},
        "type": "kubernetes.io/dockerconfigjson", "stringData": {".dockerconfigjson": config},
    });
    Cluster::of(Manifests::parse(&secret.to_string()).unwrap())
}

#[rstest]
#[case::a_container("containers: [{image: nginx}, {image: 'ghcr.io/acme/app:1'}]", true)]
#[case::an_init_container("containers: [{image: nginx}], initContainers: [{image: ghcr.io/acme/app}]", true)]
#[case::an_image_volume(
    "containers: [{image: nginx}], volumes: [{name: a}, {name: b, image: {reference: ghcr.io/acme/m}}]",
    true
)]
#[case::none("containers: [{image: nginx}], volumes: [{name: a, emptyDir: {}}]", false)]
#[case::a_name_that_is_no_image("containers: [{image: 'GHCR.io/Acme/App'}, {image: ''}, {}]", false)]
#[case::no_containers("", false)]
fn every_place_that_names_an_image_counts(#[case] spec: &str, #[case] wanted: bool) {
    let by_pattern = settings("{secrets: [{name: its-own, matchImages: [ghcr.io/acme]}]}");
    let by_credentials = settings("{secrets: [{name: its-own, matchCredentials: true}]}");
    let expected = if wanted { "added its-own" } else { "untouched" };
    for settings in [by_pattern, by_credentials] {
        let request = request(&pod_with(spec));
        let evaluation = evaluate(&settings, &request, &secret_with("ghcr.io/acme"));
        assert_eq!(summary(&request, &evaluation), expected, "{settings}");
    }
}

#[rstest]
#[case::docker_hub("docker.io", "nginx", true)]
#[case::docker_hub_and_an_organisation("docker.io/acme", "acme/app", true)]
#[case::a_path_is_a_raw_prefix("ghcr.io/acme", "ghcr.io/acme-labs/app", true)]
#[case::a_glob_is_one_label("*.example.com", "a.example.com/x", true)]
#[case::a_glob_is_not_two_labels("*.example.com", "a.b.example.com/x", false)]
#[case::several_globs("*.dkr.ecr.*.amazonaws.com", "12.dkr.ecr.eu-west-1.amazonaws.com/x", true)]
#[case::a_port("host:5000", "host:5000/x", true)]
#[case::another_port("host:5001", "host:5000/x", false)]
#[case::a_port_that_is_missing("host.io", "host.io:5000/x", false)]
#[case::case_is_kept("GHCR.io", "ghcr.io/acme/app", false)]
fn match_images_as_the_kubelet_does(#[case] pattern: &str, #[case] image: &str, #[case] wanted: bool) {
    let settings = json!({"secrets": [{"name": "its-own", "matchImages": [pattern]}]});
    let request = request(&pod_with(&format!("containers: [{{image: '{image}'}}]")));
    let evaluation = evaluate(&settings, &request, &secret_with("ghcr.io"));
    assert_eq!(summary(&request, &evaluation), if wanted { "added its-own" } else { "untouched" });
    assert_eq!(evaluation.host_calls.len(), usize::from(wanted), "only a Pod that wants it is worth a host call");
}

#[rstest]
#[case::what_docker_login_writes("https://index.docker.io/v1/", "nginx", true)]
#[case::the_index("index.docker.io", "acme/app", true)]
#[case::docker_hub_by_name("docker.io", "nginx", true)]
#[case::an_organisation("docker.io/acme", "acme/app", true)]
#[case::another_organisation("docker.io/acme", "nginx", false)]
#[case::without_the_last_slash("https://index.docker.io/v1", "nginx", false)]
#[case::its_registry("registry-1.docker.io", "nginx", false)]
#[case::its_site("hub.docker.com", "nginx", false)]
#[case::a_glob_over_it("*.docker.io", "nginx", false)]
#[case::a_scheme("https://ghcr.io", "ghcr.io/acme/app", true)]
#[case::a_v2_path("https://ghcr.io/v2/", "ghcr.io/acme/app", true)]
#[case::a_v2_path_without_its_slash("https://ghcr.io/v2", "ghcr.io/acme/app", false)]
#[case::a_longer_path("ghcr.io/acme/app", "ghcr.io/acme/app:1", true)]
#[case::a_digest(
    "ghcr.io",
    "ghcr.io/a/b@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    true
)]
#[case::a_glob("*.example.com", "eu.example.com/x", true)]
#[case::localhost_and_the_hubs_credential("index.docker.io", "localhost/x", true)]
fn match_credentials_as_the_kubelet_looks_them_up(#[case] server: &str, #[case] image: &str, #[case] wanted: bool) {
    let settings = settings("{secrets: [{name: its-own, matchCredentials: true}]}");
    let request = request(&pod_with(&format!("containers: [{{image: '{image}'}}]")));
    let evaluation = evaluate(&settings, &request, &secret_with(server));
    assert_eq!(summary(&request, &evaluation), if wanted { "added its-own" } else { "untouched" });
    assert_eq!(evaluation.response.warnings, None);
}

#[test]
fn a_secret_that_is_for_some_images_is_not_for_service_accounts() {
    let account = request("{apiVersion: v1, kind: ServiceAccount, metadata: {name: default, namespace: shop}}");
    for secret in ["{name: its-own, matchImages: [ghcr.io]}", "{name: its-own, matchCredentials: true}"] {
        let settings = settings(&format!("{{secrets: [{secret}]}}"));
        assert_eq!(summary(&account, &evaluate(&settings, &account, &secret_with("ghcr.io"))), "untouched");
    }
}

#[rstest]
#[case::warn("warn", "added its-own")]
#[case::reject("reject", "added its-own")]
#[case::skip("skip", "untouched")]
fn a_missing_secret_cannot_say_what_it_covers_and_so_is_wanted(#[case] on_missing: &str, #[case] expected: &str) {
    let settings =
        settings(&format!("{{secrets: [{{name: its-own, matchCredentials: true}}], onMissingSecret: {on_missing}}}"));
    let request = request(&pod_with("containers: [{image: nginx}]"));
    let nothing = Cluster::of(Manifests::default());
    assert_eq!(summary(&request, &evaluate(&settings, &request, &nothing)), expected);
}
