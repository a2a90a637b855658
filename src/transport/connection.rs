//! Frames over a byte stream.
//!
//! A [`Connection`] owns the stream, the bytes of a frame that is not complete, and what has not been written
//! yet. It reads nothing while it has much to write: a peer that asks and does not read the answers is left
//! waiting, and in the end has not been heard for too long. An idle connection holds no buffer.

use std::{
    collections::VecDeque,
    future::poll_fn,
    io, mem,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::{
    io::{AsyncRead as _, AsyncWrite as _, ReadBuf},
    task::coop,
};

use super::{ByteStream, connector::lower};
use crate::{
    opflex::{FrameDecoder, FrameError},
    tls,
};

/// Bytes read at a time, on the stack of whoever polls.
const READ_SIZE: usize = 8 * 1024;
/// With more than this to write, nothing is read. Together with what one more frame can add in small parts, it is
/// what a connection holds beside one frame.
const WRITE_HIGH_WATER: usize = 16 * 1024;
/// Parts of more bytes than this are written from the frame that they are slices of.
const SHARED_FROM: usize = 8 * 1024;

/// What came over a connection.
#[derive(Debug)]
pub enum Event {
    /// A frame, without its NUL.
    Frame(Bytes),
    /// More bytes than a frame may have.
    Overran(FrameError),
    /// The end. The text says how, for people.
    Lost(String),
    /// An alert of TLS, or bytes that break it. The text says which, for people.
    TlsFailed(String),
}

/// A byte stream that carries frames.
pub struct Connection {
    stream: Box<dyn ByteStream>,
    decoder: FrameDecoder,
    unwritten: Unwritten,
    /// Why nothing can be written any more.
    broken: Option<String>,
}

impl Connection {
    /// Carries frames of at most `frame_limit` bytes over a stream.
    #[must_use]
    pub fn new(stream: Box<dyn ByteStream>, frame_limit: usize) -> Self {
        Self {
            stream,
            decoder: FrameDecoder::new(frame_limit),
            unwritten: Unwritten::default(),
            broken: None,
        }
    }

    /// Puts bytes in line to be written by [`Connection::next`].
    pub fn send(&mut self, bytes: impl IntoIterator<Item = Bytes>) {
        if self.broken.is_none() {
            bytes.into_iter().for_each(|part| self.unwritten.add(part));
        }
    }

    /// Writes what is in line, and waits for what comes. Nothing is lost if the future is dropped.
    pub async fn next(&mut self) -> Event {
        // One read can hold thousands of frames: other tasks have their turn between them.
        coop::consume_budget().await;
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// Writes as much of what is in line as goes without waiting, and hangs up; with TLS, as TLS wants it.
    pub async fn close(mut self) {
        poll_fn(|cx| {
            self.write(cx);
            // The peer may have gone already, or read too slowly: either way it is the end.
            let _ = Pin::new(&mut self.stream).poll_shutdown(cx);
            Poll::Ready(())
        })
        .await;
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        self.write(cx);
        loop {
            match self.decoder.next_frame() {
                Ok(Some(frame)) => return Poll::Ready(Event::Frame(frame)),
                Ok(None) => {}
                Err(error) => return Poll::Ready(Event::Overran(error)),
            }
            if self.unwritten.is_much() {
                return Poll::Pending;
            }
            match ready!(self.poll_read(cx)) {
                Ok(0) => return Poll::Ready(self.ended()),
                Ok(_) => {}
                // Without the goodbye of TLS. A frame that is cut off is noticed as without TLS.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    return Poll::Ready(self.ended());
                }
                Err(error) => {
                    let lost = || Event::Lost(lower(&error));
                    return Poll::Ready(tls::explain(&error).map_or_else(lost, Event::TlsFailed));
                }
            }
        }
    }

    fn ended(&mut self) -> Event {
        let how = self.broken.take();
        Event::Lost(how.unwrap_or_else(|| "the peer closed the connection".into()))
    }

    /// A failure to write is not the end: what the peer said before it went is still to be read, and after
    /// that comes the end.
    fn write(&mut self, cx: &mut Context<'_>) {
        if let Poll::Ready(Err(error)) = self.poll_write(cx) {
            self.broken.get_or_insert(lower(&error));
            self.unwritten = Unwritten::default();
        }
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut space = [mem::MaybeUninit::uninit(); READ_SIZE];
        let mut buffer = ReadBuf::uninit(&mut space);
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer))?;
        self.decoder.push(buffer.filled());
        Poll::Ready(Ok(buffer.filled().len()))
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(bytes) = self.unwritten.first() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(cx, bytes))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.unwritten.advance(written);
        }
        Pin::new(&mut self.stream).poll_flush(cx)
    }
}

/// What is in line to be written. Answers are slices of the frames that they answer: small parts are copied, since
/// a few bytes could keep megabytes alive and one write is to take many of them; large ones are not, since a frame
/// of megabytes is not to be there twice.
#[derive(Default)]
struct Unwritten {
    /// What comes before `copied`.
    parts: VecDeque<Bytes>,
    copied: BytesMut,
}

impl Unwritten {
    fn add(&mut self, part: Bytes) {
        if part.len() <= SHARED_FROM {
            self.copied.extend_from_slice(&part);
            return;
        }
        if !self.copied.is_empty() {
            self.parts.push_back(mem::take(&mut self.copied).freeze());
        }
        self.parts.push_back(part);
    }

    /// Whether there is so much that nothing more is to be read. A frame that is kept for its parts is much.
    fn is_much(&self) -> bool {
        !self.parts.is_empty() || self.copied.len() > WRITE_HIGH_WATER
    }

    fn first(&self) -> Option<&[u8]> {
        let first = self.parts.front().map_or(self.copied.as_ref(), Bytes::as_ref);
        (!first.is_empty()).then_some(first)
    }

    /// Takes off so many bytes of the first part.
    fn advance(&mut self, written: usize) {
        let Some(part) = self.parts.front_mut() else {
            self.copied.advance(written);
            if self.copied.is_empty() {
                self.copied = BytesMut::new();
            }
            return;
        };
        part.advance(written);
        if part.is_empty() {
            self.parts.pop_front();
            self.parts.shrink_to_fit();
        }
    }
}
