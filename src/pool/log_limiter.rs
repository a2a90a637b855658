//! How much may be said of each thing: at first a burst, then a little now and then. What is too much is held back, and
//! the newest of it said later, so that the last word about a thing is always said. Pure.

use std::{
    collections::{BTreeSet, HashMap},
    hash::Hash,
    time::{Duration, Instant},
};

/// Said at once: a peer that comes up, or goes and comes back, is told in full.
const BURST: u32 = 10;
/// Then one is said per this.
const EVERY: Duration = Duration::from_secs(10);
/// Things that are remembered before those are forgotten that have been quiet.
const REMEMBERED: usize = 1024;

/// What to do with something that there is to say.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict<T> {
    /// Say it, and that so many before it were not said.
    Say(T, u64),
    /// Say nothing now.
    Hold,
}

/// What was said of each thing, and what was not.
#[derive(Debug)]
pub(super) struct Limiter<K, T> {
    things: HashMap<K, Thing<T>>,
    /// When held ones may be said.
    due: BTreeSet<(Instant, K)>,
    sweep_at: usize,
}

#[derive(Debug)]
struct Thing<T> {
    left: u32,
    /// From when `left` is counted on.
    since: Instant,
    held: Option<(T, u64)>,
}

impl<T> Thing<T> {
    fn refill(&mut self, now: Instant) {
        while self.left < BURST && self.since + EVERY <= now {
            self.left += 1;
            self.since += EVERY;
        }
        if self.left == BURST {
            self.since = now;
        }
    }
}

impl<K, T> Default for Limiter<K, T> {
    fn default() -> Self {
        Self { things: HashMap::new(), due: BTreeSet::new(), sweep_at: REMEMBERED }
    }
}

impl<K: Clone + Eq + Hash + Ord, T> Limiter<K, T> {
    /// There is something to say.
    pub(super) fn offer(&mut self, key: K, what: T, now: Instant) -> Verdict<T> {
        self.sweep(now);
        let new = || Thing { left: BURST, since: now, held: None };
        let thing = self.things.entry(key.clone()).or_insert_with(new);
        if let Some((newest, more)) = &mut thing.held {
            (*newest, *more) = (what, *more + 1);
            return Verdict::Hold;
        }
        thing.refill(now);
        if thing.left > 0 {
            thing.left -= 1;
            return Verdict::Say(what, 0);
        }
        thing.held = Some((what, 0));
        self.due.insert((thing.since + EVERY, key));
        Verdict::Hold
    }

    /// When something that was held may be said.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due.first().map(|(due, _)| *due)
    }

    /// Something that may be said now, and how many before it were not.
    pub(super) fn take_due(&mut self, now: Instant) -> Option<(T, u64)> {
        let (due, key) = self.due.first().filter(|(due, _)| *due <= now).cloned()?;
        self.due.remove(&(due, key.clone()));
        let thing = self.things.get_mut(&key)?;
        thing.refill(now);
        thing.left = thing.left.saturating_sub(1);
        thing.held.take()
    }

    /// Forgets those that may be told in full again.
    fn sweep(&mut self, now: Instant) {
        if self.things.len() < self.sweep_at {
            return;
        }
        self.things.retain(|_, thing| {
            thing.refill(now);
            thing.left < BURST || thing.held.is_some()
        });
        self.sweep_at = REMEMBERED.max(2 * self.things.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(start: Instant, millis: u64) -> Instant {
        start + Duration::from_millis(millis)
    }

    #[test]
    fn a_burst_is_said_at_once_and_then_the_newest_now_and_then() {
        let (mut limiter, start) = (Limiter::default(), Instant::now());
        for number in 0..BURST {
            assert_eq!(limiter.offer("a", number, start), Verdict::Say(number, 0));
        }
        assert_eq!(limiter.due(), None);
        for number in 10..15 {
            assert_eq!(limiter.offer("a", number, at(start, 100)), Verdict::Hold);
        }
        assert_eq!(limiter.offer("b", 0, at(start, 100)), Verdict::Say(0, 0), "others are not held up");
        assert_eq!(limiter.due(), Some(at(start, 10_000)));
        assert_eq!(limiter.take_due(at(start, 9_999)), None);
        assert_eq!(limiter.take_due(at(start, 10_000)), Some((14, 4)));
        assert_eq!(limiter.take_due(at(start, 10_000)), None);
        assert_eq!(limiter.offer("a", 15, at(start, 10_001)), Verdict::Hold);
        assert_eq!(limiter.take_due(at(start, 20_000)), Some((15, 0)));
    }

    #[test]
    fn quiet_brings_the_burst_back_bit_by_bit() {
        let (mut limiter, start) = (Limiter::default(), Instant::now());
        for number in 0..BURST {
            limiter.offer("a", number, start);
        }
        let later = at(start, 35_000);
        let said = (0..BURST)
            .filter(|number| limiter.offer("a", *number, later) == Verdict::Say(*number, 0))
            .count();
        assert_eq!(said, 3);
        let much_later = at(start, 3_600_000);
        assert!(limiter.take_due(much_later).is_some());
        let said =
            (0..BURST).filter(|number| limiter.offer("a", *number, much_later) == Verdict::Say(*number, 0));
        assert_eq!(said.count(), usize::try_from(BURST - 1).unwrap());
    }

    #[test]
    fn a_flood_for_hours_is_a_few_lines() {
        let (mut limiter, start) = (Limiter::default(), Instant::now());
        let (mut said, mut counted) = (0, 0);
        for millis in (0..3_600_000).step_by(50) {
            let now = at(start, millis);
            if let Some((_, more)) = limiter.take_due(now) {
                (said, counted) = (said + 1, counted + more + 1);
            }
            if limiter.offer("a", millis, now) == Verdict::Say(millis, 0) {
                (said, counted) = (said + 1, counted + 1);
            }
        }
        assert!((365..=371).contains(&said), "{said}");
        assert!(72_000 - counted < 400, "all but those that are held now: {counted}");
    }

    #[test]
    fn what_has_been_quiet_is_forgotten() {
        let (mut limiter, start) = (Limiter::default(), Instant::now());
        for number in 0..100_000_u64 {
            limiter.offer(number, (), at(start, number * 20));
        }
        assert!(limiter.things.len() <= REMEMBERED + 1, "{}", limiter.things.len());
    }
}
