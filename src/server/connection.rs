//! One connection: handshake, requests, graceful shutdown.

use std::{
    cell::Cell,
    error::Error,
    future::Future,
    io,
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, Interest, ReadBuf, Take},
    net::{TcpStream, UnixStream},
    sync::oneshot,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::{
    accept::{AcceptedConn, Stream},
    eviction::Slot,
    threads::AssignedConn,
    tls,
    worker::Worker,
};
use crate::auth::ConnectionInfo;

/// From the connection to the first request line of HTTP/1.1, or the preface of HTTP/2, TLS included.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes after which the handshake is complete: the preface of HTTP/2.
const PREFACE: usize = 24;
/// Bytes that are read of a connection each time that its task is polled. h2 reads on for as long as there is anything,
/// and a client that floods it with small frames would hold up the thread.
const TURN: u64 = 2 * 1024;

/// Why a connection ended, if not in order.
#[derive(Debug, thiserror::Error)]
enum ConnectionError {
    #[error("no complete handshake within {HANDSHAKE_TIMEOUT:?}")]
    HandshakeTimeout,
    #[error("too many handshakes in flight, of which this was the oldest")]
    Evicted,
    #[error("the service stopped before the handshake was complete")]
    Stopping,
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Http(#[from] Box<dyn Error + Send + Sync>),
}

/// Serves a connection to its end.
pub(super) async fn serve(worker: Rc<Worker>, assigned: AssignedConn) {
    let AcceptedConn { stream, permit: _permit, handshake } = assigned.conn;
    let _guard = assigned.guard;
    let handshake = PendingHandshake {
        handshake,
        deadline: Instant::now() + HANDSHAKE_TIMEOUT,
        close: worker.shared.close.clone(),
    };
    let (client, ended) = match stream {
        Stream::Tcp(stream, address) => {
            let info = ConnectionInfo::tcp(address);
            (address.to_string(), serve_tcp(&worker, stream, info, handshake).await)
        }
        Stream::Unix(stream, client) => {
            let info = ConnectionInfo::unix(&client);
            (client, serve_unix(&worker, stream, info, handshake).await)
        }
    };
    if let Err(error) = ended {
        debug!(client, %error, "connection ended");
    }
}

async fn serve_tcp(
    worker: &Worker,
    stream: std::net::TcpStream,
    info: ConnectionInfo,
    handshake: PendingHandshake,
) -> Result<(), ConnectionError> {
    let stream = TcpStream::from_std(stream)?;
    // A silent client costs no more than this.
    handshake.during(stream.ready(Interest::READABLE)).await?;
    match worker.shared.access.tls() {
        None => Box::pin(serve_http(worker, stream, info, handshake)).await,
        Some(tls) => {
            let (stream, info) = Box::pin(handshake.during(tls::accept(stream, info, &tls))).await?;
            Box::pin(serve_http(worker, stream, info, handshake)).await
        }
    }
}

async fn serve_unix(
    worker: &Worker,
    stream: std::os::unix::net::UnixStream,
    info: ConnectionInfo,
    handshake: PendingHandshake,
) -> Result<(), ConnectionError> {
    let stream = UnixStream::from_std(stream)?;
    handshake.during(stream.ready(Interest::READABLE)).await?;
    Box::pin(serve_http(worker, stream, info, handshake)).await
}

async fn serve_http<T: AsyncRead + AsyncWrite + Unpin + 'static>(
    worker: &Worker,
    stream: T,
    info: ConnectionInfo,
    handshake: PendingHandshake,
) -> Result<(), ConnectionError> {
    let PendingHandshake { handshake, deadline, close } = handshake;
    let (evicted, (complete_tx, complete)) = (handshake.evicted().clone(), oneshot::channel());
    let turn = Rc::new(Cell::new(TURN));
    let handshake = Some((handshake, complete_tx));
    let io = ConnectionIo { io: stream.take(TURN), turn: Rc::clone(&turn), read: 0, handshake };
    let http = pin!(worker.http.serve_connection(TokioIo::new(io), worker.service(info)));
    let mut http = InTurn { connection: http, turn };
    tokio::select! {
        biased;
        ended = &mut http => return Ok(ended?),
        _ = complete => {}
        () = sleep_until(deadline) => return Err(ConnectionError::HandshakeTimeout),
        () = evicted.cancelled() => return Err(ConnectionError::Evicted),
        () = close.cancelled() => return Err(ConnectionError::Stopping),
    }
    Ok(worker.until_closed(pin!(http), |mut http| http.connection.as_mut().graceful_shutdown()).await?)
}

/// A connection that reads no more than [`TURN`] bytes each time that it is polled.
struct InTurn<'a, T> {
    connection: Pin<&'a mut T>,
    /// Bytes that are left.
    turn: Rc<Cell<u64>>,
}

impl<T: Future> Future for InTurn<'_, T> {
    type Output = T::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T::Output> {
        self.turn.set(TURN);
        self.connection.as_mut().poll(cx)
    }
}

/// A handshake, and what ends it.
struct PendingHandshake {
    handshake: Slot,
    deadline: Instant,
    close: CancellationToken,
}

impl PendingHandshake {
    /// Does a part of the handshake.
    async fn during<T>(&self, part: impl Future<Output = io::Result<T>>) -> Result<T, ConnectionError> {
        tokio::select! {
            biased;
            done = part => Ok(done?),
            () = sleep_until(self.deadline) => Err(ConnectionError::HandshakeTimeout),
            () = self.handshake.evicted().cancelled() => Err(ConnectionError::Evicted),
            () = self.close.cancelled() => Err(ConnectionError::Stopping),
        }
    }
}

/// A byte stream that is read in turn with others. Its handshake is complete once enough was read from it.
struct ConnectionIo<T> {
    /// Limited to what is left of this turn.
    io: Take<T>,
    turn: Rc<Cell<u64>>,
    /// Bytes that were read during the handshake.
    read: usize,
    handshake: Option<(Slot, oneshot::Sender<()>)>,
}

impl<T: AsyncRead + Unpin> AsyncRead for ConnectionIo<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.turn.get() == 0 {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let (before, turn) = (buf.filled().len(), self.turn.get());
        self.io.set_limit(turn);
        let read = Pin::new(&mut self.io).poll_read(cx, buf);
        self.turn.set(self.io.limit());
        if self.handshake.is_some() {
            self.read += buf.filled().len() - before;
            if self.read >= PREFACE
                && let Some((handshake, complete)) = self.handshake.take()
            {
                drop(handshake);
                let _ = complete.send(());
            }
        }
        read
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncWrite for ConnectionIo<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(self.io.get_mut()).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(self.io.get_mut()).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.get_ref().is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.io.get_mut()).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.io.get_mut()).poll_shutdown(cx)
    }
}
