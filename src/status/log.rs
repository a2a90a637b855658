//! The last N changes, by revision.

use std::{collections::VecDeque, sync::Arc};

use super::Event;

/// A revision that cannot be read on from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gap {
    /// It is older than the oldest entry kept.
    Compacted,
    /// It has not been published yet.
    Future,
}

/// A ring of the last `capacity` events. Their revisions have no holes, so a revision is a position.
pub(super) struct Log {
    events: VecDeque<Arc<Event>>,
    capacity: usize,
    head: u64,
}

impl Log {
    pub(super) fn new(capacity: usize) -> Self {
        Self { events: VecDeque::new(), capacity: capacity.max(1), head: 0 }
    }

    /// Revision of the newest event; 0 before the first.
    pub(super) const fn head(&self) -> u64 {
        self.head
    }

    /// Appends an event, whose revision must be `head() + 1`. Returns the evicted one, to be freed without the lock.
    pub(super) fn push(&mut self, event: Arc<Event>) -> Option<Arc<Event>> {
        debug_assert_eq!(event.revision, self.head + 1, "revisions have no holes");
        self.head = event.revision;
        let oldest = if self.events.len() >= self.capacity { self.events.pop_front() } else { None };
        self.events.push_back(event);
        oldest
    }

    /// How many of the changes after `revision` there are, if they are all still here.
    pub(super) fn distance(&self, revision: u64) -> Result<usize, Gap> {
        let behind = self.head.checked_sub(revision).ok_or(Gap::Future)?;
        match usize::try_from(behind) {
            Ok(behind) if behind <= self.events.len() => Ok(behind),
            _ => Err(Gap::Compacted),
        }
    }

    /// Appends up to `max` of the events after `revision` to `into`.
    pub(super) fn read_after(
        &self,
        revision: u64,
        max: usize,
        into: &mut Vec<Arc<Event>>,
    ) -> Result<(), Gap> {
        let behind = self.distance(revision)?;
        into.extend(self.events.range(self.events.len() - behind..).take(max).cloned());
        Ok(())
    }

    /// Appends up to `max` of the events before `revision` to `into`, newest first, as far back as there are any.
    pub(super) fn read_before(&self, revision: u64, max: usize, into: &mut Vec<Arc<Event>>) {
        let newer = self.head.saturating_add(1).saturating_sub(revision);
        let newer = usize::try_from(newer).unwrap_or(usize::MAX);
        into.extend(self.events.iter().rev().skip(newer).take(max).cloned());
    }
}
