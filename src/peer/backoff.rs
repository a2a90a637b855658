//! How long to wait before the next attempt: exponential backoff with full jitter. No clock; it only counts.

use std::time::Duration;

/// Delays that double from attempt to attempt up to a cap, each drawn evenly between nothing and that.
///
/// Full jitter spreads peers that failed together most evenly, and keeps the mean at half the ceiling. The
/// draws come from the seed alone: the same seed waits the same.
#[derive(Clone, Debug)]
pub struct Backoff {
    base: Duration,
    cap: Duration,
    attempts: u32,
    random: SplitMix64,
}

impl Backoff {
    /// Delays of at most `base`, then twice that, and so on, and never more than `cap`.
    #[must_use]
    pub const fn new(base: Duration, cap: Duration, seed: u64) -> Self {
        Self { base, cap, attempts: 0, random: SplitMix64(seed) }
    }

    /// As if this many attempts had been made already.
    #[must_use]
    pub const fn after(mut self, attempts: u32) -> Self {
        self.attempts = attempts;
        self
    }

    /// The delay before the next attempt, which thereby counts.
    #[expect(clippy::should_implement_trait, reason = "it never ends, so callers want no Option")]
    pub fn next(&mut self) -> Duration {
        let ceiling = self.ceiling();
        self.attempts = self.attempts.saturating_add(1);
        Duration::from_nanos(self.random.up_to(nanos(ceiling)))
    }

    /// The longest that the next delay can be.
    #[must_use]
    pub fn ceiling(&self) -> Duration {
        let factor = 1_u32.checked_shl(self.attempts).unwrap_or(u32::MAX);
        self.base.saturating_mul(factor).min(self.cap)
    }

    /// Changes the cap, for the next delay and those after it.
    pub const fn set_cap(&mut self, cap: Duration) {
        self.cap = cap;
    }

    /// Starts again from the base: the peer is well.
    pub const fn reset(&mut self) {
        self.attempts = 0;
    }
}

/// As many nanoseconds as fit, which is 584 years.
fn nanos(duration: Duration) -> u64 {
    duration.as_nanos().try_into().unwrap_or(u64::MAX)
}

/// Steele, Lea and Flood's generator: tiny, seedable with anything, and even enough to spread dials.
#[derive(Clone, Debug)]
struct SplitMix64(u64);

impl SplitMix64 {
    const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number from 0 to `most`, both included.
    fn up_to(&mut self, most: u64) -> u64 {
        let scaled = (u128::from(self.next()) * (u128::from(most) + 1)) >> 64;
        scaled.try_into().unwrap_or(most)
    }
}

#[cfg(test)]
mod tests;
