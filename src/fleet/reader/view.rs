//! What one process of a node has published: its pools and peers, with the revisions of its own.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use crate::{
    peer::{PeerAddress, PoolHealth},
    status::{HealthChange, PeerState, PoolState},
};

/// A peer in the fleet.
pub(super) type PeerKey = (Arc<str>, PeerAddress);

/// The pools and peers of one process of a node.
#[derive(Debug, Default)]
pub(super) struct View {
    /// Random id of the process.
    pub(super) epoch: u64,
    /// The newest change that is in it.
    pub(super) revision: u64,
    /// The newest change that it knows of by more than the record of a state.
    pub(super) anchor: u64,
    /// Where in the stream it begins.
    pub(super) first: u64,
    /// Where its newest record is, before a commit, and then the commit.
    pub(super) last: u64,
    /// The pools that its newest commit lists.
    pub(super) listed: BTreeSet<Arc<str>>,
    /// Those of them whose state is known, and before a commit all of them.
    pub(super) pools: BTreeMap<Arc<str>, KnownPool>,
    pub(super) peers: BTreeMap<PeerKey, Known>,
    /// Of all records that it is made of.
    pub(super) bytes: usize,
}

/// A peer, as its newest record has it.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) state: Arc<PeerState>,
    /// The revision of its node at which it was so.
    pub(super) revision: u64,
    bytes: usize,
}

/// A pool, as its newest record has it.
#[derive(Clone, Debug)]
pub(super) struct KnownPool {
    pub(super) state: Arc<PoolState>,
    /// The health that clients were sent.
    pub(super) sent: Option<PoolHealth>,
    /// Of a snapshot: changes came after this record, and one that is not in it may have carried another health.
    pub(super) is_outdated: bool,
    bytes: usize,
}

/// How much a node may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeLimits {
    /// Peers of all its pools.
    pub peers: usize,
    /// Bytes of the records with their states.
    pub bytes: usize,
}

/// Pools of a node: a node has one, or one per fabric.
const MAX_POOLS: usize = 64;

/// The node has more than it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Excess {
    Pools,
    Peers,
    Bytes,
}

impl View {
    pub(super) fn new(epoch: u64, first: u64) -> Self {
        Self { epoch, first, ..Self::default() }
    }

    pub(super) fn peer(&self, key: &PeerKey) -> Option<&Known> {
        self.peers.get(key)
    }

    /// Stores the newest state of a peer.
    pub(super) fn put(
        &mut self,
        key: PeerKey,
        state: Arc<PeerState>,
        revision: u64,
        bytes: usize,
        limits: NodeLimits,
    ) -> Result<(), Excess> {
        let before = self.peers.get(&key).map(|known| known.bytes);
        if before.is_none() && self.peers.len() >= limits.peers {
            return Err(Excess::Peers);
        }
        self.resize(before.unwrap_or_default(), bytes, limits)?;
        self.peers.insert(key, Known { state, revision, bytes });
        Ok(())
    }

    pub(super) fn remove(&mut self, key: &PeerKey) -> Option<Known> {
        let known = self.peers.remove(key)?;
        self.bytes -= known.bytes;
        Some(known)
    }

    /// Removes the peers whose newest record is from before this revision of the node.
    pub(super) fn remove_before(&mut self, revision: u64) -> Vec<Known> {
        let old: Vec<_> = self.peers.extract_if(.., |_, known| known.revision < revision).collect();
        self.bytes -= old.iter().map(|(_, known)| known.bytes).sum::<usize>();
        old.into_iter().map(|(_, known)| known).collect()
    }

    /// Stores the newest state of a pool.
    pub(super) fn put_pool(
        &mut self,
        state: Arc<PoolState>,
        bytes: usize,
        limits: NodeLimits,
    ) -> Result<(), Excess> {
        let (sent, before) = match self.pools.get(&state.name) {
            None if self.pools.len() >= MAX_POOLS => return Err(Excess::Pools),
            None => (None, 0),
            // The changes that it includes have carried its health.
            Some(known) if known.is_outdated => (Some(state.health), known.bytes),
            Some(known) => (known.sent, known.bytes),
        };
        self.resize(before, bytes, limits)?;
        self.pools.insert(Arc::clone(&state.name), KnownPool { state, sent, is_outdated: false, bytes });
        Ok(())
    }

    /// Takes the pools that are listed and were not known, and their peers, as many as the node may have. Returns their names.
    pub(super) fn adopt(&mut self, new: Self, limits: NodeLimits) -> Vec<Arc<str>> {
        let mut added = Vec::new();
        for (name, KnownPool { state, bytes, .. }) in new.pools {
            let is_new = self.listed.contains(&name) && !self.pools.contains_key(&name);
            if is_new && self.put_pool(state, bytes, limits).is_ok() {
                added.push(name);
            }
        }
        for (key, Known { state, revision, bytes }) in new.peers {
            if added.contains(&key.0) && self.put(key, state, revision, bytes, limits).is_err() {
                break;
            }
        }
        added
    }

    /// Forgets a pool and its peers. Returns those.
    pub(super) fn remove_pool(&mut self, name: &str) -> Vec<Arc<PeerState>> {
        if let Some(pool) = self.pools.remove(name) {
            self.bytes -= pool.bytes;
        }
        let keys: Vec<_> = self.peers.keys().filter(|(pool, _)| &**pool == name).cloned().collect();
        keys.iter().filter_map(|key| self.remove(key)).map(|known| known.state).collect()
    }

    /// The health that a change carries: its own, or that of the pool, if clients do not know of it.
    pub(super) fn health_to_send(&mut self, pool: &str, own: Option<HealthChange>) -> Option<HealthChange> {
        let known = self.pools.get_mut(pool)?;
        let PoolState { health, ready, wanted, .. } = *known.state;
        known.is_outdated &= own.is_none();
        let own = own.or_else(|| {
            // A new pool is DOWN, and one that is observed unknown.
            let new = known.state.identity.as_ref().map_or(PoolHealth::Unknown, |_| PoolHealth::Down);
            let previous = known.sent.unwrap_or(new);
            let is_new = previous != health && !known.is_outdated;
            is_new.then_some(HealthChange { previous, health, ready, wanted })
        });
        known.sent = Some(own.map_or(health, |own| own.health));
        if let Some(own) = own.filter(|own| own.health != health) {
            // Its record follows.
            Arc::make_mut(&mut known.state).health = own.health;
        }
        own
    }

    /// A pool with the health that clients were sent: a node that publishes its state anew publishes the pool before the peers, and
    /// their changes carry the health.
    pub(super) fn shown_pool(&self, name: &str) -> Option<Arc<PoolState>> {
        let KnownPool { state, sent, .. } = self.pools.get(name)?;
        let health = sent.unwrap_or(state.health);
        if health == state.health {
            return Some(Arc::clone(state));
        }
        Some(Arc::new(PoolState { health, ..PoolState::clone(state) }))
    }

    /// A pool whose agent cannot be seen any more became unknown. Without peers, no change carries that.
    pub(super) fn note_unknown(&mut self, name: &str) {
        let has_peers = self.peers.keys().any(|(pool, _)| &**pool == name);
        if let Some(known) = self.pools.get_mut(name).filter(|_| !has_peers) {
            known.sent = Some(PoolHealth::Unknown);
        }
    }

    /// A change of a pool came in a snapshot. If it did not change the health, another one that the snapshot lacks may have.
    pub(super) fn outdate(&mut self, pool: &str, own: Option<HealthChange>) {
        if let Some(known) = self.pools.get_mut(pool) {
            known.is_outdated = own.is_none();
        }
    }

    /// Takes the health of a pool for the one that clients were sent. Returns whether that was not known.
    pub(super) fn settle(&mut self, pool: &str) -> bool {
        let known = self.pools.get_mut(pool);
        known.is_some_and(|known| std::mem::take(&mut known.is_outdated))
    }

    fn resize(&mut self, before: usize, after: usize, limits: NodeLimits) -> Result<(), Excess> {
        let bytes = self.bytes - before + after;
        if bytes > limits.bytes && after > before {
            return Err(Excess::Bytes);
        }
        self.bytes = bytes;
        Ok(())
    }
}
