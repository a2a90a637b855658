//! Delays between connection attempts: exponential backoff with full jitter. No clock.

use std::time::Duration;

use fastrand::Rng;

/// Delays whose ceiling doubles from attempt to attempt up to a cap, each drawn evenly between zero and the ceiling:
/// full jitter spreads peers that failed together. The same seed gives the same delays.
#[derive(Clone, Debug)]
pub struct Backoff {
    base: Duration,
    cap: Duration,
    attempts: u32,
    random: Rng,
}

impl Backoff {
    /// Delays of at most `base`, then twice that, and so on, but never more than `cap`.
    #[must_use]
    pub const fn new(base: Duration, cap: Duration, seed: u64) -> Self {
        Self { base, cap, attempts: 0, random: Rng::with_seed(seed) }
    }

    /// Continues as if this many attempts had been made.
    #[must_use]
    pub const fn after(mut self, attempts: u32) -> Self {
        self.attempts = attempts;
        self
    }

    /// Counts an attempt, and returns the delay before it.
    #[expect(clippy::should_implement_trait, reason = "it never ends, so callers want no Option")]
    pub fn next(&mut self) -> Duration {
        let ceiling = self.ceiling();
        self.attempts = self.attempts.saturating_add(1);
        ceiling.mul_f64(self.random.f64())
    }

    /// The longest possible next delay.
    #[must_use]
    pub fn ceiling(&self) -> Duration {
        let factor = 1_u32.checked_shl(self.attempts).unwrap_or(u32::MAX);
        self.base.saturating_mul(factor).min(self.cap)
    }

    /// Changes the cap of all further delays.
    pub const fn set_cap(&mut self, cap: Duration) {
        self.cap = cap;
    }

    /// Starts over from the base.
    pub const fn reset(&mut self) {
        self.attempts = 0;
    }
}

#[cfg(test)]
mod tests;
