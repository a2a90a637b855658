//! Being woken for the sake of HTTP/2, except by oneself.
//!
//! Whoever hands data to h2 wakes the task that drives the connection. Here that is the same task, which is about to
//! drive it anyway: waking it would be a second poll for each change and client.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    task::{Wake, Waker},
};

use parking_lot::Mutex;

/// The task sleeps: ringing wakes it.
const ASLEEP: u8 = 0;
/// The task runs: it will look.
const AWAKE: u8 = 1;
/// Somebody rang.
const RUNG: u8 = 2;

/// What h2 rings.
#[derive(Debug)]
pub(super) struct Alarm {
    state: AtomicU8,
    task: Mutex<Waker>,
}

impl Alarm {
    /// An alarm, and the waker that rings it.
    pub(super) fn new() -> (Arc<Self>, Waker) {
        let task = Mutex::new(Waker::noop().clone());
        let alarm = Arc::new(Self { state: AtomicU8::new(AWAKE), task });
        (Arc::clone(&alarm), Waker::from(alarm))
    }

    /// Says which task it is.
    pub(super) fn register(&self, task: &Waker) {
        self.task.lock().clone_from(task);
    }

    /// To be called before the connection is driven: what was rung for until now will have been seen to.
    pub(super) fn attend(&self) {
        self.state.store(AWAKE, Ordering::Release);
    }

    /// To be called after that: whether it may sleep. If it was rung meanwhile, it may not.
    pub(super) fn rest(&self) -> bool {
        self.state.compare_exchange(AWAKE, ASLEEP, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.state.swap(RUNG, Ordering::AcqRel) == ASLEEP {
            self.task.lock().wake_by_ref();
        }
    }
}
