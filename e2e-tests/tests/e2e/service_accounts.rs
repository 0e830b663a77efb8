//! ServiceAccounts: created, changed by others, used and deleted while the policy watches over them.

use crate::harness::{Registration, Stage, pod, pod_with};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn a_new_one_refers_to_the_secret_and_a_missing_secret_denies_nothing() {
    let stage =
        Stage::new(json!({"secrets": [{"name": "creds"}], "serviceAccounts": ["*"], "onMissingSecret": "reject"}))
            .await;
    let created = stage.post(&stage.accounts(), json!({"metadata": {"name": "builder"}})).await.ok();
    assert_eq!((created.listed(), created.warnings.len()), (vec!["creds"], 1));
    // Made by a controller, before anybody could have made a Secret.
    let namespace = stage.create_namespace("new").await;
    let default = stage.get(&format!("/api/v1/namespaces/{namespace}/serviceaccounts/default")).await.ok();
    assert_eq!(default.listed(), ["creds"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn under_skip_one_refers_to_the_secret_only_once_it_is_there() {
    let stage =
        Stage::new(json!({"secrets": [{"name": "creds"}], "serviceAccounts": ["*"], "onMissingSecret": "skip"})).await;
    let created = stage.post(&stage.accounts(), json!({"metadata": {"name": "builder"}})).await.ok();
    assert_eq!(created.listed(), [""; 0]);
    let expected = format!(
        "Secret {}/creds does not exist. It was not added; create it: the generator, or the account's next update, then adds \
         the reference",
        stage.namespace
    );
    assert_eq!(created.warnings, [expected]);
    stage.create_secret("creds").await;
    let path = format!("{}/builder", stage.accounts());
    let labelled = stage.merge(&path, json!({"metadata": {"labels": {"a": "b"}}})).await.ok();
    assert_eq!((labelled.listed(), labelled.warnings.len()), (vec!["creds"], 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_brings_the_reference_and_keeps_what_others_have_there() {
    let mut stage = Stage::empty(json!({"secrets": [{"name": "creds"}]})).await;
    stage.create_secret("creds").await;
    let path = format!("{}/default", stage.accounts());
    let theirs = json!([{"name": "default-dockercfg-x7k2p"}]);
    stage.merge(&path, json!({"imagePullSecrets": theirs, "secrets": [{"name": "default-token-1"}]})).await.ok();
    stage.register(Registration::default()).await;
    let labelled = stage.merge(&path, json!({"metadata": {"labels": {"a": "b"}}})).await.ok();
    assert_eq!(labelled.listed(), ["default-dockercfg-x7k2p", "creds"]);
    assert_eq!(labelled.body["secrets"], json!([{"name": "default-token-1"}]));
    // Taken out by somebody, it is back in the same request.
    let taken = stage.merge(&path, json!({"imagePullSecrets": theirs})).await.ok();
    assert_eq!(taken.listed(), ["default-dockercfg-x7k2p", "creds"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manager_that_applies_the_list_again_and_again_gets_no_conflict() {
    let stage = Stage::new(json!({"secrets": [{"name": "creds"}], "serviceAccounts": ["*"]})).await;
    stage.create_secret("creds").await;
    let path = format!("{}/builder", stage.accounts());
    let mut applied = json!({
        "apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "builder"}, "imagePullSecrets": [{"name": "theirs"}],
    });
    for label in ["1", "2", "3"] {
        applied["metadata"]["labels"] = json!({"version": label});
        let answer = stage.apply(&path, "gitops", applied.clone()).await.ok();
        assert_eq!(answer.listed(), ["theirs", "creds"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_can_be_asked_for_and_the_account_deleted() {
    // Asked about everything below a ServiceAccount too, as by rules that are too wide.
    let mut stage = Stage::empty(json!({"secrets": [{"name": "creds"}], "onMissingSecret": "reject"})).await;
    stage.register(Registration { everything: true, ..Registration::default() }).await;
    stage.post(&stage.accounts(), json!({"metadata": {"name": "builder"}})).await.ok();
    let path = format!("{}/builder", stage.accounts());
    let token = stage.post(&format!("{path}/token"), json!({"spec": {"expirationSeconds": 600}})).await.ok();
    assert!(token.body["status"]["token"].is_string());
    stage.merge(&path, json!({"metadata": {"finalizers": ["example.com/wait"]}})).await.ok();
    stage.delete(&path).await.ok();
    // Its last update, while it is being deleted.
    stage.merge(&path, json!({"metadata": {"finalizers": null}})).await.ok();
    assert_eq!(stage.get(&path).await.status, 404);
}

const ENFORCE: &str = "kubernetes.io/enforce-mountable-secrets";

#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_enforces_mountable_secrets_refuses_the_pod_while_it_does_not_refer_to_the_secret() {
    let stage = Stage::new(json!({"secrets": [{"name": "creds"}], "serviceAccounts": []})).await;
    stage.create_secret("creds").await;
    stage.post(&stage.accounts(), json!({"metadata": {"name": "strict", "annotations": {ENFORCE: "true"}}})).await.ok();
    let refused = stage.create_pod(pod_with("web", json!({"spec": {"serviceAccountName": "strict"}}))).await;
    let expected = "imagePullSecrets[0].name=\"creds\" is not allowed because service account strict does not reference that \
                    imagePullSecret";
    assert!(refused.status == 403 && refused.message().contains(expected), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_enforces_mountable_secrets_and_is_selected_lets_the_pod_pass() {
    let stage = Stage::new(json!({"secrets": [{"name": "creds"}], "serviceAccounts": ["default", "strict"]})).await;
    stage.create_secret("creds").await;
    let strict = json!({"metadata": {"name": "strict", "annotations": {ENFORCE: "true"}}});
    assert_eq!(stage.post(&stage.accounts(), strict).await.ok().listed(), ["creds"]);
    let created = stage.create_pod(pod_with("web", json!({"spec": {"serviceAccountName": "strict"}}))).await.ok();
    assert_eq!(created.listed(), ["creds"]);
    assert_eq!(stage.create_pod(pod("other")).await.ok().listed(), ["creds"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_enforces_mountable_secrets_needs_a_reference_of_its_own_to_a_secret_for_some_images() {
    let settings = json!({"secrets": [{"name": "creds", "matchImages": ["ghcr.io/acme"]}], "serviceAccounts": ["*"]});
    let stage = Stage::new(settings).await;
    stage.create_secret("creds").await;
    let strict = json!({"metadata": {"name": "strict", "annotations": {ENFORCE: "true"}}});
    assert_eq!(stage.post(&stage.accounts(), strict).await.ok().listed(), [""; 0]);
    let web = pod_with("web", json!({"spec": {"serviceAccountName": "strict"}}));
    let refused = stage.create_pod(web.clone()).await;
    assert!(
        refused.status == 403 && refused.message().contains("does not reference that imagePullSecret"),
        "{refused:?}"
    );
    let by_hand = json!({"imagePullSecrets": [{"name": "creds"}]});
    stage.merge(&format!("{}/strict", stage.accounts()), by_hand).await.ok();
    assert_eq!(stage.create_pod(web).await.ok().listed(), ["creds"]);
}
