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

use super::{ByteStream, connector::lower, frame_budget::FrameReservation};
use crate::{
    opflex::{FrameDecoder, FrameTooLong},
    peer::CLOSED,
    tls,
};

/// The longest frame before the peer is READY: an identity answer with 1,024 peers, each with four roles and the longest
/// host name, has less than 384 KiB; the rest is for white space and data that we do not know.
const IDENTITY_FRAME_LIMIT: usize = 512 * 1024;
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
    /// The peer exceeded a limit on frames, with a human-readable reason.
    Overran(String),
    /// The stream ended or failed, with a human-readable reason.
    Lost(String),
    /// TLS failed, with a human-readable reason.
    TlsFailed(String),
}

/// A byte stream that carries frames.
pub struct Connection {
    stream: Box<dyn ByteStream>,
    decoder: FrameDecoder,
    frame_limit: usize,
    queue: WriteQueue,
    write_error: Option<String>,
    memory: FrameReservation,
    /// The longest frame whose answers are in the queue.
    answered: usize,
    /// Bytes that the user of the connection holds.
    held: usize,
}

impl Connection {
    /// Carries frames of at most `frame_limit` bytes over a stream.
    pub(super) fn new(stream: Box<dyn ByteStream>, frame_limit: usize, memory: FrameReservation) -> Self {
        Self {
            stream,
            decoder: FrameDecoder::new(frame_limit.min(IDENTITY_FRAME_LIMIT)),
            frame_limit,
            queue: WriteQueue::default(),
            write_error: None,
            memory,
            answered: 0,
            held: 0,
        }
    }

    /// The peer is READY: from now on its frames may be as long as configured. Before that they may have 512 KiB.
    pub const fn set_ready(&mut self) {
        self.decoder.raise_limit(self.frame_limit);
    }

    /// Sets how many bytes of frames that were received are kept elsewhere. They count for the memory of the connection.
    pub const fn set_held(&mut self, bytes: usize) {
        self.held = bytes;
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
                Ok(Some(frame)) => {
                    let unanswered = if self.queue.shared.is_empty() { 0 } else { self.answered };
                    self.answered = unanswered.max(frame.len());
                    return Poll::Ready(ConnectionEvent::Frame(frame));
                }
                Ok(None) => {}
                Err(error) => return Poll::Ready(ConnectionEvent::Overran(self.explain(error))),
            }
            if let Err(error) = self.memory.resize(self.bytes()) {
                return Poll::Ready(ConnectionEvent::Overran(error.to_string()));
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

    fn explain(&self, error: FrameTooLong) -> String {
        let until = if error.limit < self.frame_limit { ", the limit until the peer is READY" } else { "" };
        format!("{error}{until}")
    }

    /// Memory for its frames. Answers in the queue keep the whole frame that they answer.
    fn bytes(&self) -> usize {
        let answered = if self.queue.shared.is_empty() { 0 } else { self.answered };
        self.decoder.buffered() + answered + self.held
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
