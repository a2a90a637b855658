//! What waits for clients, or because of them: bounds on the memory that it may take in all.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// Bytes that may wait in each room. A client that reads what it asked for, and says what it asks in one go, never has
/// any here for long.
const MOST: usize = 64 * 1024 * 1024;
/// The same of answers to those who need not say who they are. They have room of their own, so that they can't take
/// that of others. What they are told is short.
const MOST_OF_NOBODY: usize = 4 * 1024 * 1024;

/// The rooms of a service. Clones share them.
#[derive(Clone, Debug)]
pub(in crate::grpc) struct Rooms {
    answers: Room,
    answers_to_nobody: Room,
    /// Requests that are not complete, or not answered.
    pub(super) requests: Room,
    /// What watches have said, and their clients make no room for.
    pub(super) watches: Room,
}

/// Room for some bytes.
#[derive(Clone, Debug)]
pub(super) struct Room {
    most: usize,
    waiting: Arc<AtomicUsize>,
}

/// Bytes that wait, until it is dropped.
#[derive(Debug)]
pub(super) struct Held {
    room: Room,
    bytes: usize,
}

impl Default for Rooms {
    fn default() -> Self {
        let room = |most| Room { most, waiting: Arc::default() };
        Self {
            answers: room(MOST),
            answers_to_nobody: room(MOST_OF_NOBODY),
            requests: room(MOST),
            watches: room(MOST),
        }
    }
}

impl Rooms {
    /// The room for answers to somebody, or to nobody in particular.
    pub(super) const fn answers(&self, is_known: bool) -> &Room {
        if is_known { &self.answers } else { &self.answers_to_nobody }
    }
}

impl Room {
    /// A place without any bytes yet.
    pub(super) fn place(&self) -> Held {
        Held { room: self.clone(), bytes: 0 }
    }

    /// Room for so many bytes more; `None`: there is none.
    pub(super) fn hold(&self, bytes: usize) -> Option<Held> {
        let mut held = self.place();
        held.grow(bytes).then_some(held)
    }

    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }
}

impl Held {
    /// Holds so many, which may be more or less than before. False: there is no room for them.
    pub(super) fn fit(&mut self, bytes: usize) -> bool {
        if bytes > self.bytes {
            return self.grow(bytes - self.bytes);
        }
        self.room.waiting.fetch_sub(self.bytes - bytes, Ordering::Relaxed);
        self.bytes = bytes;
        true
    }

    fn grow(&mut self, bytes: usize) -> bool {
        let more = |waiting: usize| waiting.checked_add(bytes).filter(|all| *all <= self.room.most);
        let has_room = self.room.waiting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok();
        self.bytes += if has_room { bytes } else { 0 };
        has_room
    }

    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.room.waiting.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn what_is_let_go_makes_room() {
        let rooms = Rooms::default();
        let room = rooms.answers(true);
        let mut held = room.hold(MOST - 1).unwrap();
        assert!(room.hold(2).is_none() && rooms.clone().answers(true).hold(usize::MAX).is_none());
        assert!(!held.grow(2) && held.grow(1) && !held.grow(1));
        assert_eq!(held.bytes(), MOST);
        drop(held);
        let _all = room.hold(MOST).unwrap();
        assert!(room.hold(1).is_none());
    }

    #[test]
    fn nobody_takes_the_room_of_others() {
        let rooms = Rooms::default();
        let _all = rooms.answers(false).hold(MOST_OF_NOBODY).unwrap();
        assert!(rooms.answers(false).hold(1).is_none() && rooms.answers(true).hold(MOST).is_some());
        let _requests = rooms.requests.hold(MOST).unwrap();
        assert!(rooms.watches.hold(MOST).is_some());
    }
}
