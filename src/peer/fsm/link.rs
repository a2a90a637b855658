//! The state of one connection to a peer.

use std::time::{Duration, Instant};

/// Repeated identity answers are applied at intervals, so that they do not churn the pool; the last in an interval
/// counts. The interval doubles with each one, and starts over after two quiet intervals.
const MIN_ANSWER_INTERVAL: Duration = Duration::from_secs(1);
const MAX_ANSWER_INTERVAL: Duration = Duration::from_secs(64);

#[derive(Clone, Copy, Debug)]
pub(super) struct Link {
    /// Number of the `send_identity` request on this connection.
    pub(super) identity: u64,
    pub(super) last_received: Instant,
    /// Whether a frame was received.
    pub(super) has_received: bool,
    pub(super) next_echo: Instant,
    /// The echo that was sent last, until it is answered.
    pub(super) echo: Option<(u64, Instant)>,
    /// Whether an answer to another `send_identity` was logged.
    pub(super) has_warned: bool,
    /// When an identity answer was applied last.
    answered: Option<Instant>,
    answer_interval: Duration,
    /// When the peer became READY.
    pub(super) ready_since: Option<Instant>,
}

impl Link {
    pub(super) const fn new(identity: u64, now: Instant, next_echo: Instant) -> Self {
        Self {
            identity,
            last_received: now,
            has_received: false,
            next_echo,
            echo: None,
            has_warned: false,
            answered: None,
            answer_interval: MIN_ANSWER_INTERVAL,
            ready_since: None,
        }
    }

    /// When the next identity answer may be applied; `None` before the first one.
    pub(super) fn next_answer(&self) -> Option<Instant> {
        self.answered.map(|last| last + self.answer_interval)
    }

    /// Records that an identity answer was applied.
    pub(super) fn answered(self, now: Instant) -> Self {
        let answer_interval = match self.answered {
            Some(last) if now < last + 2 * self.answer_interval => {
                MAX_ANSWER_INTERVAL.min(2 * self.answer_interval)
            }
            _ => MIN_ANSWER_INTERVAL,
        };
        Self { answered: Some(now), answer_interval, ready_since: self.ready_since.or(Some(now)), ..self }
    }
}
