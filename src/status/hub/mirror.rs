//! States that the nodes of a fleet published. The hub stores them as they are: it computes neither failures nor the
//! health of a pool, only the counts of its peers.

use std::{
    ops::Bound,
    sync::{Arc, atomic::Ordering},
    time::SystemTime,
};

use super::{
    Cursor, Hub, State,
    pool::{Counts, Pool},
};
use crate::{
    peer::{PeerAddress, PeerOrigin, PeerStatus, PoolHealth},
    status::{
        ChangeKind, Event, HealthChange, Liveness, NodeChange, NodeState, PeerChange, PeerState, PoolState,
    },
};

/// What one record of the stream does to the state. Each change makes an event.
#[derive(Clone, Debug, PartialEq)]
pub enum Mirrored {
    /// A peer changed, and the health of its pool with it.
    Peer {
        /// The peer after the change.
        peer: Arc<PeerState>,
        /// What changed; not `Removed`.
        kind: ChangeKind,
        /// Its status before; `None` for a new one.
        previous: Option<PeerStatus>,
        /// Its origin before; `None` for a new one.
        previous_origin: Option<PeerOrigin>,
        /// The change of its pool's health.
        health: Option<HealthChange>,
    },
    /// A peer left.
    PeerRemoved {
        /// Its last state.
        peer: Arc<PeerState>,
        /// Its status before.
        previous: Option<PeerStatus>,
        /// The change of its pool's health.
        health: Option<HealthChange>,
    },
    /// The state of a peer is this one: not a change.
    PeerState(Arc<PeerState>),
    /// The state of a pool is this one, except for the counts; it may be new. Not a change.
    PoolState(Arc<PoolState>),
    /// A pool is gone, and peers that are left in it. Not a change.
    PoolRemoved(Arc<str>),
    /// A node changed.
    Node {
        /// The node after the change.
        node: Arc<NodeState>,
        /// Its liveness before; `None` for a new one.
        previous: Option<Liveness>,
    },
    /// The state of a node is this one: not a change.
    NodeState(Arc<NodeState>),
}

impl Hub {
    /// Follows the stream of a fleet, whose epoch and revisions are its own, from this state on. The log starts after
    /// `floor`. Attached streams that are not there start over.
    pub fn restart(&self, epoch: u64, floor: u64, state_effects: Vec<Mirrored>) {
        let freed_unlocked = {
            let mut state = self.state.write();
            // In this order, so that no reader takes a revision of one epoch for one of the other.
            self.head.store(0, Ordering::Release);
            self.epoch.store(epoch, Ordering::Release);
            self.head.store(floor, Ordering::Release);
            let pools = std::mem::take(state.pools_mut());
            let freed = (state.log.restart(floor), pools, std::mem::take(&mut state.nodes));
            for effect in state_effects {
                let event = state.mirror(effect, floor, SystemTime::UNIX_EPOCH);
                debug_assert!(event.is_none(), "a state is not told");
            }
            freed
        };
        drop(freed_unlocked);
        self.wakers.wake_all();
    }

    /// Applies what records did to the state, in one step. The first change gets the revision `first`, the next one
    /// the following, and the log reaches `head`, which is not before the last of them.
    ///
    /// Returns how many were changes.
    pub fn mirror(&self, first: u64, head: u64, at: SystemTime, effects: Vec<Mirrored>) -> u64 {
        let mut freed_unlocked = Vec::new();
        let (mut revision, before);
        {
            let mut state = self.state.write();
            revision = first;
            before = state.log.head();
            // It says where it was cut.
            state.snapshot = std::sync::Weak::new();
            for effect in effects {
                let Some(event) = state.mirror(effect, revision, at) else { continue };
                revision += 1;
                let event = Arc::new(event);
                let evicted = state.log.push(Arc::clone(&event));
                state.recent.note(&event, evicted.as_ref());
                freed_unlocked.extend(evicted);
            }
            state.log.advance(head);
            self.head.store(state.log.head(), Ordering::Release);
        }
        if revision > first || before < self.awaited.load(Ordering::Relaxed) {
            self.wakers.wake_all();
        }
        revision - first
    }

    /// One node.
    pub fn node(&self, name: &str) -> Option<(NodeSummary, Cursor)> {
        let state = self.state.read();
        let node = state.nodes.get(name)?;
        Some((state.summary(node), self.cursor_of(&state)))
    }

    /// Up to `max` nodes whose names come after `after`.
    pub fn nodes(&self, after: Option<&str>, max: usize) -> (Vec<NodeSummary>, Cursor) {
        let state = self.state.read();
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let nodes = state.nodes.range::<str, _>((start, Bound::Unbounded)).take(max);
        (nodes.map(|(_, node)| state.summary(node)).collect(), self.cursor_of(&state))
    }
}

/// A node, and the counts of its pools.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeSummary {
    /// The node.
    pub node: Arc<NodeState>,
    /// Peers that count in the health of its pools.
    pub wanted: u32,
    /// How many of those are known to be READY.
    pub ready: u32,
}

impl State {
    pub(super) fn summary(&self, node: &Arc<NodeState>) -> NodeSummary {
        let pools = || node.pools.iter().filter_map(|name| self.pools.get(name)).map(|pool| &pool.state);
        NodeSummary {
            node: Arc::clone(node),
            wanted: pools().map(|pool| pool.wanted).sum(),
            ready: pools().map(|pool| pool.known_ready()).sum(),
        }
    }

    /// Applies one effect. Returns its event, if it is a change.
    fn mirror(&mut self, effect: Mirrored, revision: u64, at: SystemTime) -> Option<Event> {
        let (mut peer, mut health, mut node) = (None, None, None);
        match effect {
            Mirrored::Peer { peer: state, kind, previous, previous_origin, health: changed } => {
                let pool = self.pools_mut().get_mut(&state.pool)?;
                pool.put(Arc::clone(&state));
                pool.set_health(changed, at, revision);
                health = changed;
                peer = Some(PeerChange { peer: state, kind, previous, previous_origin });
            }
            Mirrored::PeerRemoved { peer: state, previous, health: changed } => {
                let pool = self.pools_mut().get_mut(&state.pool)?;
                pool.remove(&state.address);
                pool.set_health(changed, at, revision);
                health = changed;
                let previous_origin = Some(state.origin);
                peer = Some(PeerChange { peer: state, kind: ChangeKind::Removed, previous, previous_origin });
            }
            Mirrored::PeerState(state) => {
                self.pools_mut().get_mut(&state.pool)?.put(state);
                return None;
            }
            Mirrored::PoolState(state) => {
                self.put_pool(state);
                return None;
            }
            Mirrored::PoolRemoved(name) => {
                self.pools_mut().remove(&name);
                return None;
            }
            Mirrored::Node { node: state, previous } => {
                self.put_node(Arc::clone(&state));
                node = Some(NodeChange { node: self.summary(&state), previous });
            }
            Mirrored::NodeState(state) => {
                self.put_node(state);
                return None;
            }
        }
        Some(Event { revision, time: at, peer, health, node, attachment: Default::default() })
    }

    fn put_pool(&mut self, mut published: Arc<PoolState>) {
        let name = Arc::clone(&published.name);
        let pools = self.pools_mut();
        let Some(pool) = pools.get_mut(&name) else {
            let mut pool = Pool { state: published, peers: std::collections::BTreeMap::new() };
            pool.set_counts(Counts::default());
            pools.insert(name, pool);
            return;
        };
        let (counts, stale_since) = (pool.counts(), pool.state.stale_since);
        if stale_since.is_some() {
            Arc::make_mut(&mut published).stale_since = stale_since;
        }
        pool.state = published;
        pool.set_counts(counts);
    }

    fn put_node(&mut self, node: Arc<NodeState>) {
        let stale_since = node.stale_since;
        let pools = self.pools_mut();
        for name in &*node.pools {
            if let Some(pool) = pools.get_mut(name).filter(|pool| pool.state.stale_since != stale_since) {
                Arc::make_mut(&mut pool.state).stale_since = stale_since;
            }
        }
        if node.liveness == Liveness::Gone {
            self.nodes.remove(&node.name);
        } else {
            self.nodes.insert(Arc::clone(&node.name), node);
        }
    }
}

impl Pool {
    fn put(&mut self, peer: Arc<PeerState>) {
        let after = Counts::of(Some(peer.status));
        let before = self.peers.insert(peer.address.clone(), peer);
        self.set_counts(self.counts().moved(Counts::of(before.map(|before| before.status)), after));
    }

    fn remove(&mut self, address: &PeerAddress) {
        if let Some(before) = self.peers.remove(address) {
            self.set_counts(self.counts().moved(Counts::of(Some(before.status)), Counts::default()));
        }
    }

    fn set_counts(&mut self, Counts { wanted, ready, parked }: Counts) {
        if self.counts() != (Counts { wanted, ready, parked }) {
            let state = Arc::make_mut(&mut self.state);
            (state.wanted, state.ready, state.parked) = (wanted, ready, parked);
        }
    }

    /// The health as it was published, with a change at this revision.
    fn set_health(&mut self, change: Option<HealthChange>, at: SystemTime, revision: u64) {
        let state = Arc::make_mut(&mut self.state);
        state.revision = revision;
        if let Some(HealthChange { health, .. }) = change.filter(|change| change.health != state.health) {
            (state.health, state.health_since) = (health, at);
            state.not_healthy_since = match health {
                PoolHealth::Healthy => None,
                _ => state.not_healthy_since.or(Some(at)),
            };
        }
    }
}
