//! Waking the readers of the log.
//!
//! Each registers a waker, at the hub, which wakes after every change, or at a [`Pacer`], which does so after a quiet time
//! and then pauses: changes collect meanwhile, and are sent together in fewer and larger writes.

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
    pub fn len(&self) -> usize {
        self.0.lock().len()
    }

    /// Whether none is registered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.lock().is_empty()
    }

    /// Wakes all of them.
    pub fn wake_all(&self) {
        for (_, waker) in &*self.0.lock() {
            waker.wake_by_ref();
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
    /// Has `waker` woken after each change, instead of the one before. Check for changes after this, or one may be missed.
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

/// Wakes many streams after a change: at once after a quiet time, and then at most once in an interval.
#[derive(Debug, Default)]
pub struct Pacer {
    wakers: Arc<Wakers>,
}

impl Pacer {
    /// The ones that it wakes.
    #[must_use]
    pub const fn wakers(&self) -> &Arc<Wakers> {
        &self.wakers
    }

    /// Wakes them, forever. With an interval of zero, after each change.
    pub async fn run(&self, hub: &Hub, interval: Duration) {
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
            self.wakers.wake_all();
            if !interval.is_zero() {
                sleep(interval).await;
            }
        }
    }
}
