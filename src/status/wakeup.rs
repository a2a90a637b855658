//! Waking the readers of the log.
//!
//! Each registers a waker: at the hub, which wakes after every change, or at [`Wakers`] that follow it with a pause after
//! each time. Changes collect in the pause, and are sent together in fewer and larger writes.

use std::{
    future::poll_fn,
    sync::Arc,
    task::{Poll, Waker},
    time::Duration,
};

use parking_lot::Mutex;
use slab::Slab;
use tokio::time::sleep;

use super::Hub;

/// The wakers of readers.
#[derive(Debug, Default)]
pub struct Wakers(Mutex<Slab<Waker>>);

impl Wakers {
    /// Registers one more, until the [`Wakeup`] is dropped.
    #[must_use]
    pub fn add(self: &Arc<Self>) -> Wakeup {
        let waker = Waker::noop();
        let key = self.0.lock().insert(waker.clone());
        Wakeup { wakers: Arc::clone(self), key, waker: waker.clone() }
    }

    /// How many are registered.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.lock().len()
    }

    /// Wakes all of them.
    pub fn wake_all(&self) {
        for (_, waker) in &*self.0.lock() {
            waker.wake_by_ref();
        }
    }

    /// Wakes them after changes, forever: at once after a quiet time, and then at most once in an interval.
    pub async fn follow(&self, hub: &Hub, interval: Duration) {
        let mut changes = hub.wakers().add();
        let mut seen = hub.cursor().revision;
        loop {
            poll_fn(|cx| {
                changes.register(cx.waker());
                let head = hub.cursor().revision;
                let before = std::mem::replace(&mut seen, head);
                if before == head { Poll::Pending } else { Poll::Ready(()) }
            })
            .await;
            self.wake_all();
            if !interval.is_zero() {
                sleep(interval).await;
            }
        }
    }
}

/// A registration at [`Wakers`]. Dropping it deregisters.
#[derive(Debug)]
pub struct Wakeup {
    wakers: Arc<Wakers>,
    key: usize,
    /// A copy of the registered one, to compare with without a lock.
    waker: Waker,
}

impl Wakeup {
    /// Registers the waker, replacing the previous one. Check for changes after this, or one may be missed.
    /// Returns whether it is another waker than before.
    pub fn register(&mut self, waker: &Waker) -> bool {
        if self.waker.will_wake(waker) {
            return false;
        }
        self.waker.clone_from(waker);
        if let Some(registered) = self.wakers.0.lock().get_mut(self.key) {
            registered.clone_from(waker);
        }
        true
    }
}

impl Drop for Wakeup {
    fn drop(&mut self) {
        self.wakers.0.lock().try_remove(self.key);
    }
}
