//! The health of a pool, by definition: a function of how many wanted peers there are and how many are READY.

use crate::peer::{PeerStatus, PoolHealth};

/// How many peers of a pool count, and how many of them are READY.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) wanted: u32,
    pub(super) ready: u32,
}

impl Tally {
    /// Takes a peer that was in `before` (`None`: not in the pool) and is in `after` now into account.
    pub(super) fn moved(&mut self, before: Option<PeerStatus>, after: Option<PeerStatus>) {
        if let Some(status) = before {
            self.wanted = self.wanted.saturating_sub(u32::from(is_wanted(status)));
            self.ready = self.ready.saturating_sub(u32::from(status == PeerStatus::Ready));
        }
        if let Some(status) = after {
            self.wanted = self.wanted.saturating_add(u32::from(is_wanted(status)));
            self.ready = self.ready.saturating_add(u32::from(status == PeerStatus::Ready));
        }
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
