//! A connection to a peer, as its state machine knows it.

use std::time::{Duration, Instant};

/// A peer may answer its identity request again, with another list. More often than this it would only churn the
/// pool: of what it says in between, the last counts, when this time is over. It doubles with each such answer, up to
/// the second one, and starts over when it has been quiet for longer.
const REPEATED_ANSWER: Duration = Duration::from_secs(1);
const RARELY_REPEATED: Duration = Duration::from_secs(64);

/// What is known of a connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Link {
    /// Number of the `send_identity` that was sent on it.
    pub(super) identity: u64,
    pub(super) last_heard: Instant,
    pub(super) echo_at: Instant,
    /// When its answer was taken in last.
    pub(super) answered: Option<Instant>,
    /// How long the next one has to wait from then.
    pub(super) patience: Duration,
    /// When the peer was READY first.
    pub(super) ready_since: Option<Instant>,
}

impl Link {
    /// One that has just come up.
    pub(super) fn new(identity: u64, now: Instant, echo: Duration) -> Self {
        Self {
            identity,
            last_heard: now,
            echo_at: now + echo,
            answered: None,
            patience: REPEATED_ANSWER,
            ready_since: None,
        }
    }

    pub(super) fn answered_lately(&self, now: Instant) -> bool {
        self.answered.is_some_and(|last| now < last + self.patience)
    }

    /// Its answer is taken in.
    pub(super) fn answered(self, now: Instant) -> Self {
        let patience = match self.answered {
            Some(last) if now < last + 2 * self.patience => RARELY_REPEATED.min(2 * self.patience),
            _ => REPEATED_ANSWER,
        };
        Self { answered: Some(now), patience, ready_since: self.ready_since.or(Some(now)), ..self }
    }
}
