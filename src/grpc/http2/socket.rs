//! A client's byte stream, for h2.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Instant,
};

use super::{
    line::{Doorbell, Line},
    meter::Meter,
};

/// The byte stream.
pub(super) struct Socket<T> {
    inner: T,
    line: Arc<Line>,
    doorbell: Waker,
    meter: Meter,
}

impl<T> Socket<T> {
    pub(super) fn new(inner: T) -> (Self, Arc<Line>) {
        let line = Line::new();
        let doorbell = Waker::from(Arc::new(Doorbell(Arc::clone(&line))));
        (Self { inner, line: Arc::clone(&line), doorbell, meter: Meter::new(Instant::now()) }, line)
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Socket<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { inner, line, doorbell, meter } = self.get_mut();
        let before = buffer.filled().len();
        if line.is_up() {
            if !line.may_read() {
                return Poll::Pending;
            }
            ready!(Pin::new(inner).poll_read(&mut Context::from_waker(doorbell), buffer))?;
            line.took_in(buffer.filled().len() - before);
        } else {
            ready!(Pin::new(inner).poll_read(cx, buffer))?;
        }
        if !meter.heard(buffer.filled().get(before..).unwrap_or_default(), Instant::now()) {
            line.set_flooded();
        }
        Poll::Ready(Ok(()))
    }
}

/// Not vectored: h2 then copies frames as short as ours into one buffer, and one `write` costs less than a `writev` of
/// two pieces.
impl<T: AsyncWrite + Unpin> AsyncWrite for Socket<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write(cx, bytes);
        self.line.set_blocked(written.is_pending());
        if let Poll::Ready(Ok(bytes)) = written {
            self.meter.said(bytes);
        }
        written
    }

    /// TLS takes what is written, and finds out only here that there is no room for it.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.inner).poll_flush(cx);
        self.line.set_blocked(flushed.is_pending());
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
