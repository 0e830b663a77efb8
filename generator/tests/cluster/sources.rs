//! Sources that go, come back, are broken, or are no Secret.

use crate::harness::{Corner, PATIENCE, content_of, docker_config, eventually, stays};
use crate::rights::limited;
use base64::Engine as _;
use k8s_openapi::api::core::v1::{Event, Pod};
use k8s_openapi::api::rbac::v1::Role;
use kube::Api;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use rstest::rstest;
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::symlink;

#[tokio::test(flavor = "multi_thread")]
async fn copies_outlive_their_source_and_follow_the_next_one() {
    let corner = Corner::new("outlive").await;
    let namespace = corner.namespace("a").await;
    corner.put_source("1").await;
    let generator = corner.run(&corner.settings(), &[]);
    corner.settled(&namespace, "1").await;
    corner.delete_secret(&corner.ns("source")).await;
    generator.logs("the source is missing").await;
    stays("the copy is there", || async { corner.content(&namespace).await == Some(docker_config("1")) }).await;
    corner.put_source("2").await;
    corner.settled(&namespace, "2").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_go_with_their_source_when_told_to() {
    let corner = Corner::new("with-source").await;
    let namespace = corner.namespace("a").await;
    corner.put_source("1").await;
    let generator = corner.run(&corner.settings(), &["--delete-with-source"]);
    corner.settled(&namespace, "1").await;
    corner.delete_secret(&corner.ns("source")).await;
    eventually("the copy is gone", PATIENCE, || async { corner.copy(&namespace).await.is_none() }).await;
    generator.logs("the source is gone: its copies are deleted").await;
    assert!(!generator.log().contains("copies stay as they are"), "{}", generator.log());
    told_by_event(&corner, &corner.ns("source"), "SourceGone", "its copies are deleted").await;
    corner.put_source("2").await;
    corner.settled(&namespace, "2").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_go_with_their_source_as_soon_as_it_may_be_asked_for() {
    let corner = Corner::new("may-not-ask").await;
    let (namespace, source) = (corner.namespace("a").await, corner.ns("source"));
    corner.put_source("1").await;
    let without_get = |role: &mut Value| {
        for rule in role["rules"].as_array_mut().unwrap() {
            if rule["resources"][0] == "secrets" {
                rule["verbs"].as_array_mut().unwrap().retain(|verb| verb != "get");
            }
        }
    };
    let kubeconfig = limited(&corner, without_get).await;
    let settings = corner.write_settings(&corner.settings());
    let args = ["run", "--no-leader-elect", "--delete-with-source", "--settings", settings.to_str().unwrap()];
    let generator = corner.start_as(&args, &kubeconfig, &[]);
    corner.settled(&namespace, "1").await;
    corner.delete_secret(&source).await;
    let rule = format!(
        "cannot tell whether the source {source}/{name} was deleted: the RBAC rule is missing: {{apiGroups: [\"\"], \
         resources: [\"secrets\"], verbs: [\"get\"], resourceNames: [\"{name}\"]}}",
        name = corner.name
    );
    generator.logs(&rule).await;
    told_by_event(&corner, &source, "WatchForbidden", &rule).await;
    stays("the copy is there", || async { corner.copy(&namespace).await.is_some() }).await;
    let get = json!({"rules": [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get", "list", "watch"]}]});
    let roles = Api::<Role>::namespaced(corner.client.clone(), &source);
    let role = format!("{}-source", corner.name);
    roles.patch(&role, &PatchParams::default(), &Patch::Merge(get)).await.unwrap();
    eventually("the copy is gone", PATIENCE, || async { corner.copy(&namespace).await.is_none() }).await;
}

const DOCKER_CONFIG: &str = "kubernetes.io/dockerconfigjson";

#[rstest]
// JSON that the API server takes and the kubelet does not.
#[case::unparseable(DOCKER_CONFIG, r#"{"auths":{"ghcr.io":{"auth":"aHVudGVyMg"}}}"#, "its entry \"ghcr.io\"")]
#[case::another_type("Opaque", &docker_config("0"), "its type is \"Opaque\", not kubernetes.io/dockerconfigjson")]
#[tokio::test(flavor = "multi_thread")]
async fn an_unusable_source_is_never_propagated(
    #[case] secret_type: &str,
    #[case] document: &str,
    #[case] fault: &str,
) {
    let corner = Corner::new("unusable").await;
    let (namespace, source) = (corner.namespace("a").await, corner.ns("source"));
    corner.put_source("1").await;
    let generator = corner.run(&corner.settings(), &[]);
    corner.settled(&namespace, "1").await;
    // A type cannot change.
    corner.delete_secret(&source).await;
    corner.put_secret(&source, secret_type, document).await;
    let told = format!("the source is not copied: {fault}");
    generator.logs(&told).await;
    told_by_event(&corner, &source, "SourceUnusable", fault).await;
    stays("the copy is as it was", || async { corner.content(&namespace).await == Some(docker_config("1")) }).await;
    assert_eq!(status(&corner, &corner.settings()), ("waiting".to_owned(), Some(1)));
    corner.delete_secret(&source).await;
    corner.put_source("2").await;
    corner.settled(&namespace, "2").await;
}

/// Waits for an Event in a namespace that says so.
async fn told_by_event(corner: &Corner, namespace: &str, reason: &str, text: &str) {
    let events = Api::<Event>::namespaced(corner.client.clone(), namespace);
    eventually(&format!("there is an Event {reason}"), PATIENCE, || async {
        events.list(&ListParams::default()).await.unwrap().iter().any(|event| {
            event.reason.as_deref() == Some(reason) && event.message.as_ref().is_some_and(|note| note.contains(text))
        })
    })
    .await;
}

/// What `status` says of the first namespace, and its exit code.
fn status(corner: &Corner, settings: &Value) -> (String, Option<i32>) {
    let settings = corner.write_settings(settings);
    let finished = corner.finish(&["status", "-o", "json", "--settings", settings.to_str().unwrap()]);
    let document: Value = serde_json::from_str(&finished.out).unwrap();
    let rows = document["secrets"].as_array().unwrap();
    let row = rows.iter().find(|row| row["namespace"] == corner.ns("a")).unwrap();
    (row["state"].as_str().unwrap().to_owned(), finished.status.code())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_too_large_for_a_secret_is_not_propagated_until_it_shrinks() {
    let corner = Corner::new("large").await;
    let (namespace, source) = (corner.namespace("a").await, corner.ns("source"));
    let pod: Pod = serde_json::from_value(json!({
        "metadata": {"name": "generator"}, "spec": {"containers": [{"name": "generator", "image": "generator"}]},
    }))
    .unwrap();
    eventually("there is its Pod", PATIENCE, || async {
        // Not before its ServiceAccount.
        Api::namespaced(corner.client.clone(), &source).create(&PostParams::default(), &pod).await.is_ok()
    })
    .await;
    let file = corner.directory.path().join("config.json");
    fs::write(&file, docker_config("1")).unwrap();
    let settings = json!({"secrets": [{"name": corner.name, "source": {"file": file}}]});
    let path = corner.write_settings(&settings);
    let args = ["run", "--no-leader-elect", "--settings", path.to_str().unwrap()];
    let env = [("POD_NAMESPACE", source.as_str()), ("POD_NAME", "generator")];
    let generator = corner.start_as(&args, &corner.kubeconfig, &env);
    corner.settled(&namespace, "1").await;

    // Valid, were it not for its size.
    fs::write(&file, docker_config(&"x".repeat(3 << 20))).unwrap();
    let fault = "it has more than 1048576 bytes of data, and no Secret may have so much";
    generator.logs(&format!("the source is not copied: {fault}")).await;
    told_by_event(&corner, &source, "SourceUnusable", fault).await;
    stays("the copy is as it was", || async { corner.content(&namespace).await == Some(docker_config("1")) }).await;
    assert_eq!(status(&corner, &settings), ("waiting".to_owned(), Some(1)));
    let once = corner.once(&settings, &[]);
    assert_eq!(once.status.code(), Some(1));
    assert!(
        once.log.contains(&format!("the source file:{} of {}: {fault}", file.display(), corner.name)),
        "{}",
        once.log
    );
    fs::write(&file, docker_config("2")).unwrap();
    corner.settled(&namespace, "2").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_entries_for_one_target_are_refused_before_anything_is_done() {
    let corner = Corner::new("two").await;
    let namespace = corner.namespace("a").await;
    corner.put_source("1").await;
    let mut settings = corner.settings();
    let entries = settings["secrets"].as_array_mut().unwrap();
    entries.push(json!({"name": corner.name, "source": {"env": "OTHER"}}));
    let finished = corner.once(&settings, &[]);
    assert_eq!(finished.status.code(), Some(2));
    let told = format!("secrets[1].name: \"{}\" is configured already, at secrets[0]", corner.name);
    assert!(finished.log.contains(&told), "{}", finished.log);
    assert!(corner.copy(&namespace).await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_would_be_the_target_of_another_entry_is_never_written() {
    let corner = Corner::new("chain").await;
    let (first, second) = (corner.namespace("a").await, corner.namespace("b").await);
    corner.put_source("1").await;
    // The source of the other entry is in a selected namespace, under the name of the first one's copies.
    corner.put_secret(&first, DOCKER_CONFIG, &docker_config("other")).await;
    let before = corner.copy(&first).await.unwrap();
    let mut settings = corner.settings();
    let other = format!("{}-other", corner.name);
    let entries = settings["secrets"].as_array_mut().unwrap();
    entries.push(json!({"name": other, "source": {"namespace": first, "name": corner.name}}));
    settings["conflicts"] = json!("adopt");
    let _generator = corner.run_ready(&settings, &[]).await;
    corner.settled(&second, "1").await;
    let copy = corner.secrets(&second).get(&other).await.unwrap();
    assert_eq!(content_of(&copy), Some(docker_config("other")));
    corner.put_source("2").await;
    corner.settled(&second, "2").await;
    assert_eq!(corner.copy(&first).await.unwrap(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mounted_file_is_followed_when_it_is_swapped_and_when_it_is_written() {
    let corner = Corner::new("file").await;
    let namespace = corner.namespace("a").await;
    // As the kubelet mounts a Secret: key -> ..data/key, ..data -> a directory that is swapped as a whole.
    let mount = corner.directory.path().join("mount");
    let put = |version: &str| {
        let directory = mount.join(format!("..v{version}"));
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join(".dockerconfigjson"), docker_config(version)).unwrap();
        symlink(format!("..v{version}"), mount.join("..data_tmp")).unwrap();
        fs::rename(mount.join("..data_tmp"), mount.join("..data")).unwrap();
    };
    put("1");
    let file = mount.join(".dockerconfigjson");
    symlink("..data/.dockerconfigjson", &file).unwrap();
    let settings = json!({"secrets": [{"name": corner.name, "source": {"file": file}}]});
    let generator = corner.run_ready(&settings, &[]).await;
    corner.settled(&namespace, "1").await;

    put("2");
    corner.settled(&namespace, "2").await;
    fs::write(mount.join("..v2/.dockerconfigjson"), docker_config("3")).unwrap();
    corner.settled(&namespace, "3").await;

    fs::remove_file(&file).unwrap();
    generator.logs("cannot read").await;
    stays("the copy is there", || async { corner.content(&namespace).await == Some(docker_config("3")) }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_environment_variable_is_a_source() {
    let corner = Corner::new("env").await;
    let namespace = corner.namespace("a").await;
    let settings = json!({"secrets": [{"name": corner.name, "source": {"env": "REGISTRY_CONFIG"}}]});
    let path = corner.write_settings(&settings);
    let args = ["run", "--once", "--settings", path.to_str().unwrap()];
    let without = corner.finish(&args);
    assert_eq!(without.status.code(), Some(1), "{}", without.log);
    assert!(without.log.contains("the source env:REGISTRY_CONFIG"), "{}", without.log);
    let with = corner.start_as(&args, &corner.kubeconfig, &[("REGISTRY_CONFIG", &docker_config("1"))]).finish();
    assert!(with.status.success(), "{}", with.log);
    corner.settled(&namespace, "1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_without_a_source_is_referred_to_and_not_made() {
    let corner = Corner::new("none").await;
    let namespace = corner.namespace("a").await;
    assert!(corner.once(&json!({"secrets": [{"name": corner.name}]}), &[]).status.success());
    assert!(corner.copy(&namespace).await.is_none());
    assert_eq!(corner.references(&namespace).await, [corner.name.as_str()]);
}

/// A token that says when it expires.
fn token(expires: i64) -> String {
    let encode = |text: String| base64::prelude::BASE64_URL_SAFE_NO_PAD.encode(text);
    format!("{}.{}.hunter2", encode(json!({"alg": "none"}).to_string()), encode(json!({"exp": expires}).to_string()))
}

#[tokio::test(flavor = "multi_thread")]
async fn when_a_source_expires_is_told_by_its_annotation_and_by_its_token() {
    let corner = Corner::new("expires").await;
    let (namespace, source) = (corner.namespace("a").await, corner.ns("source"));
    corner.put_source("1").await;
    let settings = corner.settings();
    let generator = corner.run_ready(&settings, &[]).await;
    corner.settled(&namespace, "1").await;
    let gauge = format!("image_pull_secrets_source_expiry_timestamp_seconds{{secret=\"{}\"}}", corner.name);
    assert_eq!(generator.metric(&gauge).await, None);
    let annotate = async |value: Value| {
        let annotations = json!({"image-pull-secrets.kubewarden.io/expiration-timestamp": value});
        corner.patch_secret(&source, json!({"metadata": {"annotations": annotations}})).await;
    };
    let status = || {
        let settings = corner.write_settings(&settings);
        let finished = corner.finish(&["status", "-o", "json", "--settings", settings.to_str().unwrap()]);
        let status: Value = serde_json::from_str(&finished.out).unwrap_or_else(|_| panic!("{}", finished.log));
        (status["sources"][0]["expires"].clone(), finished.status.code())
    };

    annotate(json!("2100-01-31T12:00:00+01:00")).await;
    generator.counts(&gauge, 4_105_076_400.0).await;
    assert_eq!(status(), (json!("2100-01-31T11:00:00Z"), Some(0)));
    let copy = corner.copy(&namespace).await.unwrap();
    assert!(!format!("{:?}", copy.metadata).contains("expiration-timestamp"), "{copy:?}");

    annotate(json!("tomorrow hunter2")).await;
    let told = "the annotation image-pull-secrets.kubewarden.io/expiration-timestamp is no time: write the date and time of \
                the expiration as in 2027-01-31T12:00:00Z";
    told_by_event(&corner, &source, "ExpirationUnreadable", told).await;
    eventually("the gauge is gone", PATIENCE, || async { generator.metric(&gauge).await.is_none() }).await;
    // Another event of the source is no reason to say it again.
    corner.put_source("2").await;
    corner.settled(&namespace, "2").await;
    assert_eq!(generator.log().matches(told).count(), 1, "{}", generator.log());

    annotate(json!("2001-01-31T12:00:00Z")).await;
    generator.counts(&gauge, 980_942_400.0).await;
    assert_eq!(status(), (json!("2001-01-31T12:00:00Z"), Some(1)));

    annotate(Value::Null).await;
    eventually("the gauge is gone", PATIENCE, || async { generator.metric(&gauge).await.is_none() }).await;
    let document = json!({"auths": {"ghcr.io": {"username": "acme", "password": token(4_102_444_800)}}}).to_string();
    corner.put_secret(&source, DOCKER_CONFIG, &document).await;
    generator.counts(&gauge, 4_102_444_800.0).await;
    let copied = || async { corner.content(&namespace).await.as_ref() == Some(&document) };
    eventually("it is copied", PATIENCE, copied).await;
    assert_eq!(status(), (json!("2100-01-01T00:00:00Z"), Some(0)));
}
