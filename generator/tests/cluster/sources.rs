//! Sources that go, come back, are broken, or are no Secret.

use crate::harness::{Corner, docker_config, eventually, stays};
use serde_json::json;
use std::fs;
use std::os::unix::fs::symlink;
use std::time::{Duration, Instant};

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
    let _generator = corner.run(&corner.settings(), &["--delete-with-source"]);
    corner.settled(&namespace, "1").await;
    corner.delete_secret(&corner.ns("source")).await;
    eventually("the copy is gone", Duration::from_secs(10), || async { corner.copy(&namespace).await.is_none() }).await;
    corner.put_source("2").await;
    corner.settled(&namespace, "2").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unusable_source_is_never_propagated() {
    let corner = Corner::new("unusable").await;
    let namespace = corner.namespace("a").await;
    corner.put_source("1").await;
    let generator = corner.run(&corner.settings(), &[]);
    corner.settled(&namespace, "1").await;
    // JSON that the API server takes and the kubelet does not.
    let broken = r#"{"auths":{"ghcr.io":{"auth":"aHVudGVyMg"}}}"#;
    corner.put_secret(&corner.ns("source"), "kubernetes.io/dockerconfigjson", broken).await;
    generator.logs("the source is not propagated: its entry \"ghcr.io\"").await;
    stays("the copy is as it was", || async { corner.content(&namespace).await == Some(docker_config("1")) }).await;
    corner.put_source("2").await;
    corner.settled(&namespace, "2").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mounted_file_is_followed_within_a_second() {
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
    let generator = corner.run(&settings, &[]);
    corner.settled(&namespace, "1").await;
    generator.ready().await;

    let start = Instant::now();
    put("2");
    corner.settled(&namespace, "2").await;
    assert!(start.elapsed() < Duration::from_secs(1), "{:?} after the swap", start.elapsed());

    let start = Instant::now();
    fs::write(mount.join("..v2/.dockerconfigjson"), docker_config("3")).unwrap();
    corner.settled(&namespace, "3").await;
    assert!(start.elapsed() < Duration::from_secs(1), "{:?} after the rewrite", start.elapsed());

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
    eventually("there is a reference", Duration::from_secs(5), || async {
        assert!(corner.once(&json!({"secrets": [{"name": corner.name}]}), &[]).status.success());
        corner.references(&namespace).await == [corner.name.as_str()]
    })
    .await;
}
