//! Log rate limiter per key: a burst, then one item per interval. The newest suppressed item is always emitted later.

use std::{
    collections::{BTreeSet, HashMap},
    hash::Hash,
    time::{Duration, Instant},
};

/// Items emitted at once: enough for a peer that comes up, or is lost and comes back.
const BURST: u32 = 10;
/// After a burst, one item is emitted per interval.
const INTERVAL: Duration = Duration::from_secs(10);
/// Keys kept before idle ones are removed.
const MAX_IDLE: usize = 1024;

#[derive(Debug)]
pub(super) struct LogLimiter<K, T> {
    buckets: HashMap<K, Bucket<T>>,
    /// When suppressed items may be emitted.
    due: BTreeSet<(Instant, K)>,
    sweep_at: usize,
}

/// A token bucket.
#[derive(Debug)]
struct Bucket<T> {
    tokens: u32,
    refilled: Instant,
    /// The newest suppressed item, and the number of those before it.
    suppressed: Option<(T, u64)>,
}

impl<T> Bucket<T> {
    fn refill(&mut self, now: Instant) {
        while self.tokens < BURST && self.refilled + INTERVAL <= now {
            self.tokens += 1;
            self.refilled += INTERVAL;
        }
        if self.tokens == BURST {
            self.refilled = now;
        }
    }
}

impl<K, T> Default for LogLimiter<K, T> {
    fn default() -> Self {
        Self { buckets: HashMap::new(), due: BTreeSet::new(), sweep_at: MAX_IDLE }
    }
}

impl<K: Clone + Eq + Hash + Ord, T> LogLimiter<K, T> {
    /// Returns the item if it may be emitted now, and suppresses it otherwise.
    pub(super) fn offer(&mut self, key: K, item: T, now: Instant) -> Option<T> {
        self.sweep(now);
        let new = || Bucket { tokens: BURST, refilled: now, suppressed: None };
        let bucket = self.buckets.entry(key.clone()).or_insert_with(new);
        if let Some((newest, count)) = &mut bucket.suppressed {
            (*newest, *count) = (item, *count + 1);
            return None;
        }
        bucket.refill(now);
        if bucket.tokens > 0 {
            bucket.tokens -= 1;
            return Some(item);
        }
        bucket.suppressed = Some((item, 0));
        self.due.insert((bucket.refilled + INTERVAL, key));
        None
    }

    /// When a suppressed item may be emitted.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due.first().map(|(due, _)| *due)
    }

    /// A suppressed item that may be emitted now, its key, and the number of suppressed items before it.
    pub(super) fn take_due(&mut self, now: Instant) -> Option<(K, T, u64)> {
        self.due.first().filter(|(due, _)| *due <= now)?;
        let (_, key) = self.due.pop_first()?;
        let bucket = self.buckets.get_mut(&key)?;
        bucket.refill(now);
        bucket.tokens = bucket.tokens.saturating_sub(1);
        let (item, count) = bucket.suppressed.take()?;
        Some((key, item, count))
    }

    /// Removes keys whose bucket is full again.
    fn sweep(&mut self, now: Instant) {
        if self.buckets.len() < self.sweep_at {
            return;
        }
        self.buckets.retain(|_, bucket| {
            bucket.refill(now);
            bucket.tokens < BURST || bucket.suppressed.is_some()
        });
        self.sweep_at = MAX_IDLE.max(2 * self.buckets.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(start: Instant, millis: u64) -> Instant {
        start + Duration::from_millis(millis)
    }

    #[test]
    fn a_burst_is_emitted_at_once_and_then_the_newest_item_per_interval() {
        let (mut limiter, start) = (LogLimiter::default(), Instant::now());
        for number in 0..BURST {
            assert_eq!(limiter.offer("a", number, start), Some(number));
        }
        assert_eq!(limiter.due(), None);
        for number in 10..15 {
            assert_eq!(limiter.offer("a", number, at(start, 100)), None);
        }
        assert_eq!(limiter.offer("b", 0, at(start, 100)), Some(0), "other keys are not limited");
        assert_eq!(limiter.due(), Some(at(start, 10_000)));
        assert_eq!(limiter.take_due(at(start, 9_999)), None);
        assert_eq!(limiter.take_due(at(start, 10_000)), Some(("a", 14, 4)));
        assert_eq!(limiter.take_due(at(start, 10_000)), None);
        assert_eq!(limiter.offer("a", 15, at(start, 10_001)), None);
        assert_eq!(limiter.take_due(at(start, 20_000)), Some(("a", 15, 0)));
    }

    #[test]
    fn a_quiet_time_refills_the_burst() {
        let (mut limiter, start) = (LogLimiter::default(), Instant::now());
        for number in 0..BURST {
            limiter.offer("a", number, start);
        }
        let later = at(start, 35_000);
        let emitted = (0..BURST).filter(|number| limiter.offer("a", *number, later) == Some(*number)).count();
        assert_eq!(emitted, 3);
        let much_later = at(start, 3_600_000);
        assert!(limiter.take_due(much_later).is_some());
        let emitted = (0..BURST).filter(|number| limiter.offer("a", *number, much_later) == Some(*number));
        assert_eq!(emitted.count(), usize::try_from(BURST - 1).unwrap());
    }

    #[test]
    fn a_flood_for_an_hour_is_a_few_lines() {
        let (mut limiter, start) = (LogLimiter::default(), Instant::now());
        let (mut emitted, mut counted) = (0, 0);
        for millis in (0..3_600_000).step_by(50) {
            let now = at(start, millis);
            if let Some((_, _, more)) = limiter.take_due(now) {
                (emitted, counted) = (emitted + 1, counted + more + 1);
            }
            if limiter.offer("a", millis, now) == Some(millis) {
                (emitted, counted) = (emitted + 1, counted + 1);
            }
        }
        assert!((365..=371).contains(&emitted), "{emitted}");
        assert!(72_000 - counted < 400, "all but those suppressed now are counted: {counted}");
    }

    #[test]
    fn idle_keys_are_removed() {
        let (mut limiter, start) = (LogLimiter::default(), Instant::now());
        for number in 0..100_000_u64 {
            limiter.offer(number, (), at(start, number * 20));
        }
        assert!(limiter.buckets.len() <= MAX_IDLE + 1, "{}", limiter.buckets.len());
    }
}
