//! The peers and pools as the messages of a watch tell them.

use std::{collections::BTreeMap, mem};

use super::is_missing;
use crate::{
    api::pb::{
        ChangeKind, HealthChange, Node, NodeState, Peer, Pool, PoolHealth, Snapshot, WatchPeerStatusResponse,
        watch_peer_status_response::Event,
    },
    cli::{stale::StaleNodes, text},
    status::node_of,
};

/// The state as of the last message.
#[derive(Debug, Default)]
pub(in crate::cli) struct Known {
    peers: BTreeMap<String, Peer>,
    pools: BTreeMap<String, Pool>,
    stale: StaleNodes,
    /// The peers of STALE nodes as they were last.
    last: BTreeMap<String, Peer>,
    /// A snapshot that is not complete.
    snapshot: Option<Snapshot>,
}

impl Known {
    /// The peers as far as they are known: those of STALE nodes are unknown, if the watch tells of nodes.
    pub(in crate::cli) fn peers(&self) -> impl Iterator<Item = &Peer> {
        self.peers.values()
    }

    /// The peer with this full name.
    pub(in crate::cli) fn peer(&self, name: &str) -> Option<&Peer> {
        self.peers.get(name)
    }

    /// The pools, unless the watch is for peers alone. Their counts are as of the last snapshot or change of health.
    pub(in crate::cli) fn pools(&self) -> impl Iterator<Item = &Pool> {
        self.pools.values()
    }

    /// Takes a message. Returns the peers that look different now, each with whether it was wanted and not READY
    /// before.
    pub(in crate::cli) fn apply(&mut self, message: &WatchPeerStatusResponse) -> Vec<(Peer, bool)> {
        match &message.event {
            Some(Event::Attached(_) | Event::Reset(_)) => self.snapshot = None,
            Some(Event::Snapshot(part)) => {
                let snapshot = self.snapshot.get_or_insert_default();
                snapshot.peers.extend_from_slice(&part.peers);
                snapshot.pools.extend_from_slice(&part.pools);
                snapshot.nodes.extend_from_slice(&part.nodes);
            }
            Some(Event::Synced(_)) => {
                return self.snapshot.take().map(|new| self.replace(new)).unwrap_or_default();
            }
            Some(Event::Change(change)) => {
                if let Some(health) = &change.health {
                    self.health_changed(health);
                }
                if let Some(node) = change.node.as_ref().and_then(|event| event.node.as_ref()) {
                    return self.node_changed(node);
                }
                if let Some(event) = &change.peer
                    && let Some(peer) = &event.peer
                {
                    let changed = match event.kind() {
                        ChangeKind::Removed => self.remove(peer),
                        _ => self.put(peer.clone()),
                    };
                    return changed.into_iter().collect();
                }
            }
            Some(Event::Heartbeat(_) | Event::Draining(_)) | None => {}
        }
        Vec::new()
    }

    fn health_changed(&mut self, change: &HealthChange) {
        let Some(pool) = self.pools.get_mut(&change.pool) else { return };
        pool.not_healthy_since = match (change.health(), change.previous()) {
            (PoolHealth::Healthy, _) => None,
            (_, PoolHealth::Healthy) => change.time,
            _ => pool.not_healthy_since,
        };
        (pool.health, pool.health_since) = (change.health, change.time);
        (pool.ready_count, pool.peer_count) = (change.ready_count, change.peer_count);
    }

    fn node_changed(&mut self, node: &Node) -> Vec<(Peer, bool)> {
        let name = text::node_name(&node.name);
        let is_of_node = |pool: &str| node_of(text::pool_name(pool)).is_some_and(|(node, _)| node == name);
        if node.state() == NodeState::Gone {
            self.pools.retain(|_, pool| !is_of_node(&pool.name));
        }
        for pool in self.pools.values_mut().filter(|pool| is_of_node(&pool.name)) {
            pool.stale_since = node.stale_since;
        }
        self.stale.apply(node);
        let of_node: Vec<Peer> = self.peers.values().filter(|peer| is_of_node(&peer.pool)).cloned().collect();
        of_node
            .into_iter()
            .filter_map(|peer| {
                let last = self.last.remove(&peer.name);
                self.put(last.unwrap_or(peer))
            })
            .collect()
    }

    /// Takes a peer as it was given. Returns it as it is known, if it looks different.
    fn put(&mut self, peer: Peer) -> Option<(Peer, bool)> {
        let known = self.stale.known(&peer).into_owned();
        match known == peer {
            true => self.last.remove(&peer.name),
            false => self.last.insert(peer.name.clone(), peer),
        };
        let before = self.peers.insert(known.name.clone(), known.clone());
        difference(before.as_ref(), &known, false)
    }

    fn remove(&mut self, peer: &Peer) -> Option<(Peer, bool)> {
        self.last.remove(&peer.name);
        let before = self.peers.remove(&peer.name);
        difference(before.as_ref(), peer, true)
    }

    fn replace(&mut self, new: Snapshot) -> Vec<(Peer, bool)> {
        self.pools = new.pools.into_iter().map(|pool| (pool.name.clone(), pool)).collect();
        self.stale = StaleNodes::of(&new.nodes);
        self.last.clear();
        let mut old = mem::take(&mut self.peers);
        let mut changed = Vec::new();
        for peer in new.peers {
            if let Some(before) = old.remove(&peer.name) {
                self.peers.insert(before.name.clone(), before);
            }
            changed.extend(self.put(peer));
        }
        let gone = old.values().map(|peer| Peer { wanted: false, ..peer.clone() });
        changed.extend(gone.filter_map(|peer| difference(old.get(&peer.name), &peer, true)));
        changed
    }

    /// Takes counters, which may be newer than the last change.
    pub(in crate::cli) fn refresh(&mut self, peers: Vec<Peer>) {
        for peer in peers {
            if self.peers.get(&peer.name).is_some_and(|known| known.revision == peer.revision) {
                self.put(peer);
            }
        }
    }
}

/// The peer, if it looks different than before.
fn difference(before: Option<&Peer>, peer: &Peer, is_gone: bool) -> Option<(Peer, bool)> {
    let look = |peer: &Peer| {
        let failure = peer.last_failure.clone().map(|failure| (failure.reason, failure.detail));
        (peer.status, peer.wanted, peer.flap_count, failure)
    };
    let is_new = is_gone || before.map(look) != Some(look(peer));
    is_new.then(|| (peer.clone(), before.is_some_and(is_missing)))
}
