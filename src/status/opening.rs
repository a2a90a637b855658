//! How a stream begins, or begins anew: what has to be said until the client is up to date.

use std::{sync::Arc, vec};

use super::{Delivery, Filter, PeerState, PoolState, ResetReason};

/// Peers per snapshot message: 500 × ~200 bytes stays far below the 4 MiB that clients accept by default.
pub const SNAPSHOT_CHUNK: usize = 500;
/// Peers that are held against the filter at a time, before others get their turn. Fewer if the filter is much work.
const PEERS_AT_A_TIME: usize = 500;

/// What is left to be said, in this order; then all changes up to `revision`, and that this was all.
pub(super) struct Opening {
    /// That the stream is attached, and whether it is resumed.
    pub(super) announce: Option<bool>,
    /// That it starts over.
    pub(super) reset: Option<(ResetReason, u64)>,
    /// The pools that go with the first part of the snapshot; `None`: a client that resumes needs none.
    pools: Option<Vec<Arc<PoolState>>>,
    fresh: bool,
    census: Census,
    /// Where the client will be up to date.
    pub(super) revision: u64,
}

/// The peers at one revision, of which the filter lets some pass.
pub(super) struct Census {
    unseen: vec::IntoIter<Arc<PeerState>>,
    found: usize,
    part: Vec<Arc<PeerState>>,
}

impl Census {
    pub(super) fn of(peers: Vec<Arc<PeerState>>) -> Self {
        Self { unseen: peers.into_iter(), found: 0, part: Vec::new() }
    }
}

impl Opening {
    /// Of a stream that goes on after what the client has.
    pub(super) fn resumed(revision: u64, census: Census) -> Self {
        Self { announce: Some(true), reset: None, pools: None, fresh: false, census, revision }
    }

    /// Of a stream that begins with a snapshot.
    pub(super) fn fresh(
        revision: u64,
        census: Census,
        pools: Vec<Arc<PoolState>>,
        reset: Option<(ResetReason, u64)>,
    ) -> Self {
        Self { announce: Some(false), reset, pools: Some(pools), fresh: true, census, revision }
    }

    /// Of a stream that has been told of changes before.
    pub(super) fn again(
        revision: u64,
        census: Census,
        pools: Vec<Arc<PoolState>>,
        reset: Option<(ResetReason, u64)>,
    ) -> Self {
        Self { announce: None, ..Self::fresh(revision, census, pools, reset) }
    }

    /// Whether a snapshot is told, and not only changes.
    pub(super) const fn is_fresh(&self) -> bool {
        self.fresh
    }

    /// Whether every peer was looked at, and told of if a snapshot is told.
    pub(super) fn counted(&self) -> bool {
        self.census.unseen.len() == 0 && self.pools.is_none() && self.census.part.is_empty()
    }

    /// How many peers the filter lets pass.
    pub(super) const fn peers(&self) -> usize {
        self.census.found
    }

    /// Looks at some more peers. Returns the next part of the snapshot once it is complete, the first one also if it
    /// is empty: that says that there is nothing.
    pub(super) fn count_on(&mut self, filter: &Filter) -> Option<Delivery> {
        let Census { unseen, found, part } = &mut self.census;
        for peer in unseen.by_ref().take(PEERS_AT_A_TIME.div_ceil(filter.effort())) {
            if filter.admits_peer(&peer) {
                *found += 1;
                if self.fresh {
                    part.push(peer);
                    if part.len() == SNAPSHOT_CHUNK {
                        break;
                    }
                }
            }
        }
        if !self.fresh || (part.len() < SNAPSHOT_CHUNK && unseen.len() > 0) {
            return None;
        }
        let pools = self.pools.take();
        if part.is_empty() && pools.is_none() {
            return None;
        }
        Some(Delivery::Snapshot { peers: std::mem::take(part), pools: pools.unwrap_or_default() })
    }
}
