//! Splits a byte stream into frames.

use std::{ffi::CStr, mem};

use bytes::{Buf as _, Bytes};
use thiserror::Error;

/// A frame, complete or not, is longer than the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("frame is longer than {limit} bytes")]
pub struct FrameTooLong {
    /// The limit in bytes, without the NUL.
    pub limit: usize,
}

/// Splits a byte stream into frames at the NUL bytes: push what was read, then take frames until there is none.
///
/// Buffers at most one incomplete frame beside the last push; without one, it holds no memory.
#[derive(Debug)]
pub struct FrameDecoder {
    limit: usize,
    /// An incomplete frame from earlier pushes; contains no NUL.
    partial: Vec<u8>,
    /// The rest of the last push.
    unread: Bytes,
    failed: bool,
}

impl FrameDecoder {
    /// A decoder for frames of at most `limit` bytes, not counting the NUL.
    #[must_use]
    pub const fn new(limit: usize) -> Self {
        Self { limit, partial: Vec::new(), unread: Bytes::new(), failed: false }
    }

    /// Allows longer frames from now on.
    pub const fn raise_limit(&mut self, limit: usize) {
        if limit > self.limit {
            self.limit = limit;
        }
    }

    /// The memory of an incomplete frame, in bytes.
    #[must_use]
    pub const fn buffered(&self) -> usize {
        self.partial.capacity()
    }

    /// Adds received bytes. After an error they are dropped.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.failed {
            return;
        }
        self.unread = if self.unread.is_empty() {
            Bytes::copy_from_slice(bytes)
        } else {
            [&self.unread, bytes].concat().into()
        };
    }

    /// The next complete frame, without its NUL; `None` until more bytes are pushed. An empty frame is legal.
    ///
    /// # Errors
    /// As soon as a frame exceeds the limit, after the frames before it were returned. The error is final.
    pub fn next_frame(&mut self) -> Result<Option<Bytes>, FrameTooLong> {
        // The vectorised search for a NUL of the standard library.
        let end = CStr::from_bytes_until_nul(&self.unread).ok().map(CStr::count_bytes);
        let length = end.unwrap_or(self.unread.len());
        if self.failed || length > self.limit - self.partial.len() {
            *self = Self { failed: true, ..Self::new(self.limit) };
            return Err(FrameTooLong { limit: self.limit });
        }
        let bytes = self.unread.split_to(length);
        if end.is_some() {
            self.unread.advance(1);
            if self.partial.is_empty() {
                return Ok(Some(bytes));
            }
            self.append(&bytes);
            return Ok(Some(mem::take(&mut self.partial).into()));
        }
        self.unread = Bytes::new();
        self.append(&bytes);
        Ok(None)
    }

    /// Appends to the incomplete frame. The buffer doubles as it grows, but not beyond the limit.
    fn append(&mut self, bytes: &[u8]) {
        let length = self.partial.len() + bytes.len();
        if length > self.partial.capacity() {
            let capacity = length.max(self.limit.min(2 * length));
            self.partial.reserve_exact(capacity - self.partial.len());
        }
        self.partial.extend_from_slice(bytes);
    }
}

#[cfg(test)]
mod tests;
