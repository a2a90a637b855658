//! What a thread that carries clients measures. It tells very many streams of each change, so these are numbers of its
//! own that no other thread writes, put together when somebody asks.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use parking_lot::Mutex;

/// Upper bounds in microseconds: from one change for one client to a thread that is minutes behind.
const BOUNDS: [u64; 17] = [
    50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    2_500_000, 10_000_000, 60_000_000,
];

/// One thread's numbers, in lines of the cache that are nobody else's.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Shard {
    /// Deliveries by age, and last those that are older than all bounds.
    ages: [AtomicU64; BOUNDS.len() + 1],
    /// Sum of the ages, in microseconds.
    sum: AtomicU64,
    /// Messages of watches.
    messages: AtomicU64,
    connections: AtomicU64,
}

/// Adds, where nobody else does: no locked instruction.
fn add(number: &AtomicU64, more: u64) {
    number.store(number.load(Relaxed).wrapping_add(more), Relaxed);
}

impl Shard {
    /// So many changes were handed out, the oldest of which is that old.
    pub fn delivered(&self, age: Duration, count: u64) {
        let age = u64::try_from(age.as_micros()).unwrap_or(u64::MAX);
        let place = BOUNDS.iter().position(|bound| age <= *bound).unwrap_or(BOUNDS.len());
        if let Some(number) = self.ages.get(place) {
            add(number, count);
        }
        add(&self.sum, age.saturating_mul(count));
    }

    /// So many messages of watches were handed out.
    pub fn said(&self, messages: u64) {
        add(&self.messages, messages);
    }

    /// There is a connection more.
    pub fn connected(&self) {
        add(&self.connections, 1);
    }

    /// There is one less.
    pub fn disconnected(&self) {
        add(&self.connections, u64::MAX);
    }
}

/// A distribution at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Histogram {
    /// In seconds.
    pub sum: f64,
    /// How many.
    pub count: u64,
    /// Upper bounds in seconds, and how many there are above the bound before.
    pub buckets: Vec<(f64, u64)>,
}

/// The numbers of all threads. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Shards(Arc<Mutex<Vec<Arc<Shard>>>>);

impl Shards {
    /// The numbers of one more.
    #[must_use]
    pub fn add(&self) -> Arc<Shard> {
        let shard = Arc::new(Shard::default());
        self.0.lock().push(Arc::clone(&shard));
        shard
    }

    fn sum(&self, number: impl Fn(&Shard) -> &AtomicU64) -> u64 {
        self.0.lock().iter().fold(0, |sum, shard| sum.wrapping_add(number(shard).load(Relaxed)))
    }

    /// Messages of watches that were handed out.
    #[must_use]
    pub fn messages(&self) -> u64 {
        self.sum(|shard| &shard.messages)
    }

    /// Connections that are up.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.sum(|shard| &shard.connections)
    }

    /// How old changes were when they were handed out.
    #[must_use]
    pub fn ages(&self) -> Histogram {
        let bounds =
            BOUNDS.iter().map(|bound| Duration::from_micros(*bound).as_secs_f64()).chain([f64::INFINITY]);
        let mut buckets: Vec<_> = bounds.map(|bound| (bound, 0)).collect();
        let mut micros = 0;
        for shard in &*self.0.lock() {
            for ((_, count), number) in buckets.iter_mut().zip(&shard.ages) {
                *count += number.load(Relaxed);
            }
            micros += u128::from(shard.sum.load(Relaxed));
        }
        let count = buckets.iter().map(|(_, count)| count).sum();
        Histogram {
            sum: Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX)).as_secs_f64(),
            count,
            buckets,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_threads_measured_is_put_together() {
        let shards = Shards::default();
        let (one, other) = (shards.add(), shards.add());
        one.delivered(Duration::from_micros(50), 3);
        one.delivered(Duration::from_millis(2), 1);
        other.delivered(Duration::from_secs(3600), 2);
        one.said(4);
        other.said(3);
        one.connected();
        other.connected();
        one.disconnected();
        assert_eq!((shards.messages(), shards.connections()), (7, 1));
        let ages = shards.ages();
        assert_eq!(ages.count, 6);
        assert!((ages.sum - 7200.00215).abs() < 1e-9, "{}", ages.sum);
        let filled: Vec<_> = ages.buckets.iter().filter(|(_, count)| *count > 0).copied().collect();
        assert_eq!(filled, [(0.000_05, 3), (0.0025, 1), (f64::INFINITY, 2)]);
    }

    #[test]
    fn no_age_is_too_old() {
        let shards = Shards::default();
        shards.add().delivered(Duration::MAX, u64::MAX);
        assert_eq!(shards.ages().count, u64::MAX);
    }
}
