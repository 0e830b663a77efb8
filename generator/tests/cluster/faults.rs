//! An API server that goes away, cuts off what it says, or has forgotten where a watch was.

use crate::harness::{Corner, docker_config, eventually, stays};
use futures::future::join_all;
use kube::config::Kubeconfig;
use serde_json::Value;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// A proxy in front of the API server, with a mood.
struct Proxy {
    mood: watch::Sender<Mood>,
    connections: Arc<AtomicU64>,
    kubeconfig: PathBuf,
}

#[derive(Clone, Copy, PartialEq)]
enum Mood {
    /// Passes everything on.
    Fine,
    /// Drops every connection, old and new.
    Down,
    /// Drops a connection after so many bytes of answers.
    Cutting(usize),
}

impl Proxy {
    async fn before(corner: &Corner) -> Self {
        let mut kubeconfig = Kubeconfig::read_from(&corner.kubeconfig).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let own = listener.local_addr().unwrap();
        let mut server = None;
        for cluster in &mut kubeconfig.clusters {
            let cluster = cluster.cluster.as_mut().unwrap();
            let url = cluster.server.replace(format!("https://{own}"));
            server = url.map(|url| url.trim_start_matches("https://").parse::<SocketAddr>().unwrap());
        }
        let path = corner.directory.path().join("proxied.kubeconfig");
        // Only the server changes: text for text, because a Kubeconfig does not serialise its secrets.
        let text = std::fs::read_to_string(&corner.kubeconfig).unwrap();
        let server = server.unwrap();
        std::fs::write(&path, text.replace(&server.to_string(), &own.to_string())).unwrap();
        let (mood, moods) = watch::channel(Mood::Fine);
        let connections = Arc::new(AtomicU64::new(0));
        let count = connections.clone();
        tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                count.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(pass(client, server, moods.clone()));
            }
        });
        Self { mood, connections, kubeconfig: path }
    }
}

async fn pass(client: TcpStream, server: SocketAddr, mut moods: watch::Receiver<Mood>) -> Option<()> {
    let mood = *moods.borrow_and_update();
    let limit = match mood {
        Mood::Fine => usize::MAX,
        Mood::Down => return None,
        Mood::Cutting(bytes) => bytes,
    };
    let server = TcpStream::connect(server).await.ok()?;
    let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
        (client.into_split(), server.into_split());
    let up = async { tokio::io::copy(&mut from_client, &mut to_server).await.ok() };
    let down = async {
        let (mut buffer, mut passed) = (vec![0; 16384], 0);
        while passed < limit {
            let count = from_server.read(&mut buffer).await.ok().filter(|&count| count > 0)?;
            let count = count.min(limit - passed);
            to_client.write_all(&buffer[..count]).await.ok()?;
            passed += count;
        }
        Some(())
    };
    tokio::select! {
        _ = up => {}
        _ = down => {}
        _ = moods.changed() => {}
    }
    Some(())
}

fn args(settings: &Path) -> Vec<&str> {
    vec!["run", "--no-leader-elect", "--settings", settings.to_str().unwrap()]
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_deletes_nothing_and_what_happened_meanwhile_is_made_good() {
    let corner = Corner::new("outage").await;
    let names = corner.namespaces(10).await;
    corner.put_source("1").await;
    let proxy = Proxy::before(&corner).await;
    let settings = corner.write_settings(&corner.settings());
    let generator = corner.start_as(&args(&settings), &proxy.kubeconfig, &[]);
    join_all(names.iter().map(|name| corner.settled(name, "1"))).await;
    proxy.mood.send_replace(Mood::Down);
    corner.put_source("2").await;
    corner.delete_secret(&names[0]).await;
    let new = corner.namespace("new").await;
    for _ in 0..15 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(corner.copy(&names[1]).await.is_some());
    }
    proxy.mood.send_replace(Mood::Fine);
    join_all(names.iter().chain([&new]).map(|name| corner.settled(name, "2"))).await;
    assert!(!generator.log().contains("delete Secret"), "{}", generator.log());
    assert!(proxy.connections.load(Ordering::Relaxed) < 500, "it must not hammer");
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_are_cut_off_delete_nothing() {
    let corner = Corner::new("cut").await;
    let names = corner.namespaces(30).await;
    corner.put_source("1").await;
    assert!(corner.once(&corner.settings(), &[]).status.success());
    let proxy = Proxy::before(&corner).await;
    let settings = corner.write_settings(&corner.settings());
    // The certificates alone are some 3 kB: lists are cut in the middle.
    proxy.mood.send_replace(Mood::Cutting(12_000));
    let generator = corner.start_as(&[args(&settings), vec!["--delete-with-source"]].concat(), &proxy.kubeconfig, &[]);
    for bytes in [5_000, 8_000, 20_000, 40_000, 80_000] {
        tokio::time::sleep(Duration::from_secs(2)).await;
        proxy.mood.send_replace(Mood::Cutting(bytes));
    }
    stays("every copy is there", || async {
        join_all(names.iter().map(|name| corner.content(name))).await.iter().all(|c| *c == Some(docker_config("1")))
    })
    .await;
    proxy.mood.send_replace(Mood::Fine);
    corner.put_source("2").await;
    join_all(names.iter().map(|name| corner.settled(name, "2"))).await;
    assert!(!generator.log().contains("delete Secret"), "{}", generator.log());
}

/// A cluster of this test's own, whose parts can be stopped.
struct OwnCluster {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    kubeconfig: PathBuf,
    _directory: tempfile::TempDir,
}

impl OwnCluster {
    fn up() -> Self {
        let program = concat!(env!("CARGO_MANIFEST_DIR"), "/../e2e-tests/cluster/bin/cluster");
        let directory = tempfile::tempdir().unwrap();
        let mut child = Command::new(program)
            .args(["up", "--dir", directory.path().join("cluster").to_str().unwrap()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("{program}: {error}; build it with e2e-tests/cluster/build.sh"));
        let (stdin, mut stdout) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let ready: Value = serde_json::from_str(&line).unwrap();
        let kubeconfig = ready["kubeconfig"].as_str().unwrap().into();
        Self { child, stdin, stdout, kubeconfig, _directory: directory }
    }

    fn command(&mut self, command: &str) {
        writeln!(self.stdin, "{command}").unwrap();
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        let answer: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(answer["ok"], true, "{command}: {line}");
    }
}

impl Drop for OwnCluster {
    fn drop(&mut self) {
        let _ = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status();
        let _ = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_that_forgot_everything_is_listed_anew() {
    let mut cluster = OwnCluster::up();
    let corner = Corner::on("forgot", cluster.kubeconfig.clone()).await;
    let names = corner.namespaces(5).await;
    corner.put_source("1").await;
    let settings = corner.write_settings(&corner.settings());
    let generator = corner.start(&args(&settings));
    join_all(names.iter().map(|name| corner.settled(name, "1"))).await;
    // Afterwards every watch that is resumed gets a 410.
    cluster.command("stop apiserver");
    cluster.command("compact");
    cluster.command("start apiserver");
    corner.put_source("2").await;
    corner.delete_secret(&names[0]).await;
    eventually("everything is as it should be", Duration::from_secs(60), || async {
        join_all(names.iter().map(|name| corner.content(name))).await.iter().all(|c| *c == Some(docker_config("2")))
    })
    .await;
    assert!(!generator.log().contains("delete Secret"), "{}", generator.log());
}
