//! Taking in clients.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use socket2::{SockRef, TcpKeepalive};
use tokio::{
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::sleep,
};
use tracing::warn;

use super::{
    handshakes::{Handshake, Handshakes},
    threads::{ThreadEnded, Threads},
};

/// A client whose host vanished is noticed by the kernel, too.
const TCP_KEEPALIVE: Duration = Duration::from_secs(60);
/// How long to wait where a client could not be taken in, mostly for lack of file descriptors: trying again at once
/// would take all of a core and change nothing.
const PAUSE: Duration = Duration::from_millis(100);

/// Where clients come in.
pub(in crate::grpc) enum Incoming {
    /// Over the network.
    Tcp(TcpListener),
    /// From this machine, through a file.
    Unix(UnixListener),
}

/// The bounds on those who come in one way.
#[derive(Clone)]
pub(in crate::grpc) struct Bounds {
    /// How many there may be.
    pub(in crate::grpc) places: Arc<Semaphore>,
    /// Those who have not said anything yet.
    pub(in crate::grpc) silent: Arc<Handshakes>,
    /// Those who have not said yet what they want.
    pub(in crate::grpc) handshakes: Arc<Handshakes>,
}

/// A client that has connected.
pub(super) struct Visitor {
    pub(super) stream: Stream,
    /// Its place among the connections that there may be.
    pub(super) place: OwnedSemaphorePermit,
    /// Its place among those who have not said anything.
    pub(super) silent: Handshake,
    /// Where it goes from there.
    pub(super) handshakes: Arc<Handshakes>,
}

/// Its byte stream, for whatever thread will carry it.
pub(super) enum Stream {
    Tcp(std::net::TcpStream, SocketAddr),
    /// With who it is, for people.
    Unix(std::os::unix::net::UnixStream, String),
}

/// Takes in clients, as many as there are places.
///
/// # Errors
/// A thread has ended.
pub(in crate::grpc) async fn accept(
    incoming: &Incoming,
    bounds: Bounds,
    threads: &Threads,
) -> Result<(), ThreadEnded> {
    loop {
        // It is never closed.
        let Ok(place) = Arc::clone(&bounds.places).acquire_owned().await else { return Ok(()) };
        match incoming.accept().await {
            Ok(stream) => {
                let silent = bounds.silent.begin().await;
                let handshakes = Arc::clone(&bounds.handshakes);
                threads.admit(Visitor { stream, place, silent, handshakes }).await?;
            }
            Err(error) => {
                warn!(%error, "a client could not be taken in");
                sleep(PAUSE).await;
            }
        }
    }
}

impl Incoming {
    async fn accept(&self) -> io::Result<Stream> {
        match self {
            Self::Tcp(listener) => {
                let (stream, client) = listener.accept().await?;
                Ok(Stream::Tcp(prepare(stream)?, client))
            }
            Self::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                let who = who(&stream);
                Ok(Stream::Unix(stream.into_std()?, who))
            }
        }
    }
}

fn prepare(stream: TcpStream) -> io::Result<std::net::TcpStream> {
    stream.set_nodelay(true)?;
    SockRef::from(&stream).set_tcp_keepalive(&TcpKeepalive::new().with_time(TCP_KEEPALIVE))?;
    stream.into_std()
}

/// `unix:pid=7,uid=0`: the process that connected.
fn who(stream: &UnixStream) -> String {
    let Ok(who) = stream.peer_cred() else { return "unix".to_owned() };
    let pid = who.pid().map_or_else(String::new, |pid| format!("pid={pid},"));
    format!("unix:{pid}uid={}", who.uid())
}
