//! Accepting connections, as many as there may be.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use socket2::{SockRef, TcpKeepalive};
use tokio::{
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::sleep,
};
use tracing::warn;

use super::{
    Keepalive,
    eviction::{EvictingLimit, Slot},
    threads::{ThreadEnded, Threads},
};

/// A client whose host vanished is noticed by the kernel, too.
const TCP_KEEPALIVE: Duration = Duration::from_secs(60);
/// How long to wait after a failure, mostly for lack of file descriptors: trying again at once would take all of a core
/// and change nothing.
const RETRY: Duration = Duration::from_millis(100);

/// A listening socket.
pub(super) enum Incoming {
    /// On the network.
    Tcp(TcpListener),
    /// On this machine.
    Unix(UnixListener),
}

/// The limits of one listening socket: those who come over the network cannot keep out who comes over the Unix socket.
pub(super) struct Limits {
    /// Connections.
    pub(super) connections: Arc<Semaphore>,
    /// Those among them whose handshake is not complete.
    pub(super) handshakes: Arc<EvictingLimit>,
    /// When silent clients are disconnected.
    pub(super) keepalive: Keepalive,
}

/// A connection that was accepted.
pub(super) struct AcceptedConn {
    pub(super) stream: Stream,
    pub(super) permit: OwnedSemaphorePermit,
    pub(super) handshake: Slot,
}

/// Its byte stream, for whatever thread will serve it.
pub(super) enum Stream {
    Tcp(std::net::TcpStream, SocketAddr),
    /// With the client's process, for people.
    Unix(std::os::unix::net::UnixStream, String),
}

/// Accepts connections and hands them to threads, for ever.
///
/// # Errors
/// A thread has ended.
pub(super) async fn accept(
    incoming: &Incoming,
    limits: &Limits,
    threads: &Threads,
) -> Result<(), ThreadEnded> {
    loop {
        // The semaphore is never closed.
        let Ok(permit) = Arc::clone(&limits.connections).acquire_owned().await else { return Ok(()) };
        match incoming.accept(limits.keepalive).await {
            Ok(stream) => {
                // Here, so that the oldest is whoever came first, whichever thread serves it.
                let handshake = limits.handshakes.begin();
                threads.assign(AcceptedConn { stream, permit, handshake }).await?;
            }
            Err(error) => {
                warn!(%error, "a connection could not be accepted");
                sleep(RETRY).await;
            }
        }
    }
}

impl Incoming {
    async fn accept(&self, keepalive: Keepalive) -> io::Result<Stream> {
        match self {
            Self::Tcp(listener) => {
                let (stream, client) = listener.accept().await?;
                Ok(Stream::Tcp(configure(stream, keepalive)?, client))
            }
            Self::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                let client = process(&stream);
                Ok(Stream::Unix(stream.into_std()?, client))
            }
        }
    }
}

fn configure(stream: TcpStream, keepalive: Keepalive) -> io::Result<std::net::TcpStream> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(&stream);
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(TCP_KEEPALIVE))?;
    // HTTP/1.1 has no PING: whoever acknowledges nothing, or has no room, for this long is gone.
    socket.set_tcp_user_timeout(Some(keepalive.interval + keepalive.timeout))?;
    stream.into_std()
}

/// `unix:pid=7,uid=0`: the process that connected.
fn process(stream: &UnixStream) -> String {
    let Ok(client) = stream.peer_cred() else { return "unix".to_owned() };
    let pid = client.pid().map_or_else(String::new, |pid| format!("pid={pid},"));
    format!("unix:{pid}uid={}", client.uid())
}
