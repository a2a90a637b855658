//! One connection: handshake, requests, graceful shutdown.

use std::{
    cell::Cell,
    error::Error,
    future::{Future, poll_fn},
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

/// From accepting a connection to the first request line (HTTP/1.1) or the preface (HTTP/2), TLS included.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Length of the HTTP/2 preface. The handshake is complete after this many bytes.
const PREFACE: usize = 24;
/// Bytes read from a connection per poll of its task. h2 reads as long as there is input, so a flood of small frames
/// would block the thread.
const READ_BUDGET: u64 = 2 * 1024;

/// Why a connection failed.
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
    let deadline = Instant::now() + HANDSHAKE_TIMEOUT;
    let handshake = PendingHandshake { slot: handshake, deadline, close: &worker.shared.close };
    let (client, ended) = match stream {
        Stream::Tcp(stream, address) => {
            (address.to_string(), serve_tcp(&worker, stream, ConnectionInfo::tcp(address), handshake).await)
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
    handshake: PendingHandshake<'_>,
) -> Result<(), ConnectionError> {
    let stream = TcpStream::from_std(stream)?;
    // Wait here, before TLS and HTTP allocate their buffers, so that a silent client costs little.
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
    handshake: PendingHandshake<'_>,
) -> Result<(), ConnectionError> {
    let stream = UnixStream::from_std(stream)?;
    handshake.during(stream.ready(Interest::READABLE)).await?;
    Box::pin(serve_http(worker, stream, info, handshake)).await
}

async fn serve_http<T: AsyncRead + AsyncWrite + Unpin + 'static>(
    worker: &Worker,
    stream: T,
    info: ConnectionInfo,
    PendingHandshake { slot, deadline, close }: PendingHandshake<'_>,
) -> Result<(), ConnectionError> {
    let (evicted, (complete_tx, complete)) = (slot.evicted().clone(), oneshot::channel());
    let budget = Rc::new(Cell::new(READ_BUDGET));
    let handshake = Some((slot, complete_tx));
    let io = ConnectionIo { io: stream.take(READ_BUDGET), budget: Rc::clone(&budget), read: 0, handshake };
    let mut http = pin!(worker.http.serve_connection(TokioIo::new(io), worker.service(info)));
    let until_handshake = poll_fn(|cx| {
        budget.set(READ_BUDGET);
        http.as_mut().poll(cx)
    });
    tokio::select! {
        biased;
        ended = until_handshake => return Ok(ended?),
        _ = complete => {}
        error = handshake_failure(deadline, &evicted, close) => return Err(error),
    }
    let (mut closing, mut is_shut_down) = (worker.closing.add(), false);
    // Checking a flag at each poll is cheaper than a select of two futures.
    let until_closed = poll_fn(|cx| {
        closing.register(cx.waker());
        if worker.is_closing.get() && !is_shut_down {
            is_shut_down = true;
            http.as_mut().graceful_shutdown();
        }
        budget.set(READ_BUDGET);
        http.as_mut().poll(cx)
    });
    Ok(until_closed.await?)
}

/// A handshake that is not complete.
struct PendingHandshake<'a> {
    slot: Slot,
    deadline: Instant,
    close: &'a CancellationToken,
}

impl PendingHandshake<'_> {
    /// Awaits a part of the handshake.
    async fn during<T>(&self, part: impl Future<Output = io::Result<T>>) -> Result<T, ConnectionError> {
        tokio::select! {
            biased;
            done = part => Ok(done?),
            error = handshake_failure(self.deadline, self.slot.evicted(), self.close) => Err(error),
        }
    }
}

/// Resolves when a handshake has to be aborted.
async fn handshake_failure(
    deadline: Instant,
    evicted: &CancellationToken,
    close: &CancellationToken,
) -> ConnectionError {
    tokio::select! {
        biased;
        () = sleep_until(deadline) => ConnectionError::HandshakeTimeout,
        () = evicted.cancelled() => ConnectionError::Evicted,
        () = close.cancelled() => ConnectionError::Stopping,
    }
}

/// A byte stream of which at most [`READ_BUDGET`] bytes are read per poll. The handshake is complete after [`PREFACE`] bytes.
struct ConnectionIo<T> {
    io: Take<T>,
    /// Bytes that may still be read in this poll.
    budget: Rc<Cell<u64>>,
    /// Bytes read during the handshake.
    read: usize,
    handshake: Option<(Slot, oneshot::Sender<()>)>,
}

impl<T: AsyncRead + Unpin> AsyncRead for ConnectionIo<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.budget.get() == 0 {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let (before, budget) = (buf.filled().len(), self.budget.get());
        self.io.set_limit(budget);
        let read = Pin::new(&mut self.io).poll_read(cx, buf);
        self.budget.set(self.io.limit());
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
