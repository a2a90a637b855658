//! Connections whose handshake is not complete: TLS, and the first bytes of HTTP.
//!
//! A stalled handshake occupies a slot until it times out. When all slots are taken, the oldest gives way to the next:
//! nobody waits for a slot, and whoever goes on with its handshake is done long before its turn to give way comes.

use std::{collections::BTreeMap, sync::Arc};

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

/// The handshakes in flight.
#[derive(Debug)]
pub(super) struct Handshakes {
    limit: usize,
    slots: Mutex<Slots>,
}

#[derive(Debug, Default)]
struct Slots {
    last: u64,
    /// In the order in which they began.
    in_flight: BTreeMap<u64, CancellationToken>,
}

/// A handshake in flight. Dropping it completes it.
#[derive(Debug)]
pub(super) struct Handshake {
    handshakes: Arc<Handshakes>,
    number: u64,
    evicted: CancellationToken,
}

impl Handshakes {
    /// At most so many at a time.
    pub(super) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit: limit.max(1), slots: Mutex::default() })
    }

    /// Begins one. Evicts the oldest if there are too many.
    pub(super) fn begin(self: &Arc<Self>) -> Handshake {
        let mut slots = self.slots.lock();
        if slots.in_flight.len() >= self.limit
            && let Some((_, oldest)) = slots.in_flight.pop_first()
        {
            oldest.cancel();
        }
        slots.last += 1;
        let (number, evicted) = (slots.last, CancellationToken::new());
        slots.in_flight.insert(number, evicted.clone());
        Handshake { handshakes: Arc::clone(self), number, evicted }
    }
}

impl Handshake {
    /// Cancelled when the handshake has to give way to another.
    pub(super) const fn evicted(&self) -> &CancellationToken {
        &self.evicted
    }
}

impl Drop for Handshake {
    fn drop(&mut self) {
        self.handshakes.slots.lock().in_flight.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_gives_way_when_there_are_too_many() {
        let handshakes = Handshakes::new(2);
        let [one, two, three] = [(); 3].map(|()| handshakes.begin());
        let evicted = |handshakes: &[&Handshake]| {
            handshakes.iter().map(|one| one.evicted.is_cancelled()).collect::<Vec<_>>()
        };
        assert_eq!(evicted(&[&one, &two, &three]), [true, false, false]);
        drop(one);
        drop(two);
        let four = handshakes.begin();
        assert_eq!(evicted(&[&three, &four]), [false, false], "one was done");
    }
}
