//! The binary in a process of its own.

use std::{
    fs,
    path::PathBuf,
    process::{ExitStatus, Output, Stdio},
};

use rustix::process::{Pid, Resource, Rlimit, prlimit};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader, Lines},
    process::{Child, ChildStderr, ChildStdout, Command},
};

use super::within;

pub(super) const BINARY: &str = env!("CARGO_BIN_EXE_peerstatus");

/// Runs the binary to its end.
pub(crate) async fn peerstatus(args: &[&str]) -> Output {
    output(command(args)).await
}

/// Runs the binary to its end, with these variables in its environment.
pub(crate) async fn peerstatus_with(variables: &[(&str, &str)], args: &[&str]) -> Output {
    let mut command = command(args);
    command.envs(variables.iter().copied());
    output(command).await
}

/// Runs the binary to its end, in a network namespace.
pub(crate) async fn peerstatus_in(namespace: &str, args: &[&str]) -> Output {
    output(command_in(namespace, args)).await
}

async fn output(mut command: Command) -> Output {
    within("the end of the process", command.output()).await.expect("the binary runs")
}

fn command(args: &[&str]) -> Command {
    prepared(Command::new(BINARY), args)
}

fn command_in(namespace: &str, args: &[&str]) -> Command {
    let mut command = Command::new("ip");
    // `ip` executes the binary in its own process, so signals reach it.
    command.args(["netns", "exec", namespace, BINARY]);
    prepared(command, args)
}

fn prepared(mut command: Command, args: &[&str]) -> Command {
    command
        .args(args)
        .env("PEERSTATUS_ADMIN", "127.0.0.1:0")
        .env_remove("PEERSTATUS_SERVER")
        .env_remove("RUST_BACKTRACE");
    command.stdin(Stdio::null()).kill_on_drop(true);
    command
}

/// A running binary, killed when dropped.
pub(crate) struct Process {
    child: Child,
    stdout: Option<Lines<BufReader<ChildStdout>>>,
    logs: Option<Lines<BufReader<ChildStderr>>>,
}

impl Process {
    pub(crate) fn start(args: &[&str]) -> Self {
        Self::start_to(command(args), Stdio::null())
    }

    /// In a network namespace.
    pub(crate) fn start_in(namespace: &str, args: &[&str]) -> Self {
        Self::start_to(command_in(namespace, args), Stdio::null())
    }

    /// With standard error piped, but never read.
    pub(crate) fn start_with_unread_logs(args: &[&str]) -> Self {
        Self::start_to(command(args), Stdio::piped())
    }

    /// With these environment variables and logs in JSON, for [`Process::log`].
    pub(crate) fn start_with_logs(variables: &[(&str, &str)], args: &[&str]) -> Self {
        let mut command = command(args);
        command.env("PEERSTATUS_LOG_JSON", "true").envs(variables.iter().copied());
        let mut this = Self::start_to(command, Stdio::piped());
        this.logs = this.child.stderr.take().map(|stderr| BufReader::new(stderr).lines());
        this
    }

    /// With its output to these, which the test reads or does not.
    pub(crate) fn start_writing_to(args: &[&str], stdout: Stdio, stderr: Stdio) -> Self {
        let child = command(args).stdout(stdout).stderr(stderr).spawn().expect("the binary runs");
        Self { child, stdout: None, logs: None }
    }

    fn start_to(mut command: Command, stderr: Stdio) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(stderr).spawn().expect("the binary runs");
        let stdout = child.stdout.take().map(|stdout| BufReader::new(stdout).lines());
        Self { child, stdout, logs: None }
    }

    /// The next line of its output; `None` at the end.
    pub(crate) async fn line(&mut self) -> Option<String> {
        let stdout = self.stdout.as_mut().expect("output that is read");
        within("a line of output", stdout.next_line()).await.expect("text")
    }

    /// The address in the line `listening on …`.
    pub(crate) async fn address(&mut self) -> String {
        let line = self.line().await.expect("a line that says that it is ready");
        line.strip_prefix("listening on ").unwrap_or_else(|| panic!("not ready: {line:?}")).to_owned()
    }

    /// The next line of its logs; `None` at the end.
    pub(crate) async fn next_log(&mut self) -> Option<Value> {
        let logs = self.logs.as_mut().expect("logs that are read");
        let line = within("a line of the logs", logs.next_line()).await.expect("text")?;
        Some(serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}")))
    }

    /// Skips to the next log line with this message.
    pub(crate) async fn log(&mut self, message: &str) -> Value {
        let found = async {
            loop {
                let line = self.next_log().await.expect("more logs");
                if line["message"] == message {
                    return line;
                }
            }
        };
        within(message, found).await
    }

    /// Limits its open files to this many more.
    pub(crate) fn limit_open_files(&self, more: u64) {
        let open = fs::read_dir(self.proc("fd")).expect("it runs").count() as u64;
        let id = self.child.id().and_then(|id| Pid::from_raw(id.cast_signed())).expect("it runs");
        let limit = Rlimit { current: Some(open + more), maximum: Some(open + more) };
        prlimit(Some(id), Resource::Nofile, limit).expect("it may be limited");
    }

    /// Sends a signal, by its name without SIG.
    pub(crate) async fn signal(&self, name: &str) {
        let id = self.child.id().expect("it runs").to_string();
        let sent = Command::new("kill").args(["-s", name, &id]).status().await;
        assert!(sent.expect("kill runs").success());
    }

    /// Its memory, in KiB.
    pub(crate) fn resident(&self) -> u64 {
        self.status("VmRSS:")
    }

    /// The most that it has had, in KiB.
    pub(crate) fn peak(&self) -> u64 {
        self.status("VmHWM:")
    }

    /// The number of its threads.
    pub(crate) fn threads(&self) -> u64 {
        self.status("Threads:")
    }

    fn status(&self, key: &str) -> u64 {
        let status = fs::read_to_string(self.proc("status")).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix(key)).expect("a line");
        line.trim().trim_end_matches(" kB").parse().expect("a number")
    }

    /// The number of its sockets.
    pub(crate) fn sockets(&self) -> usize {
        let files = fs::read_dir(self.proc("fd")).expect("it runs");
        let targets = files.filter_map(|file| fs::read_link(file.ok()?.path()).ok());
        targets.filter(|target| target.to_string_lossy().starts_with("socket:")).count()
    }

    fn proc(&self, file: &str) -> PathBuf {
        let id = self.child.id().expect("it runs").to_string();
        ["/proc", &id, file].iter().collect()
    }

    /// Waits for its end. Returns its standard error.
    pub(crate) async fn last_words(self) -> String {
        let output = within("the end of the process", self.child.wait_with_output()).await.expect("a status");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    /// Waits for its end.
    pub(crate) async fn ended(mut self) -> ExitStatus {
        within("the end of the process", self.child.wait()).await.expect("a status")
    }
}
