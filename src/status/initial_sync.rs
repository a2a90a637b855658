//! The messages that a stream begins, or starts over, with.

use std::sync::Arc;

use super::{Delivery, Filter, PeerState, ResetReason, Snapshot};

/// Peers per snapshot message: 2 KiB as a rule, and 5 KiB where each has a long detail. Each watch keeps a buffer for
/// its longest message. The API promises no more than 500.
pub const SNAPSHOT_CHUNK: usize = 8;

/// The messages left to send until the client is up to date, in this order; then follow all changes up to the snapshot's
/// revision, and `Synced`.
pub(super) struct InitialSync {
    /// `Attached`; the value is its `resumed`.
    pub(super) announce: Option<bool>,
    /// `Reset`, with its reason and the revisions missed.
    pub(super) reset: Option<(ResetReason, u64)>,
    /// Whether the peers and pools are sent. They are only counted for a client that resumes.
    pub(super) sends_snapshot: bool,
    pools_pending: bool,
    snapshot: Arc<Snapshot>,
    /// Peers of the snapshot that were checked against the filter, and those of them that passed.
    scanned: usize,
    pub(super) passed: usize,
    chunk: Vec<Arc<PeerState>>,
}

impl InitialSync {
    pub(super) fn new(
        snapshot: Arc<Snapshot>,
        announce: Option<bool>,
        reset: Option<(ResetReason, u64)>,
    ) -> Self {
        let sends_snapshot = announce != Some(true);
        let (pools_pending, chunk) = (sends_snapshot, Vec::new());
        Self { announce, reset, sends_snapshot, pools_pending, snapshot, scanned: 0, passed: 0, chunk }
    }

    /// Where the client will be up to date.
    pub(super) fn revision(&self) -> u64 {
        self.snapshot.cursor.revision
    }

    /// Whether every peer was scanned, and sent if it had to be.
    pub(super) fn is_scanned(&self) -> bool {
        self.scanned == self.snapshot.peers.len() && !self.pools_pending && self.chunk.is_empty()
    }

    /// Scans more peers, within the `budget` of work, and subtracts theirs. Returns the next chunk of the snapshot once it
    /// is complete. The first one is sent even if it is empty.
    pub(super) fn next_chunk(&mut self, filter: &Filter, budget: &mut usize) -> Option<Delivery> {
        let cost = filter.cost();
        for peer in self.snapshot.peers.iter().skip(self.scanned).take(budget.div_ceil(cost)) {
            self.scanned += 1;
            *budget = budget.saturating_sub(cost);
            if !filter.admits_peer(peer) {
                continue;
            }
            self.passed += 1;
            if self.sends_snapshot {
                self.chunk.push(Arc::clone(peer));
                if self.chunk.len() == SNAPSHOT_CHUNK {
                    break;
                }
            }
        }
        let is_last = self.scanned == self.snapshot.peers.len();
        if !self.sends_snapshot || (self.chunk.len() < SNAPSHOT_CHUNK && !is_last) {
            return None;
        }
        let has_pools = std::mem::take(&mut self.pools_pending);
        if self.chunk.is_empty() && !has_pools {
            return None;
        }
        let pools =
            self.snapshot.pools.iter().filter(|pool| has_pools && filter.admits_health_of(&pool.name));
        Some(Delivery::Snapshot { pools: pools.cloned().collect(), peers: std::mem::take(&mut self.chunk) })
    }
}
