//! Random outages of peers, reproducible from a seed. No clock.

use std::time::Duration;

use fastrand::Rng;

/// Seconds between two outages: long enough to see the pool recover.
const PAUSE: std::ops::RangeInclusive<u64> = 2..=5;
/// Duration of an outage in seconds: from a restart to a fast reboot.
const DOWN: std::ops::RangeInclusive<u64> = 1..=6;

/// One peer stops and restarts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outage {
    /// The time before it.
    pub after: Duration,
    /// Index of the peer.
    pub peer: usize,
    /// Duration of the outage.
    pub down_for: Duration,
}

/// An endless sequence of outages, one at a time.
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

    /// `None` only if there are no peers.
    fn next(&mut self) -> Option<Outage> {
        (self.peers > 0).then(|| Outage {
            after: Duration::from_secs(self.random.u64(PAUSE)),
            peer: self.random.usize(..self.peers),
            down_for: Duration::from_secs(self.random.u64(DOWN)),
        })
    }
}
