//! Noticing clients that are gone without a word.

use std::time::Duration;

use tokio::time::Instant;

/// How a client that vanished without a word, or never reads what it is sent, is noticed: within the sum of the two,
/// by the HTTP/2 ping that it does not answer.
#[derive(Clone, Copy, Debug)]
pub struct Keepalive {
    /// How long a connection may be silent before it is asked for a sign of life.
    pub interval: Duration,
    /// How long the answer may take.
    pub timeout: Duration,
}

impl Default for Keepalive {
    /// Half a minute: proxies on the way drop what is silent for longer than a minute.
    fn default() -> Self {
        Self { interval: Duration::from_secs(20), timeout: Duration::from_secs(10) }
    }
}

/// One connection's pulse.
#[derive(Debug)]
pub(super) struct Pulse {
    /// When it was last heard, or was asked for a sign of life.
    since: Instant,
    is_asked: bool,
}

/// What there is to do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Beat {
    /// Nothing until then.
    Quiet(Instant),
    /// Ask for a sign of life, and look again then.
    Ask(Instant),
    /// It is gone.
    Gone,
}

impl Pulse {
    pub(super) const fn new(now: Instant) -> Self {
        Self { since: now, is_asked: false }
    }

    /// The client has said something.
    pub(super) const fn heard(&mut self, now: Instant) {
        *self = Self::new(now);
    }

    pub(super) fn beat(&mut self, now: Instant, keepalive: Keepalive) -> Beat {
        let patience = if self.is_asked { keepalive.timeout } else { keepalive.interval };
        let due = self.since + patience;
        if now < due {
            return Beat::Quiet(due);
        }
        if self.is_asked {
            return Beat::Gone;
        }
        *self = Self { since: now, is_asked: true };
        Beat::Ask(now + keepalive.timeout)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_silent_is_asked_and_let_go_if_it_does_not_answer() {
        let keepalive = Keepalive::default();
        let (begin, second) = (Instant::now(), Duration::from_secs(1));
        let mut pulse = Pulse::new(begin);
        assert_eq!(pulse.beat(begin, keepalive), Beat::Quiet(begin + 20 * second));
        pulse.heard(begin + 5 * second);
        assert_eq!(pulse.beat(begin + 20 * second, keepalive), Beat::Quiet(begin + 25 * second));
        assert_eq!(pulse.beat(begin + 26 * second, keepalive), Beat::Ask(begin + 36 * second));
        assert_eq!(pulse.beat(begin + 27 * second, keepalive), Beat::Quiet(begin + 36 * second));
        // In the same moment: an answer comes within less than the clock shows.
        pulse.heard(begin + 26 * second);
        assert_eq!(pulse.beat(begin + 45 * second, keepalive), Beat::Quiet(begin + 46 * second));
        assert_eq!(pulse.beat(begin + 46 * second, keepalive), Beat::Ask(begin + 56 * second));
        assert_eq!(pulse.beat(begin + 56 * second, keepalive), Beat::Gone);
    }
}
