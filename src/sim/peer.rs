//! One simulated peer: a listening socket, an accept task, and a task per connection. They end with
//! [`SimPeer::stop`], or when the peer is dropped.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use rustls::ServerConfig;
use socket2::SockRef;
use tokio::{
    net::{TcpListener, TcpSocket},
    select,
    task::{JoinHandle, JoinSet},
    time::{self, Instant},
};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{answer::Answer, connection};
use crate::opflex::{Proxies, Raw, Role, Roles};

/// Further connections wait in the backlog; a client has one per peer.
const MAX_CONNECTIONS: usize = 1024;
const BACKLOG: u32 = 128;
/// Pause after a failed accept, for example without free file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// What a leaf is.
pub(super) const LEAF_ROLES: [Role; 3] = [Role::PolicyRepository, Role::EndpointRegistry, Role::Observer];

/// How a simulated peer treats its clients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Behaviour {
    /// Follows the protocol.
    #[default]
    Normal,
    /// Never sends anything: handshakes time out.
    Silent,
    /// Sends nothing after the identity answer: keepalives time out.
    Mute,
    /// Answers identities with an error.
    RejectIdentity,
    /// Answers identities with invalid JSON.
    Garbage,
    /// Closes the connection that long after the identity answer.
    Flap(Duration),
    /// Refuses the TLS handshake.
    BadTls,
}

/// Settings of a simulated peer.
#[derive(Clone, Debug)]
pub struct SimConfig {
    /// Listen address; with port 0 the system chooses the port.
    pub listen: SocketAddr,
    /// The initial behaviour.
    pub behaviour: Behaviour,
    /// Its own roles in identity answers. An anycast bootstrap address has none.
    pub roles: Roles,
    /// The proxies in identity answers.
    pub proxies: Option<Proxies>,
    /// TLS to its clients; `None` is plaintext.
    pub tls: Option<Arc<ServerConfig>>,
}

impl Default for SimConfig {
    /// A normal leaf on a free loopback port.
    fn default() -> Self {
        Self {
            listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0),
            behaviour: Behaviour::Normal,
            roles: LEAF_ROLES.into_iter().collect(),
            proxies: None,
            tls: None,
        }
    }
}

/// A simulated peer.
#[derive(Debug)]
pub struct SimPeer {
    shared: Arc<Shared>,
    running: Option<Running>,
    /// Reserves the port while the peer is stopped.
    _port: Option<TcpSocket>,
}

/// Stops the accept task when dropped, and the task.
type Running = (DropGuard, JoinHandle<()>);

#[derive(Debug)]
pub(super) struct Shared {
    address: SocketAddr,
    started: Instant,
    roles: Roles,
    proxies: Option<Proxies>,
    tls: Option<Arc<ServerConfig>>,
    settings: Mutex<Settings>,
}

#[derive(Debug)]
struct Settings {
    behaviour: Behaviour,
    peers: Vec<(String, u16)>,
    /// Closes the present connections.
    connections: CancellationToken,
}

impl SimPeer {
    /// Starts listening. Must be called within a runtime.
    ///
    /// # Errors
    /// The socket cannot be bound.
    pub fn start(config: SimConfig) -> io::Result<Self> {
        let mut peer = Self::bind(config)?;
        peer.listen()?;
        Ok(peer)
    }

    /// A peer that has its port and is stopped.
    ///
    /// # Errors
    /// The socket cannot be bound.
    pub fn bind(config: SimConfig) -> io::Result<Self> {
        let SimConfig { listen, behaviour, roles, proxies, tls } = config;
        let port = bind(listen)?;
        let address = port.local_addr()?;
        let settings = Settings {
            behaviour,
            peers: vec![host_and_port(address)],
            connections: CancellationToken::new(),
        };
        let started = Instant::now();
        let settings = Mutex::new(settings);
        let shared = Arc::new(Shared { address, started, roles, proxies, tls, settings });
        // On Linux a socket that is bound, but does not listen, reserves the port, refuses connections, and allows
        // another socket to listen on it.
        Ok(Self { running: None, shared, _port: cfg!(target_os = "linux").then_some(port) })
    }

    /// Listen address, also while it is stopped.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.shared.address
    }

    /// Whether it listens.
    #[must_use]
    pub const fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// Closes its socket and all its connections, and waits until they are closed.
    pub async fn stop(&mut self) {
        if let Some((stop, task)) = self.running.take() {
            drop(stop);
            if let Err(error) = task.await {
                tracing::error!(%error, "accept task of a simulated peer failed");
            }
        }
    }

    /// Stops if it is running, and listens on the same port again.
    ///
    /// # Errors
    /// The port is in use by another process.
    pub async fn restart(&mut self) -> io::Result<()> {
        self.stop().await;
        self.listen()
    }

    fn listen(&mut self) -> io::Result<()> {
        let listener = bind(self.shared.address)?.listen(BACKLOG)?;
        self.running = Some(run(listener, Arc::clone(&self.shared)));
        Ok(())
    }

    /// Changes the behaviour, also of present connections.
    pub fn set_behaviour(&self, behaviour: Behaviour) {
        self.shared.settings.lock().behaviour = behaviour;
    }

    /// Changes the list in its identity answers; initially it lists itself.
    pub fn set_peers(&self, peers: Vec<(String, u16)>) {
        self.shared.settings.lock().peers = peers;
    }

    /// Closes the present connections, and keeps listening.
    pub fn drop_connections(&self) {
        std::mem::take(&mut self.shared.settings.lock().connections).cancel();
    }
}

impl Shared {
    pub(super) fn behaviour(&self) -> Behaviour {
        self.settings.lock().behaviour
    }

    pub(super) fn tls(&self) -> Option<Arc<ServerConfig>> {
        self.tls.clone()
    }

    pub(super) fn identity_answer(&self) -> Raw {
        let peers = self.settings.lock().peers.clone();
        Answer {
            own: &host_and_port(self.address),
            domain: "simulated",
            location: "simulated",
            proxies: self.proxies,
            roles: self.roles,
            peers: &peers,
        }
        .encode()
    }

    /// The clock in echo requests: milliseconds since the start.
    pub(super) fn millis(&self) -> u64 {
        self.started.elapsed().as_millis().try_into().unwrap_or(u64::MAX)
    }
}

fn run(listener: TcpListener, shared: Arc<Shared>) -> Running {
    let stop = CancellationToken::new();
    let task = tokio::spawn(accept(listener, shared, stop.clone()));
    (stop.drop_guard(), task)
}

async fn accept(listener: TcpListener, shared: Arc<Shared>, stop: CancellationToken) {
    let mut connections = JoinSet::new();
    loop {
        select! {
            () = stop.cancelled() => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept(), if connections.len() < MAX_CONNECTIONS => match accepted {
                Ok((stream, _)) => {
                    let shared = Arc::clone(&shared);
                    let dropped = shared.settings.lock().connections.clone();
                    connections.spawn(async move {
                        dropped.run_until_cancelled(connection::serve(stream, shared)).await;
                    });
                }
                Err(_) => time::sleep(ACCEPT_PAUSE).await,
            },
        }
    }
    // A process that another thread starts has this socket, too, until it runs its program. Without this, it would listen so long.
    let _ = SockRef::from(&listener).shutdown(Shutdown::Both);
    drop(listener);
    connections.shutdown().await;
}

fn bind(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // Allows a restart while connections are in TIME_WAIT.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

fn host_and_port(address: SocketAddr) -> (String, u16) {
    (address.ip().to_string(), address.port())
}
