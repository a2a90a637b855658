//! Where one frame ends and the next begins. Owns the bytes of a frame that is still incomplete.

use std::{ffi::CStr, mem};

use bytes::{Buf as _, Bytes};
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
/// Push what was read, then take frames until there is none. Beside the last push, the decoder holds the bytes of
/// one incomplete frame, in a buffer that never gets larger than the limit, and none if there is no such frame: an
/// idle peer costs nothing.
#[derive(Debug)]
pub struct FrameDecoder {
    limit: usize,
    /// What there is of a frame that has begun in an earlier push. No NUL is in it.
    begun: Vec<u8>,
    /// What was pushed last and is not cut yet.
    fresh: Bytes,
    failed: bool,
}

impl FrameDecoder {
    /// A decoder for frames of at most `limit` bytes, not counting the NUL.
    #[must_use]
    pub const fn new(limit: usize) -> Self {
        Self { limit, begun: Vec::new(), fresh: Bytes::new(), failed: false }
    }

    /// Adds bytes as they came. After an error they are dropped.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.failed {
            return;
        }
        self.fresh = if self.fresh.is_empty() {
            Bytes::copy_from_slice(bytes)
        } else {
            [&self.fresh, bytes].concat().into()
        };
    }

    /// The next complete frame, without its NUL; `None` until more bytes are pushed. An empty frame is legal.
    ///
    /// # Errors
    ///
    /// [`FrameError::TooLong`], as soon as a frame is known to exceed the limit and after the frames before it
    /// have been returned. The stream has lost its meaning then, so the error is final.
    pub fn next_frame(&mut self) -> Result<Option<Bytes>, FrameError> {
        // The standard library's vectorised search for a NUL.
        let end = CStr::from_bytes_until_nul(&self.fresh).ok().map(CStr::count_bytes);
        let length = end.unwrap_or(self.fresh.len());
        if self.failed || length > self.limit - self.begun.len() {
            *self = Self { failed: true, ..Self::new(self.limit) };
            return Err(FrameError::TooLong { limit: self.limit });
        }
        let bytes = self.fresh.split_to(length);
        if end.is_some() {
            self.fresh.advance(1);
            if self.begun.is_empty() {
                return Ok(Some(bytes));
            }
            self.begin(&bytes);
            return Ok(Some(mem::take(&mut self.begun).into()));
        }
        self.fresh = Bytes::new();
        self.begin(&bytes);
        Ok(None)
    }

    /// Adds to the frame that has begun. The buffer doubles as it grows, but not beyond what a frame may have.
    fn begin(&mut self, bytes: &[u8]) {
        let length = self.begun.len() + bytes.len();
        if length > self.begun.capacity() {
            let capacity = length.max(self.limit.min(2 * length));
            self.begun.reserve_exact(capacity - self.begun.len());
        }
        self.begun.extend_from_slice(bytes);
    }
}

#[cfg(test)]
mod tests;
