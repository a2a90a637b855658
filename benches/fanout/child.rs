//! A server in a process of its own (this program with another role), and the commands for it.

use std::{env, net::SocketAddr, process::Stdio, time::Duration};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
    time::timeout,
};

use super::support::Outcome;

/// Prefix of the first argument of such a process.
pub(crate) const ROLE: &str = "--be=";
/// Timeout of a command.
const PATIENCE: Duration = Duration::from_secs(900);

/// The server process, killed when dropped.
pub(crate) struct Server {
    child: Child,
    stdin: ChildStdin,
    stdout: Lines<BufReader<ChildStdout>>,
    pub(crate) address: SocketAddr,
}

impl Server {
    /// Starts it, and waits until it accepts clients.
    pub(crate) async fn start(role: &str) -> Outcome<Self> {
        let mut command = Command::new(env::current_exe()?);
        command.arg(format!("{ROLE}{role}")).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.kill_on_drop(true).spawn()?;
        let stdin = child.stdin.take().ok_or("no pipe")?;
        let mut stdout = BufReader::new(child.stdout.take().ok_or("no pipe")?).lines();
        let line = stdout.next_line().await?.ok_or("the server ended")?;
        let address = line.strip_prefix("listening on ").ok_or("the server is not ready")?.parse()?;
        Ok(Self { child, stdin, stdout, address })
    }

    /// Publishes changes at this rate. Returns when all are published, not when they are delivered.
    pub(crate) async fn pace(&mut self, rate: u32, changes: u32) -> Outcome<()> {
        self.tell(&format!("pace {rate} {changes}")).await
    }

    /// Publishes changes as fast as possible.
    pub(crate) async fn burst(&mut self, changes: u32) -> Outcome<()> {
        self.tell(&format!("burst 0 {changes}")).await
    }

    async fn tell(&mut self, order: &str) -> Outcome<()> {
        self.stdin.write_all(format!("{order}\n").as_bytes()).await?;
        let done = timeout(PATIENCE, self.stdout.next_line()).await??.ok_or("the server ended")?;
        if done == "done" { Ok(()) } else { Err(done.into()) }
    }

    pub(crate) fn id(&self) -> Outcome<u32> {
        Ok(self.child.id().ok_or("the server ended")?)
    }
}
