//! A program that is run for what it prints: in an environment of its own, for a limited time, and with all the processes that
//! it starts ended with it.
//!
//! What it prints on its standard output is handed on and never shown. What it prints on its standard error is told when it
//! fails: the end of it, in one line, without what may be a credential.

mod family;

use family::Family;
use image_pull_secrets::text::shown_up_to;
use std::ffi::OsString;
use std::io;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Command;

/// How much a program may print on its standard output, in bytes: as much as a Secret may hold.
const LONGEST_OUTPUT: usize = 1024 * 1024;

/// How much of the end of its standard error is looked at, in bytes.
const KEPT_OF_ERRORS: usize = 8 * 1024;

/// How much of that is told, in characters.
const TOLD_OF_ERRORS: usize = 300;

/// A program, and what it is given.
#[derive(Debug, Clone)]
pub(crate) struct Program {
    /// Its absolute path.
    pub command: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// All of its environment.
    pub env: Vec<(OsString, OsString)>,
}

/// Why a program gave no answer. Reads as the end of a sentence about it; quotes nothing of its standard output.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// It could not be started.
    #[error("it cannot be run: {0}")]
    Start(#[source] io::Error),
    /// Something between the generator and it broke.
    #[error("its output cannot be read: {0}")]
    Read(#[source] io::Error),
    /// It took too long.
    #[error("it did not end within {} s, and was killed{}", .0.as_secs(), also_told(.1))]
    TooSlow(Duration, String),
    /// It printed too much.
    #[error("it printed more than {LONGEST_OUTPUT} bytes, and was killed")]
    TooMuch,
    /// It said itself that it failed.
    #[error("it failed ({}){}", ended(*.0), also_told(.1))]
    Failed(ExitStatus, String),
}

fn ended(status: ExitStatus) -> String {
    #[cfg(unix)]
    let signal = std::os::unix::process::ExitStatusExt::signal(&status);
    #[cfg(not(unix))]
    let signal = None::<i32>;
    match (status.code(), signal) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "without an exit code".to_owned(),
    }
}

fn also_told(errors: &str) -> String {
    if errors.is_empty() { String::new() } else { format!(": {errors}") }
}

impl Program {
    /// Runs it, and gives what it printed on its standard output. It reads `input`, and has this long.
    ///
    /// # Errors
    /// [`Failure`].
    pub(crate) async fn run(&self, input: &str, limit: Duration) -> Result<Vec<u8>, Failure> {
        let mut command = Command::new(&self.command);
        command.args(&self.args).env_clear().envs(self.env.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.current_dir("/").kill_on_drop(true);
        let (mut child, family) = Family::spawn(&mut command).map_err(Failure::Start)?;
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let feed = async {
            if let Some(mut stdin) = stdin {
                // A program may well answer without having read the question.
                let _ = stdin.write_all(input.as_bytes()).await;
            }
            Ok(())
        };
        let mut errors = Vec::new();
        let exit = async {
            let status = child.wait().await.map_err(Failure::Read);
            // What it left behind would keep its outputs open.
            family.end().await;
            status
        };
        let work = async { tokio::try_join!(feed, read(stdout), keep_end(stderr, &mut errors), exit) };
        let ended = tokio::time::timeout(limit, work).await;
        family.kill();
        let _ = child.wait().await;
        family.end().await;
        match ended {
            Ok(Ok(((), output, (), status))) if status.success() => Ok(output),
            Ok(Ok(((), output, (), status))) => Err(Failure::Failed(status, self.told(&errors, &output))),
            Ok(Err(failure)) => Err(failure),
            Err(_) => Err(Failure::TooSlow(limit, self.told(&errors, &[]))),
        }
    }

    /// The end of what it printed on its standard error, in one line, without what stands in its answer or in a variable that
    /// holds a secret.
    fn told(&self, errors: &[u8], output: &[u8]) -> String {
        let mut text = String::from_utf8_lossy(errors).into_owned();
        let hidden = self.env.iter().filter(|(name, _)| is_secret(&name.to_string_lossy()));
        let hidden =
            hidden.map(|(_, value)| value.to_string_lossy().into_owned()).filter(|value| !value.starts_with('/'));
        let output = String::from_utf8_lossy(output);
        let words = output.split(|c: char| c.is_whitespace() || "\"'{}[],:".contains(c)).map(str::to_owned);
        let mut hidden: Vec<String> = hidden.chain(words).filter(|value| value.len() >= 6).collect();
        // The longest first: of two of which one holds the other, nothing is to be left.
        hidden.sort_by_key(|value| std::cmp::Reverse(value.len()));
        for value in hidden {
            text = text.replace(&value, "…");
        }
        let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        let line = lines.join("; ");
        let skipped = line.chars().count().saturating_sub(TOLD_OF_ERRORS);
        let end: String = line.chars().skip(skipped).collect();
        format!("{}{}", if skipped > 0 { "…" } else { "" }, shown_up_to(&end, TOLD_OF_ERRORS))
    }
}

/// Whether a variable of this name holds a secret rather than, say, a region or the path of a file.
fn is_secret(name: &str) -> bool {
    ["KEY", "SECRET", "TOKEN", "PASSWORD", "CREDENTIAL"].iter().any(|word| name.to_ascii_uppercase().contains(word))
}

async fn read(stream: Option<impl AsyncRead + Unpin>) -> Result<Vec<u8>, Failure> {
    let mut output = Vec::new();
    if let Some(stream) = stream {
        let limit = u64::try_from(LONGEST_OUTPUT).unwrap_or(u64::MAX).saturating_add(1);
        stream.take(limit).read_to_end(&mut output).await.map_err(Failure::Read)?;
    }
    if output.len() > LONGEST_OUTPUT { Err(Failure::TooMuch) } else { Ok(output) }
}

/// Reads to the end, and keeps only that.
async fn keep_end(stream: Option<impl AsyncRead + Unpin>, kept: &mut Vec<u8>) -> Result<(), Failure> {
    let Some(mut stream) = stream else { return Ok(()) };
    let mut buffer = [0; 4096];
    loop {
        let count = stream.read(&mut buffer).await.map_err(Failure::Read)?;
        if count == 0 {
            return Ok(());
        }
        kept.extend_from_slice(buffer.get(..count).unwrap_or_default());
        let too_much = kept.len().saturating_sub(KEPT_OF_ERRORS);
        kept.drain(..too_much);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use std::path::{Path, PathBuf};
    use std::time::Instant;
    use tempfile::TempDir;

    const LIMIT: Duration = Duration::from_secs(60);

    /// A program that is this shell script.
    fn script(directory: &TempDir, text: &str) -> Program {
        let path = directory.path().join("provider");
        std::fs::write(&path, text).unwrap();
        let args = vec![path.to_str().unwrap().to_owned()];
        Program { command: "/bin/sh".to_owned(), args, env: vec![("PATH".into(), "/usr/bin:/bin".into())] }
    }

    async fn run(text: &str) -> Result<String, String> {
        let directory = tempfile::tempdir().unwrap();
        let output = script(&directory, text).run("question", LIMIT).await;
        output.map(|output| String::from_utf8(output).unwrap()).map_err(|failure| failure.to_string())
    }

    #[rstest]
    #[case::that_answers_what_it_reads("cat; echo '!'", "question!\n")]
    #[case::that_reads_nothing("echo answer", "answer\n")]
    #[case::that_talks_much_beside_its_answer("head -c 1000000 /dev/zero >&2; echo answer", "answer\n")]
    #[case::that_leaves_a_child_which_holds_its_outputs("sleep 1000 & echo answer", "answer\n")]
    #[tokio::test]
    async fn a_program(#[case] text: &str, #[case] expected: &str) {
        assert_eq!(run(text).await.as_deref(), Ok(expected));
    }

    #[rstest]
    #[case::that_fails("echo hunter2; exit 3", "it failed (exit code 3)")]
    #[case::that_says_why("echo 'no region' >&2; exit 1", "it failed (exit code 1): no region")]
    #[case::that_says_it_in_lines(
        "printf 'one\\n\\n  two\\033[31m\\n' >&2; exit 1",
        "it failed (exit code 1): one; two\u{fffd}[31m"
    )]
    #[case::that_says_its_answer(
        "echo '{\"password\":\"hunter2-hunter2\"}' | tee /dev/stderr; exit 1",
        "it failed (exit code 1): {\"…\":\"…\"}"
    )]
    #[case::that_is_killed("kill -9 $$", "it failed (signal 9)")]
    #[case::that_prints_too_much(
        "head -c 2000000 /dev/zero; sleep 1000",
        "it printed more than 1048576 bytes, and was killed"
    )]
    #[tokio::test]
    async fn the_failure_of_a_program(#[case] text: &str, #[case] expected: &str) {
        assert_eq!(run(text).await.unwrap_err(), expected);
    }

    #[tokio::test]
    async fn only_the_end_of_a_long_complaint_is_told() {
        let told = run("head -c 20000 /dev/zero | tr '\\0' x >&2; echo ' the end' >&2; exit 1").await.unwrap_err();
        let (start, end) = told.split_once('…').unwrap();
        assert_eq!(start, "it failed (exit code 1): ");
        assert!(end.ends_with("x the end") && end.chars().count() == 300, "{told}");
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_cannot_be_run() {
        let program = Program { command: "/nowhere/provider".to_owned(), args: vec![], env: vec![] };
        let told = program.run("", LIMIT).await.unwrap_err().to_string();
        assert!(told.starts_with("it cannot be run: No such file or directory"), "{told}");
    }

    fn is_alive(pid: &str) -> bool {
        // A zombie is dead.
        let status = std::fs::read_to_string(Path::new("/proc").join(pid).join("stat")).unwrap_or_default();
        !status.is_empty() && !status.contains(") Z ")
    }

    fn dies(pid: &str) -> bool {
        let start = Instant::now();
        while is_alive(pid) && start.elapsed() < Duration::from_secs(60) {
            std::thread::sleep(Duration::from_millis(10));
        }
        !is_alive(pid)
    }

    /// A program that is this shell script, and the file in which it writes a process: its first argument.
    fn script_with_pid(directory: &TempDir, text: &str) -> (Program, PathBuf) {
        let pid_file = directory.path().join("pid");
        let mut program = script(directory, text);
        program.args.push(pid_file.to_str().unwrap().to_owned());
        (program, pid_file)
    }

    /// Has a child, says on its standard error which, and waits for ever.
    const HANGS: &str = "sleep 1000 & echo child $! >&2; echo $! >\"$1\"; wait";

    /// Runs a program whose time is over as soon as it has written this file.
    async fn run_out_of_time(program: &Program, pid_file: &Path) -> Result<(), Failure> {
        let over = async {
            while !std::fs::read_to_string(pid_file).is_ok_and(|pid| pid.ends_with('\n')) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            tokio::time::pause();
            tokio::time::advance(LIMIT).await;
            tokio::time::resume();
        };
        tokio::join!(program.run("", LIMIT), over).0.map(drop)
    }

    #[tokio::test]
    async fn a_program_that_hangs_is_killed_with_its_children() {
        let directory = tempfile::tempdir().unwrap();
        let (program, pid_file) = script_with_pid(&directory, HANGS);
        let told = run_out_of_time(&program, &pid_file).await.unwrap_err().to_string();
        let pid = std::fs::read_to_string(&pid_file).unwrap();
        assert_eq!(told, format!("it did not end within 60 s, and was killed: child {}", pid.trim()));
        assert!(dies(pid.trim()));
    }

    /// Has a child that leaves its session, its group and its parent, says which, and keeps its outputs open.
    #[cfg(target_os = "linux")]
    const DAEMONISES: &str =
        "setsid sh -c 'echo $$ >\"$1\"; sleep 1000 & wait' - \"$1\" & until [ -s \"$1\" ]; do sleep 0.01; done";

    #[cfg(target_os = "linux")]
    #[rstest]
    #[case::that_answers("; echo answer", None)]
    #[case::that_fails("; exit 1", Some("it failed (exit code 1)"))]
    #[tokio::test]
    async fn what_a_program_makes_a_daemon_ends_with_a_program(#[case] then: &str, #[case] expected: Option<&str>) {
        let directory = tempfile::tempdir().unwrap();
        let (program, pid_file) = script_with_pid(&directory, &format!("{DAEMONISES}{then}"));
        let failure = program.run("", LIMIT).await.map(drop).map_err(|failure| failure.to_string());
        assert_eq!(failure.err().as_deref(), expected);
        let pid = std::fs::read_to_string(&pid_file).unwrap();
        assert!(!is_alive(pid.trim()), "it has ended before the answer is used");
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn what_a_program_makes_a_daemon_ends_with_a_program_that_hangs() {
        let directory = tempfile::tempdir().unwrap();
        let (program, pid_file) = script_with_pid(&directory, &format!("{DAEMONISES}; sleep 1000"));
        let told = run_out_of_time(&program, &pid_file).await.unwrap_err().to_string();
        assert_eq!(told, "it did not end within 60 s, and was killed");
        let pid = std::fs::read_to_string(&pid_file).unwrap();
        assert!(!is_alive(pid.trim()), "it has ended before the failure is told");
    }

    #[tokio::test]
    async fn a_program_that_nobody_waits_for_any_more_is_killed_with_its_children() {
        let directory = tempfile::tempdir().unwrap();
        let (program, pid_file) = script_with_pid(&directory, HANGS);
        let running = tokio::spawn(async move { program.run("", LIMIT).await.map(drop) });
        let pid = loop {
            match std::fs::read_to_string(&pid_file) {
                Ok(pid) if pid.ends_with('\n') => break pid,
                _ => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        };
        assert!(is_alive(pid.trim()));
        running.abort();
        assert!(running.await.unwrap_err().is_cancelled());
        assert!(dies(pid.trim()));
    }

    #[tokio::test]
    async fn the_environment_is_what_is_given_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let mut program = script(&directory, "env | grep -v '^\\(PWD\\|_\\|SHLVL\\|OLDPWD\\)=' | sort");
        program.env.push(("AWS_REGION".into(), "eu-central-1".into()));
        let output = String::from_utf8(program.run("", LIMIT).await.unwrap()).unwrap();
        assert_eq!(output, "AWS_REGION=eu-central-1\nPATH=/usr/bin:/bin\n");
    }

    #[tokio::test]
    async fn a_secret_of_the_environment_is_not_told() {
        let directory = tempfile::tempdir().unwrap();
        let mut program = script(&directory, "echo \"$AWS_SECRET_ACCESS_KEY is refused in $AWS_REGION\" >&2; exit 1");
        program.env.push(("AWS_REGION".into(), "eu-central-1".into()));
        program.env.push(("AWS_SECRET_ACCESS_KEY".into(), "hunter2-hunter2".into()));
        let told = program.run("", LIMIT).await.unwrap_err().to_string();
        assert_eq!(told, "it failed (exit code 1): … is refused in eu-central-1");
    }
}
