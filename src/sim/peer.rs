//! One simulated peer: a listening socket, what is to be said on its connections, and when both shall end.
//!
//! A task accepts, and keeps a task per connection. They end with [`SimPeer::stop`], or when the peer is dropped.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    net::{TcpListener, TcpSocket},
    select,
    task::{JoinHandle, JoinSet},
    time::{self, Instant},
};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{answer::Identification, connection};
use crate::opflex::Raw;

/// More connections than that wait in the system's queue: a client has one per peer.
const MAX_CONNECTIONS: usize = 1024;
/// The system's queue of connections to be accepted.
const BACKLOG: u32 = 128;
/// What lets the system recover when it has no sockets left to accept with.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What a simulated peer does with its clients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Behaviour {
    /// What the protocol asks for.
    #[default]
    Normal,
    /// Never says anything: handshakes time out.
    Silent,
    /// Never says anything once it has answered the identity: keepalives time out.
    Mute,
    /// Answers identities with an error.
    RejectIdentity,
    /// Answers identities with something that is not JSON.
    Garbage,
    /// Answers the identity and closes the connection at once.
    Flap,
}

/// How to start a simulated peer.
#[derive(Clone, Debug)]
pub struct SimConfig {
    /// Where to listen; port 0 lets the system choose.
    pub listen: SocketAddr,
    /// Name of the policy domain that it says it is of.
    pub domain: String,
    /// Where it tells clients that they are.
    pub location: String,
    /// What it does at first.
    pub behaviour: Behaviour,
}

impl Default for SimConfig {
    /// A well-behaved peer on a port of loopback that the system chooses.
    fn default() -> Self {
        Self {
            listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0),
            domain: "simulated".to_owned(),
            location: "simulated".to_owned(),
            behaviour: Behaviour::Normal,
        }
    }
}

/// A simulated peer.
#[derive(Debug)]
pub struct SimPeer {
    shared: Arc<Shared>,
    running: Option<Running>,
    /// Keeps the port from other uses while the peer is down.
    _port: Option<TcpSocket>,
}

#[derive(Debug)]
struct Running {
    stop: DropGuard,
    task: JoinHandle<()>,
}

/// What a peer and its connections have in common.
#[derive(Debug)]
pub(super) struct Shared {
    address: SocketAddr,
    domain: String,
    location: String,
    started: Instant,
    settings: Mutex<Settings>,
}

#[derive(Debug)]
struct Settings {
    behaviour: Behaviour,
    peers: Vec<(String, u16)>,
    /// Ends the connections that are up.
    connections: CancellationToken,
}

impl SimPeer {
    /// Listens. To be called within a runtime.
    ///
    /// # Errors
    ///
    /// The address cannot be listened on.
    pub fn start(config: SimConfig) -> io::Result<Self> {
        let SimConfig { listen, domain, location, behaviour } = config;
        let port = reserve(listen)?;
        let listen = port.as_ref().map_or(Ok(listen), TcpSocket::local_addr)?;
        let listener = bind(listen)?.listen(BACKLOG)?;
        let address = listener.local_addr()?;
        let settings = Settings {
            behaviour,
            peers: vec![host_and_port(address)],
            connections: CancellationToken::new(),
        };
        let started = Instant::now();
        let shared = Arc::new(Shared { address, domain, location, started, settings: Mutex::new(settings) });
        let running = Some(Running::start(listener, Arc::clone(&shared)));
        Ok(Self { shared, running, _port: port })
    }

    /// Where it listens, or listened before it was stopped.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.shared.address
    }

    /// True if it listens.
    #[must_use]
    pub const fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// Closes its socket and all its connections, as if its process had been killed. When this returns, they are
    /// closed.
    pub async fn stop(&mut self) {
        if let Some(Running { stop, task }) = self.running.take() {
            drop(stop);
            if let Err(error) = task.await {
                tracing::error!(%error, "simulated peer failed");
            }
        }
    }

    /// Stops if it runs, and listens on the same port again, with the settings that it has.
    ///
    /// # Errors
    ///
    /// Someone else has taken the port meanwhile.
    pub async fn restart(&mut self) -> io::Result<()> {
        self.stop().await;
        let listener = bind(self.shared.address)?.listen(BACKLOG)?;
        self.running = Some(Running::start(listener, Arc::clone(&self.shared)));
        Ok(())
    }

    /// Changes what it does, from its next word on, also on connections that are up.
    pub fn set_behaviour(&self, behaviour: Behaviour) {
        self.shared.settings.lock().behaviour = behaviour;
    }

    /// Changes the peer list in its next answer to an identity; at first that lists the peer itself.
    pub fn set_peers(&self, peers: Vec<(String, u16)>) {
        self.shared.settings.lock().peers = peers;
    }

    /// Closes the connections that are up, and goes on listening.
    pub fn drop_connections(&self) {
        std::mem::take(&mut self.shared.settings.lock().connections).cancel();
    }
}

impl Shared {
    pub(super) fn behaviour(&self) -> Behaviour {
        self.settings.lock().behaviour
    }

    /// The answer to an identity, as of now.
    pub(super) fn identification(&self) -> Raw {
        let peers = self.settings.lock().peers.clone();
        Identification::new(&host_and_port(self.address), &self.domain, &self.location, &peers).encode()
    }

    /// The clock in its echoes: milliseconds since it started.
    pub(super) fn millis(&self) -> u64 {
        self.started.elapsed().as_millis().try_into().unwrap_or(u64::MAX)
    }

    fn connections(&self) -> CancellationToken {
        self.settings.lock().connections.clone()
    }
}

impl Running {
    fn start(listener: TcpListener, shared: Arc<Shared>) -> Self {
        let stop = CancellationToken::new();
        let task = tokio::spawn(accept(listener, shared, stop.clone()));
        Self { stop: stop.drop_guard(), task }
    }
}

/// Accepts connections and keeps them until `stop`.
async fn accept(listener: TcpListener, shared: Arc<Shared>, stop: CancellationToken) {
    let mut connections = JoinSet::new();
    loop {
        select! {
            () = stop.cancelled() => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept(), if connections.len() < MAX_CONNECTIONS => match accepted {
                Ok((stream, _)) => {
                    let (shared, dropped) = (Arc::clone(&shared), shared.connections());
                    connections.spawn(async move {
                        dropped.run_until_cancelled(connection::serve(stream, shared)).await;
                    });
                }
                Err(_) => time::sleep(ACCEPT_PAUSE).await,
            },
        }
    }
    drop(listener);
    connections.shutdown().await;
}

/// A socket that is bound and does not listen: on Linux the system gives its port to nobody who does not ask for it,
/// refuses connections to it, and lets us listen on it beside.
fn reserve(address: SocketAddr) -> io::Result<Option<TcpSocket>> {
    if cfg!(target_os = "linux") { bind(address).map(Some) } else { Ok(None) }
}

fn bind(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // A restarted peer must not wait for the connections of its former life to time out.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

fn host_and_port(address: SocketAddr) -> (String, u16) {
    (address.ip().to_string(), address.port())
}
