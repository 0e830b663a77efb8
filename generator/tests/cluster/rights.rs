//! Rights: those of the documentation suffice, and one that is missing is named.

use crate::admission::{ADMISSION, Made};
use crate::harness::{Corner, PATIENCE, client_of, docker_config, eventually};
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::authorization::v1::SubjectAccessReview;
use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use kube::Api;
use kube::api::{ObjectMeta, Patch, PatchParams, PostParams};
use rstest::rstest;
use serde_json::{Value, json};
use std::path::PathBuf;

/// The kubeconfig of a ServiceAccount that has the rights that docs/generator.md gives, changed by `change`.
pub async fn limited(corner: &Corner, change: impl Fn(&mut Value)) -> PathBuf {
    let client = &corner.client;
    let source = corner.ns("source");
    let accounts = Api::<ServiceAccount>::namespaced(client.clone(), &source);
    let metadata = ObjectMeta { name: Some("generator".to_owned()), ..ObjectMeta::default() };
    accounts.create(&PostParams::default(), &ServiceAccount { metadata, ..ServiceAccount::default() }).await.unwrap();
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/generator.md")).unwrap();
    let yaml = page.split("<!-- rbac -->").nth(1).unwrap().split("```").nth(1).unwrap().trim_start_matches("yaml");
    let subject = json!([{"kind": "ServiceAccount", "name": "generator", "namespace": source}]);
    let mut granted = Vec::new();
    for document in yaml.split("\n---") {
        let document = document
            .replace("registry-credentials", &corner.name)
            .replace("image-pull-secrets-generator", &corner.name)
            .replace("namespace: image-pull-secrets", &format!("namespace: {source}"));
        let mut role: Value = serde_saphyr::from_str(&document).unwrap();
        change(&mut role);
        let name = role["metadata"]["name"].as_str().unwrap().to_owned();
        let kind = role["kind"].as_str().unwrap().to_owned();
        // The Lease of a test is in the namespace default.
        let namespace = if role["rules"][0]["resources"][0] == "leases" { "default" } else { &source };
        let rule = &role["rules"][0];
        granted.push(json!({
            "user": format!("system:serviceaccount:{source}:generator"),
            "resourceAttributes": {
                "namespace": namespace, "group": rule["apiGroups"][0], "resource": rule["resources"][0],
                "name": rule["resourceNames"][0], "verb": rule["verbs"][0],
            },
        }));
        let binding = json!({
            "metadata": {"name": name}, "subjects": subject,
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name},
        });
        if kind == "ClusterRole" {
            let role: ClusterRole = serde_json::from_value(role).unwrap();
            Api::all(client.clone()).create(&PostParams::default(), &role).await.unwrap();
            let binding: ClusterRoleBinding = serde_json::from_value(binding).unwrap();
            Api::all(client.clone()).create(&PostParams::default(), &binding).await.unwrap();
        } else {
            role["metadata"]["namespace"] = json!(namespace);
            let role: Role = serde_json::from_value(role).unwrap();
            Api::namespaced(client.clone(), namespace).create(&PostParams::default(), &role).await.unwrap();
            let binding: RoleBinding = serde_json::from_value(binding).unwrap();
            Api::namespaced(client.clone(), namespace).create(&PostParams::default(), &binding).await.unwrap();
        }
    }
    eventually("the rights are known", PATIENCE, || async {
        futures::future::join_all(granted.iter().map(|right| is_granted(corner, right)))
            .await
            .iter()
            .all(|is_so| *is_so)
    })
    .await;
    let spec = TokenRequestSpec { expiration_seconds: Some(3600), ..TokenRequestSpec::default() };
    let request = TokenRequest { spec: Some(spec), ..TokenRequest::default() };
    let token = accounts.create_token_request("generator", &PostParams::default(), &request).await.unwrap();
    let mut document: Value = serde_saphyr::from_str(&std::fs::read_to_string(&corner.kubeconfig).unwrap()).unwrap();
    for user in document["users"].as_array_mut().unwrap() {
        user["user"] = json!({"token": token.status.as_ref().unwrap().token});
    }
    let path = corner.directory.path().join("limited.kubeconfig");
    std::fs::write(&path, document.to_string()).unwrap();
    path
}

/// Whether the API server has taken in what grants this.
async fn is_granted(corner: &Corner, right: &Value) -> bool {
    let review: SubjectAccessReview = serde_json::from_value(json!({ "spec": right })).unwrap();
    let api = Api::<SubjectAccessReview>::all(corner.client.clone());
    api.create(&PostParams::default(), &review).await.unwrap().status.unwrap().allowed
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rights_of_the_documentation_suffice() {
    let corner = Corner::new("rights").await;
    let namespace = corner.namespace("a").await;
    corner.put_source("1").await;
    let kubeconfig = limited(&corner, |_| ()).await;
    let settings = corner.write_settings(&corner.settings());
    let generator = corner.start_as(&["run", "--settings", settings.to_str().unwrap()], &kubeconfig, &[]);
    corner.settled(&namespace, "1").await;
    generator.ready().await;
    eventually("status shows who leads, and when all was well", PATIENCE, || async {
        let told = corner.finish(&["status", "-o", "json", "--settings", settings.to_str().unwrap()]);
        let told: Value = serde_json::from_str(&told.out).unwrap();
        told["leader"]["holder"].is_string() && told["lastFullSync"].is_string()
    })
    .await;
    corner.put_source("2").await;
    corner.settled(&namespace, "2").await;
    corner.delete_secret(&namespace).await;
    corner.settled(&namespace, "2").await;
    corner.patch_secret(&namespace, json!({"immutable": true})).await;
    corner.put_source("3").await;
    corner.settled(&namespace, "3").await;
    let finished = generator.terminate();
    assert!(finished.status.success());
    assert!(!finished.log.contains("RBAC") && !finished.log.contains(" WARN "), "{}", finished.log);
    let cleanup = corner.start_as(&["cleanup", "--yes"], &kubeconfig, &[]).finish();
    assert!(cleanup.status.success() && !cleanup.log.contains(" WARN "), "{}", cleanup.log);
    assert!(corner.copy(&namespace).await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_right_is_named_in_full() {
    let corner = Corner::new("forbidden").await;
    let namespace = corner.namespace("a").await;
    corner.put_source("1").await;
    let without_patch = |role: &mut Value| {
        for rule in role["rules"].as_array_mut().unwrap() {
            if rule["resources"][0] == "secrets" {
                rule["verbs"].as_array_mut().unwrap().retain(|verb| verb != "patch");
            }
        }
    };
    let kubeconfig = limited(&corner, without_patch).await;
    let settings = corner.write_settings(&corner.settings());
    let generator =
        corner.start_as(&["run", "--no-leader-elect", "--settings", settings.to_str().unwrap()], &kubeconfig, &[]);
    corner.settled(&namespace, "1").await;
    corner.put_source("2").await;
    let rule = format!(
        "the RBAC rule is missing: {{apiGroups: [\"\"], resources: [\"secrets\"], verbs: [\"patch\"], resourceNames: [\"{}\"]}}",
        corner.name
    );
    generator.logs(&rule).await;
    assert_eq!(corner.content(&namespace).await, Some(docker_config("1")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_right_to_tell_by_events_is_named_once() {
    let corner = Corner::new("mute").await;
    let namespace = corner.namespace("a").await;
    let without_events = |role: &mut Value| {
        role["rules"].as_array_mut().unwrap().retain(|rule| rule["resources"][0] != "events");
    };
    let kubeconfig = limited(&corner, without_events).await;
    let settings = corner.write_settings(&corner.settings());
    let generator =
        corner.start_as(&["run", "--no-leader-elect", "--settings", settings.to_str().unwrap()], &kubeconfig, &[]);
    generator.logs("the source is missing").await;
    corner.put_source("1").await;
    corner.settled(&namespace, "1").await;
    let rule = "cannot publish Events: the RBAC rule is missing: \
                {apiGroups: [\"events.k8s.io\"], resources: [\"events\"], verbs: [\"create\"]} in a ClusterRole";
    generator.logs(rule).await;
    generator.logs("cannot publish an Event CopiesWritten").await;
    assert_eq!(generator.log().matches(rule).count(), 1, "{}", generator.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn it_can_read_no_other_secret() {
    let corner = Corner::new("others").await;
    let kubeconfig = limited(&corner, |_| ()).await;
    let client = client_of(&kubeconfig).await;
    let secrets = Api::<k8s_openapi::api::core::v1::Secret>::all(client.clone());
    let by_name = kube::api::ListParams::default().fields(&format!("metadata.name={}", corner.name));
    assert!(secrets.list(&by_name).await.is_ok());
    for other in [kube::api::ListParams::default(), kube::api::ListParams::default().fields("metadata.name=other")] {
        assert!(matches!(secrets.list(&other).await, Err(kube::Error::Api(status)) if status.code == 403));
    }
}

fn may_not_see_the_former_secret(corner: &str, rule: &mut Value) {
    if rule["resources"][0] == "secrets" && rule["resourceNames"][0] == corner {
        rule["resourceNames"] = json!([format!("{corner}-next")]);
    }
}

fn may_not_read_the_record(corner: &str, rule: &mut Value) {
    if rule["resources"][0] == "secrets" && rule["resourceNames"][0] == corner {
        rule["resourceNames"] = json!([corner, format!("{corner}-next")]);
    }
    if rule["resources"][0] == "leases" {
        rule["verbs"] = json!(["patch"]);
    }
}

#[rstest]
#[case::its_copies(may_not_see_the_former_secret, "cannot watch secrets named")]
#[case::the_record(may_not_read_the_record, "it is not known what left the settings before")]
#[tokio::test(flavor = "multi_thread")]
async fn what_left_the_settings_is_not_forgotten_by_one_who_may_not_see(
    #[case] take_away: fn(&str, &mut Value),
    #[case] told: &str,
) {
    let corner = Corner::new("former").await;
    let namespace = corner.namespace("a").await;
    corner.put_source("1").await;
    assert!(corner.once(&corner.settings(), &[]).status.success());
    assert_eq!(corner.references(&namespace).await, [corner.name.as_str()]);
    let kubeconfig = limited(&corner, |role| {
        role["rules"].as_array_mut().unwrap().iter_mut().for_each(|rule| take_away(&corner.name, rule));
    })
    .await;
    let next = json!({"secrets": [{"name": format!("{}-next", corner.name)}], "serviceAccounts": []});
    let settings = corner.write_settings(&next);
    let args = ["run", "--once", "--settings", settings.to_str().unwrap()];
    let finished = corner.start_as(&args, &kubeconfig, &[]).finish();
    assert!(finished.log.contains(told) && finished.log.contains("the RBAC rule is missing"), "{}", finished.log);
    assert!(corner.copy(&namespace).await.is_some());
    let status = ["status", "--settings", settings.to_str().unwrap()];
    let told = corner.start_as(&status, &kubeconfig, &[]).finish();
    assert!(told.out.contains("something may be left over: cannot "), "{}", told.out);
    assert_eq!(told.status.code(), Some(1));

    assert!(corner.once(&next, &[]).status.success());
    assert!(corner.copy(&namespace).await.is_none() && corner.references(&namespace).await.is_empty());
    assert_eq!(corner.finish(&status).status.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn service_accounts_that_the_settings_name_are_all_that_it_needs_to_see() {
    let corner = Corner::new("by-name").await;
    let namespace = corner.namespace("a").await;
    corner.put_source("1").await;
    let builder = ServiceAccount {
        metadata: ObjectMeta { name: Some("builder".to_owned()), ..ObjectMeta::default() },
        ..ServiceAccount::default()
    };
    corner.accounts(&namespace).create(&PostParams::default(), &builder).await.unwrap();
    let kubeconfig = limited(&corner, |role| {
        for rule in role["rules"].as_array_mut().unwrap() {
            if rule["resources"][0] == "serviceaccounts" {
                rule["resourceNames"] = json!(["default", "builder"]);
            }
        }
    })
    .await;
    let mut settings = corner.settings();
    let generator =
        corner.start_as(&["run", "--settings", corner.write_settings(&settings).to_str().unwrap()], &kubeconfig, &[]);
    corner.settled(&namespace, "1").await;
    generator.ready().await;
    let of_builder = || async {
        let account = corner.accounts(&namespace).get("builder").await.unwrap();
        account.image_pull_secrets.into_iter().flatten().map(|reference| reference.name).collect::<Vec<_>>()
    };
    assert_eq!(of_builder().await, [""; 0]);

    // From the one to the other: what the first was given goes.
    settings["serviceAccounts"] = json!(["builder"]);
    corner.write_settings(&settings);
    eventually("the reference is the other's", PATIENCE, || async {
        corner.references(&namespace).await.is_empty() && of_builder().await == [corner.name.as_str()]
    })
    .await;
    settings["serviceAccounts"] = json!(["builder", "default"]);
    corner.write_settings(&settings);
    corner.settled(&namespace, "1").await;
    assert_eq!(of_builder().await, [corner.name.as_str()]);
    assert!(!generator.log().contains("RBAC"), "{}", generator.log());
}

/// The ValidatingAdmissionPolicies of deploy/, about the generator of this corner.
async fn guards(corner: &Corner) -> Vec<Made> {
    let deploy = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/generator.yaml")).unwrap();
    let deploy = deploy
        .replace("registry-credentials", &corner.name)
        .replace("image-pull-secrets:image-pull-secrets-generator", &format!("{}:generator", corner.ns("source")))
        .replace("name: image-pull-secrets-generator", &format!("name: {}", corner.name))
        .replace("policyName: image-pull-secrets-generator", &format!("policyName: {}", corner.name));
    let mut made = Vec::new();
    for document in deploy.split("\n---\n") {
        let document: Value = serde_saphyr::from_str(document).unwrap();
        let kind = document["kind"].as_str().unwrap().to_owned();
        if kind.starts_with("ValidatingAdmissionPolicy") {
            let name = document["metadata"]["name"].as_str().unwrap().to_owned();
            made.push(Made::named(corner, ADMISSION, &kind, &name, document).await);
        }
    }
    assert_eq!(made.len(), 4);
    made
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_service_account_its_token_may_change_the_references_and_nothing_else() {
    let corner = Corner::new("token").await;
    let namespace = corner.namespace("a").await;
    corner.put_source("1").await;
    corner
        .patch_account(&namespace, json!({"metadata": {"annotations": {"mine": "1"}, "labels": {"team": "a"}}}))
        .await;
    let kubeconfig = limited(&corner, |_| ()).await;
    let guards = guards(&corner).await;
    let api = Api::<ServiceAccount>::namespaced(client_of(&kubeconfig).await, &namespace);
    let dry = PatchParams { dry_run: true, ..PatchParams::default() };
    let refused = async |patch: Value| match api.patch("default", &dry, &Patch::Merge(&patch)).await {
        Ok(_) => String::new(),
        Err(error) => error.to_string(),
    };
    let list = "the generator changes nothing but imagePullSecrets of a ServiceAccount";
    let metadata = "the generator changes nothing of a ServiceAccount's metadata but its own annotation";
    let owner = json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "x", "uid": "x"});
    let cases = [
        (json!({"automountServiceAccountToken": false}), list),
        (json!({"secrets": [{"name": "stolen"}]}), list),
        (json!({"metadata": {"labels": {"team": "b"}}}), metadata),
        (json!({"metadata": {"labels": null}}), metadata),
        (json!({"metadata": {"annotations": {"mine": "2"}}}), metadata),
        (json!({"metadata": {"annotations": {"mine": null}}}), metadata),
        (json!({"metadata": {"annotations": {"eks.amazonaws.com/role-arn": "admin"}}}), metadata),
        (json!({"metadata": {"finalizers": ["example.com/hold"]}}), metadata),
        (json!({"metadata": {"ownerReferences": [owner]}}), metadata),
    ];
    // What was made just now takes a moment.
    eventually("it is guarded", PATIENCE, || async { !refused(cases[0].0.clone()).await.is_empty() }).await;
    for (patch, message) in cases {
        let answer = refused(patch.clone()).await;
        assert!(answer.contains(message), "{patch}: {answer:?}");
    }
    let own = json!({"metadata": {"annotations": {"image-pull-secrets.kubewarden.io/references": "x"}}});
    assert_eq!(refused(own).await, "");
    assert_eq!(refused(json!({"imagePullSecrets": [{"name": "x"}]})).await, "");

    // And all that it has to do, it can: where there are annotations, and where there are none.
    let bare = corner.namespace("bare").await;
    let settings = corner.write_settings(&corner.settings());
    let generator = corner.start_as(&["run", "--settings", settings.to_str().unwrap()], &kubeconfig, &[]);
    corner.settled(&namespace, "1").await;
    corner.settled(&bare, "1").await;
    let mut excluding = corner.settings();
    excluding["serviceAccounts"] = json!([]);
    corner.write_settings(&excluding);
    eventually("the references are gone", PATIENCE, || async {
        corner.references(&namespace).await.is_empty() && corner.references(&bare).await.is_empty()
    })
    .await;
    assert!(!generator.log().contains("the generator changes"), "{}", generator.log());
    for guard in guards {
        guard.remove().await;
    }
}
