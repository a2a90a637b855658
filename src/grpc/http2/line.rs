//! What a connection, its socket and h2 know of each other, in one place and one line of the cache: it is looked at for
//! every change and client.
//!
//! Whoever hands data to h2 wakes the task that drives the connection. Here that is the same task, which is about to
//! drive it anyway: waking it would be a second poll each time. And a socket that had nothing to read is not asked again
//! before it has rung.

use std::{
    sync::{
        Arc,
        atomic::{
            AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize,
            Ordering::{AcqRel, Acquire, Relaxed, Release},
        },
    },
    task::{Wake, Waker},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::Instant;

/// The task sleeps: ringing wakes it.
const ASLEEP: u8 = 0;
/// The task runs: it will look.
const AWAKE: u8 = 1;
/// Somebody rang.
const RUNG: u8 = 2;
/// The client has not begun with HTTP/2 yet.
const OPENING: u8 = 0;
/// HTTP/2 is spoken: from here on the socket rings here, and not at whoever asks.
const UP: u8 = 1;
/// The client says too much: it is not listened to any more, and has to be told.
const FLOODED: u8 = 2;
/// It has been told.
const ENDING: u8 = 3;
/// Bytes that are taken in before what they ask for is begun: h2 keeps everything that it has read and nobody has
/// taken, and the memory for that stays with the connection.
const AT_A_TIME: usize = 4 * 1024;

/// A client's line.
#[derive(Debug)]
pub(super) struct Line {
    state: AtomicU8,
    phase: AtomicU8,
    /// The socket may have something to read.
    readable: AtomicBool,
    blocked: AtomicBool,
    reads: AtomicU32,
    allowed: AtomicUsize,
    /// Nanoseconds after `opened`: an answer comes within less than a millisecond, and has to be later than the question.
    heard: AtomicU64,
    opened: Instant,
    task: Mutex<Waker>,
}

impl Line {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            state: AtomicU8::new(AWAKE),
            phase: AtomicU8::new(OPENING),
            readable: AtomicBool::new(true),
            blocked: AtomicBool::new(false),
            reads: AtomicU32::new(0),
            allowed: AtomicUsize::new(AT_A_TIME),
            heard: AtomicU64::new(0),
            opened: Instant::now(),
            task: Mutex::new(Waker::noop().clone()),
        })
    }

    /// Says which task it is.
    pub(super) fn register(&self, task: &Waker) {
        self.task.lock().clone_from(task);
    }

    pub(super) fn is_up(&self) -> bool {
        self.phase.load(Relaxed) != OPENING
    }

    pub(super) fn set_up(&self) {
        self.phase.store(UP, Relaxed);
    }

    /// Nothing more is taken in.
    pub(super) fn set_flooded(&self) {
        self.phase.store(FLOODED, Relaxed);
        self.ring();
    }

    /// Whether the client has to be told that it says too much; true only once.
    pub(super) fn must_calm(&self) -> bool {
        self.phase.compare_exchange(FLOODED, ENDING, Relaxed, Relaxed).is_ok()
    }

    /// To be called before the connection is driven: what was rung for until now will have been seen to.
    pub(super) fn attend(&self) {
        // In one step with reading it: what was done before a ring is seen from here on.
        self.state.swap(AWAKE, AcqRel);
        self.allowed.store(AT_A_TIME, Relaxed);
    }

    /// To be called after that: whether it may sleep. If it was rung meanwhile, it may not.
    pub(super) fn rest(&self) -> bool {
        self.state.compare_exchange(AWAKE, ASLEEP, AcqRel, Acquire).is_ok()
    }

    fn ring(&self) {
        if self.state.swap(RUNG, AcqRel) == ASLEEP {
            self.task.lock().wake_by_ref();
        }
    }

    /// When the client last said something.
    pub(super) fn heard(&self) -> Instant {
        self.opened + Duration::from_nanos(self.heard.load(Relaxed))
    }

    /// How often it has, more or less: the number starts over.
    pub(super) fn reads(&self) -> u32 {
        self.reads.load(Relaxed)
    }

    /// Whether the client has left so much unread that it can't be sent more.
    pub(super) fn is_blocked(&self) -> bool {
        self.blocked.load(Relaxed)
    }

    pub(super) fn set_blocked(&self, blocked: bool) {
        self.blocked.store(blocked, Relaxed);
    }

    /// Whether to ask the socket for something to read. If so, what it had has to be noted with [`Line::took_in`].
    pub(super) fn may_read(&self) -> bool {
        if self.phase.load(Relaxed) > UP {
            return false;
        }
        if self.allowed.load(Relaxed) == 0 {
            // The rest when this has been seen to.
            self.ring();
            return false;
        }
        // If it has nothing, it rings when it does.
        self.readable.swap(false, AcqRel)
    }

    /// So many bytes were read, and there may be more.
    pub(super) fn took_in(&self, bytes: usize) {
        self.readable.store(true, Release);
        // h2 reads 8 KiB at most, so it is never much more than was allowed.
        self.allowed.store(self.allowed.load(Relaxed).saturating_sub(bytes), Relaxed);
        let since = self.opened.elapsed().as_nanos();
        self.heard.store(u64::try_from(since).unwrap_or(u64::MAX), Relaxed);
        self.reads.store(self.reads.load(Relaxed).wrapping_add(1), Relaxed);
    }
}

/// What h2 rings.
impl Wake for Line {
    fn wake(self: Arc<Self>) {
        self.ring();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.ring();
    }
}

/// What a socket rings that has something to read.
pub(super) struct Doorbell(pub(super) Arc<Line>);

impl Wake for Doorbell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.readable.store(true, Release);
        self.0.ring();
    }
}

#[cfg(test)]
mod tests;
