//! Frames over a byte stream.
//!
//! A [`Connection`] owns the stream, the bytes of a frame that is not complete, and what has not been written
//! yet. It reads nothing while it has much to write: a peer that asks and does not read the answers is left
//! waiting, and in the end has not been heard for too long. An idle connection holds no buffer.

use std::{
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
use crate::opflex::{FrameDecoder, FrameError};

/// Bytes read at a time, on the stack of whoever polls.
const READ_SIZE: usize = 8 * 1024;
/// With more than this to write, nothing is read.
const WRITE_HIGH_WATER: usize = 64 * 1024;

/// What came over a connection.
#[derive(Debug)]
pub enum Event {
    /// A frame, without its NUL.
    Frame(Bytes),
    /// More bytes than a frame may have.
    Overran(FrameError),
    /// The end. The text says how, for people.
    Lost(String),
}

/// A byte stream that carries frames.
pub struct Connection {
    stream: Box<dyn ByteStream>,
    decoder: FrameDecoder,
    /// A copy of what was sent: answers are slices of the frames that they answer, and could keep megabytes
    /// alive with a few bytes. It also makes one write of a frame of many parts.
    unwritten: BytesMut,
    /// Why nothing can be written any more.
    broken: Option<String>,
}

impl Connection {
    /// Carries frames of at most `frame_limit` bytes over a stream.
    #[must_use]
    pub fn new(stream: Box<dyn ByteStream>, frame_limit: usize) -> Self {
        Self { stream, decoder: FrameDecoder::new(frame_limit), unwritten: BytesMut::new(), broken: None }
    }

    /// Puts bytes in line to be written by [`Connection::next`].
    pub fn send(&mut self, bytes: impl IntoIterator<Item = Bytes>) {
        if self.broken.is_none() {
            bytes.into_iter().for_each(|part| self.unwritten.extend_from_slice(&part));
        }
    }

    /// Writes what is in line, and waits for what comes. Nothing is lost if the future is dropped.
    pub async fn next(&mut self) -> Event {
        // One read can hold thousands of frames: other tasks have their turn between them.
        coop::consume_budget().await;
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// Writes as much of what is in line as goes without waiting, and hangs up.
    pub async fn close(mut self) {
        poll_fn(|cx| {
            self.write(cx);
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
            if self.unwritten.len() > WRITE_HIGH_WATER {
                return Poll::Pending;
            }
            match ready!(self.poll_read(cx)) {
                Ok(0) => {
                    let how = self.broken.take();
                    return Poll::Ready(Event::Lost(
                        how.unwrap_or_else(|| "the peer closed the connection".into()),
                    ));
                }
                Ok(_) => {}
                Err(error) => return Poll::Ready(Event::Lost(lower(&error))),
            }
        }
    }

    /// A failure to write is not the end: what the peer said before it went is still to be read, and after
    /// that comes the end.
    fn write(&mut self, cx: &mut Context<'_>) {
        if let Poll::Ready(Err(error)) = self.poll_write(cx) {
            self.broken.get_or_insert(lower(&error));
            self.unwritten = BytesMut::new();
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
        while !self.unwritten.is_empty() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.unwritten))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.unwritten.advance(written);
        }
        self.unwritten = BytesMut::new();
        Pin::new(&mut self.stream).poll_flush(cx)
    }
}
