//! Taking in clients.

use std::{io, sync::Arc, time::Duration};

use socket2::{SockRef, TcpKeepalive};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::sleep,
};
use tracing::warn;

use super::threads::{ThreadEnded, Threads};

/// A client whose host vanished is noticed by the kernel, too.
const TCP_KEEPALIVE: Duration = Duration::from_secs(60);
/// How long to wait where a client could not be taken in, mostly for lack of file descriptors: trying again at once
/// would take all of a core and change nothing.
const PAUSE: Duration = Duration::from_millis(100);

/// Takes in clients, as many as there are places.
///
/// # Errors
/// A thread has ended.
pub(in crate::grpc) async fn accept(
    listener: &TcpListener,
    places: Arc<Semaphore>,
    threads: &Threads,
) -> Result<(), ThreadEnded> {
    loop {
        // It is never closed.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return Ok(()) };
        match listener.accept().await.and_then(|(stream, client)| Ok((prepare(stream)?, client))) {
            Ok((stream, client)) => threads.admit(stream, client, place).await?,
            Err(error) => {
                warn!(%error, "a client could not be taken in");
                sleep(PAUSE).await;
            }
        }
    }
}

fn prepare(stream: TcpStream) -> io::Result<std::net::TcpStream> {
    stream.set_nodelay(true)?;
    SockRef::from(&stream).set_tcp_keepalive(&TcpKeepalive::new().with_time(TCP_KEEPALIVE))?;
    stream.into_std()
}
