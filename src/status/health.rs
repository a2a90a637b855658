//! The health of a pool: a function of how many wanted peers there are and how many are READY.

use crate::peer::{PeerStatus, PoolHealth};

/// The wanted peers of a pool, and those of them that are READY.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) wanted: u32,
    pub(super) ready: u32,
}

impl Tally {
    /// Counts a peer's move from one status to another; `None`: it is not in the pool.
    pub(super) fn update(&mut self, before: Option<PeerStatus>, after: Option<PeerStatus>) {
        let counts = |status: Option<PeerStatus>| {
            status.map_or((0, 0), |status| {
                (u32::from(is_wanted(status)), u32::from(status == PeerStatus::Ready))
            })
        };
        let ((left, unready), (entered, ready)) = (counts(before), counts(after));
        self.wanted = self.wanted.saturating_sub(left).saturating_add(entered);
        self.ready = self.ready.saturating_sub(unready).saturating_add(ready);
    }

    pub(super) const fn health(self) -> PoolHealth {
        match (self.ready, self.wanted) {
            (0, _) => PoolHealth::Down,
            (ready, wanted) if ready < wanted => PoolHealth::Degraded,
            _ => PoolHealth::Healthy,
        }
    }
}

/// Whether a peer in this status counts in its pool's health.
const fn is_wanted(status: PeerStatus) -> bool {
    !matches!(status, PeerStatus::Closing | PeerStatus::Disconnected)
}
