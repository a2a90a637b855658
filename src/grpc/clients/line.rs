//! A client's byte stream.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes that wait to be written at which no more answers are added.
pub(super) const FULL: usize = 64 * 1024;
/// The same at which the client is not listened to any more: it asks, and does not read what it is told.
const OVERFULL: usize = 2 * FULL;

/// The byte stream, with what waits to be written.
pub(super) struct Line<T> {
    io: T,
    /// What there is to write. The thread lends a buffer for a turn; what is left after that is kept in one of its own.
    pub(super) out: Vec<u8>,
    /// How much of it is written.
    written: usize,
    is_lent: bool,
    is_blocked: bool,
}

impl<T: AsyncRead + AsyncWrite + Unpin> Line<T> {
    pub(super) fn new(io: T, out: Vec<u8>) -> Self {
        Self { io, out, written: 0, is_lent: false, is_blocked: false }
    }

    /// Takes a buffer, if it has none of its own.
    pub(super) fn borrow(&mut self, buffer: impl FnOnce() -> Vec<u8>) {
        if self.out.is_empty() {
            self.out = buffer();
            self.is_lent = true;
        }
    }

    /// Gives it back, and keeps what is in it.
    pub(super) fn give_back(&mut self, to: impl FnOnce(Vec<u8>)) {
        if std::mem::take(&mut self.is_lent) {
            let mut buffer = std::mem::take(&mut self.out);
            self.out.extend_from_slice(buffer.get(self.written..).unwrap_or_default());
            self.written = 0;
            buffer.clear();
            to(buffer);
        } else if self.written * 2 >= self.out.len() {
            // A client that asks and reads at the same pace never has all of it, and what it has is not to pile up.
            self.out = self.out.split_off(self.written);
            self.written = 0;
        }
    }

    /// Whether the client has left so much unread that it can't be sent more.
    pub(super) const fn is_blocked(&self) -> bool {
        self.is_blocked
    }

    /// Whether no more answers are to be added.
    pub(super) const fn is_full(&self) -> bool {
        self.out.len() - self.written >= FULL
    }

    /// Whether nothing is to be added.
    pub(super) const fn is_overfull(&self) -> bool {
        self.out.len() - self.written >= OVERFULL
    }

    /// Reads what there is. Nothing is the end.
    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut buffer = ReadBuf::new(buffer);
        Pin::new(&mut self.io).poll_read(cx, &mut buffer).map_ok(|()| buffer.filled().len())
    }

    /// Writes what there is room for. Returns how many bytes that was.
    pub(super) fn write(&mut self, cx: &mut Context<'_>) -> io::Result<usize> {
        let before = self.written;
        self.is_blocked = false;
        while let Some(rest) = self.out.get(self.written..).filter(|rest| !rest.is_empty()) {
            match Pin::new(&mut self.io).poll_write(cx, rest) {
                Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(written) => self.written += written?,
                Poll::Pending => {
                    self.is_blocked = true;
                    break;
                }
            }
        }
        let written = self.written - before;
        // TLS takes what is written, and finds out only here that there is no room for it.
        self.is_blocked |= Pin::new(&mut self.io).poll_flush(cx)?.is_pending();
        if self.written == self.out.len() {
            self.out.clear();
            self.written = 0;
        }
        Ok(written)
    }

    /// Says that nothing more will be written.
    pub(super) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::task::Waker;

    use super::*;

    /// A client that reads so much at a time.
    struct Slow(usize, Vec<u8>);

    impl AsyncRead for Slow {
        fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }

    impl AsyncWrite for Slow {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            let taken = bytes.len().min(self.0);
            if taken == 0 {
                return Poll::Pending;
            }
            self.0 -= taken;
            self.1.extend_from_slice(&bytes[..taken]);
            Poll::Ready(Ok(taken))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    /// One turn, in which so many bytes are added and so many are read.
    fn turn(line: &mut Line<Slow>, said: &mut impl Iterator<Item = u8>, added: usize, read: usize) -> usize {
        line.borrow(Vec::new);
        line.out.extend(said.take(added));
        line.io.0 = read;
        let written = line.write(&mut Context::from_waker(Waker::noop())).unwrap();
        line.give_back(drop);
        written
    }

    #[test]
    fn what_was_read_is_not_kept_for_the_sake_of_what_was_not() {
        let mut line = Line::new(Slow(0, Vec::new()), Vec::new());
        let mut said = (0..=u8::MAX).cycle();
        assert_eq!(turn(&mut line, &mut said, 10_000, 0), 0);
        assert!(line.is_blocked());
        for _ in 0..1_000 {
            assert_eq!(turn(&mut line, &mut said, 1_000, 1_000), 1_000);
            assert!(line.out.len() <= 20_000 && line.out.capacity() <= 50_000, "{}", line.out.capacity());
            assert!(line.is_blocked() && !line.is_full());
        }
        assert_eq!(turn(&mut line, &mut said, 0, usize::MAX), 10_000);
        assert!(!line.is_blocked() && line.out.capacity() == 0);
        assert_eq!(line.io.1, (0..=u8::MAX).cycle().take(1_010_000).collect::<Vec<_>>());
    }
}
