//! `cleanup` leaves the cluster as it was. (With the policy at work: `e2e-tests/tests/e2e/together.rs`.)

use crate::harness::{Corner, PATIENCE, docker_config, eventually, stays};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use kube::api::{DeleteParams, ListParams};
use kube::{Api, Resource};
use rstest::rstest;
use serde_json::{Value, json};
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::Duration;

async fn dump(corner: &Corner, namespaces: &[String]) -> Vec<Value> {
    async fn all<K>(api: Api<K>) -> Vec<Value>
    where
        K: Resource + Clone + std::fmt::Debug + serde::de::DeserializeOwned + serde::Serialize,
    {
        let list = api.list(&ListParams::default()).await.unwrap();
        let objects = list.items.into_iter().map(|mut object| {
            object.meta_mut().managed_fields = None;
            object.meta_mut().resource_version = None;
            serde_json::to_value(object).unwrap()
        });
        objects.collect()
    }
    let mut objects = Vec::new();
    for namespace in namespaces {
        objects.extend(all(Api::<Secret>::namespaced(corner.client.clone(), namespace)).await);
        objects.extend(all(Api::<ServiceAccount>::namespaced(corner.client.clone(), namespace)).await);
    }
    objects
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_as_it_was_before() {
    let corner = Corner::new("cleanup").await;
    let mut namespaces = corner.namespaces(5).await;
    namespaces.push(corner.ns("source"));
    corner.put_source("1").await;
    corner.put_secret(&namespaces[0], "kubernetes.io/dockerconfigjson", &docker_config("theirs")).await;
    corner.patch_account(&namespaces[1], json!({"imagePullSecrets": [{"name": "mine"}]})).await;
    corner.patch_account(&namespaces[2], json!({"imagePullSecrets": [{"name": corner.name}]})).await;
    let before = dump(&corner, &namespaces).await;

    assert!(corner.once(&corner.settings(), &[]).status.success());
    assert_ne!(dump(&corner, &namespaces).await, before);
    let seen = corner.finish(&["cleanup", "--dry-run"]);
    assert_eq!(seen.out.lines().filter(|line| line.starts_with("delete Secret")).count(), 4, "{}", seen.out);
    let refused = corner.finish(&["cleanup"]);
    assert_eq!(refused.status.code(), Some(2), "without a terminal it wants --yes");
    let finished = corner.finish(&["cleanup", "--yes"]);
    assert!(finished.status.success(), "{}", finished.log);
    assert_eq!(dump(&corner, &namespaces).await, before);
    let again = corner.finish(&["cleanup", "--yes"]);
    assert!(again.out.contains("There is nothing to remove"), "{}", again.out);
}

/// The copies wait for a source that is not there yet, or have none any more: they name the former one.
#[rstest]
#[case::and_that_is_missing("moved", true, true)]
#[case::and_the_settings_have_none("no-source", false, true)]
#[case::and_is_removed_by_a_generator("moved-run", true, false)]
#[tokio::test(flavor = "multi_thread")]
async fn what_was_copied_from_a_former_source_goes(
    #[case] corner: &str,
    #[case] has_source: bool,
    #[case] by_cleanup: bool,
) {
    let corner = Corner::new(corner).await;
    let namespace = corner.namespace("a").await;
    corner.put_source("1").await;
    assert!(corner.once(&corner.settings(), &[]).status.success());
    corner.settled(&namespace, "1").await;
    let source = json!({"namespace": corner.ns("source"), "name": "missing"});
    let mut settings = json!({"secrets": [{"name": corner.name}]});
    if has_source {
        settings["secrets"][0]["source"] = source;
    }
    let lease = Api::<Lease>::namespaced(corner.client.clone(), "default");
    let former = format!("\"{}/{}\"", corner.ns("source"), corner.name);
    let recorded = || async { footprint_of(&lease.get(&corner.name).await.unwrap()).contains(&former) };
    for _ in 0..2 {
        let generator = corner.run_ready(&settings, &[]).await;
        stays("the copy is there", || async { corner.copy(&namespace).await.is_some() }).await;
        assert!(generator.terminate().status.success());
    }
    assert!(recorded().await, "the former source is recorded");
    if by_cleanup {
        let finished = corner.finish(&["cleanup", "--yes"]);
        assert!(finished.status.success() && finished.out.starts_with("2 objects changed"), "{}", finished.out);
    } else {
        settings["exclude"] = json!({"namespaces": [namespace]});
        let _generator = corner.run(&settings, &[]);
        eventually("the copy is gone", PATIENCE, || async { corner.copy(&namespace).await.is_none() }).await;
        eventually("it is forgotten then", PATIENCE, || async { !recorded().await }).await;
    }
    assert!(corner.copy(&namespace).await.is_none() && corner.references(&namespace).await.is_empty());
}

fn footprint_of(lease: &Lease) -> String {
    lease.metadata.annotations.as_ref().unwrap()["image-pull-secrets.kubewarden.io/footprint"].clone()
}

/// Who cleans up from outside of the cluster need not know where the Lease is.
#[tokio::test(flavor = "multi_thread")]
async fn the_lease_is_found_in_whichever_namespace_it_is() {
    let corner = Corner::new("lease-elsewhere").await;
    let namespace = corner.namespace("a").await;
    corner.put_source("1").await;
    assert!(corner.once(&corner.settings(), &["--lease-namespace", &namespace]).status.success());
    corner.settled(&namespace, "1").await;
    let cleanup = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_image-pull-secrets-generator"));
        command.args(["cleanup", "--kubeconfig"]).arg(&corner.kubeconfig).args(args);
        let output = command.env_remove("POD_NAMESPACE").stdin(Stdio::null()).output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };

    let others = corner.write_settings(&json!({"secrets": [{"name": "nobody-has-this"}]}));
    let others = others.to_str().unwrap();
    let without_settings = "No settings were given, and no Lease kube-public/image-pull-secrets-generator records any.";
    for (args, why) in [
        (&["--yes"][..], without_settings),
        (&["--dry-run"], without_settings),
        (&["--yes", "--settings", others], "0 objects changed, 0 failures."),
        (&["--dry-run", "--settings", others], ""),
    ] {
        let (code, said) = cleanup(&[&["--lease-namespace", "kube-public"], args].concat());
        assert_eq!(code, Some(1), "{args:?}: {said}");
        assert!(said.contains("Nothing was removed.") && said.contains(why), "{args:?}: {said}");
        assert!(said.contains("There is a generator whose Lease is "), "{args:?}: {said}");
        assert!(said.contains(&format!("{namespace}/{}", corner.name)), "{args:?}: {said}");
        assert!(corner.copy(&namespace).await.is_some());
    }

    let (code, said) = cleanup(&["--yes", "--lease-name", &corner.name]);
    assert_eq!((code, &*said), (Some(0), "2 objects changed, 0 failures.\n"));
    assert!(corner.copy(&namespace).await.is_none() && corner.references(&namespace).await.is_empty());
    let (code, said) = cleanup(&["--yes", "--lease-name", &corner.name]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.starts_with("There is nothing to remove"), "{said}");
}

/// There is no Lease: nothing recorded what was made.
#[tokio::test(flavor = "multi_thread")]
async fn the_settings_say_what_to_remove_where_nothing_is_recorded() {
    let corner = Corner::new("unrecorded").await;
    let namespace = corner.namespace("a").await;
    corner.put_source("1").await;
    assert!(corner.once(&corner.settings(), &[]).status.success());
    corner.settled(&namespace, "1").await;
    let lease = Api::<Lease>::namespaced(corner.client.clone(), "default");
    lease.delete(&corner.name, &DeleteParams::default()).await.unwrap();
    let settings = corner.write_settings(&corner.settings());
    let finished = corner.finish(&["cleanup", "--yes", "--settings", settings.to_str().unwrap()]);
    assert!(finished.status.success(), "{}", finished.log);
    assert!(corner.copy(&namespace).await.is_none() && corner.references(&namespace).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_selector_it_removes_only_there_and_remembers_the_rest() {
    let corner = Corner::new("some").await;
    let (test, other) = (corner.namespace("test").await, corner.namespace("other").await);
    corner.put_source("1").await;
    let settings = corner.write_settings(&corner.settings());
    let generator = corner.start(&["run", "--no-leader-elect", "--settings", settings.to_str().unwrap()]);
    corner.settled(&test, "1").await;
    corner.settled(&other, "1").await;
    drop(generator);
    let label = format!("env={}", corner.name);
    corner.label_namespace(&test, json!({"labels": {"env": corner.name}})).await;
    let seen = corner.finish(&["cleanup", "--dry-run", "--namespace-selector", &label]);
    assert!(seen.out.contains(&test) && !seen.out.contains(&other), "{}", seen.out);
    let finished = corner.finish(&["cleanup", "--yes", "--namespace-selector", &label]);
    assert!(finished.status.success(), "{}", finished.log);
    assert!(finished.out.contains("Only namespaces that match the selector were cleaned up"), "{}", finished.out);
    assert!(corner.copy(&test).await.is_none() && corner.references(&test).await.is_empty());
    assert_eq!(corner.content(&other).await, Some(docker_config("1")));
    assert_eq!(corner.references(&other).await, [corner.name.as_str()]);

    let finished = corner.finish(&["cleanup", "--yes"]);
    assert!(finished.status.success(), "{}", finished.log);
    assert!(corner.copy(&other).await.is_none() && corner.references(&other).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_generator_that_still_runs_does_not_put_it_back() {
    let corner = Corner::new("running").await;
    let namespace = corner.namespace("a").await;
    corner.put_source("1").await;
    let _generator = corner.lead(&corner.settings()).await;
    corner.settled(&namespace, "1").await;
    let finished = corner.finish(&["cleanup", "--yes"]);
    assert!(finished.status.success(), "{}", finished.log);
    for _ in 0..10 {
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert!(corner.copy(&namespace).await.is_none() && corner.references(&namespace).await.is_empty());
    }
}

/// At a terminal, which `script` makes.
#[tokio::test(flavor = "multi_thread")]
async fn at_a_terminal_it_shows_what_would_go_and_asks() {
    let corner = Corner::new("asks").await;
    let namespace = corner.namespace("a").await;
    corner.put_source("1").await;
    assert!(corner.once(&corner.settings(), &[]).status.success());
    corner.settled(&namespace, "1").await;
    let answered = |answer: &str| {
        let command = format!(
            "{} cleanup --kubeconfig {} --lease-namespace default --lease-name {}",
            env!("CARGO_BIN_EXE_image-pull-secrets-generator"),
            corner.kubeconfig.display(),
            corner.name,
        );
        let mut terminal = Command::new("script")
            .args(["--quiet", "--return", "--command", &command, "/dev/null"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        terminal.stdin.take().unwrap().write_all(answer.as_bytes()).unwrap();
        let output = terminal.wait_with_output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let (code, shown) = answered("n\n");
    assert!(shown.contains(&format!("delete Secret {namespace}/{}", corner.name)), "{shown}");
    assert!(shown.contains("Do these 2 things? [y/N]") && shown.contains("Nothing was removed."), "{shown}");
    assert_eq!((code, corner.copy(&namespace).await.is_some()), (Some(1), true));
    let (code, shown) = answered("y\n");
    assert_eq!((code, corner.copy(&namespace).await.is_some()), (Some(0), false), "{shown}");
    let nothing = json!({"secrets": [{"name": corner.name}], "serviceAccounts": []});
    assert!(corner.once(&nothing, &[]).status.success());
    let (code, shown) = answered("");
    assert_eq!((code, shown.trim()), (Some(0), "There is nothing to remove."));
}
