//! A real NATS server with a store of its own.

use std::{env, fs, net::TcpListener, path::PathBuf, process::Stdio, time::Duration};

use tokio::{
    net::TcpStream,
    process::{Child, Command},
    time::{sleep, timeout},
};

use super::{
    nats_program,
    support::{self, Outcome},
};

const PATIENCE: Duration = Duration::from_secs(20);

/// The server. Killed when dropped, and its store removed.
pub(crate) struct Nats {
    child: Child,
    folder: PathBuf,
    port: u16,
}

impl Nats {
    /// Starts it, and waits until it accepts connections.
    pub(crate) async fn start() -> Outcome<Self> {
        let folder = env::temp_dir().join(format!("peerstatus-bench-{:016x}", fastrand::u64(..)));
        fs::create_dir(&folder)?;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let program = nats_program::find().ok_or("there is no nats-server; --help says what to do")?;
        let mut command = Command::new(program);
        command.args(["-js", "-a", "127.0.0.1", "-p", &port.to_string(), "-sd"]).arg(&folder);
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true).spawn()?;
        let nats = Self { child, folder, port };
        timeout(PATIENCE, async {
            while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
                sleep(Duration::from_millis(20)).await;
            }
        })
        .await?;
        Ok(nats)
    }

    pub(crate) fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Bytes and messages of the stream.
    pub(crate) async fn stream(&self) -> Outcome<(u64, u64)> {
        let jetstream = async_nats::jetstream::new(async_nats::connect(self.url()).await?);
        let stream = jetstream.get_stream("OPFLEX").await?;
        let state = &stream.cached_info().state;
        Ok((state.bytes, state.messages))
    }

    /// Processor time used until now.
    pub(crate) fn cpu(&self) -> Outcome<Duration> {
        support::cpu(self.child.id().ok_or("nats-server ended")?)
    }

    /// Resident memory in KiB.
    pub(crate) fn resident(&self) -> Outcome<u64> {
        support::resident(self.child.id().ok_or("nats-server ended")?)
    }
}

impl Drop for Nats {
    fn drop(&mut self) {
        let _ = self.child.start_kill();
        let _ = fs::remove_dir_all(&self.folder);
    }
}
