//! When which peer dies, and for how long: drawn from a seed, so that a run can be repeated. No clock.

use std::time::Duration;

use fastrand::Rng;

/// Seconds between the end of one outage and the next: long enough to see the pool recover.
const CALM: std::ops::RangeInclusive<u64> = 2..=5;
/// Seconds that a peer is down: from a restart to a reboot in a hurry.
const DOWN: std::ops::RangeInclusive<u64> = 1..=6;

/// One peer dies and comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outage {
    /// How long all is well before it.
    pub after: Duration,
    /// Which peer, counted from 0.
    pub peer: usize,
    /// How long it is down.
    pub down_for: Duration,
}

/// The outages of some peers, one after the other, without end.
#[derive(Clone, Debug)]
pub struct Outages {
    random: Rng,
    peers: usize,
}

impl Outages {
    /// Outages of `peers` peers; the same seed gives the same ones.
    #[must_use]
    pub fn new(peers: usize, seed: u64) -> Self {
        Self { random: Rng::with_seed(seed), peers }
    }
}

impl Iterator for Outages {
    type Item = Outage;

    /// The next outage; `None` only if there is no peer.
    fn next(&mut self) -> Option<Outage> {
        (self.peers > 0).then(|| Outage {
            after: Duration::from_secs(self.random.u64(CALM)),
            peer: self.random.usize(..self.peers),
            down_for: Duration::from_secs(self.random.u64(DOWN)),
        })
    }
}
