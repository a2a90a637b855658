//! Simulated peers in a process of their own, told over its standard input when to go and to come back.

use std::{
    env,
    io::{self, BufRead as _, Write as _},
    ops::Range,
    process::Stdio,
};

use opflex_peerstatus::sim::{SimConfig, SimPeer};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
};

use super::support::Outcome;

/// Makes this program the process of the peers.
pub(crate) const ARGUMENT: &str = "--be-the-peers";

/// The other process. Killed when dropped.
pub(crate) struct Peers {
    child: Child,
    stdin: ChildStdin,
    stdout: Lines<BufReader<ChildStdout>>,
    pub(crate) addresses: Vec<String>,
}

impl Peers {
    /// Peers on ports of the system's choice, each of which lists itself. They are up.
    pub(crate) async fn start(count: usize) -> Outcome<Self> {
        let mut command = Command::new(env::current_exe()?);
        command.args([ARGUMENT, &count.to_string()]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.kill_on_drop(true).spawn()?;
        let stdin = child.stdin.take().ok_or("no pipe")?;
        let stdout = BufReader::new(child.stdout.take().ok_or("no pipe")?).lines();
        let mut peers = Self { child, stdin, stdout, addresses: Vec::new() };
        for _ in 0..count {
            let address = peers.line().await?;
            peers.addresses.push(address);
        }
        Ok(peers)
    }

    /// Takes some of them down. Returns when they are.
    pub(crate) async fn down(&mut self, range: Range<usize>) -> Outcome<()> {
        self.tell("down", range).await
    }

    /// Brings some of them up. Returns when they are.
    pub(crate) async fn up(&mut self, range: Range<usize>) -> Outcome<()> {
        self.tell("up", range).await
    }

    /// Ends the process as a crash would.
    pub(crate) async fn kill(&mut self) -> Outcome<()> {
        Ok(self.child.kill().await?)
    }

    async fn tell(&mut self, word: &str, range: Range<usize>) -> Outcome<()> {
        self.stdin.write_all(format!("{word} {} {}\n", range.start, range.end).as_bytes()).await?;
        let done = self.line().await?;
        if done == "done" { Ok(()) } else { Err(done.into()) }
    }

    async fn line(&mut self) -> Outcome<String> {
        Ok(self.stdout.next_line().await?.ok_or("the peers' process ended")?)
    }
}

/// The life of the other process: peers, and orders on standard input until it ends.
pub(crate) async fn simulate(count: &str) -> Outcome<()> {
    let start = |_| SimPeer::start(SimConfig::default());
    let mut peers = (0..count.parse::<usize>()?).map(start).collect::<io::Result<Vec<_>>>()?;
    for peer in &peers {
        println!("{}", peer.address());
    }
    io::stdout().flush()?;
    loop {
        let order = tokio::task::spawn_blocking(|| io::stdin().lock().lines().next()).await?;
        let Some(order) = order.transpose()? else { return Ok(()) };
        let words: Vec<&str> = order.split(' ').collect();
        let [word, first, end] = words[..] else { return Err("an order of three words".into()) };
        let chosen = peers.get_mut(first.parse()?..end.parse()?).ok_or("no such peers")?;
        for peer in chosen {
            if word == "up" { peer.restart().await? } else { peer.stop().await }
        }
        println!("done");
        io::stdout().flush()?;
    }
}
