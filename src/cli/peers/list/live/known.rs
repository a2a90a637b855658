//! The peers and pools as the messages of a watch tell them.

use std::{collections::BTreeMap, mem};

use super::is_missing;
use crate::api::pb::{
    ChangeKind, HealthChange, Peer, Pool, PoolHealth, Snapshot, WatchPeerStatusResponse,
    watch_peer_status_response::Event,
};

/// The state as of the last message.
#[derive(Debug, Default)]
pub(in crate::cli) struct Known {
    peers: BTreeMap<String, Peer>,
    pools: BTreeMap<String, Pool>,
    /// A snapshot that is not complete.
    snapshot: Option<Snapshot>,
}

impl Known {
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
            }
            Some(Event::Synced(_)) => {
                return self.snapshot.take().map(|new| self.replace(new)).unwrap_or_default();
            }
            Some(Event::Change(change)) => {
                if let Some(health) = &change.health {
                    self.health_changed(health);
                }
                if let Some(event) = &change.peer
                    && let Some(peer) = &event.peer
                {
                    let before = match event.kind() {
                        ChangeKind::Removed => self.peers.remove(&peer.name),
                        _ => self.peers.insert(peer.name.clone(), peer.clone()),
                    };
                    let is_gone = event.kind() == ChangeKind::Removed;
                    return difference(before.as_ref(), peer, is_gone).into_iter().collect();
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

    fn replace(&mut self, new: Snapshot) -> Vec<(Peer, bool)> {
        self.pools = new.pools.into_iter().map(|pool| (pool.name.clone(), pool)).collect();
        let new = new.peers.into_iter().map(|peer| (peer.name.clone(), peer)).collect();
        let old = mem::replace(&mut self.peers, new);
        let now = self.peers.values().filter_map(|peer| difference(old.get(&peer.name), peer, false));
        let gone = old.values().filter(|peer| !self.peers.contains_key(&peer.name));
        let gone =
            gone.filter_map(|peer| difference(Some(peer), &Peer { wanted: false, ..peer.clone() }, true));
        now.chain(gone).collect()
    }

    /// Takes counters, which may be newer than the last change.
    pub(in crate::cli) fn refresh(&mut self, peers: Vec<Peer>) {
        for peer in peers {
            if let Some(known) = self.peers.get_mut(&peer.name)
                && known.revision == peer.revision
            {
                *known = peer;
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
