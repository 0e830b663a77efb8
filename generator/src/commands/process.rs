//! The process: it runs one future, ends at the first panic, and stops on a signal.

use anyhow::{Context as _, Result};
use std::process::ExitCode;
use tokio_util::sync::CancellationToken;

/// The exit code after a panic. Rust uses the same one when its main thread panics.
pub(crate) const PANICKED: i32 = 101;

/// Runs `work` and everything that it spawns on this thread. They wait for the API server most of the time, and one thread
/// needs much less memory than several.
///
/// The process ends when any task panics. tokio would go on without the task, so that a namespace, a watch or the leader
/// election would stop working while `/healthz` still reports success. A restart of the process repairs that.
///
/// # Errors
/// The error of `work`.
pub(crate) fn run(work: impl Future<Output = Result<ExitCode>>) -> Result<ExitCode> {
    std::panic::set_hook(Box::new(|panic| {
        tracing::error!("this is a fault of the generator, please report it: {panic}");
        std::process::exit(PANICKED);
    }));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.context("cannot start the runtime")?.block_on(work)
}

/// Keeps the memory of this process to itself: it holds credentials. No core dump is made of it, not even for a program of the
/// machine that collects them, and no other process of the same user may look into it. What it starts may have no core file
/// either.
///
/// # Errors
/// The kernel does not allow it.
pub(crate) fn keep_memory_private() -> std::io::Result<()> {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, Rlimit, setrlimit};
        setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    }
    // The limit is about files only: a pattern of the kernel that names a program is served all the same.
    #[cfg(target_os = "linux")]
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)?;
    Ok(())
}

/// Reports that a signal came before everything was done, and gives the exit code for that.
pub(crate) fn interrupted() -> ExitCode {
    tracing::error!("interrupted by a signal: not everything was done");
    ExitCode::from(3)
}

/// A token that SIGTERM and SIGINT cancel; on Windows, Ctrl-C does. From now on, these signals have no other effect. (On
/// process 1 they never have one.)
///
/// # Errors
/// The process cannot listen for signals.
pub(crate) fn stop_on_signal() -> Result<CancellationToken> {
    let stop = CancellationToken::new();
    let signalled = signals()?;
    let token = stop.clone();
    tokio::spawn(async move {
        signalled.await;
        token.cancel();
    });
    Ok(stop)
}

#[cfg(unix)]
fn signals() -> Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

#[cfg(not(unix))]
fn signals() -> Result<impl Future<Output = ()>> {
    Ok(async {
        let _ = tokio::signal::ctrl_c().await;
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;
    use std::time::Duration;

    /// Set in the process that is to panic.
    const PANICS: &str = "A_TASK_PANICS";

    #[test]
    fn a_task_that_panics_ends_the_process() {
        if std::env::var(PANICS).is_ok() {
            tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false).init();
            let ended = run(async {
                let task = tokio::spawn(async { panic!("this watch cannot go on") });
                // The controller does not look at the results of its tasks either.
                let _ = task.await;
                tokio::time::sleep(Duration::from_millis(1)).await;
                Ok(ExitCode::SUCCESS)
            });
            panic!("it went on: {ended:?}");
        }
        let this_test = "commands::process::tests::a_task_that_panics_ends_the_process";
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", this_test, "--nocapture"])
            .env(PANICS, "yes")
            .output()
            .unwrap();
        let log = String::from_utf8(child.stderr).unwrap();
        assert_eq!(child.status.code(), Some(PANICKED), "{log}");
        assert!(log.contains("ERROR") && log.contains("this watch cannot go on"), "{log}");
        assert!(!log.contains("it went on"), "{log}");
    }
}
