//! Replicas, signals, rights, and namespaces that refuse.

use crate::harness::{Corner, docker_config, eventually, stays};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Pod, ResourceQuota, ServiceAccount};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use kube::Api;
use kube::api::{DeleteParams, ListParams, ObjectMeta, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::{Duration, Instant};

#[tokio::test(flavor = "multi_thread")]
async fn another_replica_takes_over_after_a_kill_and_at_once_after_a_clean_end() {
    let corner = Corner::new("replicas").await;
    corner.put_source("1").await;
    let first = corner.namespace("a").await;
    let settings = corner.write_settings(&corner.settings());
    let start = || corner.start(&["run", "--settings", settings.to_str().unwrap()]);
    let mut leader = start();
    corner.settled(&first, "1").await;
    let standby = start();
    standby.ready().await;
    assert_eq!(standby.metric("image_pull_secrets_leader").await, Some(0.0));

    leader.kill();
    let killed = Instant::now();
    let second = corner.namespace("b").await;
    corner.settled(&second, "1").await;
    assert!(killed.elapsed() < Duration::from_secs(20), "{:?} after the kill", killed.elapsed());
    assert_eq!(standby.metric("image_pull_secrets_leader").await, Some(1.0));

    let next = start();
    next.ready().await;
    let ended = Instant::now();
    let finished = standby.terminate();
    assert!(finished.status.success(), "{}", finished.log);
    let lease = Api::<Lease>::namespaced(corner.client.clone(), "default").get(&corner.name).await.unwrap();
    assert!(lease.spec.unwrap().holder_identity.is_none_or(|holder| !finished.log.contains(&holder)));
    let third = corner.namespace("c").await;
    corner.settled(&third, "1").await;
    assert!(ended.elapsed() < Duration::from_secs(5), "{:?} after a clean end", ended.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_of_a_replica_whose_clock_is_wrong_is_neither_stolen_nor_stuck() {
    let corner = Corner::new("skew").await;
    let namespace = corner.namespace("a").await;
    corner.put_source("1").await;
    let leases = Api::<Lease>::namespaced(corner.client.clone(), "default");
    // Its holder lives in 2001, and renews every second for a while.
    let mut lease: Lease = serde_json::from_value(json!({
        "metadata": {"name": corner.name},
        "spec": {"holderIdentity": "other", "leaseDurationSeconds": 5, "renewTime": "2001-01-01T00:00:00.000000Z"},
    }))
    .unwrap();
    lease = leases.create(&PostParams::default(), &lease).await.unwrap();
    let settings = corner.write_settings(&corner.settings());
    let _generator = corner.start(&["run", "--settings", settings.to_str().unwrap()]);
    for second in 1..10 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let renewed = serde_json::from_value(json!(format!("2001-01-01T00:00:{second:02}.000000Z"))).unwrap();
        lease.spec.as_mut().unwrap().renew_time = Some(renewed);
        lease = leases.replace(&corner.name, &PostParams::default(), &lease).await.expect("nobody else may write it");
    }
    assert!(corner.copy(&namespace).await.is_none());
    corner.settled(&namespace, "1").await;
    leases.delete(&corner.name, &DeleteParams::default()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_ends_it_with_0() {
    let corner = Corner::new("sigterm").await;
    let generator = corner.run(&corner.settings(), &[]);
    generator.logs("the source is missing").await;
    let finished = generator.terminate();
    assert_eq!(finished.status.code(), Some(0), "{}", finished.log);
    assert!(finished.log.trim_end().ends_with("stopped"), "{}", finished.log);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_that_refuses_the_copy_holds_up_no_other() {
    let corner = Corner::new("quota").await;
    let refusing = corner.namespace("a-refusing").await;
    let quota: ResourceQuota =
        serde_json::from_value(json!({"metadata": {"name": "none"}, "spec": {"hard": {"secrets": "0"}}})).unwrap();
    let quotas = Api::<ResourceQuota>::namespaced(corner.client.clone(), &refusing);
    quotas.create(&PostParams::default(), &quota).await.unwrap();
    // As the controller would do that counts, which the test cluster does not run.
    let counted = json!({"status": {"hard": {"secrets": "0"}, "used": {"secrets": "0"}}});
    quotas.patch_status("none", &PatchParams::default(), &Patch::Merge(counted)).await.unwrap();
    let other = corner.namespace("b").await;
    corner.put_source("1").await;
    let once = corner.once(&corner.settings(), &[]);
    assert_eq!(once.status.code(), Some(1));
    assert!(once.log.contains("exceeded quota: none"), "{}", once.log);
    corner.settled(&other, "1").await;
    assert_eq!(corner.references(&refusing).await, [corner.name.as_str()], "its ServiceAccount is served all the same");

    let _generator = corner.run(&corner.settings(), &["--concurrency", "1"]);
    quotas.delete("none", &DeleteParams::default()).await.unwrap();
    corner.settled(&refusing, "1").await;
}

/// The kubeconfig of a ServiceAccount that has the rights that docs/generator.md gives, changed by `change`.
async fn limited(corner: &Corner, change: impl Fn(&mut Value)) -> PathBuf {
    let client = &corner.client;
    let source = corner.ns("source");
    let accounts = Api::<ServiceAccount>::namespaced(client.clone(), &source);
    let metadata = ObjectMeta { name: Some("generator".to_owned()), ..ObjectMeta::default() };
    accounts.create(&PostParams::default(), &ServiceAccount { metadata, ..ServiceAccount::default() }).await.unwrap();
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/generator.md")).unwrap();
    let yaml = page.split("<!-- rbac -->").nth(1).unwrap().split("```").nth(1).unwrap().trim_start_matches("yaml");
    let subject = json!([{"kind": "ServiceAccount", "name": "generator", "namespace": source}]);
    for document in yaml.split("\n---") {
        let document = document
            .replace("registry-credentials", &corner.name)
            .replace("image-pull-secrets-generator", &corner.name)
            .replace("namespace: image-pull-secrets", &format!("namespace: {source}"));
        let mut role: Value = serde_saphyr::from_str(&document).unwrap();
        change(&mut role);
        let name = role["metadata"]["name"].as_str().unwrap().to_owned();
        let kind = role["kind"].as_str().unwrap().to_owned();
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
            // The Lease of a test is in the namespace default.
            let namespace = if role["rules"][0]["resources"][0] == "leases" { "default" } else { &source };
            role["metadata"]["namespace"] = json!(namespace);
            let role: Role = serde_json::from_value(role).unwrap();
            Api::namespaced(client.clone(), namespace).create(&PostParams::default(), &role).await.unwrap();
            let binding: RoleBinding = serde_json::from_value(binding).unwrap();
            Api::namespaced(client.clone(), namespace).create(&PostParams::default(), &binding).await.unwrap();
        }
    }
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
async fn it_can_read_no_other_secret() {
    let corner = Corner::new("others").await;
    let kubeconfig = limited(&corner, |_| ()).await;
    let client = crate::harness::client_of(&kubeconfig).await;
    let secrets = Api::<k8s_openapi::api::core::v1::Secret>::all(client.clone());
    let by_name = kube::api::ListParams::default().fields(&format!("metadata.name={}", corner.name));
    assert!(secrets.list(&by_name).await.is_ok());
    for other in [kube::api::ListParams::default(), kube::api::ListParams::default().fields("metadata.name=other")] {
        assert!(matches!(secrets.list(&other).await, Err(kube::Error::Api(status)) if status.code == 403));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_is_older_than_its_reference_is_evicted_once() {
    let corner = Corner::new("stuck").await;
    let namespace = corner.namespace("a").await;
    let deployment: Deployment = serde_json::from_value(json!({
        "metadata": {"name": "web"},
        "spec": {
            "replicas": 1, "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "app", "image": "ghcr.io/acme/app"}]},
            },
        },
    }))
    .unwrap();
    Api::namespaced(corner.client.clone(), &namespace).create(&PostParams::default(), &deployment).await.unwrap();
    let pods = Api::<Pod>::namespaced(corner.client.clone(), &namespace);
    let only_pod = || {
        let pods = pods.clone();
        async move {
            let pods = pods.list(&ListParams::default()).await.unwrap().items;
            pods.into_iter().find(|pod| pod.metadata.deletion_timestamp.is_none())
        }
    };
    // As the kubelet would, which the test cluster does not run.
    let cannot_pull = |name: String| {
        let pods = pods.clone();
        async move {
            let waiting = json!({"reason": "ImagePullBackOff", "message": "x"});
            let status = json!({"status": {"phase": "Pending", "containerStatuses": [{
                "name": "app", "image": "ghcr.io/acme/app", "imageID": "", "ready": false, "restartCount": 0,
                "state": {"waiting": waiting},
            }]}});
            pods.patch_status(&name, &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
        }
    };
    eventually("there is a Pod", Duration::from_secs(20), || async { only_pod().await.is_some() }).await;
    let old = only_pod().await.unwrap().metadata;
    cannot_pull(old.name.clone().unwrap()).await;
    corner.put_source("1").await;
    let generator = corner.run(&corner.settings(), &["--restart-stuck-pods"]);
    eventually("there is another Pod", Duration::from_secs(20), || async {
        only_pod().await.is_some_and(|pod| pod.metadata.uid != old.uid)
    })
    .await;
    let new = only_pod().await.unwrap();
    assert_eq!(new.spec.unwrap().image_pull_secrets.unwrap()[0].name, corner.name);
    cannot_pull(new.metadata.name.unwrap()).await;
    stays("the new Pod is left alone", || async {
        only_pod().await.is_some_and(|pod| pod.metadata.uid == new.metadata.uid)
    })
    .await;
    assert_eq!(generator.metric("image_pull_secrets_evictions_total").await, Some(1.0));
}
