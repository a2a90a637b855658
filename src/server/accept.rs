//! Accepts connections within limits.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use socket2::{SockRef, TcpKeepalive};
use tokio::{
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    time::sleep,
};
use tracing::warn;

use super::{
    Keepalive,
    connection_limit::{ConnectionLimit, Place},
    eviction::{EvictingLimit, Slot},
    source::Source,
    threads::{ThreadEnded, Threads},
};

/// Lets the kernel notice a client whose host vanished.
const TCP_KEEPALIVE: Duration = Duration::from_secs(60);
/// Bytes that the kernel takes for a client and has not sent. Without a limit, it takes megabytes for each that does not read.
const UNSENT_LIMIT: u32 = 32 * 1024;
/// Delay after a failed accept. The usual cause, too few file descriptors, lasts until something is closed.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(100);

/// A listening socket.
pub(super) enum Incoming {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// The limits of one listening socket.
pub(super) struct SocketLimits {
    pub(super) connections: Arc<ConnectionLimit>,
    pub(super) handshakes: Arc<EvictingLimit>,
    pub(super) keepalive: Keepalive,
}

/// An accepted connection, with its place and its handshake slot.
pub(super) struct AcceptedConn {
    pub(super) stream: Stream,
    pub(super) place: Place,
    pub(super) handshake: Slot,
}

/// Its byte stream, not yet registered with the runtime of a thread.
pub(super) enum Stream {
    Tcp(std::net::TcpStream, SocketAddr),
    /// With the process of the client, as text.
    Unix(std::os::unix::net::UnixStream, String),
}

/// Accepts connections and assigns them to threads, forever.
///
/// # Errors
/// A thread has ended.
pub(super) async fn accept(
    incoming: &Incoming,
    limits: &SocketLimits,
    threads: &Threads,
) -> Result<(), ThreadEnded> {
    loop {
        limits.connections.room().await;
        match incoming.accept(limits.keepalive).await {
            Ok(stream) => {
                // Without a place, it is closed.
                let source = stream.source();
                let Ok(place) = limits.connections.take(source).await else { continue };
                // Taken here, so that slots are ordered by time of accept, whichever thread serves the connection.
                let handshake = limits.handshakes.begin(source);
                threads.assign(AcceptedConn { stream, place, handshake }).await?;
            }
            Err(error) => {
                warn!(%error, "cannot accept a connection");
                sleep(ACCEPT_RETRY_DELAY).await;
            }
        }
    }
}

impl Stream {
    fn source(&self) -> Source {
        match self {
            Self::Tcp(_, client) => Source::of(client.ip()),
            Self::Unix(..) => Source::Local,
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
    socket.set_tcp_notsent_lowat(UNSENT_LIMIT)?;
    // HTTP/1.1 has no PING: closes connections whose client acknowledges nothing, or does not read, for this long.
    socket.set_tcp_user_timeout(Some(keepalive.interval + keepalive.timeout))?;
    stream.into_std()
}

/// `unix:pid=7,uid=0`: the process that connected.
fn process(stream: &UnixStream) -> String {
    let Ok(client) = stream.peer_cred() else { return "unix".to_owned() };
    let pid = client.pid().map_or_else(String::new, |pid| format!("pid={pid},"));
    format!("unix:{pid}uid={}", client.uid())
}
