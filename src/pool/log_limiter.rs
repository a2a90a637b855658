//! Log rate limiter per key and for the whole process: a burst, then one item per interval. The newest suppressed item of
//! a key is emitted later, unless too many keys have one.

use std::{
    collections::{BTreeSet, HashMap},
    hash::Hash,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use super::token_bucket::TokenBucket;

/// Items of a key emitted at once: enough for a peer that comes up, or is lost and comes back.
const BURST: u32 = 10;
/// After a burst, one item of a key is emitted per interval.
const INTERVAL: Duration = Duration::from_secs(10);
/// Keys kept before idle ones are removed.
const MAX_IDLE: usize = 1024;
/// Keys with a suppressed item. The items of further keys are dropped.
const MAX_SUPPRESSED: usize = 10_000;
/// Items of all keys emitted at once: a fabric of 1,024 peers that comes up.
const BURST_OF_ALL: u32 = 5_000;
/// After that, one per interval.
const INTERVAL_OF_ALL: Duration = Duration::from_millis(100);

/// The limit for all pools of the process; clones share it.
#[derive(Clone, Debug, Default)]
pub struct LogBudget(Arc<Mutex<Option<TokenBucket>>>);

impl LogBudget {
    fn take(&self, now: Instant) -> bool {
        let full = || TokenBucket::new(BURST_OF_ALL, INTERVAL_OF_ALL, now);
        self.0.lock().get_or_insert_with(full).take(now)
    }

    /// When an item may be emitted.
    fn next(&self) -> Option<Instant> {
        self.0.lock().filter(TokenBucket::is_empty).map(|bucket| bucket.next())
    }
}

#[derive(Debug)]
pub(crate) struct LogLimiter<K, T> {
    budget: LogBudget,
    buckets: HashMap<K, Bucket<T>>,
    /// When suppressed items may be emitted.
    due: BTreeSet<(Instant, K)>,
    sweep_at: usize,
}

#[derive(Debug)]
struct Bucket<T> {
    tokens: TokenBucket,
    /// The newest suppressed item, and the number of those before it.
    suppressed: Option<(T, u64)>,
}

impl<K: Clone + Eq + Hash + Ord, T> LogLimiter<K, T> {
    pub(crate) fn new(budget: LogBudget) -> Self {
        Self { budget, buckets: HashMap::new(), due: BTreeSet::new(), sweep_at: MAX_IDLE }
    }

    /// Returns the item if it may be emitted now, and suppresses it otherwise.
    pub(crate) fn offer(&mut self, key: K, item: T, now: Instant) -> Option<T> {
        self.sweep(now);
        let new = || Bucket { tokens: TokenBucket::new(BURST, INTERVAL, now), suppressed: None };
        let bucket = self.buckets.entry(key.clone()).or_insert_with(new);
        if let Some((newest, count)) = &mut bucket.suppressed {
            (*newest, *count) = (item, *count + 1);
            return None;
        }
        let due = if !bucket.tokens.take(now) {
            bucket.tokens.next()
        } else if !self.budget.take(now) {
            now
        } else {
            return Some(item);
        };
        if self.due.len() < MAX_SUPPRESSED {
            bucket.suppressed = Some((item, 0));
            self.due.insert((due, key));
        }
        None
    }

    /// When a suppressed item may be emitted.
    pub(crate) fn due(&self) -> Option<Instant> {
        let (due, _) = self.due.first()?;
        Some(self.budget.next().map_or(*due, |next| next.max(*due)))
    }

    /// A suppressed item that may be emitted now, its key, and the number of suppressed items before it.
    pub(crate) fn take_due(&mut self, now: Instant) -> Option<(K, T, u64)> {
        self.due.first().filter(|(due, _)| *due <= now && self.budget.take(now))?;
        let (_, key) = self.due.pop_first()?;
        let bucket = self.buckets.get_mut(&key)?;
        bucket.tokens.take(now);
        let (item, count) = bucket.suppressed.take()?;
        Some((key, item, count))
    }

    /// Removes keys whose bucket is full again.
    fn sweep(&mut self, now: Instant) {
        if self.buckets.len() < self.sweep_at {
            return;
        }
        self.buckets.retain(|_, bucket| !bucket.tokens.is_full(now) || bucket.suppressed.is_some());
        self.sweep_at = MAX_IDLE.max(2 * self.buckets.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limiter<K: Clone + Eq + Hash + Ord, T>() -> LogLimiter<K, T> {
        LogLimiter::new(LogBudget::default())
    }

    fn at(start: Instant, millis: u64) -> Instant {
        start + Duration::from_millis(millis)
    }

    #[test]
    fn a_burst_is_emitted_at_once_and_then_the_newest_item_per_interval() {
        let (mut limiter, start) = (limiter(), Instant::now());
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
        let (mut limiter, start) = (limiter(), Instant::now());
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
        let (mut limiter, start) = (limiter(), Instant::now());
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
        let (mut limiter, start) = (limiter(), Instant::now());
        for number in 0..100_000_u64 {
            limiter.offer(number, (), at(start, number * 120));
        }
        assert!(limiter.buckets.len() <= MAX_IDLE + 1, "{}", limiter.buckets.len());
        for number in 0..100_000_u64 {
            limiter.offer(number, (), at(start, 12_000_000 + number * 20));
        }
        assert!(limiter.buckets.len() <= 3 * MAX_SUPPRESSED, "{}", limiter.buckets.len());
    }

    #[test]
    fn new_keys_of_all_limiters_share_one_limit_and_their_newest_items_come_later() {
        let (budget, start) = (LogBudget::default(), Instant::now());
        let [mut one, mut other] = [(); 2].map(|()| LogLimiter::new(budget.clone()));
        let mut emitted = 0;
        for number in 0..10_000_u64 {
            emitted += usize::from(one.offer(number, "old", start).is_some());
            one.offer(number, "new", start);
            emitted += usize::from(other.offer(number, "other", start).is_some());
        }
        assert!(emitted <= 5_000, "{emitted}");
        assert_eq!((one.due(), one.take_due(start)), (Some(at(start, 100)), None));
        assert_eq!(one.take_due(at(start, 100)).map(|(_, item, _)| item), Some("new"));
        assert_eq!((one.due(), one.take_due(at(start, 150))), (Some(at(start, 200)), None));
        let mut late = 0;
        for millis in (200..3_600_000).step_by(100) {
            late += usize::from(one.take_due(at(start, millis)).is_some());
        }
        assert!((5_000..10_000).contains(&late) && one.due().is_none(), "{late}");
    }
}
