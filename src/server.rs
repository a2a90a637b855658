//! The server: accept loop, TLS, limits, HTTP by hyper, and the layers around the API, of which it knows nothing.
//!
//! `accept` → `threads` (assigns the connection) → `connection` (handshake and shutdown) → hyper → `layers` → the API.

mod accept;
mod admission;
mod authorize;
mod connection;
mod connection_limit;
mod eviction;
mod handshake_stack;
mod layers;
mod limits;
mod probation;
mod reads;
mod shares;
mod socket;
mod source;
mod threads;
mod tls;
mod turn;
mod unread;
mod worker;

use std::{
    future::{Future, pending},
    io,
    sync::Arc,
    thread,
    time::Duration,
};

use http::HeaderValue;
use prometheus_client::metrics::gauge::Gauge;
use tokio::net::{TcpListener, UnixListener};
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

use self::{
    accept::{Incoming, SocketLimits, accept},
    connection_limit::{ConnectionLimit, PlaceLimits},
    eviction::EvictingLimit,
    threads::{Ended, Threads},
    worker::Shared,
};
pub use self::{
    authorize::{Access, Permission},
    layers::Methods,
    socket::{SocketError, SocketFile, SocketSettings},
    source::Source,
    threads::ThreadEnded,
    turn::{Turn, Waiting},
};
use crate::{metrics::LoopMonitors, status::Hub};

/// Threads that serve connections, unless more are configured.
const MAX_DEFAULT_THREADS: usize = 4;

/// Settings of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerOptions {
    /// Threads that serve connections. At least one.
    pub threads: usize,
    /// Most connections per listening socket. Those without an authorized request give way to further ones, which wait in
    /// the kernel if there are none.
    pub connections: usize,
    /// Most connections from one address, loopback excepted.
    pub connections_per_source: usize,
    /// Most connections whose handshake is not complete. The next one evicts the oldest.
    pub handshakes: usize,
    /// Changes within this time after a change are sent together. Zero: each at once.
    pub pacing: Duration,
    /// When unresponsive clients are disconnected.
    pub keepalive: Keepalive,
    /// gRPC-Web.
    pub web: WebSettings,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            // The last client notified of a change waits for all before it on the same thread; a second thread halves
            // that. Each has to be woken, though, and a few are enough for what a network carries.
            threads: thread::available_parallelism().map_or(1, |cores| cores.get().min(MAX_DEFAULT_THREADS)),
            connections: 16_384,
            connections_per_source: 1024,
            handshakes: 1024,
            pacing: Duration::from_millis(5),
            keepalive: Keepalive::default(),
            web: WebSettings::default(),
        }
    }
}

/// HTTP/2 keepalive: a client that vanished, or never reads, is disconnected after the sum of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive {
    /// Idle time after which a PING is sent.
    pub interval: Duration,
    /// How long the client may take to acknowledge it.
    pub timeout: Duration,
}

impl Default for Keepalive {
    /// Half a minute: proxies drop connections that are idle for a minute.
    fn default() -> Self {
        Self { interval: Duration::from_secs(20), timeout: Duration::from_secs(10) }
    }
}

/// gRPC-Web, for browsers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WebSettings {
    /// Origins whose scripts may use it. Empty: gRPC-Web is off.
    pub allowed_origins: Vec<HeaderValue>,
}

/// The metrics of the server. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct ServerMetrics {
    /// Open connections.
    pub connections: Gauge,
    /// Whether the threads are responsive.
    pub loops: LoopMonitors,
}

/// The server, before it serves. Dropping it closes every connection.
pub struct Server {
    threads: Threads,
    ended: Ended,
    settings: ServerOptions,
    socket: Option<UnixListener>,
    close: CancellationToken,
}

impl Server {
    /// Starts the threads. The streams of `api` wait for changes of `hub`.
    ///
    /// # Errors
    /// The system refuses a thread.
    pub async fn start(
        api: Routes,
        methods: &Methods,
        hub: Arc<Hub>,
        settings: ServerOptions,
        access: Arc<Access>,
        metrics: ServerMetrics,
    ) -> io::Result<Self> {
        let close = CancellationToken::new();
        let shared = Shared {
            hub,
            router: layers::wrap(api, methods, &access, &settings, &close),
            access,
            settings: settings.clone(),
            memory: Arc::default(),
            peak_streams: Arc::default(),
            metrics,
            close: close.clone(),
        };
        let (threads, ended) = Threads::start(settings.threads.max(1), &shared).await?;
        Ok(Self { threads, ended, settings, socket: None, close })
    }

    /// Serves a Unix socket as well.
    #[must_use]
    pub fn with_socket(mut self, socket: UnixListener) -> Self {
        self.socket = Some(socket);
        self
    }

    /// Serves until `stop` resolves, and then until the last connection has ended.
    ///
    /// # Errors
    /// A thread has failed.
    pub async fn serve(
        mut self,
        listener: TcpListener,
        stop: impl Future<Output = ()>,
    ) -> Result<(), ThreadEnded> {
        let network = Incoming::Tcp(listener);
        let socket = self.socket.take().map(Incoming::Unix);
        // Each socket has its own limits, so that remote clients cannot exhaust those of the Unix socket.
        let [network_limits, socket_limits] = [(); 2].map(|()| SocketLimits {
            connections: ConnectionLimit::new(PlaceLimits::new(
                self.settings.connections,
                self.settings.connections_per_source,
            )),
            handshakes: EvictingLimit::new(self.settings.handshakes),
            keepalive: self.settings.keepalive,
        });
        let local = async {
            match &socket {
                Some(socket) => accept(socket, &socket_limits, &self.threads).await,
                None => pending().await,
            }
        };
        tokio::select! {
            () = stop => {}
            ended = accept(&network, &network_limits, &self.threads) => ended?,
            ended = local => ended?,
            ended = self.ended.all() => ended?,
        }
        drop((network, socket));
        self.close.cancel();
        self.ended.all().await
    }
}
