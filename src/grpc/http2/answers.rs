//! Answers that wait for their clients to read them: a bound on the memory that they may take together.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// Bytes that may wait in all. A client that reads what it asked for never has any here for long.
const MOST: usize = 64 * 1024 * 1024;

/// How many bytes wait. Clones share it.
#[derive(Clone, Debug, Default)]
pub(in crate::grpc) struct Answers {
    waiting: Arc<AtomicUsize>,
}

/// Bytes that wait, until it is dropped.
#[derive(Debug)]
pub(super) struct Held {
    answers: Answers,
    bytes: usize,
}

impl Answers {
    /// Room for so many bytes more; `None`: there is none.
    pub(super) fn hold(&self, bytes: usize) -> Option<Held> {
        let more = |waiting: usize| waiting.checked_add(bytes).filter(|all| *all <= MOST);
        self.waiting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
        Some(Held { answers: self.clone(), bytes })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.answers.waiting.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn what_is_let_go_makes_room() {
        let answers = Answers::default();
        let held = answers.hold(MOST - 1).unwrap();
        assert!(answers.hold(2).is_none() && answers.clone().hold(usize::MAX).is_none());
        drop(held);
        let _all = answers.hold(MOST).unwrap();
        assert!(answers.hold(1).is_none());
    }
}
