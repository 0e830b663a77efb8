//! The generator as a process of its own, for the namespaces of one row.

use std::{env, fs, net::TcpListener, path::PathBuf, process::Stdio, time::Duration};

use anyhow::{Context as _, Result, bail};
use kube::{Client, Config, client::Body};
use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    process::{Child, Command},
    task::JoinHandle,
    time::{interval, sleep},
};

/// A generator that is at work until it is dropped.
pub enum Generator {
    Running { _child: Child, _directory: TempDir },
    Polling(JoinHandle<Result<()>>),
}

impl Generator {
    /// Starts one, and waits until it is ready.
    pub async fn start(label: &str, source: &str, settings: &Value, arguments: &[&str]) -> Result<Self> {
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let directory = tempfile::tempdir()?;
        let mut child = command(label, source, settings, &directory)?
            .args(["--no-leader-elect", "--listen", &address.to_string()])
            .args(arguments)
            .spawn()
            .context("cannot run the generator")?;
        let client = Client::try_from(Config::new(format!("http://{address}").parse()?))?;
        loop {
            let asked = http::Request::get("/readyz").body(Body::empty())?;
            if client.send(asked).await.is_ok_and(|answer| answer.status().is_success()) {
                return Ok(Self::Running { _child: child, _directory: directory });
            }
            if let Some(status) = child.try_wait()? {
                bail!("the generator ended: {status}");
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Runs it once, again and again.
    pub fn start_polling(label: &str, source: &str, settings: &Value, every: Duration) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let mut command = command(label, source, settings, &directory)?;
        command.arg("--once").stderr(Stdio::piped());
        Ok(Self::Polling(tokio::spawn(async move {
            let _directory = directory;
            let mut ticks = interval(every);
            loop {
                ticks.tick().await;
                let output = command.output().await?;
                if !output.status.success() {
                    eprintln!("run --once: {}", String::from_utf8_lossy(&output.stderr));
                }
            }
        })))
    }
}

impl Drop for Generator {
    fn drop(&mut self) {
        if let Self::Polling(task) = self {
            task.abort();
        }
    }
}

fn command(label: &str, source: &str, settings: &Value, directory: &TempDir) -> Result<Command> {
    let program =
        PathBuf::from(env!("CARGO_BIN_EXE_image-pull-secrets-e2e")).with_file_name("image-pull-secrets-generator");
    if !program.is_file() {
        bail!("{} is not built", program.display());
    }
    let file = directory.path().join("settings.json");
    fs::write(&file, settings.to_string())?;
    let mut command = Command::new(program);
    command
        .args(["run", "--lease-namespace", source, "--lease-name", label])
        .args(["--namespace-selector", &format!("bench={label}")])
        .arg("--settings")
        .arg(file)
        .arg("--kubeconfig")
        .arg(env::var("KUBECONFIG_E2E").context("KUBECONFIG_E2E names a disposable cluster")?)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    Ok(command)
}
