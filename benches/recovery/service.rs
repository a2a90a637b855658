//! The service as a process, and a watch of it.

use std::{
    fs,
    path::PathBuf,
    process::Stdio,
    time::{Duration, Instant},
};

use opflex_peerstatus::api::pb::{
    PeerStatus, PoolHealth, Reason, WatchPeerStatusRequest, WatchPeerStatusResponse,
    peer_status_service_client::PeerStatusServiceClient, watch_peer_status_response::Event,
};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
    time::timeout,
};
use tonic::Streaming;

use super::support::{self, Outcome};

/// No figure here is worth waiting longer for.
const PATIENCE: Duration = Duration::from_secs(120);

/// The service. Killed when dropped.
pub(crate) struct Service {
    child: Child,
    config: PathBuf,
    stream: Streaming<WatchPeerStatusResponse>,
    pub(crate) ready: usize,
    pub(crate) lost: usize,
}

impl Service {
    /// Starts it with these peers, and watches everything.
    pub(crate) async fn start(peers: &[String]) -> Outcome<Self> {
        let config = std::env::temp_dir().join(format!("peerstatus-bench-{:016x}.toml", fastrand::u64(..)));
        fs::write(
            &config,
            format!("[log]\nlevel = \"error\"\n[[pool]]\nname = \"default\"\npeers = {peers:?}\n"),
        )?;
        let mut command = Command::new(env!("CARGO_BIN_EXE_peerstatus"));
        command.args(["serve", "--listen", "127.0.0.1:0", "--admin", "off", "--config"]).arg(&config);
        let mut child = command.stdout(Stdio::piped()).kill_on_drop(true).spawn()?;
        let mut lines = BufReader::new(child.stdout.take().ok_or("no pipe")?).lines();
        let line = lines.next_line().await?.ok_or("the service ended")?;
        let address = line.strip_prefix("listening on ").ok_or("the service is not ready")?;
        let mut client = PeerStatusServiceClient::connect(format!("http://{address}")).await?;
        let stream = client.watch_peer_status(WatchPeerStatusRequest::default()).await?.into_inner();
        Ok(Self { child, config, stream, ready: 0, lost: 0 })
    }

    /// Reads the watch until `enough`, and returns when that was.
    pub(crate) async fn until(&mut self, enough: impl Fn(&Self) -> bool) -> Outcome<Instant> {
        timeout(PATIENCE, async {
            while !enough(self) {
                let message = self.stream.message().await?.ok_or("the watch ended")?;
                self.count(&message);
            }
            Ok(Instant::now())
        })
        .await?
    }

    fn count(&mut self, message: &WatchPeerStatusResponse) {
        let ready = |status: PeerStatus| usize::from(status == PeerStatus::Ready);
        match &message.event {
            Some(Event::Snapshot(snapshot)) => {
                self.ready += snapshot.peers.iter().map(|peer| ready(peer.status())).sum::<usize>();
            }
            Some(Event::Change(change)) => {
                if let Some((change, peer)) = change.peer.as_ref().and_then(|c| Some((c, c.peer.as_ref()?))) {
                    self.ready += ready(peer.status());
                    self.ready -= ready(change.previous_status()).min(self.ready);
                    self.lost += usize::from(peer.reason() == Reason::RemoteClosed);
                }
                let health = change.health.as_ref().map(opflex_peerstatus::api::pb::HealthChange::health);
                debug_assert!(health != Some(PoolHealth::Unspecified));
            }
            _ => {}
        }
    }

    /// Resident memory in KiB.
    pub(crate) fn resident(&self) -> Outcome<u64> {
        support::resident(self.id()?)
    }

    /// Processor time used until now.
    pub(crate) fn cpu(&self) -> Outcome<Duration> {
        support::cpu(self.id()?)
    }

    fn id(&self) -> Outcome<u32> {
        Ok(self.child.id().ok_or("the service ended")?)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.config);
    }
}
