//! Limits for handshakes and calls without credentials. When all slots are taken, the oldest is evicted: a new client
//! never waits, and only a stalled one keeps its slot for long enough to become the oldest.

use std::{collections::BTreeMap, sync::Arc};

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

/// A limit on what is in flight, which evicts the oldest.
#[derive(Debug)]
pub(super) struct EvictingLimit {
    limit: usize,
    slots: Mutex<Slots>,
}

#[derive(Debug, Default)]
struct Slots {
    last: u64,
    /// By number, the oldest first.
    in_flight: BTreeMap<u64, CancellationToken>,
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

    /// Takes a slot, and evicts the oldest if there is none.
    pub(super) fn begin(self: &Arc<Self>) -> Slot {
        let mut slots = self.slots.lock();
        if slots.in_flight.len() >= self.limit
            && let Some((_, oldest)) = slots.in_flight.pop_first()
        {
            oldest.cancel();
        }
        slots.last += 1;
        let (number, evicted) = (slots.last, CancellationToken::new());
        slots.in_flight.insert(number, evicted.clone());
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
        self.limit.slots.lock().in_flight.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_gives_way_when_there_are_too_many() {
        let handshakes = EvictingLimit::new(2);
        let [one, two, three] = [(); 3].map(|()| handshakes.begin());
        let evicted = |handshakes: &[&Slot]| {
            handshakes.iter().map(|one| one.evicted.is_cancelled()).collect::<Vec<_>>()
        };
        assert_eq!(evicted(&[&one, &two, &three]), [true, false, false]);
        drop(one);
        drop(two);
        let four = handshakes.begin();
        assert_eq!(evicted(&[&three, &four]), [false, false], "one was done");
    }
}
