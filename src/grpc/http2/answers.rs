//! Answers that wait for their clients to read them: a bound on the memory that they may take together.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// Bytes that may wait in all. A client that reads what it asked for never has any here for long.
const MOST: usize = 64 * 1024 * 1024;
/// The same of answers to those who need not say who they are. They have room of their own, so that they can't take
/// that of others. What they are told is short.
const MOST_OF_NOBODY: usize = 4 * 1024 * 1024;

/// How many bytes wait. Clones share it.
#[derive(Clone, Debug)]
pub(in crate::grpc) struct Answers {
    of_callers: Room,
    of_nobody: Room,
}

/// Room for some of them.
#[derive(Clone, Debug)]
pub(super) struct Room {
    most: usize,
    waiting: Arc<AtomicUsize>,
}

/// Bytes that wait, until it is dropped.
#[derive(Debug)]
pub(super) struct Held {
    waiting: Arc<AtomicUsize>,
    bytes: usize,
}

impl Default for Answers {
    fn default() -> Self {
        let room = |most| Room { most, waiting: Arc::default() };
        Self { of_callers: room(MOST), of_nobody: room(MOST_OF_NOBODY) }
    }
}

impl Answers {
    /// The room for answers to somebody, or to nobody in particular.
    pub(super) const fn room(&self, is_known: bool) -> &Room {
        if is_known { &self.of_callers } else { &self.of_nobody }
    }
}

impl Room {
    /// Room for so many bytes more; `None`: there is none.
    pub(super) fn hold(&self, bytes: usize) -> Option<Held> {
        let more = |waiting: usize| waiting.checked_add(bytes).filter(|all| *all <= self.most);
        self.waiting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
        Some(Held { waiting: Arc::clone(&self.waiting), bytes })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.waiting.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn what_is_let_go_makes_room() {
        let answers = Answers::default();
        let room = answers.room(true);
        let held = room.hold(MOST - 1).unwrap();
        assert!(room.hold(2).is_none() && answers.clone().room(true).hold(usize::MAX).is_none());
        drop(held);
        let _all = room.hold(MOST).unwrap();
        assert!(room.hold(1).is_none());
    }

    #[test]
    fn nobody_takes_the_room_of_others() {
        let answers = Answers::default();
        let _all = answers.room(false).hold(MOST_OF_NOBODY).unwrap();
        assert!(answers.room(false).hold(1).is_none() && answers.room(true).hold(MOST).is_some());
    }
}
