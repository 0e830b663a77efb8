//! A disposable cluster for one run of the tests, gone when the run is over, however it ends.
//!
//! In this order: the one that `KUBECONFIG_E2E` names, which is used and left alone; else etcd, kube-apiserver and
//! kube-controller-manager on loopback, run by `e2e-tests/cluster/bin/cluster` (see its README), which takes the programs
//! in `KUBEBUILDER_ASSETS` where that is set.

use std::{
    env, fs,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

/// A running cluster.
pub struct ControlPlane {
    kubeconfig: PathBuf,
    own: Option<Supervisor>,
}

/// The program that runs the parts. It ends, and they with it, when its standard input closes: also when this process is
/// killed.
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
    /// The cluster that the environment names, or one of our own.
    ///
    /// # Errors
    /// There is none, with what to do about it.
    pub fn start() -> Result<Self> {
        match env::var_os("KUBECONFIG_E2E") {
            Some(path) if !path.is_empty() => {
                let kubeconfig = PathBuf::from(path);
                if !kubeconfig.is_file() {
                    bail!("KUBECONFIG_E2E is {}, which is no file: name a kubeconfig", kubeconfig.display());
                }
                Ok(Self { kubeconfig, own: None })
            }
            _ => Self::start_own(),
        }
    }

    /// A cluster of our own, whatever there is: its parts can be stopped.
    ///
    /// # Errors
    /// It does not start, with what to do about it.
    pub fn start_own() -> Result<Self> {
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("cluster/bin/cluster");
        if !program.is_file() {
            bail!(
                "there is no cluster to test with: KUBECONFIG_E2E is not set, and e2e-tests/cluster/bin/cluster is not \
                 built. Run e2e-tests/cluster/build.sh (it needs Go, and says which), or point KUBECONFIG_E2E at a \
                 disposable cluster"
            );
        }
        let mut child = Command::new(&program)
            .arg("up")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot run {}", program.display()))?;
        let (Some(commands), Some(answers)) = (child.stdin.take(), child.stdout.take()) else {
            bail!("{} has no standard input and output", program.display());
        };
        let mut supervisor =
            Supervisor { child, commands: Some(commands), answers: BufReader::new(answers), parts: Vec::new() };
        let Ready { kubeconfig, parts } =
            supervisor.answer().with_context(|| match env::var("KUBEBUILDER_ASSETS") {
                Ok(assets) => format!("the cluster did not start, with the programs in KUBEBUILDER_ASSETS={assets}"),
                Err(_) => "the cluster did not start".to_owned(),
            })?;
        supervisor.parts = parts;
        Ok(Self { kubeconfig, own: Some(supervisor) })
    }

    /// The kubeconfig of an administrator.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// Does something to a part, such as `stop apiserver`; the cluster's README has the list.
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

    /// The logs of the parts, by name; empty where they are not ours.
    pub fn logs(&self) -> Vec<(&str, String)> {
        let parts = self.own.iter().flat_map(|supervisor| &supervisor.parts);
        parts.map(|part| (part.name.as_str(), fs::read_to_string(&part.log).unwrap_or_default())).collect()
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
        // It is being dropped: there is nobody to tell.
        let _ = self.child.wait();
    }
}
