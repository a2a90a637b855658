//! Where one frame ends and the next begins. Owns the bytes of a frame that is still incomplete.

use std::{ffi::CStr, mem};

use bytes::{Buf as _, Bytes, BytesMut};
use thiserror::Error;

/// The bytes are not frames that we take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum FrameError {
    /// A frame, complete or not, is longer than the limit.
    #[error("frame is longer than {limit} bytes")]
    TooLong {
        /// The limit, in bytes, without the NUL.
        limit: usize,
    },
}

/// Cuts a byte stream into frames at the NUL bytes.
///
/// Push what was read, then take frames until there is none. Between the two the decoder holds at most one
/// frame of the limit's size and one push; once the frames are taken, it holds the bytes of the incomplete
/// frame at most, and no buffer at all if there is none: an idle peer costs nothing.
#[derive(Debug)]
pub struct FrameDecoder {
    limit: usize,
    buffer: BytesMut,
    /// The first so many bytes of `buffer` are known to hold no NUL.
    scanned: usize,
    /// Frames were taken from `buffer`, so what is left lies in an allocation larger than it needs.
    oversized: bool,
    failed: bool,
}

impl FrameDecoder {
    /// A decoder for frames of at most `limit` bytes, not counting the NUL.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { limit, buffer: BytesMut::new(), scanned: 0, oversized: false, failed: false }
    }

    /// Adds bytes as they came. After an error they are dropped.
    pub fn push(&mut self, bytes: &[u8]) {
        if !self.failed {
            self.buffer.extend_from_slice(bytes);
        }
    }

    /// The next complete frame, without its NUL; `None` until more bytes are pushed. An empty frame is legal.
    ///
    /// # Errors
    ///
    /// [`FrameError::TooLong`], as soon as a frame is known to exceed the limit and after the frames before it
    /// have been returned. The stream has lost its meaning then, so the error is final.
    pub fn next_frame(&mut self) -> Result<Option<Bytes>, FrameError> {
        let fresh = self.buffer.get(self.scanned..).unwrap_or_default();
        // The standard library's vectorised search for a NUL.
        let end = CStr::from_bytes_until_nul(fresh).ok().map(|text| self.scanned + text.count_bytes());
        let length = end.unwrap_or(self.buffer.len());
        if self.failed || length > self.limit {
            self.failed = true;
            self.release();
            return Err(FrameError::TooLong { limit: self.limit });
        }
        if end.is_some() {
            Ok(Some(self.take(length)))
        } else {
            self.scanned = length;
            self.compact();
            Ok(None)
        }
    }

    /// Takes the frame of `length` bytes, and the NUL behind it, off the buffer.
    fn take(&mut self, length: usize) -> Bytes {
        let frame = if length == 0 { Bytes::new() } else { self.buffer.split_to(length).freeze() };
        self.buffer.advance(1);
        self.scanned = 0;
        self.oversized = true;
        if self.buffer.is_empty() {
            self.release();
        }
        frame
    }

    /// Moves the rest to a buffer of its own size, so that neither it nor the frames handed out keep the other's
    /// memory alive. The rest lies within the last push, so no byte moves twice.
    fn compact(&mut self) {
        if mem::take(&mut self.oversized) {
            self.buffer = BytesMut::from(self.buffer.as_ref());
        }
    }

    fn release(&mut self) {
        self.buffer = BytesMut::new();
        self.scanned = 0;
        self.oversized = false;
    }
}

#[cfg(test)]
mod tests;
