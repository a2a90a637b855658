//! Test support: the service, clients, watches and peers.

mod admin;
mod nats;
mod nats_program;
mod netns;
mod peer;
mod process;
mod proxy;
pub(crate) mod raw;
mod secure;
mod stage;
mod tls;
mod tmux;
mod watch;

pub(crate) use admin::{asked, numbers, page};
pub(crate) use nats::NatsServer;
pub(crate) use netns::{Direction, Network};
pub(crate) use peer::ScriptedPeer;
pub(crate) use process::{Process, peerstatus, peerstatus_in, peerstatus_with};
pub(crate) use proxy::Proxy;
pub(crate) use raw::{RawClient, RawWatch};
pub(crate) use secure::SecureServer;
pub(crate) use stage::{QUICK, Served, Stage};
pub(crate) use tls::{Authority, ClientFiles, Issued, TlsFront, anybody, self_signed, server};
pub(crate) use tmux::Tmux;
pub(crate) use watch::{Health, Seen, Watch};

use std::{
    fs,
    future::Future,
    io::{self, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::PathBuf,
    time::Duration,
};

use opflex_peerstatus::{
    api::pb::{
        CreateListenerRequest, CreateListenerResponse, GetPoolRequest, Pool, WatchPeerStatusRequest,
        peer_status_service_client::PeerStatusServiceClient, pool_service_client::PoolServiceClient,
    },
    app::{LoadedConfig, Service, StartError},
    config::{Admin, Config, Overrides},
    sim::{SimConfig, SimPeer},
};
use tonic::{Code, Status, transport::Channel};
use tonic_types::StatusExt as _;

/// Timeout of a test step; only failing tests reach it.
const PATIENCE: Duration = Duration::from_secs(30);

/// Waits with [`PATIENCE`]; panics with `what` on timeout.
pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("{what}: did not come within {PATIENCE:?}"),
    }
}

/// An address of the loopback network that is free and stays so: on 127.0.0.1, a connection of another test may get the port
/// before it is listened on.
pub(crate) fn free_address() -> SocketAddr {
    let host = Ipv4Addr::new(127, fastrand::u8(1..), fastrand::u8(..), fastrand::u8(1..255));
    TcpListener::bind((host, 0)).expect("a port").local_addr().expect("its address")
}

/// Says that this test is skipped, bypassing the output capture of the test harness.
pub(crate) fn report_skipped(why: &str) {
    let name = std::thread::current().name().unwrap_or("a test").to_owned();
    let _ = io::stderr().write_all(format!("SKIPPED: {name}: {why}\n").as_bytes());
}

/// The service in this process, on a free port, and a client of it.
pub(crate) struct Server {
    service: Service,
    pub(crate) channel: Channel,
}

impl Server {
    pub(crate) async fn start(peers: &[String]) -> Self {
        Self::start_with(settings(peers)).await
    }

    pub(crate) async fn start_with(config: Config) -> Self {
        let service = start(config).await.expect("the service starts");
        let url = format!("http://{}", service.address());
        let channel = Channel::from_shared(url).expect("a url").connect().await.expect("the service answers");
        Self { service, channel }
    }

    pub(crate) fn listeners(&self) -> PeerStatusServiceClient<Channel> {
        PeerStatusServiceClient::new(self.channel.clone())
    }

    pub(crate) fn pools(&self) -> PoolServiceClient<Channel> {
        PoolServiceClient::new(self.channel.clone())
    }

    /// Watches everything.
    pub(crate) async fn watch(&self) -> Watch {
        self.watch_with(WatchPeerStatusRequest::default()).await.expect("a watch")
    }

    pub(crate) async fn watch_with(&self, request: WatchPeerStatusRequest) -> Result<Watch, Status> {
        Ok(Watch::new(self.listeners().watch_peer_status(request).await?.into_inner()))
    }

    /// The pool `default`.
    pub(crate) async fn pool(&self) -> Pool {
        let request = GetPoolRequest { name: "pools/default".into() };
        self.pools().get_pool(request).await.expect("an answer").into_inner().pool.expect("a pool")
    }

    pub(crate) async fn create(&self, request: CreateListenerRequest) -> CreateListenerResponse {
        self.listeners().create_listener(request).await.expect("a listener").into_inner()
    }

    pub(crate) fn address(&self) -> std::net::SocketAddr {
        self.service.address()
    }

    pub(crate) fn admin(&self) -> std::net::SocketAddr {
        self.service.admin_address().expect("an admin port")
    }

    pub(crate) fn begin_stop(&self) {
        self.service.stopper().cancel();
    }

    /// Disconnects the client.
    pub(crate) fn without_client(self) -> Idle {
        Idle { service: self.service }
    }

    /// Stops the service, and waits for its end.
    pub(crate) async fn stop(self) {
        self.without_client().stop().await;
    }
}

/// The service without a client.
pub(crate) struct Idle {
    service: Service,
}

impl Idle {
    /// Stops the service, and waits for its end.
    pub(crate) async fn stop(self) {
        let Self { service } = self;
        service.stopper().cancel();
        within("the end of the service", service.join()).await.expect("the service stops in order");
    }
}

/// Starts the service with this configuration.
pub(crate) async fn start(config: Config) -> Result<Service, StartError> {
    Service::start(LoadedConfig::new(config).expect("good files")).await
}

/// The configuration of a service with these peers, on a free port.
pub(crate) fn settings(peers: &[String]) -> Config {
    let overrides = Overrides {
        listen: Some("127.0.0.1:0".parse().expect("an address")),
        admin: Some(Admin::At("127.0.0.1:0".parse().expect("an address"))),
        peers: peers.iter().map(|peer| peer.parse().expect("a peer address")).collect(),
        name: Some("test".into()),
        ..Overrides::default()
    };
    Config::load(&overrides).expect("settings")
}

/// A running simulated peer.
pub(crate) fn sim() -> SimPeer {
    SimPeer::start(SimConfig::default()).expect("a simulated peer")
}

/// Simulated peers that list each other.
pub(crate) fn sims(count: usize) -> Vec<SimPeer> {
    let peers: Vec<_> = (0..count).map(|_| sim()).collect();
    let list: Vec<_> =
        peers.iter().map(|peer| (peer.address().ip().to_string(), peer.address().port())).collect();
    peers.iter().for_each(|peer| peer.set_peers(list.clone()));
    peers
}

/// A status as (code, reason of its `ErrorInfo`, fields of its `BadRequest`); checks that docs/api.md documents it.
pub(crate) fn explain(status: &Status) -> (Code, String, Vec<String>) {
    let info = status.get_details_error_info().unwrap_or_else(|| panic!("no details: {status:?}"));
    assert_eq!(info.domain, "opflex.peerstatus");
    let fields = status.get_details_bad_request().map(|bad| bad.field_violations).unwrap_or_default();
    let fields: Vec<_> = fields.into_iter().map(|violation| violation.field).collect();
    let documented = documented_reasons().find(|(reason, _)| *reason == info.reason);
    let (_, code) = documented.unwrap_or_else(|| panic!("docs/api.md lacks the reason {}", info.reason));
    assert_eq!(code.replace('_', "").to_lowercase(), format!("{:?}", status.code()).to_lowercase());
    let was_read = !matches!(&*info.reason, "REQUEST_TOO_LARGE" | "MALFORMED_REQUEST");
    let names_fields = status.code() == Code::InvalidArgument && was_read;
    assert_eq!(fields.is_empty(), !names_fields, "{status:?}");
    let can_be_retried = matches!(status.code(), Code::ResourceExhausted | Code::Unavailable);
    let retry = status.get_details_retry_info().and_then(|retry| retry.retry_delay);
    assert_eq!(retry.is_some(), can_be_retried, "{status:?}");
    (status.code(), info.reason, fields)
}

/// The error reasons in docs/api.md with their codes.
pub(crate) fn documented_reasons() -> impl Iterator<Item = (&'static str, &'static str)> {
    let rows = include_str!("../../../docs/api.md").lines().filter_map(|line| line.strip_prefix("| `"));
    rows.filter_map(|row| row.split_once("` | "))
        .filter_map(|(reason, rest)| Some((reason, rest.split_once(" | ")?.0)))
}

/// A temporary folder, deleted when dropped.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        let path = std::env::temp_dir().join(format!("peerstatus-{:016x}", fastrand::u64(..)));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    /// The path of a file in it.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Writes a file, and returns its path.
    pub(crate) fn write(&self, name: &str, text: &str) -> String {
        let path = self.0.join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
