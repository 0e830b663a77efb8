//! What runs the modules: Kubewarden's policy-server where it is in the `PATH`, otherwise the embedded host; each a process of
//! its own.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use anyhow::{Context, Result};
use image_pull_secrets_e2e::{
    modules,
    policy_server::{self, PolicyServer},
    webhook,
};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Which engine there is.
#[derive(Clone, Copy)]
pub enum Kind {
    /// policy-server, with so many workers.
    PolicyServer(usize),
    /// The host in `e2e-tests/`, which has no bound on its workers.
    Embedded,
}

/// An engine that runs until it is dropped.
pub enum Engine {
    PolicyServer(PolicyServer),
    Embedded(Embedded),
}

/// `serve` of the embedded host.
pub struct Embedded {
    child: Child,
    _directory: TempDir,
}

impl Kind {
    pub fn installed(workers: usize) -> Self {
        if policy_server::is_installed() { Self::PolicyServer(workers) } else { Self::Embedded }
    }

    pub fn describe(self) -> String {
        match self {
            Self::PolicyServer(workers) => {
                let version = Command::new("policy-server").arg("--version").output();
                let version =
                    version.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
                format!("{}, {workers} workers", version.lines().next().unwrap_or_default())
            }
            Self::Embedded => "the embedded host (policy-server is not in the PATH)".to_owned(),
        }
    }

    /// The file that `make` builds for this engine: policy-server takes only modules that have their metadata in them.
    pub fn module(self, name: &str) -> PathBuf {
        modules::root().join(match self {
            Self::PolicyServer(_) => format!("annotated-{name}.wasm"),
            Self::Embedded => format!("{name}.wasm"),
        })
    }

    /// Starts it with one policy of this name, and gives the MutatingWebhookConfiguration for it.
    pub async fn start(
        self,
        name: &str,
        module: &Path,
        settings: &Value,
        kubeconfig: &Value,
    ) -> Result<(Engine, Value)> {
        match self {
            Self::PolicyServer(workers) => {
                let policies = json!({name: policy_server::policy(module, settings)?});
                let server = PolicyServer::start(kubeconfig, &policies, &["--workers", &workers.to_string()]).await?;
                let configuration =
                    webhook::configuration(server.address(), server.certificate(), name, &modules::metadata());
                Ok((Engine::PolicyServer(server), configuration))
            }
            Self::Embedded => {
                let directory = tempfile::tempdir()?;
                let file = |name: &str, value: &Value| {
                    let path = directory.path().join(name);
                    fs::write(&path, value.to_string()).map(|()| path)
                };
                let mut child = Command::new(env!("CARGO_BIN_EXE_image-pull-secrets-e2e"))
                    .args(["serve", "--quiet", "--name", name, "--module"])
                    .arg(module)
                    .arg("--metadata")
                    .arg(modules::root().join("metadata.yml"))
                    .arg("--settings")
                    .arg(file("settings.json", settings)?)
                    .arg("--kubeconfig")
                    .arg(file("kubeconfig", kubeconfig)?)
                    .stdout(Stdio::piped())
                    .spawn()?;
                let mut line = String::new();
                let answers = child.stdout.take().context("no standard output")?;
                let embedded = Embedded { child, _directory: directory };
                BufReader::new(answers).read_line(&mut line)?;
                let configuration = serde_json::from_str(&line).context("the embedded host does not serve")?;
                Ok((Engine::Embedded(embedded), configuration))
            }
        }
    }
}

impl Engine {
    /// Its process.
    pub fn process(&self) -> u32 {
        match self {
            Self::PolicyServer(server) => server.id(),
            Self::Embedded(embedded) => embedded.child.id(),
        }
    }
}

/// MiB of memory that a process has, by Linux.
pub fn resident(process: u32) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let kibibytes = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB"));
    Ok(kibibytes.context("no VmRSS")?.parse::<f64>()? / 1024.0)
}

impl Drop for Embedded {
    fn drop(&mut self) {
        // It is being dropped: there is nobody to tell.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
