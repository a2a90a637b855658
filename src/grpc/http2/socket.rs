//! A client's byte stream, and what can be seen of it from outside while h2 has it.

use std::{
    cell::Cell,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Instant,
};

/// Bytes that are taken in before what they ask for is begun: h2 keeps everything that it has read and nobody has
/// taken, and the memory for that stays with the connection.
const AT_A_TIME: usize = 4 * 1024;

/// The byte stream.
pub(super) struct Socket<T> {
    inner: T,
    seen: Rc<Seen>,
}

/// What is seen of it.
pub(super) struct Seen {
    heard: Cell<Instant>,
    blocked: Cell<bool>,
    allowed: Cell<usize>,
}

impl Seen {
    /// When the client last said something.
    pub(super) fn heard(&self) -> Instant {
        self.heard.get()
    }

    /// Whether the client has left so much unread that it can't be sent more.
    pub(super) fn is_blocked(&self) -> bool {
        self.blocked.get()
    }

    /// Lets the next bytes in.
    pub(super) fn admit(&self) {
        self.allowed.set(AT_A_TIME);
    }
}

impl<T> Socket<T> {
    pub(super) fn new(inner: T) -> (Self, Rc<Seen>) {
        let seen = Seen {
            heard: Cell::new(Instant::now()),
            blocked: Cell::new(false),
            allowed: Cell::new(AT_A_TIME),
        };
        let seen = Rc::new(seen);
        (Self { inner, seen: Rc::clone(&seen) }, seen)
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Socket<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let allowed = self.seen.allowed.get();
        if allowed == 0 {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let room = allowed.min(buffer.remaining());
        let mut part = ReadBuf::new(buffer.initialize_unfilled_to(room));
        ready!(Pin::new(&mut self.inner).poll_read(cx, &mut part))?;
        let read = part.filled().len();
        buffer.advance(read);
        self.seen.allowed.set(allowed - read);
        self.seen.heard.set(Instant::now());
        Poll::Ready(Ok(()))
    }
}

/// Not vectored: h2 then copies frames as short as ours into one buffer, and one `write` costs less than a `writev` of
/// two pieces.
impl<T: AsyncWrite + Unpin> AsyncWrite for Socket<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write(cx, bytes);
        self.seen.blocked.set(written.is_pending());
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
