//! Kubewarden's own policy-server, as a process.

use std::{
    env, fs,
    fs::File,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::sleep,
};

use crate::modules;

/// How long it may take to start. Most of that is the compilation of the modules, and the machine may be loaded.
const READY_WITHIN: Duration = Duration::from_secs(600);

/// A policy-server that runs until it is dropped.
pub struct PolicyServer {
    child: Child,
    address: SocketAddr,
    certificate: String,
    log: PathBuf,
    _directory: TempDir,
}

/// Whether the program is in the `PATH`.
pub fn is_installed() -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|directory| directory.join("policy-server").is_file())
}

/// A policy as Kubewarden's controller hands it to policy-server, with the grants of `metadata.yml` and the deadline of
/// `deploy/policy.yaml`.
///
/// # Errors
/// There is no such module. It has to have its metadata in it (`kwctl annotate`).
pub fn policy(annotated_module: &Path, settings: &Value) -> Result<Value> {
    if !annotated_module.is_file() {
        bail!("{} is not there: run make for it", annotated_module.display());
    }
    let grants: Value = yaml_serde::from_str(&fs::read_to_string(modules::root().join("metadata.yml"))?)?;
    Ok(json!({
        "module": format!("file://{}", annotated_module.display()),
        "policyMode": "protect",
        "allowedToMutate": true,
        "settings": settings,
        "contextAwareResources": grants["contextAwareResources"],
        "hostCapabilities": grants["hostCapabilities"],
        "timeoutEvalSeconds": shipped()?["timeoutEvalSeconds"],
    }))
}

/// The `spec` of the ClusterAdmissionPolicy in `deploy/policy.yaml`.
///
/// # Errors
/// It cannot be read.
pub fn shipped() -> Result<Value> {
    let text = fs::read_to_string(modules::root().join("deploy/policy.yaml"))?;
    let policy = text.split("\n---\n").next().context("deploy/policy.yaml is empty")?;
    Ok(yaml_serde::from_str::<Value>(policy)?["spec"].take())
}

impl PolicyServer {
    /// Starts it with these policies, given by name, and waits until it is ready. It uses this kubeconfig for the API
    /// server, and serves HTTPS.
    ///
    /// # Errors
    /// It is not in the `PATH`, or does not become ready; then its log is in the error.
    pub async fn start(kubeconfig: &Value, policies: &Value, arguments: &[&str]) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let file = |name: &str, text: &str| {
            let path = directory.path().join(name);
            fs::write(&path, text).map(|()| path)
        };
        let (address, readiness) = (free_address()?, free_address()?);
        let made = rcgen::generate_simple_self_signed([address.ip().to_string()])?;
        let certificate = made.cert.pem();
        let log = directory.path().join("log");
        let child = Command::new("policy-server")
            .args(["--addr", "127.0.0.1", "--port", &address.port().to_string()])
            .args(["--readiness-probe-port", &readiness.port().to_string()])
            .arg("--policies")
            .arg(file("policies.yml", &policies.to_string())?)
            .arg("--policies-download-dir")
            .arg(directory.path())
            .arg("--sigstore-cache-dir")
            .arg(directory.path().join("sigstore"))
            .arg("--cert-file")
            .arg(file("cert.pem", &certificate)?)
            .arg("--key-file")
            .arg(file("key.pem", &made.signing_key.serialize_pem())?)
            .arg("--log-no-color")
            .args(arguments)
            .env("KUBECONFIG", file("kubeconfig", &kubeconfig.to_string())?)
            .stdin(Stdio::null())
            .stdout(File::create(&log)?)
            .stderr(File::options().append(true).open(&log)?)
            .spawn()
            .context("cannot run policy-server, which has to be in the PATH")?;
        let mut server = Self { child, address, certificate, log, _directory: directory };
        let deadline = Instant::now() + READY_WITHIN;
        while !is_ready(readiness).await {
            if server.child.try_wait()?.is_some() || Instant::now() > deadline {
                bail!("policy-server does not become ready: {}", server.log());
            }
            sleep(Duration::from_millis(50)).await;
        }
        Ok(server)
    }

    /// Its address. Policies are at `/validate/POLICY`.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its certificate (PEM).
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// Its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it logged so far.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for PolicyServer {
    fn drop(&mut self) {
        // This runs in a drop, so errors cannot be reported.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

async fn is_ready(address: SocketAddr) -> bool {
    let answer = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(b"GET /readiness HTTP/1.0\r\n\r\n").await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok::<_, std::io::Error>(answer)
    };
    answer.await.is_ok_and(|answer| answer.split(' ').nth(1) == Some("200"))
}
