//! Limits for handshakes and calls without credentials. When all slots are taken, the oldest of the source with most of
//! them is evicted: a new client never waits, and only a stalled one keeps its slot for long enough to become the oldest.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::source::{Evictable, Source};

/// A limit on what is in flight.
#[derive(Debug)]
pub(super) struct EvictingLimit {
    limit: usize,
    slots: Mutex<Evictable>,
}

/// A slot. Dropping it frees it.
#[derive(Debug)]
pub(super) struct Slot {
    limit: Arc<EvictingLimit>,
    number: u64,
    evicted: CancellationToken,
}

impl EvictingLimit {
    /// With `limit` slots, at least one.
    pub(super) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit: limit.max(1), slots: Mutex::default() })
    }

    /// Takes a slot, and evicts another if there is none.
    pub(super) fn begin(self: &Arc<Self>, source: Source) -> Slot {
        let mut slots = self.slots.lock();
        if slots.len() >= self.limit
            && let Some((_, victim)) = slots.victim().and_then(|number| slots.remove(number))
        {
            victim.cancel();
        }
        let evicted = CancellationToken::new();
        let number = slots.insert(source, evicted.clone());
        Slot { limit: Arc::clone(self), number, evicted }
    }
}

impl Slot {
    /// Cancelled on eviction.
    pub(super) const fn evicted(&self) -> &CancellationToken {
        &self.evicted
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.limit.slots.lock().remove(self.number);
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    const ONE: Source = Source::Network(IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1)));

    #[test]
    fn the_oldest_gives_way_when_there_are_too_many() {
        let handshakes = EvictingLimit::new(2);
        let [one, two, three] = [(); 3].map(|()| handshakes.begin(ONE));
        let evicted = |handshakes: &[&Slot]| {
            handshakes.iter().map(|one| one.evicted.is_cancelled()).collect::<Vec<_>>()
        };
        assert_eq!(evicted(&[&one, &two, &three]), [true, false, false]);
        drop(one);
        drop(two);
        let four = handshakes.begin(ONE);
        assert_eq!(evicted(&[&three, &four]), [false, false], "one was done");
    }

    #[test]
    fn who_begins_thousands_evicts_none_of_another_source() {
        let handshakes = EvictingLimit::new(3);
        let good = handshakes.begin(Source::Local);
        let begun: Vec<_> = (0..3000).map(|_| handshakes.begin(ONE)).collect();
        assert!(!good.evicted.is_cancelled());
        assert_eq!(begun.iter().filter(|slot| !slot.evicted.is_cancelled()).count(), 2);
    }
}
