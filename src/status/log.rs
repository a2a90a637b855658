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

/// A ring of the last `capacity` events. Revisions only grow, and may have holes.
pub(super) struct Log {
    /// With their revisions, which are searched.
    events: VecDeque<(u64, Arc<Event>)>,
    capacity: usize,
    head: u64,
    /// All events after it are kept.
    floor: u64,
    /// The log never had the events up to here.
    start: u64,
}

impl Log {
    pub(super) const fn new(capacity: usize) -> Self {
        let capacity = if capacity == 0 { 1 } else { capacity };
        Self { events: VecDeque::new(), capacity, head: 0, floor: 0, start: 0 }
    }

    /// Where the log ends: the revision of the newest event, or a later one without an event; 0 before the first.
    pub(super) const fn head(&self) -> u64 {
        self.head
    }

    /// Appends an event, whose revision must be after `head()`. Returns the evicted one, to be freed without the lock.
    pub(super) fn push(&mut self, event: Arc<Event>) -> Option<Arc<Event>> {
        debug_assert!(event.revision > self.head, "revisions only grow");
        self.head = event.revision;
        let oldest = if self.events.len() >= self.capacity { self.events.pop_front() } else { None };
        self.events.push_back((event.revision, event));
        oldest.map(|(revision, event)| {
            self.floor = self.floor.max(revision);
            event
        })
    }

    /// There is no event up to this revision that is not here.
    pub(super) fn advance(&mut self, head: u64) {
        self.head = self.head.max(head);
    }

    /// What happened now is no event, so nobody can read on from before. The events stay, as history.
    pub(super) const fn interrupt(&mut self) {
        self.head += 1;
        (self.floor, self.start) = (self.head, self.head);
    }

    /// Empties it. It starts after this revision. Returns the events, to be freed without the lock.
    pub(super) fn restart(&mut self, floor: u64) -> impl Sized + use<> {
        (self.head, self.floor, self.start) = (floor, floor, floor);
        std::mem::take(&mut self.events)
    }

    /// Drops the events up to this revision. Returns them, to be freed without the lock.
    pub(super) fn forget(&mut self, revision: u64) -> Vec<Arc<Event>> {
        let old = self.events.partition_point(|(known, _)| *known <= revision);
        self.floor = self.floor.max(revision);
        self.start = self.start.max(revision);
        self.head = self.head.max(revision);
        self.events.drain(..old).map(|(_, event)| event).collect()
    }

    /// Whether the log began after this revision, so that no reader was too slow for what came next.
    pub(super) const fn is_from_before(&self, revision: u64) -> bool {
        revision < self.start
    }

    /// How many of the changes after `revision` there are, if they are all still here.
    pub(super) fn distance(&self, revision: u64) -> Result<usize, Gap> {
        let behind = self.head.checked_sub(revision).ok_or(Gap::Future)?;
        if revision < self.floor {
            return Err(Gap::Compacted);
        }
        // Without holes it is a subtraction.
        let guess = usize::try_from(behind).ok().filter(|behind| *behind <= self.events.len());
        let next = guess.and_then(|behind| self.events.get(self.events.len() - behind));
        match guess {
            Some(behind) if behind == 0 || next.is_some_and(|(next, _)| *next == revision + 1) => Ok(behind),
            _ => Ok(self.events.len() - self.events.partition_point(|(known, _)| *known <= revision)),
        }
    }

    /// How many changes after `revision` there were. A log with holes does not know of those that it does not have.
    pub(super) fn lag(&self, revision: u64) -> u64 {
        let kept = self.events.len() as u64;
        match self.distance(revision) {
            Ok(distance) => distance as u64,
            Err(Gap::Future) => 0,
            Err(Gap::Compacted) if kept > 0 && self.head - self.floor == kept => self.head - revision,
            Err(Gap::Compacted) => kept,
        }
    }

    /// Appends up to `max` of the events after `revision` to `into`. Returns the revision up to which it has all.
    pub(super) fn read_after(
        &self,
        revision: u64,
        max: usize,
        into: &mut Vec<Arc<Event>>,
    ) -> Result<u64, Gap> {
        let behind = self.distance(revision)?;
        let start = self.events.len() - behind;
        into.extend(self.events.range(start..).take(max).map(|(_, event)| Arc::clone(event)));
        if behind <= max {
            return Ok(self.head);
        }
        let last = max.checked_sub(1).and_then(|last| self.events.get(start + last));
        Ok(last.map_or(revision, |(last, _)| *last))
    }

    /// Appends up to `max` of the events before `revision` to `into`, newest first, as far back as there are any.
    pub(super) fn read_before(&self, revision: u64, max: usize, into: &mut Vec<Arc<Event>>) {
        let older = self.events.partition_point(|(known, _)| *known < revision);
        into.extend(self.events.range(..older).rev().take(max).map(|(_, event)| Arc::clone(event)));
    }
}
