//! The words: each warning, each rejection, the audit annotations and the log.

use super::outcome::{cluster, evaluate, manifests, request, settings, warnings};
use image_pull_secrets_e2e::{Cluster, Fault, Host, Manifests, Metadata, ObjectRef, modules};
use rstest::rstest;
use serde_json::json;
use std::time::Duration;

const POD: &str = "{apiVersion: v1, kind: Pod, metadata: {name: web, namespace: shop}, spec: {containers: [{name: web, image: nginx}]}}";

#[rstest]
#[case::missing(
    "nope",
    "warn",
    "Secret shop/nope does not exist. It was added anyway; create it, or private images cannot be pulled"
)]
#[case::missing_and_skipped(
    "nope",
    "skip",
    "Secret shop/nope does not exist. It was not added; create it, then recreate the Pod"
)]
#[case::of_another_type(
    "opaque",
    "warn",
    "Secret shop/opaque is unusable: its type is \"Opaque\", not kubernetes.io/dockerconfigjson. It was not added; \
     replace it, then recreate the Pod"
)]
#[case::malformed(
    "malformed",
    "skip",
    "Secret shop/malformed is unusable: its entry \"ghcr.io\" has an \"auth\" that is not base64. It was not added; \
     replace it, then recreate the Pod"
)]
#[case::forbidden(
    "forbidden",
    "warn",
    "Secret shop/forbidden was not checked: policy-server may not read it. It was added anyway; grant its ServiceAccount \
     get on secrets, resourceNames [\"forbidden\"]"
)]
#[case::unreachable(
    "unreachable",
    "warn",
    "Secret shop/unreachable was not checked: the API server did not answer. It was added anyway; check policy-server's \
     connection to it"
)]
#[case::undiscovered(
    "undiscovered",
    "warn",
    "Secret shop/undiscovered was not checked: the API server does not serve its kind. It was added anyway; check \
     policy-server's connection to it"
)]
fn a_warning_says_what_is_wrong_and_what_to_do(#[case] name: &str, #[case] on_missing: &str, #[case] expected: &str) {
    let cluster = Cluster::of(
        manifests()
            .fail(ObjectRef::secret("shop", "forbidden"), Fault::Forbidden)
            .fail(ObjectRef::secret("shop", "unreachable"), Fault::Unreachable)
            .fail(ObjectRef::secret("shop", "undiscovered"), Fault::Undiscovered),
    );
    let settings = settings(&format!("{{secrets: [{{name: {name}}}], onMissingSecret: {on_missing}}}"));
    let evaluation = evaluate(&settings, &request(POD), &cluster);
    assert_eq!(warnings(&evaluation), [expected]);
    let logged: Vec<_> = evaluation.logs.iter().map(|line| (line.level.as_str(), line.message.as_str())).collect();
    assert_eq!(logged[1], ("warning", format!("Pod shop/web: {expected}").as_str()));
}

#[rstest]
#[case::the_kind(
    "{mutating: true, hostCapabilities: [kubernetes/get_resource]}",
    "Secret shop/usable was not checked: the policy's contextAwareResources lack its kind. It was added anyway; add v1 \
     Secret to them"
)]
#[case::the_capability(
    "{mutating: true, contextAwareResources: [{apiVersion: v1, kind: Secret}]}",
    "Secret shop/usable was not checked: the policy lacks the host capability kubernetes/get_resource. It was added \
     anyway; allow it on the PolicyServer"
)]
fn a_warning_says_what_is_not_granted(#[case] metadata: &str, #[case] expected: &str) {
    let mut host = Host::load(&modules::policy_module(), Metadata::parse(metadata).unwrap()).unwrap();
    host.backtraces = true;
    let evaluation = host.evaluate(&settings("{secrets: [{name: usable}]}"), &request(POD), &cluster());
    assert_eq!(warnings(&evaluation), [expected]);
}

#[test]
fn without_a_cluster_the_warning_is_about_kwctl() {
    let evaluation = evaluate(&settings("{secrets: [{name: usable}]}"), &request(POD), &Cluster::Absent);
    assert_eq!(
        warnings(&evaluation),
        [
            "Secret shop/usable was not checked: there is no cluster to ask. It was added anyway; give kwctl a kubeconfig \
             and --allow-context-aware"
        ]
    );
}

#[test]
fn causes_and_backtraces_of_the_host_are_not_passed_on() {
    let mut host = Host::load(&modules::policy_module(), modules::metadata()).unwrap();
    host.backtraces = true;
    for fault in [Fault::Forbidden, Fault::Unreachable] {
        let cluster = Cluster::of(manifests().fail_all(fault));
        let evaluation = host.evaluate(&settings("{secrets: [{name: usable}]}"), &request(POD), &cluster);
        let said = format!("{:?} {:?}", evaluation.response, evaluation.logs);
        for text in ["Caused by", "backtrace", "Status {", "Callback", "\\n"] {
            assert!(!said.contains(text), "{text} in {said}");
        }
    }
}

#[rstest]
#[case::of_another_type(
    "opaque",
    "Secret shop/opaque is unusable: its type is \"Opaque\", not kubernetes.io/dockerconfigjson. It was not added; replace \
     it"
)]
#[case::missing(
    "nope",
    "Secret shop/nope does not exist. It was not added; create it: the generator, or the account's next update, then adds \
     the reference"
)]
fn a_service_account_is_not_told_to_recreate_a_pod(#[case] name: &str, #[case] expected: &str) {
    let account = request("{apiVersion: v1, kind: ServiceAccount, metadata: {name: default, namespace: shop}}");
    let settings = settings(&format!("{{secrets: [{{name: {name}}}], onMissingSecret: skip}}"));
    assert_eq!(warnings(&evaluate(&settings, &account, &cluster())), [expected]);
}

#[rstest]
#[case::missing(
    "nope",
    "Secret shop/nope does not exist. It was listed already; create it, or private images cannot be pulled"
)]
#[case::malformed(
    "malformed",
    "Secret shop/malformed is unusable: its entry \"ghcr.io\" has an \"auth\" that is not base64. It was listed already; \
     replace it"
)]
fn a_warning_says_that_the_pod_lists_the_secret_already(#[case] name: &str, #[case] expected: &str) {
    let pod = format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: web, namespace: shop}},
          spec: {{imagePullSecrets: [{{name: {name}}}], containers: [{{name: web, image: nginx}}]}}}}"
    );
    let settings =
        settings(&format!("{{secrets: [{{name: {name}, matchCredentials: true}}], onMissingSecret: reject}}"));
    assert_eq!(warnings(&evaluate(&settings, &request(&pod), &cluster())), [expected]);
}

#[test]
fn a_warning_says_that_there_was_no_time_left() {
    let slow = manifests().fail(ObjectRef::secret("shop", "usable"), Fault::Slow(Duration::from_millis(600)));
    let settings = settings("{secrets: [{name: usable}, {name: usable-2}]}");
    assert_eq!(
        warnings(&evaluate(&settings, &request(POD), &Cluster::of(slow))),
        [
            "Secret shop/usable-2 was not checked: the API server is slow, and there was no time left to ask. It was added \
          anyway; find out why it is slow, then try again"
        ]
    );
}

#[test]
fn a_warning_says_what_an_ephemeral_container_lacks() {
    let mut debugged = request(
        "{apiVersion: v1, kind: Pod, metadata: {name: web, namespace: shop},
          spec: {ephemeralContainers: [{name: debug, image: 'ghcr.io/acme/debug:1'}]}}",
    );
    debugged.operation = "UPDATE".to_owned();
    debugged.sub_resource = Some("ephemeralcontainers".to_owned());
    let evaluation = evaluate(&settings("{secrets: [{name: usable}]}"), &debugged, &cluster());
    let expected = "The Pod does not list Secret shop/usable, which is for an ephemeral container's image: it may not \
                    pull, and a running Pod's list cannot change";
    assert_eq!(warnings(&evaluation), [expected]);
    let logged: Vec<_> = evaluation.logs.iter().map(|line| (line.level.as_str(), line.message.as_str())).collect();
    assert_eq!(logged, [("warning", format!("Pod shop/web: {expected}").as_str())]);
}

#[rstest]
#[case::in_the_name("we\nb", "shop", "Pod shop/we\u{fffd}b")]
#[case::in_the_namespace("web", "sh\u{1b}op", "Secret sh\u{fffd}op/nope")]
#[case::without_end(&"w".repeat(10_000), "shop", &format!("Pod shop/{}…", "w".repeat(100)))]
fn names_from_the_request_are_cut_and_freed_of_control_characters(
    #[case] name: &str,
    #[case] namespace: &str,
    #[case] expected: &str,
) {
    let mut pod = request(POD);
    pod.namespace = Some(namespace.to_owned());
    pod.object.as_mut().unwrap()["metadata"]["name"] = json!(name);
    for on_missing in ["warn", "reject"] {
        let settings = settings(&format!("{{secrets: [{{name: nope}}], onMissingSecret: {on_missing}}}"));
        let evaluation = evaluate(&settings, &pod, &cluster());
        let logged: Vec<_> = evaluation.logs.iter().map(|line| line.message.clone()).collect();
        let said = [logged, warnings(&evaluation), vec![evaluation.response.message().to_owned()]].concat();
        assert!(said.iter().any(|line| line.contains(expected)), "{said:?}");
        assert!(!said.iter().any(|line| line.chars().any(char::is_control)), "{said:?}");
        assert!(said.iter().all(|line| line.len() < 600), "{said:?}");
    }
}

#[test]
fn the_type_of_a_secret_is_cut_and_freed_of_control_characters() {
    let mut secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "odd", "namespace": "shop"}});
    secret["type"] = json!(format!("a\n{}", "b".repeat(10_000)));
    let cluster = Cluster::of(Manifests::parse(&secret.to_string()).unwrap());
    let evaluation = evaluate(&settings("{secrets: [{name: odd}]}"), &request(POD), &cluster);
    let expected = format!(
        "Secret shop/odd is unusable: its type is \"a\u{fffd}{}…\", not kubernetes.io/dockerconfigjson. It was not added; \
         replace it, then recreate the Pod",
        "b".repeat(98)
    );
    assert_eq!(warnings(&evaluation), [expected]);
}

#[test]
fn a_rejection_names_every_secret_at_once_and_the_commands() {
    let settings = settings(
        "{secrets: [{name: nope}, {name: opaque}, {name: usable}, {name: forbidden}, {name: nope-2}],
          onMissingSecret: reject}",
    );
    let cluster = Cluster::of(manifests().fail(ObjectRef::secret("shop", "forbidden"), Fault::Forbidden));
    let evaluation = evaluate(&settings, &request(POD), &cluster);
    assert_eq!(
        evaluation.response.message(),
        "Pod shop/web is denied because of its image pull secrets. Missing in namespace shop: nope, nope-2. Create what \
         is missing, then try again: kubectl create secret docker-registry nope -n shop --docker-server=REGISTRY \
         --docker-username=USER --docker-password=PASSWORD; kubectl create secret docker-registry nope-2 -n shop \
         --docker-server=REGISTRY --docker-username=USER --docker-password=PASSWORD. Secret shop/opaque is unusable: its \
         type is \"Opaque\", not kubernetes.io/dockerconfigjson: Replace it. Secret shop/forbidden was not checked: \
         policy-server may not read it: grant its ServiceAccount get on secrets, resourceNames [\"forbidden\"]."
    );
}

#[test]
fn a_pod_without_a_name_yet_is_named_by_its_prefix() {
    let pod = request("{apiVersion: v1, kind: Pod, metadata: {generateName: web-, namespace: shop}, spec: {}}");
    let evaluation = evaluate(&settings("{secrets: [{name: opaque}], onMissingSecret: reject}"), &pod, &cluster());
    let message = evaluation.response.message();
    assert!(
        message.starts_with("Pod shop/web-* is denied because of its image pull secrets. Secret shop/opaque"),
        "{message}"
    );
}

#[test]
fn audit_annotations_hold_names_only() {
    let settings =
        settings("{secrets: [{name: usable}, {name: nope}, {name: opaque}, {name: malformed}, {name: nope-2}]}");
    let evaluation = evaluate(&settings, &request(POD), &cluster());
    assert_eq!(
        json!(evaluation.response.audit_annotations),
        json!({"injected": "usable,nope,nope-2", "missing": "nope,nope-2", "unusable": "opaque,malformed"})
    );
}

#[rstest]
#[case::added(POD, "Pod shop/web: added usable")]
#[case::untouched(
    "{apiVersion: v1, kind: ServiceAccount, metadata: {name: builder, namespace: shop}}",
    "ServiceAccount shop/builder: accepted untouched, its name is not selected"
)]
#[case::none_of_ours(
    "{apiVersion: apps/v1, kind: Deployment, metadata: {name: web, namespace: shop}}",
    "accepted untouched, neither a Pod nor a ServiceAccount"
)]
fn a_decision_is_one_line_at_debug(#[case] object: &str, #[case] expected: &str) {
    let evaluation = evaluate(&settings("{secrets: [{name: usable}]}"), &request(object), &cluster());
    let logged: Vec<_> = evaluation.logs.iter().map(|line| (line.level.as_str(), line.message.as_str())).collect();
    assert_eq!(logged, [("debug", expected)]);
}
