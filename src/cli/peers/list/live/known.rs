//! The peers as the messages of a watch tell them.

use std::{collections::BTreeMap, mem};

use super::is_missing;
use crate::api::pb::{ChangeKind, Peer, WatchPeerStatusResponse, watch_peer_status_response::Event};

/// The peers as of the last message.
#[derive(Debug, Default)]
pub(super) struct Known {
    peers: BTreeMap<String, Peer>,
    /// A snapshot that is not complete.
    snapshot: Option<BTreeMap<String, Peer>>,
}

impl Known {
    pub(super) fn peers(&self) -> impl Iterator<Item = &Peer> {
        self.peers.values()
    }

    pub(super) fn has_several_pools(&self) -> bool {
        let first = self.peers().next();
        self.peers().any(|peer| first.is_some_and(|first| first.pool != peer.pool))
    }

    /// Takes a message. Returns the peers that look different now, each with whether it was wanted and not READY
    /// before.
    pub(super) fn apply(&mut self, message: &WatchPeerStatusResponse) -> Vec<(Peer, bool)> {
        match &message.event {
            Some(Event::Attached(_) | Event::Reset(_)) => self.snapshot = None,
            Some(Event::Snapshot(part)) => {
                let named = part.peers.iter().map(|peer| (peer.name.clone(), peer.clone()));
                self.snapshot.get_or_insert_default().extend(named);
            }
            Some(Event::Synced(_)) => {
                return self.snapshot.take().map(|new| self.replace(new)).unwrap_or_default();
            }
            Some(Event::Change(change)) => {
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

    fn replace(&mut self, new: BTreeMap<String, Peer>) -> Vec<(Peer, bool)> {
        let old = mem::replace(&mut self.peers, new);
        let now = self.peers.values().filter_map(|peer| difference(old.get(&peer.name), peer, false));
        let gone = old.values().filter(|peer| !self.peers.contains_key(&peer.name));
        let gone =
            gone.filter_map(|peer| difference(Some(peer), &Peer { wanted: false, ..peer.clone() }, true));
        now.chain(gone).collect()
    }

    /// Takes counters, which may be newer than the last change.
    pub(super) fn refresh(&mut self, peers: Vec<Peer>) {
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
