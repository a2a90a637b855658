//! A token bucket. Pure.

use std::time::{Duration, Instant};

/// Allows a burst, and after that one per interval.
#[derive(Clone, Copy, Debug)]
pub(super) struct TokenBucket {
    tokens: u32,
    burst: u32,
    interval: Duration,
    /// Since when the next token is on its way.
    refilled: Instant,
}

impl TokenBucket {
    /// A full one.
    pub(super) const fn new(burst: u32, interval: Duration, now: Instant) -> Self {
        Self { tokens: burst, burst, interval, refilled: now }
    }

    /// Takes a token, if there is one.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        self.refill(now);
        let has_token = self.tokens > 0;
        self.tokens = self.tokens.saturating_sub(1);
        has_token
    }

    /// Whether as many tokens are there as there can be.
    pub(super) fn is_full(&mut self, now: Instant) -> bool {
        self.refill(now);
        self.tokens == self.burst
    }

    /// Whether there was no token left when it was used last.
    pub(super) const fn is_empty(&self) -> bool {
        self.tokens == 0
    }

    /// When an empty bucket has a token again.
    pub(super) fn next(&self) -> Instant {
        self.refilled + self.interval
    }

    fn refill(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.refilled);
        let count = u32::try_from(elapsed.as_nanos() / self.interval.as_nanos()).unwrap_or(u32::MAX);
        self.tokens = self.burst.min(self.tokens.saturating_add(count));
        if self.tokens == self.burst {
            self.refilled = now.max(self.refilled);
        } else {
            self.refilled += self.interval * count;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_allowed_and_then_one_per_interval() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut bucket = TokenBucket::new(3, Duration::from_secs(1), start);
        let taken = |bucket: &mut TokenBucket, now| (0..10).filter(|_| bucket.take(now)).count();
        assert_eq!((bucket.is_full(start), taken(&mut bucket, start)), (true, 3));
        assert_eq!((bucket.next(), taken(&mut bucket, at(999))), (at(1000), 0));
        assert_eq!((taken(&mut bucket, at(1000)), taken(&mut bucket, at(1999))), (1, 0));
        assert_eq!((taken(&mut bucket, at(4500)), bucket.next()), (3, at(5500)));
        assert_eq!((taken(&mut bucket, at(3_600_000)), bucket.is_full(at(3_600_000))), (3, false));
        assert_eq!(taken(&mut bucket, start), 0, "time does not go back");
    }
}
