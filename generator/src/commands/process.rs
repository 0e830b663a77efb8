//! The process: it runs one future to its end, ends with the first panic, and can be told to stop.

use anyhow::{Context as _, Result};
use std::process::ExitCode;
use tokio_util::sync::CancellationToken;

/// What the process ends with where it panicked: the code that Rust gives to a panic of its main thread.
pub(crate) const PANICKED: i32 = 101;

/// Runs `work`, and everything that it spawns, on this thread: it waits for the API server nearly all the time, and needs a
/// fraction of the memory that several threads would.
///
/// Whatever panics, the process ends. tokio would go on without the task: a namespace, a watch or the leader election would
/// be dead, while `/healthz` says that all is well. What restarts the process makes it good.
///
/// # Errors
/// What `work` ends with.
pub(crate) fn run(work: impl Future<Output = Result<ExitCode>>) -> Result<ExitCode> {
    std::panic::set_hook(Box::new(|panic| {
        tracing::error!("this is a fault of the generator, please report it: {panic}");
        std::process::exit(PANICKED);
    }));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.context("cannot start the runtime")?.block_on(work)
}

/// Says that not everything was done because of a signal, and gives the exit code for that.
pub(crate) fn interrupted() -> ExitCode {
    tracing::error!("interrupted by a signal: not everything was done");
    ExitCode::from(3)
}

/// A token that SIGTERM and SIGINT cancel, which from now on have no other effect. (They have none on process 1 anyway.)
/// On Windows, Ctrl-C does.
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

    /// Set where this test is the process that panics.
    const PANICS: &str = "A_TASK_PANICS";

    #[test]
    fn a_task_that_panics_ends_the_process() {
        if std::env::var(PANICS).is_ok() {
            tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false).init();
            let ended = run(async {
                let task = tokio::spawn(async { panic!("this watch cannot go on") });
                // As the controller, which has no need of what a task leaves behind.
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
