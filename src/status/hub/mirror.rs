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

/// What one record of the stream did.
#[derive(Clone, Debug)]
pub struct MirroredRecord {
    /// The revision of its first change. The next one has the following.
    pub first: u64,
    /// The last revision that its changes may have: the log reaches this.
    pub head: u64,
    /// When it happened.
    pub at: SystemTime,
    /// What it did, in one step.
    pub effects: Vec<Mirrored>,
}

/// From where a hub follows the stream of a fleet, whose epoch and revisions are its own.
#[derive(Debug)]
pub struct MirrorStart {
    /// The identity of the stream.
    pub epoch: u64,
    /// Of the state.
    pub revision: u64,
    /// Effects that make the state. None of them is a change.
    pub state: Vec<Mirrored>,
    /// The records after it.
    pub records: Vec<MirroredRecord>,
    /// The changes up to here are not kept.
    pub floor: u64,
}

impl Hub {
    /// Follows the stream from there on. Attached streams that are not there start over.
    pub fn restart(&self, start: MirrorStart) {
        let freed_unlocked = {
            let mut state = self.state.write();
            // In this order, so that no reader takes a revision of one epoch for one of the other.
            self.head.store(0, Ordering::Release);
            self.epoch.store(start.epoch, Ordering::Release);
            let pools = std::mem::take(state.pools_mut());
            let mut freed =
                (state.log.restart(start.revision), pools, std::mem::take(&mut state.nodes), Vec::new());
            for effect in start.state {
                let event = state.mirror(effect, start.revision, SystemTime::UNIX_EPOCH);
                debug_assert!(event.is_none(), "a state makes no event");
            }
            for record in start.records {
                state.mirror_record(record, &mut freed.3);
            }
            freed.3.extend(state.log.forget(start.floor));
            self.head.store(state.log.head(), Ordering::Release);
            freed
        };
        drop(freed_unlocked);
        self.wakers.wake_all();
    }

    /// Applies what a record did to the state. Returns how many changes that were.
    pub fn mirror(&self, record: MirroredRecord) -> u64 {
        let mut freed_unlocked = Vec::new();
        let (changes, before);
        {
            let mut state = self.state.write();
            before = state.log.head();
            changes = state.mirror_record(record, &mut freed_unlocked);
            self.head.store(state.log.head(), Ordering::Release);
        }
        if changes > 0 || before < self.awaited.load(Ordering::Relaxed) {
            self.wakers.wake_all();
        }
        changes
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

    /// Applies one record. Returns how many changes that were. If there was none, the state of the last snapshot stays true.
    fn mirror_record(&mut self, record: MirroredRecord, freed: &mut Vec<Arc<Event>>) -> u64 {
        let MirroredRecord { first, head, at, effects } = record;
        let mut revision = first;
        for effect in effects {
            let Some(event) = self.mirror(effect, revision, at) else { continue };
            revision += 1;
            self.snapshot = std::sync::Weak::new();
            let event = Arc::new(event);
            let evicted = self.log.push(Arc::clone(&event));
            self.recent.note(&event, evicted.as_ref());
            freed.extend(evicted);
        }
        self.log.advance(head);
        revision - first
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
                let before = self.nodes.get(&state.name);
                let previous_pools = before.map(|before| Arc::clone(&before.pools)).unwrap_or_default();
                self.put_node(Arc::clone(&state));
                node = Some(NodeChange { node: self.summary(&state), previous, previous_pools });
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
            let mut pool = Pool::new(PoolState::clone(&published));
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
        for name in &*node.pools {
            if let Some(pool) = self.pools.get_mut(name).filter(|pool| pool.state.stale_since != stale_since)
            {
                Arc::make_mut(&mut pool.state).stale_since = stale_since;
                self.snapshot = std::sync::Weak::new();
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

    fn set_counts(&mut self, counts: Counts) {
        if self.counts() != counts {
            let state = Arc::make_mut(&mut self.state);
            (state.wanted, state.ready) = (counts.wanted, counts.ready);
            (state.unknown, state.parked) = (counts.unknown, counts.parked);
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
