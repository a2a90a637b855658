//! The state that a listener and its stream share.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use futures_util::task::AtomicWaker;
use parking_lot::Mutex;

use super::EndReason;

/// How far a listener has been served.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counters {
    pub(super) cursor: u64,
    pub(super) delivered: u64,
    pub(super) resets: u64,
    pub(super) missed: u64,
}

/// Through it a stream publishes its progress, and the registry ends the stream. Each stream has its own, so that one
/// that was taken over cannot change the progress of its successor.
///
/// In this order, so that the fields that are read for every change share a cache line.
#[derive(Debug, Default)]
#[repr(C)]
pub(super) struct StreamHandle {
    /// Whether `end` is set: checked for every change, without the lock.
    is_terminated: AtomicBool,
    cursor: AtomicU64,
    delivered: AtomicU64,
    resets: AtomicU64,
    missed: AtomicU64,
    end: Mutex<Option<(EndReason, u64)>>,
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

    pub(super) fn counters(&self) -> Counters {
        Counters {
            cursor: self.cursor.load(Ordering::Relaxed),
            delivered: self.delivered.load(Ordering::Relaxed),
            resets: self.resets.load(Ordering::Relaxed),
            missed: self.missed.load(Ordering::Relaxed),
        }
    }

    /// Ends the stream once it has delivered everything up to `revision`. The first call wins, except that a takeover
    /// replaces any other end.
    pub(super) fn terminate(&self, end: EndReason, revision: u64) {
        let mut slot = self.end.lock();
        if slot.is_none() || end == EndReason::TakenOver {
            *slot = Some((end, revision));
        }
        drop(slot);
        self.is_terminated.store(true, Ordering::Release);
        self.waker.wake();
    }

    /// The requested end, and the revision up to which the stream delivers before it.
    pub(super) fn end(&self) -> Option<(EndReason, u64)> {
        if self.is_terminated.load(Ordering::Acquire) { *self.end.lock() } else { None }
    }
}
