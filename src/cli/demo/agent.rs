//! A stand-in for an opflex-agent in a process of its own: this program, as `simulate --agent-log`. The service leaves out the
//! connections of its own process.

use std::{env, net::SocketAddr, process::Stdio};

use anyhow::Context as _;
use tempfile::TempDir;
use tokio::process::{Child, Command};

/// The process ends with this.
pub(super) struct Agent {
    process: Child,
    log: String,
    _folder: TempDir,
}

impl Agent {
    /// Starts one that is configured with this peer.
    pub(super) fn start(peer: SocketAddr) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("peerstatus-agent-").tempdir();
        let folder = folder.context("cannot make a folder for the log of the agent")?;
        let log = folder.path().join("agent.log").display().to_string();
        let program = env::current_exe().context("this program has no file")?;
        let process = Command::new(program)
            .args(["simulate", "--agent-log", &log, "--agent-peers", &peer.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .kill_on_drop(true)
            // Ctrl-C is for the demonstration, which stops it last.
            .process_group(0)
            .spawn()
            .context("cannot start the agent")?;
        Ok(Self { process, log, _folder: folder })
    }

    pub(super) fn log(&self) -> &str {
        &self.log
    }

    pub(super) async fn stop(mut self) -> anyhow::Result<()> {
        self.process.kill().await.context("cannot stop the agent")
    }
}
