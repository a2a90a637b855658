//! When the parked addresses of a pool are asked for peers again. Pure.

use std::time::{Duration, Instant};

/// Default of how long a pool may be without a READY peer before they are asked.
pub const REDISCOVERY_INTERVAL: Duration = Duration::from_secs(60);
/// A learned peer that failed this often in a row may have a successor.
pub(super) const FAILURES: u32 = 4;
/// Pauses while that lasts: the first, and the longest.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Two timers: one runs while learned peers fail, the other one while no peer is READY.
#[derive(Debug)]
pub(super) struct Rediscovery {
    interval: Duration,
    /// While learned peers fail: when to ask next, and the pause after that.
    failing: Option<(Instant, Duration)>,
    /// While no peer is READY.
    none_ready: Option<Instant>,
}

impl Rediscovery {
    pub(super) const fn new(interval: Duration) -> Self {
        Self { interval, failing: None, none_ready: None }
    }

    /// A learned peer has just failed often enough: asks at once.
    pub(super) const fn start(&mut self, now: Instant) {
        self.failing = Some((now, FIRST_PAUSE));
    }

    /// Stops the timers whose condition has ended.
    pub(super) fn update(&mut self, is_failing: bool, is_none_ready: bool, now: Instant) {
        self.failing = self.failing.filter(|_| is_failing);
        self.none_ready = is_none_ready.then(|| self.none_ready.unwrap_or(now + self.interval));
    }

    /// Whether the parked addresses are asked now. Sets the timer that was due again.
    pub(super) fn take_due(&mut self, now: Instant) -> bool {
        let failing = self.failing.filter(|(due, _)| *due <= now);
        if let Some((_, pause)) = failing {
            self.failing = Some((now + pause, LONGEST_PAUSE.min(2 * pause)));
        }
        let none_ready = self.none_ready.filter(|due| *due <= now);
        if none_ready.is_some() {
            self.none_ready = Some(now + self.interval);
        }
        failing.is_some() || none_ready.is_some()
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.failing.map(|(due, _)| due).into_iter().chain(self.none_ready).min()
    }
}
