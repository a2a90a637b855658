//! How a stream begins, or begins anew: what has to be said until the client is up to date.

use std::sync::Arc;

use super::{Delivery, Filter, PeerState, ResetReason, Snapshot};

/// Peers per snapshot message: 2 KiB as a rule, and 5 KiB where each has a long detail. Each watch keeps room for the
/// longest of its messages. The API promises no more than 500.
pub const SNAPSHOT_CHUNK: usize = 8;

/// What is left to be said, in this order; then all changes up to `revision`, and that this was all.
pub(super) struct InitialSync {
    /// That the stream is attached, and whether it is resumed.
    pub(super) announce: Option<bool>,
    /// That it starts over.
    pub(super) reset: Option<(ResetReason, u64)>,
    /// The pools are to go with the next part of the snapshot.
    pools: bool,
    fresh: bool,
    peers_cursor: SnapshotCursor,
    /// Where the client will be up to date.
    pub(super) revision: u64,
}

/// The peers at one revision, of which the filter lets some pass.
struct SnapshotCursor {
    snapshot: Arc<Snapshot>,
    /// So many of its peers were looked at.
    seen: usize,
    found: usize,
    part: Vec<Arc<PeerState>>,
}

impl SnapshotCursor {
    fn of(snapshot: Arc<Snapshot>) -> Self {
        Self { snapshot, seen: 0, found: 0, part: Vec::new() }
    }

    fn is_complete(&self) -> bool {
        self.seen == self.snapshot.peers.len()
    }
}

impl InitialSync {
    /// Of a stream that goes on after what the client has.
    pub(super) fn resumed(snapshot: Arc<Snapshot>) -> Self {
        let revision = snapshot.cursor.revision;
        let peers_cursor = SnapshotCursor::of(snapshot);
        Self { announce: Some(true), reset: None, pools: false, fresh: false, peers_cursor, revision }
    }

    /// Of a stream that begins with a snapshot.
    pub(super) fn fresh(snapshot: Arc<Snapshot>, reset: Option<(ResetReason, u64)>) -> Self {
        Self { announce: Some(false), reset, pools: true, fresh: true, ..Self::resumed(snapshot) }
    }

    /// Of a stream that has been told of changes before.
    pub(super) fn again(snapshot: Arc<Snapshot>, reset: Option<(ResetReason, u64)>) -> Self {
        Self { announce: None, ..Self::fresh(snapshot, reset) }
    }

    /// Whether a snapshot is told, and not only changes.
    pub(super) const fn is_fresh(&self) -> bool {
        self.fresh
    }

    /// Whether every peer was looked at, and told of if a snapshot is told.
    pub(super) fn counted(&self) -> bool {
        self.peers_cursor.is_complete() && !self.pools && self.peers_cursor.part.is_empty()
    }

    /// How many peers the filter lets pass.
    pub(super) const fn peers(&self) -> usize {
        self.peers_cursor.found
    }

    /// Looks at some more peers. Returns the next part of the snapshot once it is complete, the first one also if it
    /// is empty: that says that there is nothing. Takes from `turn` what it was worth to hold them against the filter,
    /// and looks at no more of them than that allows.
    pub(super) fn next_chunk(&mut self, filter: &Filter, turn: &mut usize) -> Option<Delivery> {
        let (peers_cursor, effort) = (&mut self.peers_cursor, filter.effort());
        for peer in peers_cursor.snapshot.peers.iter().skip(peers_cursor.seen).take(turn.div_ceil(effort)) {
            peers_cursor.seen += 1;
            *turn = turn.saturating_sub(effort);
            if filter.admits_peer(peer) {
                peers_cursor.found += 1;
                if self.fresh {
                    peers_cursor.part.push(Arc::clone(peer));
                    if peers_cursor.part.len() == SNAPSHOT_CHUNK {
                        break;
                    }
                }
            }
        }
        if !self.fresh || (peers_cursor.part.len() < SNAPSHOT_CHUNK && !peers_cursor.is_complete()) {
            return None;
        }
        let has_pools = std::mem::take(&mut self.pools);
        if peers_cursor.part.is_empty() && !has_pools {
            return None;
        }
        let pools = peers_cursor
            .snapshot
            .pools
            .iter()
            .filter(|pool| has_pools && filter.admits_health_of(&pool.name));
        Some(Delivery::Snapshot {
            pools: pools.cloned().collect(),
            peers: std::mem::take(&mut peers_cursor.part),
        })
    }
}
