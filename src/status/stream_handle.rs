//! What a listener and its stream know of each other.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use futures_util::task::AtomicWaker;
use parking_lot::Mutex;

use super::End;

/// How far a listener has been served.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Progress {
    pub(super) cursor: u64,
    pub(super) delivered: u64,
    pub(super) resets: u64,
    pub(super) missed: u64,
}

impl Progress {
    /// With what a stream did after that.
    pub(super) const fn and(self, stream: Self) -> Self {
        Self {
            cursor: stream.cursor,
            delivered: self.delivered + stream.delivered,
            resets: self.resets + stream.resets,
            missed: self.missed + stream.missed,
        }
    }
}

/// A stream's place at its listener: where it says how far it is, and from where it can be called away. Each stream
/// has one of its own, so that one that was taken over cannot speak for its successor.
///
/// In this order, so that what is looked at for every change lies together.
#[derive(Debug, Default)]
#[repr(C)]
pub(super) struct StreamHandle {
    /// Whether there is an end to be looked at: mostly there is not, and then this is all that is looked at.
    is_terminated: AtomicBool,
    cursor: AtomicU64,
    delivered: AtomicU64,
    resets: AtomicU64,
    missed: AtomicU64,
    end: Mutex<Option<(End, u64)>>,
    pub(super) waker: AtomicWaker,
}

impl StreamHandle {
    pub(super) fn at(cursor: u64) -> Self {
        Self { cursor: AtomicU64::new(cursor), ..Self::default() }
    }

    /// The client has everything up to here.
    pub(super) fn reached(&self, cursor: u64) {
        self.cursor.store(cursor, Ordering::Relaxed);
    }

    pub(super) fn delivered(&self) {
        self.delivered.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn reset(&self, missed: u64) {
        self.resets.fetch_add(1, Ordering::Relaxed);
        self.missed.fetch_add(missed, Ordering::Relaxed);
    }

    /// What the stream did.
    pub(super) fn progress(&self) -> Progress {
        Progress {
            cursor: self.cursor.load(Ordering::Relaxed),
            delivered: self.delivered.load(Ordering::Relaxed),
            resets: self.resets.load(Ordering::Relaxed),
            missed: self.missed.load(Ordering::Relaxed),
        }
    }

    /// Ends the stream once it has been told everything up to `revision`. The first call wins, except that
    /// nothing is waited for after one that is immediate.
    pub(super) fn terminate(&self, end: End, revision: u64) {
        let mut slot = self.end.lock();
        if slot.is_none() || end.is_immediate() {
            *slot = Some((end, revision));
        }
        drop(slot);
        self.is_terminated.store(true, Ordering::Release);
        self.waker.wake();
    }

    /// Whether the stream is to end, and once it has been told how much.
    pub(super) fn end(&self) -> Option<(End, u64)> {
        if self.is_terminated.load(Ordering::Acquire) { *self.end.lock() } else { None }
    }
}
