//! One connection: handshake, requests, graceful shutdown.

use std::{
    cell::Cell,
    error::Error,
    future::{Future, poll_fn},
    io,
    pin::{Pin, pin},
    rc::Rc,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, Interest, ReadBuf, Take},
    net::{TcpStream, UnixStream},
    sync::oneshot,
    time::{Instant, MissedTickBehavior, Sleep, interval, sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::{
    accept::{AcceptedConn, Stream},
    admission::Admission,
    eviction::Slot,
    probation::{Probation, TICK, Verdict},
    reads::{ReadTurn, Reads},
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
/// would block the thread. Once it is admitted, the connections of a principal take turns.
const READ_BUDGET: u64 = 2 * 1024;
/// The same before the connection is admitted: some ten requests, which are refused before more are read.
const UNADMITTED_READ_BUDGET: u64 = 128;

/// How long a client that has closed its side of the connection waits for the answers to its requests. A client that is gone
/// cannot be told from it.
const HALF_CLOSED_TIMEOUT: Duration = Duration::from_secs(1);
/// Polls from the last answer to the end of such a connection: hyper needs them to accept what was read, and to write.
const HALF_CLOSED_POLLS: u32 = 3;

/// Why a connection failed.
#[derive(Debug, thiserror::Error)]
enum ConnectionError {
    #[error("no complete handshake within {HANDSHAKE_TIMEOUT:?}")]
    HandshakeTimeout,
    #[error("too many handshakes in flight, of which this was the oldest")]
    Evicted,
    #[error("places for connections have run out, and no request of this one was authorized")]
    Displaced,
    #[error("no request was authorized, and it was idle, did not read, or had too many requests refused")]
    NotAdmitted,
    #[error("its principal has had too many streams on its connections")]
    Excessive,
    #[error("the service stopped before the handshake was complete")]
    Stopping,
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Http(#[from] Box<dyn Error + Send + Sync>),
}

/// Serves a connection to its end.
pub(super) async fn serve(worker: Rc<Worker>, assigned: AssignedConn) {
    let AcceptedConn { stream, place, handshake } = assigned.conn;
    let _guard = assigned.guard;
    let admission = Admission::new(place, Arc::clone(&worker.shared.peak_streams));
    let deadline = Instant::now() + HANDSHAKE_TIMEOUT;
    let handshake = PendingHandshake { slot: handshake, deadline, admission, close: &worker.shared.close };
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
            handshake.during(worker.handshakes.turn()).await?;
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
    handshake: PendingHandshake<'_>,
) -> Result<(), ConnectionError> {
    let PendingHandshake { slot, deadline, admission, close } = handshake;
    let (evicted, (complete_tx, complete)) = (slot.evicted().clone(), oneshot::channel());
    let flow = Rc::<Flow>::default();
    let handshake = Some((slot, complete_tx));
    let io = ConnectionIo {
        io: stream.take(READ_BUDGET),
        flow: Rc::clone(&flow),
        admission: Arc::clone(&admission),
        read: 0,
        handshake,
        half_closed: None,
    };
    let service = worker.service(info, Arc::clone(&admission));
    let mut http = pin!(worker.http.serve_connection(TokioIo::new(io), service));
    let until_handshake = poll_fn(|cx| {
        flow.budget.set(UNADMITTED_READ_BUDGET);
        http.as_mut().poll(cx)
    });
    tokio::select! {
        biased;
        ended = until_handshake => return Ok(ended?),
        _ = complete => {}
        error = handshake_failure(deadline, &evicted, &admission, close) => return Err(error),
    }
    let (mut closing, mut is_shut_down) = (worker.closing.add(), false);
    let mut reads = Reads::default();
    let mut probation = Some(Box::pin(probation(&admission, &flow)));
    // Checking flags at each poll is cheaper than a select of two futures.
    let until_closed = poll_fn(|cx| {
        closing.register(cx.waker());
        if admission.is_admitted() {
            probation = None;
        } else if let Some(probation) = &mut probation
            && let Poll::Ready(error) = probation.as_mut().poll(cx)
        {
            return Poll::Ready(Err(error));
        }
        if admission.is_excessive() {
            return Poll::Ready(Err(ConnectionError::Excessive));
        }
        if (worker.is_closing.get() || admission.has_to_close()) && !is_shut_down {
            is_shut_down = true;
            http.as_mut().graceful_shutdown();
        }
        let Some(turn) = admission.reading() else {
            flow.budget.set(UNADMITTED_READ_BUDGET);
            return http.as_mut().poll(cx).map_err(ConnectionError::from);
        };
        flow.budget.set(READ_BUDGET);
        reads.poll(turn, &flow.turn, cx, |cx| http.as_mut().poll(cx).map_err(ConnectionError::from))
    });
    until_closed.await
}

/// Resolves when a connection that is not admitted has to be closed.
async fn probation(admission: &Admission, flow: &Flow) -> ConnectionError {
    let mut probation = Probation::default();
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            () = admission.place().evicted().cancelled() => return ConnectionError::Displaced,
            _ = ticks.tick() => match probation.tick(admission.observe(flow.is_blocked.get())) {
                Verdict::Stay => {}
                Verdict::Close => admission.close(),
                Verdict::Abort => return ConnectionError::NotAdmitted,
            }
        }
    }
}

/// A handshake that is not complete.
struct PendingHandshake<'a> {
    slot: Slot,
    deadline: Instant,
    admission: Arc<Admission>,
    close: &'a CancellationToken,
}

impl PendingHandshake<'_> {
    /// Awaits a part of the handshake.
    async fn during<T>(&self, part: impl Future<Output = io::Result<T>>) -> Result<T, ConnectionError> {
        let Self { slot, deadline, admission, close } = self;
        tokio::select! {
            // A handshake that was aborted in the queue of its thread costs nothing.
            biased;
            error = handshake_failure(*deadline, slot.evicted(), admission, close) => Err(error),
            done = part => Ok(done?),
        }
    }
}

/// Resolves when a handshake has to be aborted.
async fn handshake_failure(
    deadline: Instant,
    evicted: &CancellationToken,
    admission: &Admission,
    close: &CancellationToken,
) -> ConnectionError {
    tokio::select! {
        biased;
        () = sleep_until(deadline) => ConnectionError::HandshakeTimeout,
        () = evicted.cancelled() => ConnectionError::Evicted,
        () = admission.place().evicted().cancelled() => ConnectionError::Displaced,
        () = close.cancelled() => ConnectionError::Stopping,
    }
}

/// What a connection and its byte stream share.
#[derive(Default)]
struct Flow {
    turn: Cell<ReadTurn>,
    /// Bytes that may still be read in this poll.
    budget: Cell<u64>,
    /// The kernel takes no more, because the client does not read.
    is_blocked: Cell<bool>,
}

impl Flow {
    /// Notes whether the kernel took what was written, and reads on if it does so again.
    fn note_write<T>(&self, written: Poll<T>, cx: &Context<'_>) -> Poll<T> {
        if self.is_blocked.replace(written.is_pending()) && written.is_ready() {
            cx.waker().wake_by_ref();
        }
        written
    }
}

/// A byte stream of which only so many bytes are read per poll. A client that is not admitted has to read what it was sent
/// before more is read from it, and nothing is once too many of its requests were refused. The handshake is complete after [`PREFACE`] bytes.
struct ConnectionIo<T> {
    io: Take<T>,
    flow: Rc<Flow>,
    admission: Arc<Admission>,
    /// Bytes read during the handshake.
    read: usize,
    handshake: Option<(Slot, oneshot::Sender<()>)>,
    half_closed: Option<Box<HalfClosed>>,
}

/// The client sends no more.
struct HalfClosed {
    timeout: Pin<Box<Sleep>>,
    polls: u32,
}

impl HalfClosed {
    fn new() -> Box<Self> {
        Box::new(Self { timeout: Box::pin(sleep(HALF_CLOSED_TIMEOUT)), polls: 0 })
    }

    /// Resolves when the answers to its requests are written.
    fn poll(&mut self, admission: &Admission, flow: &Flow, cx: &mut Context<'_>) -> Poll<()> {
        if self.timeout.as_mut().poll(cx).is_ready() || self.polls >= HALF_CLOSED_POLLS {
            return Poll::Ready(());
        }
        if admission.is_answering() || flow.is_blocked.get() {
            self.polls = 0;
        } else {
            self.polls += 1;
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for ConnectionIo<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let budget = self.flow.budget.get();
        if self.flow.turn.get() == ReadTurn::Needed {
            self.flow.turn.set(ReadTurn::Wanted);
            return Poll::Pending;
        }
        if budget == 0 {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if !self.admission.is_admitted() && (self.flow.is_blocked.get() || self.admission.is_refused()) {
            // Woken when the kernel takes more, or not at all.
            return Poll::Pending;
        }
        let this = &mut *self;
        if let Some(half_closed) = &mut this.half_closed {
            return half_closed.poll(&this.admission, &this.flow, cx).map(Ok);
        }
        let before = buf.filled().len();
        self.io.set_limit(budget);
        let read = Pin::new(&mut self.io).poll_read(cx, buf);
        self.flow.budget.set(self.io.limit());
        if self.io.limit() < budget && self.flow.turn.get() == ReadTurn::Free {
            self.flow.turn.set(ReadTurn::Used(Instant::now()));
        }
        if self.handshake.is_some() {
            self.read += buf.filled().len() - before;
            if self.read >= PREFACE
                && let Some((handshake, complete)) = self.handshake.take()
            {
                drop(handshake);
                let _ = complete.send(());
            }
        }
        if matches!(read, Poll::Ready(Ok(()))) && buf.filled().len() == before && buf.remaining() > 0 {
            let this = &mut *self;
            let half_closed = this.half_closed.insert(HalfClosed::new());
            return half_closed.poll(&this.admission, &this.flow, cx).map(Ok);
        }
        read
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncWrite for ConnectionIo<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(self.io.get_mut()).poll_write(cx, buf);
        self.flow.note_write(written, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(self.io.get_mut()).poll_write_vectored(cx, bufs);
        self.flow.note_write(written, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.get_ref().is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(self.io.get_mut()).poll_flush(cx);
        self.flow.note_write(flushed, cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.io.get_mut()).poll_shutdown(cx)
    }
}
