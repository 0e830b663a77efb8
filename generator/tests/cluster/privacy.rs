//! A credential is in the copies, and nowhere else: not in what the generator prints or writes, and in no core dump of it.

use crate::harness::{PASSWORD, PATIENCE, PROGRAM, eventually};
use crate::providers::{Provider, answer};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Event;
use kube::Api;
use kube::api::ListParams;
use rstest::rstest;
use std::fs;
use std::path::Path;
use std::process::Command;

#[tokio::test(flavor = "multi_thread")]
async fn what_a_provider_mints_is_in_the_copies_and_nowhere_else() {
    let provider = Provider::new("privacy").await;
    let (corner, client) = (&provider.corner, &provider.corner.client);
    let namespace = corner.namespace("a").await;
    provider.answers(&answer(&["quay.io"], "1"));
    let generator = provider.run();
    provider.settled(&namespace, &["quay.io hunter2-1"]).await;
    // Whatever it fails with, it has printed a credential before.
    provider.does(&format!("echo '{0}' >&2; echo '{0}' garbage", answer(&["quay.io"], "2")));
    generator.logs("what it printed is not JSON").await;
    provider.does(&format!("echo '{0}' | tee /dev/stderr; exit 1", answer(&["quay.io"], "3")));
    generator.logs("it failed (exit code 1)").await;
    let events = Api::<Event>::namespaced(client.clone(), &corner.ns("source"));
    let leases = Api::<Lease>::namespaced(client.clone(), "default");
    eventually("the answer is recorded", PATIENCE, || async {
        let lease = leases.get_opt(&corner.name).await.unwrap();
        lease.is_some_and(|lease| format!("{lease:?}").contains("holdsUntil"))
    })
    .await;

    let settings = corner.write_settings(&provider.settings(&["quay.io/acme"]));
    let settings = settings.to_str().unwrap();
    let mut printed = vec![
        ("the log", generator.log()),
        ("the metrics", generator.get("/metrics").await.unwrap().1),
        ("the Lease", format!("{:?}", leases.get(&corner.name).await.unwrap())),
        ("the Events", format!("{:?}", events.list(&ListParams::default()).await.unwrap())),
        ("the ServiceAccount", format!("{:?}", corner.accounts(&namespace).get("default").await.unwrap())),
        ("the copy's metadata", format!("{:?}", corner.copy(&namespace).await.unwrap().metadata)),
    ];
    for args in [
        &["status", "--settings", settings][..],
        &["status", "-o", "json", "--settings", settings],
        &[&["run", "--dry-run", "--settings", settings], &provider.directory()[..]].concat(),
        &[&["run", "--once", "--settings", settings], &provider.directory()[..]].concat(),
    ] {
        let finished = corner.finish(args);
        printed.push((args[0], finished.out + &finished.log));
    }
    let encoded: Vec<_> = (1..=3).map(|n| BASE64_STANDARD.encode(format!("minted:{PASSWORD}-{n}"))).collect();
    for (what, text) in printed {
        assert!(!text.is_empty(), "{what}");
        let told = encoded.iter().map(String::as_str).chain([PASSWORD]).any(|credential| text.contains(credential));
        assert!(!told, "a credential is in {what}: {text}");
    }
}

/// A shell that has core files made of what it becomes, and in this directory.
fn dumping(directory: &Path) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -c \"$(ulimit -H -c)\" && cd \"$0\" && exec \"$@\""]).arg(directory);
    command
}

#[rstest]
#[case::aborts("ABRT")]
// Not SEGV: the first of those goes to the handler by which Rust tells a stack overflow.
#[case::crashes("ILL")]
#[tokio::test(flavor = "multi_thread")]
async fn no_core_dump_is_left_of_a_generator_that(#[case] signal: &str) {
    let provider = Provider::new("core").await;
    let corner = &provider.corner;
    let namespace = corner.namespace("a").await;
    provider.answers(&answer(&["quay.io"], "1"));
    let directory = tempfile::tempdir().unwrap();
    let settings = corner.write_settings(&provider.settings(&["quay.io/acme"]));
    let args = ["run", "--no-leader-elect", "--settings", settings.to_str().unwrap()];
    let mut command = dumping(directory.path());
    command.arg(PROGRAM);
    let args = [&args[..], &provider.directory()].concat();
    let generator = corner.start_by(command, &args, &corner.kubeconfig, &[]);
    provider.settled(&namespace, &["quay.io hunter2-1"]).await;

    let limits = fs::read_to_string(format!("/proc/{}/limits", generator.id())).unwrap();
    let limit = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    let limit: Vec<_> = limit.split_whitespace().skip(4).take(2).collect();
    assert_eq!(limit, ["0", "0"], "{limits}");
    let kill = Command::new("kill").args([&format!("-{signal}"), &generator.id().to_string()]).status().unwrap();
    assert!(kill.success());
    assert_eq!(generator.finish().status.code(), None, "a signal ended it");
    let left: Vec<_> = fs::read_dir(directory.path()).unwrap().map(|file| file.unwrap().file_name()).collect();
    assert!(left.is_empty(), "{left:?}");

    // What would have been left of another program, where this machine writes core files beside their programs at all.
    let pattern = fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap();
    if !pattern.starts_with(['|', '/', '@']) {
        let other = dumping(directory.path()).args(["sh", "-c", &format!("kill -{signal} $$")]).output().unwrap();
        assert!(!other.status.success());
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "a core file of another program: {pattern}");
    }
}
