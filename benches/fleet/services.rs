//! Services: a replica of the fleet, one node as it is run, and a single service with as many peers as the fleet has.

use std::{
    env, fs,
    path::PathBuf,
    process::Stdio,
    sync::Arc,
    time::{Duration, SystemTime},
};

use opflex_peerstatus::{
    api::{
        self, Api,
        pb::{
            ListPeersRequest, ResetPeersRequest, ResetScope, WatchPeerStatusRequest, WatchPeerStatusResponse,
            peer_status_service_client::PeerStatusServiceClient, pool_service_client::PoolServiceClient,
            watch_peer_status_response::Event,
        },
    },
    metrics::WatchMetrics,
    server::{Server, ServerMetrics, ServerOptions},
    status::{Hub, ListenerLimits, Listeners},
};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    net::TcpListener,
    process::{Child, Command},
    runtime::Runtime,
    sync::watch,
    time::{sleep, timeout},
};
use tonic::Streaming;

use super::{
    nodes,
    support::{self, Outcome},
};

/// First argument of the process of a single service with many peers.
pub(crate) const ROLE: &str = "--be-single";
const PATIENCE: Duration = Duration::from_secs(120);
const LIMITS: ListenerLimits =
    ListenerLimits { listeners: 1_000, per_owner: 1_000, streams: 1_000, streams_per_owner: 1_000 };

/// A service in a process of its own. Killed when dropped.
pub(crate) struct Service {
    child: Child,
    config: Option<PathBuf>,
    pub(crate) url: String,
}

impl Service {
    /// A replica of the service of this cluster.
    pub(crate) async fn replica(cluster: &str, nats: &str) -> Outcome<Self> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_peerstatus"));
        command.args(["fleet", "--listen", "127.0.0.1:0", "--admin", "off", "--log", "error"]);
        command.args(["--fleet-cluster", cluster, "--fleet-nats", nats]);
        Self::start(command, None).await
    }

    /// A node with these peers, which publishes to NATS with this name, or does not.
    pub(crate) async fn node(peers: &[String], fleet: Option<(&str, &str)>) -> Outcome<Self> {
        let config = env::temp_dir().join(format!("peerstatus-bench-{:016x}.toml", fastrand::u64(..)));
        fs::write(
            &config,
            format!(
                "[server.auth]\nlocal = \"operator\"\nanonymous = \"operator\"\n[[pool]]\nname = \"default\"\npeers = {peers:?}\n"
            ),
        )?;
        let mut command = Command::new(env!("CARGO_BIN_EXE_peerstatus"));
        command.args(["serve", "--listen", "127.0.0.1:0", "--admin", "off", "--log", "error", "--config"]);
        command.arg(&config);
        if let Some((name, nats)) = fleet {
            command.args(["--fleet-cluster", "one", "--fleet-node", name, "--fleet-nats", nats]);
        }
        Self::start(command, Some(config)).await
    }

    /// A service with a hub of so many peers, and no connections to them.
    pub(crate) async fn single(peers: usize) -> Outcome<Self> {
        let mut command = Command::new(env::current_exe()?);
        command.args([ROLE, &peers.to_string()]);
        Self::start(command, None).await
    }

    async fn start(mut command: Command, config: Option<PathBuf>) -> Outcome<Self> {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true).spawn()?;
        let mut lines = BufReader::new(child.stdout.take().ok_or("no pipe")?).lines();
        let line = lines.next_line().await?.ok_or("the service ended")?;
        let address = line.strip_prefix("listening on ").ok_or("the service is not ready")?;
        Ok(Self { url: format!("http://{address}"), child, config })
    }

    /// Watches everything, and reads until it has so many peers: a service of a fleet has not from the beginning.
    pub(crate) async fn watch(&self, peers: usize) -> Outcome<Streaming<WatchPeerStatusResponse>> {
        let mut client = PeerStatusServiceClient::connect(self.url.clone()).await?;
        timeout(PATIENCE, async {
            loop {
                if let Ok(answer) = client.watch_peer_status(WatchPeerStatusRequest::default()).await {
                    let mut stream = answer.into_inner();
                    while let Ok(Some(message)) = stream.message().await {
                        if let Some(Event::Synced(synced)) = message.event {
                            if synced.peer_count as usize == peers {
                                return Ok(stream);
                            }
                            break;
                        }
                    }
                }
                sleep(Duration::from_millis(20)).await;
            }
        })
        .await?
    }

    /// Closes the connection to this peer, or to all peers, which connect again.
    pub(crate) async fn reset_peers(&self, named: Option<&str>) -> Outcome<()> {
        let mut client = PoolServiceClient::connect(self.url.clone()).await?;
        let scope = if named.is_some() { ResetScope::Named } else { ResetScope::All };
        let names = named.map(|peer| format!("pools/default/peers/{peer}")).into_iter().collect();
        let request = ResetPeersRequest { parent: "pools/default".into(), scope: scope.into(), names };
        Ok(client.reset_peers(request).await.map(drop)?)
    }

    /// How often its peers have changed.
    pub(crate) async fn transitions(&self) -> Outcome<u64> {
        let mut client = PoolServiceClient::connect(self.url.clone()).await?;
        let answer = client.list_peers(ListPeersRequest::default()).await?.into_inner();
        Ok(answer.peers.iter().map(|peer| peer.transition_count).sum())
    }

    /// Processor time of its threads, more exactly than [`Service::cpu`].
    pub(crate) fn running(&self) -> Outcome<Duration> {
        let process = self.child.id().ok_or("the service ended")?;
        let mut nanos = 0;
        for thread in fs::read_dir(format!("/proc/{process}/task"))? {
            let text = fs::read_to_string(thread?.path().join("schedstat"))?;
            nanos += text.split_whitespace().next().ok_or("an empty schedstat")?.parse::<u64>()?;
        }
        Ok(Duration::from_nanos(nanos))
    }

    /// Processor time used until now.
    pub(crate) fn cpu(&self) -> Outcome<Duration> {
        support::cpu(self.child.id().ok_or("the service ended")?)
    }

    /// Resident memory in KiB.
    pub(crate) fn resident(&self) -> Outcome<u64> {
        support::resident(self.child.id().ok_or("the service ended")?)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if let Some(config) = &self.config {
            let _ = fs::remove_file(config);
        }
    }
}

/// The life of the process of a single service, until its standard input ends.
pub(crate) fn be_single(peers: &str) -> Outcome<()> {
    let runtime = Runtime::new()?;
    let address = serve_hub(&runtime, &nodes::hub(peers.parse()?)?)?;
    println!("listening on {address}");
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink())?;
    Ok(())
}

/// Serves the API of a hub, on a thread. Returns the address.
pub(crate) fn serve_hub(runtime: &Runtime, hub: &Arc<Hub>) -> Outcome<String> {
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"))?;
    let address = listener.local_addr()?.to_string();
    let hub = Arc::clone(hub);
    let listeners = Listeners::new(Arc::clone(&hub), LIMITS);
    runtime.spawn(async move {
        let (_drain, draining) = watch::channel(false);
        let (watches, metrics, methods) = (WatchMetrics::default(), ServerMetrics::default(), api::methods());
        let api = Api { hub: Arc::clone(&hub), listeners, pools: Arc::default(), metrics: watches, draining };
        let options = ServerOptions { threads: 1, ..ServerOptions::default() };
        let server = Server::start(api.routes(), &methods, hub, options, Arc::default(), metrics);
        // If it cannot, its client finds out.
        if let Ok(server) = server.await {
            let _ = server.serve(listener, std::future::pending()).await;
        }
    });
    Ok(address)
}

/// How long ago a change was, as its client sees it.
pub(crate) fn age(message: &WatchPeerStatusResponse) -> Option<Duration> {
    let Some(Event::Change(change)) = &message.event else { return None };
    let time = SystemTime::try_from(change.peer.as_ref()?.time?).ok()?;
    SystemTime::now().duration_since(time).ok()
}
