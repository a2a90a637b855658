//! What a listener and its stream know of each other.

use std::sync::atomic::AtomicU64;

use futures_util::task::AtomicWaker;
use parking_lot::Mutex;

use super::End;

/// How far a listener has been served.
#[derive(Debug)]
pub(super) struct Progress {
    pub(super) cursor: AtomicU64,
    pub(super) delivered: AtomicU64,
    pub(super) resets: AtomicU64,
    pub(super) missed: AtomicU64,
}

impl Progress {
    pub(super) const fn starting_at(revision: u64) -> Self {
        Self {
            cursor: AtomicU64::new(revision),
            delivered: AtomicU64::new(0),
            resets: AtomicU64::new(0),
            missed: AtomicU64::new(0),
        }
    }
}

/// A stream's place at its listener, from where it can be called away.
#[derive(Debug, Default)]
pub(super) struct Seat {
    pub(super) waker: AtomicWaker,
    end: Mutex<Option<(End, u64)>>,
}

impl Seat {
    /// Ends the stream once it has been told everything up to `revision`. The first call wins, except that
    /// nothing is waited for after a takeover.
    pub(super) fn call_away(&self, end: End, revision: u64) {
        let mut slot = self.end.lock();
        if slot.is_none() || end == End::TakenOver {
            *slot = Some((end, revision));
        }
        drop(slot);
        self.waker.wake();
    }

    /// Whether the stream is to end, and once it has been told how much.
    pub(super) fn end(&self) -> Option<(End, u64)> {
        *self.end.lock()
    }
}
