//! Frames over a byte stream.
//!
//! Backpressure: a [`Connection`] does not read while much is queued for writing, so a peer that does not read its
//! answers runs into the keepalive timeout. An idle connection holds no buffer.

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
    opflex::{FrameDecoder, FrameTooLong},
    peer::CLOSED,
    tls,
};

/// Size of a read; the buffer is on the stack.
const READ_SIZE: usize = 8 * 1024;
/// Nothing is read while more bytes than this are queued for writing.
const WRITE_HIGH_WATER: usize = 16 * 1024;
/// Smaller segments are copied into the queue, larger ones shared.
const SHARED_FROM: usize = 8 * 1024;

/// An event of a connection: a frame, or how it ended.
#[derive(Debug)]
pub enum ConnectionEvent {
    /// A frame, without its NUL.
    Frame(Bytes),
    /// The peer exceeded the frame limit.
    Overran(FrameTooLong),
    /// The stream ended or failed, with a human-readable reason.
    Lost(String),
    /// TLS failed, with a human-readable reason.
    TlsFailed(String),
}

/// A byte stream that carries frames.
pub struct Connection {
    stream: Box<dyn ByteStream>,
    decoder: FrameDecoder,
    queue: WriteQueue,
    write_error: Option<String>,
}

impl Connection {
    /// Carries frames of at most `frame_limit` bytes over a stream.
    #[must_use]
    pub fn new(stream: Box<dyn ByteStream>, frame_limit: usize) -> Self {
        let decoder = FrameDecoder::new(frame_limit);
        Self { stream, decoder, queue: WriteQueue::default(), write_error: None }
    }

    /// Queues segments, which [`Connection::next`] writes.
    pub fn send(&mut self, bytes: impl IntoIterator<Item = Bytes>) {
        if self.write_error.is_none() {
            bytes.into_iter().for_each(|segment| self.queue.push(segment));
        }
    }

    /// Writes the queue and waits for the next event. Cancel-safe.
    pub async fn next(&mut self) -> ConnectionEvent {
        // One read can contain thousands of frames: yield to other tasks between them.
        coop::consume_budget().await;
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// Writes as much of the queue as possible without waiting, and shuts the stream down.
    pub async fn close(mut self) {
        poll_fn(|cx| {
            self.write(cx);
            let _ = Pin::new(&mut self.stream).poll_shutdown(cx);
            Poll::Ready(())
        })
        .await;
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<ConnectionEvent> {
        self.write(cx);
        loop {
            match self.decoder.next_frame() {
                Ok(Some(frame)) => return Poll::Ready(ConnectionEvent::Frame(frame)),
                Ok(None) => {}
                Err(error) => return Poll::Ready(ConnectionEvent::Overran(error)),
            }
            if self.queue.is_over_high_water() {
                return Poll::Pending;
            }
            match ready!(self.poll_read(cx)) {
                Ok(count) if count > 0 => {}
                // EOF without close_notify is no attack: a truncated frame is never delivered.
                Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => {
                    let lost = || ConnectionEvent::Lost(lower(&error));
                    return Poll::Ready(tls::explain(&error).map_or_else(lost, ConnectionEvent::TlsFailed));
                }
                Ok(_) | Err(_) => {
                    let closed = || CLOSED.into();
                    return Poll::Ready(ConnectionEvent::Lost(
                        self.write_error.take().unwrap_or_else(closed),
                    ));
                }
            }
        }
    }

    /// Keeps a write error until the frames that the peer sent before it are read.
    fn write(&mut self, cx: &mut Context<'_>) {
        if let Poll::Ready(Err(error)) = self.poll_write(cx) {
            self.write_error.get_or_insert(lower(&error));
            self.queue = WriteQueue::default();
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
        while let Some(bytes) = self.queue.front() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(cx, bytes))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.queue.advance(written);
        }
        Pin::new(&mut self.stream).poll_flush(cx)
    }
}

/// Segments to write. Answers share the memory of the frames they answer: small segments are copied, to batch writes
/// and not to keep a large frame in memory for a few bytes; large ones are not, to keep only one copy.
#[derive(Default)]
struct WriteQueue {
    /// Precedes `copied`.
    shared: VecDeque<Bytes>,
    copied: BytesMut,
}

impl WriteQueue {
    fn push(&mut self, segment: Bytes) {
        if segment.len() <= SHARED_FROM {
            self.copied.extend_from_slice(&segment);
            return;
        }
        if !self.copied.is_empty() {
            self.shared.push_back(mem::take(&mut self.copied).freeze());
        }
        self.shared.push_back(segment);
    }

    /// Any shared segment counts as much, since it keeps its frame in memory.
    fn is_over_high_water(&self) -> bool {
        !self.shared.is_empty() || self.copied.len() > WRITE_HIGH_WATER
    }

    fn front(&self) -> Option<&[u8]> {
        let front = self.shared.front().map_or(self.copied.as_ref(), Bytes::as_ref);
        (!front.is_empty()).then_some(front)
    }

    fn advance(&mut self, written: usize) {
        let Some(segment) = self.shared.front_mut() else {
            self.copied.advance(written);
            if self.copied.is_empty() {
                self.copied = BytesMut::new();
            }
            return;
        };
        segment.advance(written);
        if segment.is_empty() {
            self.shared.pop_front();
            self.shared.shrink_to_fit();
        }
    }
}
