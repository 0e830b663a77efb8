//! A disposable cluster for one run of the tests. It is removed after the run, however that ends.
//!
//! In this order: the one that `KUBECONFIG_E2E` names, which is used and left alone; else etcd, kube-apiserver and
//! kube-controller-manager on loopback, run by `e2e-tests/cluster/bin/cluster` (see its README), which takes the programs
//! in `KUBEBUILDER_ASSETS` where that is set. One of our own can have Nodes, whose kubelets pull images from a registry
//! that tests can tell what to accept.

use std::{
    env,
    ffi::OsString,
    fs,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    thread,
};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

/// How much of each log is printed.
const LINES: usize = 20;

/// A running cluster.
pub struct ControlPlane {
    kubeconfig: PathBuf,
    nodes: Option<Nodes>,
    own: Option<Supervisor>,
}

/// The Nodes of a cluster of our own, and the registry that every image of theirs comes from.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Nodes {
    /// Their names.
    #[serde(rename = "nodes")]
    pub names: Vec<String>,
    /// The URL of the API that says what the registry accepts, and what was pulled.
    pub registry: String,
    /// Where the registry serves images, over TLS: every host of an image is dialled there.
    pub registry_address: String,
    /// The file with the authority of the registry's certificates.
    #[serde(rename = "registryCA")]
    pub registry_ca: PathBuf,
}

/// The program that runs the parts of the cluster. When its standard input closes, it ends them and itself, so nothing is
/// left even if this process is killed.
struct Supervisor {
    child: Child,
    commands: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    parts: Vec<Part>,
}

#[derive(Deserialize)]
struct Ready {
    kubeconfig: PathBuf,
    parts: Vec<Part>,
    #[serde(flatten)]
    nodes: Option<Nodes>,
}

#[derive(Deserialize)]
struct Part {
    name: String,
    log: PathBuf,
}

#[derive(Deserialize)]
struct Answer {
    ok: bool,
    #[serde(default)]
    error: String,
}

impl ControlPlane {
    /// The cluster that the environment names, or one of our own with so many Nodes.
    ///
    /// # Errors
    /// There is none, with what to do about it.
    pub fn start(nodes: u8) -> Result<Self> {
        match env::var_os("KUBECONFIG_E2E") {
            Some(path) if !path.is_empty() => {
                let kubeconfig = PathBuf::from(path);
                if !kubeconfig.is_file() {
                    bail!("KUBECONFIG_E2E is {}, which is no file: name a kubeconfig", kubeconfig.display());
                }
                Ok(Self { kubeconfig, nodes: Nodes::from_environment(), own: None })
            }
            _ => Self::start_own(nodes).context("KUBECONFIG_E2E is not set, so that a cluster of our own is needed"),
        }
    }

    /// A cluster of our own, even if the environment names another one. Its parts can be stopped.
    ///
    /// # Errors
    /// It does not start, with what to do about it.
    pub fn start_own(nodes: u8) -> Result<Self> {
        // The generator's tests include this file.
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("../e2e-tests/cluster/bin/cluster");
        if !program.is_file() {
            bail!(
                "e2e-tests/cluster/bin/cluster is not built. Run e2e-tests/cluster/build.sh (it needs Go, and says which)"
            );
        }
        let mut child = Command::new(&program)
            .args(["up", "--nodes", &nodes.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot run {}", program.display()))?;
        let (Some(commands), Some(answers)) = (child.stdin.take(), child.stdout.take()) else {
            bail!("{} has no standard input and output", program.display());
        };
        let mut supervisor =
            Supervisor { child, commands: Some(commands), answers: BufReader::new(answers), parts: Vec::new() };
        let Ready { kubeconfig, parts, nodes } =
            supervisor.answer().with_context(|| match env::var("KUBEBUILDER_ASSETS") {
                Ok(assets) => format!("the cluster did not start, with the programs in KUBEBUILDER_ASSETS={assets}"),
                Err(_) => "the cluster did not start".to_owned(),
            })?;
        supervisor.parts = parts;
        Ok(Self { kubeconfig, nodes, own: Some(supervisor) })
    }

    /// The kubeconfig of an administrator.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// Its Nodes; none in a cluster without, and in one that is not ours.
    pub fn nodes(&self) -> Option<&Nodes> {
        self.nodes.as_ref()
    }

    /// Sends a command about a part, such as `stop apiserver`. The cluster's README lists them.
    ///
    /// # Errors
    /// It cannot be done, or the cluster is not our own.
    pub fn command(&mut self, command: &str) -> Result<()> {
        let supervisor =
            self.own.as_mut().context("the cluster in KUBECONFIG_E2E has no parts that could be stopped")?;
        let commands = supervisor.commands.as_mut().context("the cluster is being stopped")?;
        writeln!(commands, "{command}").with_context(|| format!("{command}: the cluster has ended"))?;
        let answer: Answer = supervisor.answer().with_context(|| command.to_owned())?;
        if !answer.ok {
            bail!("{command}: {}", answer.error);
        }
        Ok(())
    }

    /// Prints the end of the parts' logs, and copies the logs into this directory. It does nothing if the cluster is not
    /// our own.
    ///
    /// # Errors
    /// They cannot be written there.
    pub fn keep_logs(&self, directory: &Path) -> Result<()> {
        fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
        for part in self.own.iter().flat_map(|supervisor| &supervisor.parts) {
            let log = fs::read_to_string(&part.log).unwrap_or_default();
            let path = directory.join(format!("{}.log", part.name));
            fs::write(&path, &log).with_context(|| format!("cannot write {}", path.display()))?;
            let lines: Vec<_> = log.lines().collect();
            eprintln!("--- the end of {}", path.display());
            lines.iter().skip(lines.len().saturating_sub(LINES)).for_each(|line| eprintln!("{line}"));
        }
        Ok(())
    }
}

/// A test that fails shows the logs of a cluster of its own.
impl Drop for ControlPlane {
    fn drop(&mut self) {
        if thread::panicking() && self.own.is_some() {
            let name = self.kubeconfig.parent().and_then(Path::file_name).unwrap_or_default();
            let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/e2e-logs").join(name);
            if let Err(error) = self.keep_logs(&directory) {
                eprintln!("{error:#}");
            }
        }
    }
}

impl Nodes {
    /// The environment variables that tell another process about them.
    pub fn environment(&self) -> [(&'static str, OsString); 4] {
        [
            ("E2E_NODES", self.names.join(",").into()),
            ("E2E_REGISTRY", self.registry.clone().into()),
            ("E2E_REGISTRY_ADDRESS", self.registry_address.clone().into()),
            ("E2E_REGISTRY_CA", self.registry_ca.clone().into()),
        ]
    }

    fn from_environment() -> Option<Self> {
        Some(Self {
            names: env::var("E2E_NODES").ok()?.split(',').map(ToOwned::to_owned).collect(),
            registry: env::var("E2E_REGISTRY").ok()?,
            registry_address: env::var("E2E_REGISTRY_ADDRESS").ok()?,
            registry_ca: env::var_os("E2E_REGISTRY_CA")?.into(),
        })
    }
}

impl Supervisor {
    /// The next line of its answers. Its progress, and why it ended, it says on standard error itself.
    fn answer<T: for<'a> Deserialize<'a>>(&mut self) -> Result<T> {
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        if line.is_empty() {
            bail!("the program that runs the cluster ended; it says above why");
        }
        serde_json::from_str(&line).with_context(|| format!("not an answer: {line}"))
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        self.commands.take();
        // This runs in a drop, so errors cannot be reported.
        let _ = self.child.wait();
    }
}
