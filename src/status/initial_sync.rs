//! The messages that a stream begins, or starts over, with.

use std::sync::Arc;

use super::{Delivery, Filter, NodeSummary, PeerState, PoolState, ResetReason, Snapshot};

/// Peers per snapshot message: 2 KiB as a rule, and 5 KiB where each has a long detail. Each watch keeps a buffer for
/// its longest message. The API promises no more than 500.
pub const SNAPSHOT_CHUNK: usize = 8;
/// Nodes and pools per snapshot message: all those of a fleet do not fit into one.
pub const POOLS_CHUNK: usize = 32;

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
    /// Nodes, and then pools, of the snapshot that were sent or held back by the filter.
    scanned_pools: usize,
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
        let (scanned_pools, scanned, passed) = (0, 0, 0);
        Self {
            announce,
            reset,
            sends_snapshot,
            pools_pending,
            snapshot,
            scanned_pools,
            scanned,
            passed,
            chunk,
        }
    }

    /// Counts the peers of a newer snapshot, for a client that resumes.
    pub(super) fn count_anew(&mut self, snapshot: Arc<Snapshot>) {
        (self.snapshot, self.scanned, self.passed) = (snapshot, 0, 0);
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
        let left = self.snapshot.nodes.len() + self.snapshot.pools.len();
        let left = left.saturating_sub(self.scanned_pools);
        if self.pools_pending && left > POOLS_CHUNK {
            *budget = budget.saturating_sub(POOLS_CHUNK * cost);
            let (nodes, pools) = self.next_pools(filter);
            let is_empty = nodes.is_empty() && pools.is_empty();
            return (!is_empty).then(|| Delivery::Snapshot { peers: Vec::new(), pools, nodes });
        }
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
        let (nodes, pools) = if has_pools { self.next_pools(filter) } else { Default::default() };
        Some(Delivery::Snapshot { pools, nodes, peers: std::mem::take(&mut self.chunk) })
    }

    /// The next nodes and pools, as many as a message has.
    fn next_pools(&mut self, filter: &Filter) -> (Vec<NodeSummary>, Vec<Arc<PoolState>>) {
        let (start, end) = (self.scanned_pools, self.scanned_pools + POOLS_CHUNK);
        self.scanned_pools = end;
        let Snapshot { nodes, pools, .. } = &*self.snapshot;
        let first_pool = start.saturating_sub(nodes.len());
        let pool_count = end.saturating_sub(nodes.len().max(start));
        let nodes = nodes.iter().skip(start).take(POOLS_CHUNK);
        let pools = pools.iter().skip(first_pool).take(pool_count);
        (
            nodes.filter(|summary| filter.admits_node(&summary.node)).cloned().collect(),
            pools.filter(|pool| filter.admits_health_of(&pool.name)).cloned().collect(),
        )
    }
}
