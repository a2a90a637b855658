//! Which nodes give no sign of life any more. Pure.
//!
//! The times at which the server stored the records decide, so that all replicas say the same at the same place: before
//! the first record that is stored too long after the last sign of life of a node. Where no record comes, our own clock decides.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use crate::fleet::UP_TTL;

/// How much longer our own clock waits. Records that are stored before and take longer to come may make a node
/// STALE here alone.
pub(super) const MARGIN: Duration = Duration::from_secs(5);

/// Where a record is, and when it was stored and received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Receipt {
    /// Its place in the stream.
    pub(super) sequence: u64,
    /// When the server stored it.
    pub(super) stored: SystemTime,
    /// When it was read here.
    pub(super) received: Instant,
}

impl Receipt {
    /// When a node is STALE whose last sign of life it is.
    pub(super) fn end(&self) -> SystemTime {
        self.stored + UP_TTL
    }

    pub(super) fn is_over(&self, time: SystemTime) -> bool {
        time > self.end()
    }

    /// `reading_since`: nothing was read before.
    pub(super) fn is_over_by_clock(&self, reading_since: Option<Instant>, now: Instant) -> bool {
        let since = reading_since.map_or(self.received, |since| since.max(self.received));
        now.saturating_duration_since(since) >= UP_TTL + MARGIN
    }
}

/// The last signs of life of the nodes that are LIVE.
#[derive(Debug)]
pub(super) struct SignsOfLife {
    /// By their places, which is the order of both clocks.
    last: BTreeMap<(u64, Arc<str>), Receipt>,
    /// The newest record.
    newest: Receipt,
    /// Since when our own clock counts, if not always.
    pub(super) reading_since: Option<Instant>,
    /// The next record, and how many nodes became STALE before it.
    next: (u64, u64),
}

impl SignsOfLife {
    pub(super) fn new() -> Self {
        let newest = Receipt { sequence: 0, stored: SystemTime::UNIX_EPOCH, received: Instant::now() };
        Self { last: BTreeMap::new(), newest, reading_since: None, next: (0, 0) }
    }

    pub(super) const fn read(&mut self, record: Receipt) {
        self.newest = record;
    }

    pub(super) const fn newest(&self) -> Receipt {
        self.newest
    }

    pub(super) fn update(&mut self, name: &Arc<str>, before: Option<Receipt>, after: Option<Receipt>) {
        if before == after {
            return;
        }
        if let Some(before) = before {
            self.last.remove(&(before.sequence, Arc::clone(name)));
        }
        if let Some(after) = after {
            self.last.insert((after.sequence, Arc::clone(name)), after);
        }
    }

    /// The node whose last sign of life is the oldest.
    pub(super) fn first(&self) -> Option<(Arc<str>, Receipt)> {
        self.last.first_key_value().map(|((_, name), receipt)| (Arc::clone(name), *receipt))
    }

    /// The index of the next one before this record. `None`: there are as many as there may be.
    pub(super) fn next_index(&mut self, next: u64, end: u64) -> Option<u64> {
        if self.next.0 != next {
            self.next = (next, 0);
        }
        // The last one is for `take_all`.
        let index = Some(self.next.1).filter(|index| index + 1 < end)?;
        self.next.1 += 1;
        Some(index)
    }

    /// No node is LIVE. Returns whether that is new before this record.
    pub(super) fn take_all(&mut self, next: u64) -> bool {
        std::mem::replace(&mut self.next, (next, u64::MAX - 1)) != (next, u64::MAX - 1)
    }
}
