//! One pool's state, and what an update does to it.

use std::{collections::BTreeMap, sync::Arc, time::SystemTime};

use super::{PeerUpdate, Update};
use crate::{
    opflex::Roles,
    peer::{PeerAddress, PeerOrigin, PeerStatus, Reason},
    status::{ChangeKind, Event, HealthChange, PeerChange, PeerState, PoolState, health::Tally},
};

/// A pool and its peers.
pub(super) struct Pool {
    pub(super) state: Arc<PoolState>,
    tally: Tally,
    pub(super) peers: BTreeMap<PeerAddress, Arc<PeerState>>,
}

impl Pool {
    /// One without peers.
    pub(super) fn new(state: PoolState) -> Self {
        Self { state: Arc::new(state), tally: Tally::default(), peers: BTreeMap::new() }
    }

    /// Applies an update to the state. Returns the event to publish, if it was a change.
    pub(super) fn apply(&mut self, update: PeerUpdate, revision: u64) -> Option<Event> {
        let PeerUpdate { pool, address, at, what } = update;
        let before = self.peers.get(&address).cloned();
        let previous = before.as_ref().map(|peer| peer.status);
        let previous_origin = before.as_ref().map(|peer| peer.origin);
        let (peer, kind) = match (what, before) {
            (Update::Added(origin), None) => {
                (new_peer(pool, address, origin, at, revision), ChangeKind::Added)
            }
            (what @ Update::Is { .. }, Some(before)) => {
                let peer = moved_peer(&before, what, at, revision);
                let silent = peer.status == before.status && peer.reason == before.reason;
                if silent {
                    let revision = before.revision;
                    self.peers.insert(address, Arc::new(PeerState { revision, ..peer }));
                    return None;
                }
                (peer, ChangeKind::Status)
            }
            (Update::Origin(origin), Some(before)) => {
                if before.origin == origin {
                    return None;
                }
                (PeerState { origin, revision, ..PeerState::clone(&before) }, ChangeKind::Origin)
            }
            (Update::Removed, Some(before)) => (removed_peer(&before, at, revision), ChangeKind::Removed),
            (Update::Added(_), Some(_)) | (Update::Is { .. } | Update::Origin(_) | Update::Removed, None) => {
                return None;
            }
        };
        let peer = Arc::new(peer);
        let after = if kind == ChangeKind::Removed {
            self.peers.remove(&peer.address);
            None
        } else {
            self.peers.insert(peer.address.clone(), Arc::clone(&peer));
            Some(peer.status)
        };
        self.tally.moved(previous, after);
        let health = self.recompute(at, revision);
        let peer = PeerChange { peer, kind, previous, previous_origin };
        Some(Event::new(revision, at, peer, health))
    }

    /// Brings the pool's own state up to date with its peers'.
    fn recompute(&mut self, at: SystemTime, revision: u64) -> Option<HealthChange> {
        let Tally { wanted, ready } = self.tally;
        let health = self.tally.health();
        let state = Arc::make_mut(&mut self.state);
        let previous = std::mem::replace(&mut state.health, health);
        state.wanted = wanted;
        state.ready = ready;
        state.revision = revision;
        if previous == health {
            return None;
        }
        state.health_since = at;
        Some(HealthChange { previous, health, ready, wanted })
    }
}

fn new_peer(
    pool: Arc<str>,
    address: PeerAddress,
    origin: PeerOrigin,
    at: SystemTime,
    revision: u64,
) -> PeerState {
    PeerState {
        pool,
        address,
        origin,
        status: PeerStatus::Connecting,
        reason: Reason::Added,
        detail: Arc::from(""),
        status_since: at,
        last_ready: None,
        consecutive_failures: 0,
        transitions: 0,
        flaps: 0,
        roles: Roles::default(),
        revision,
    }
}

fn moved_peer(before: &PeerState, update: Update, at: SystemTime, now: u64) -> PeerState {
    let mut peer = PeerState { revision: now, ..before.clone() };
    if let Update::Is { status, reason, detail, failures, roles } = update {
        peer.reason = reason;
        peer.detail = detail;
        peer.consecutive_failures = failures;
        peer.roles = roles.unwrap_or(before.roles);
        let lost = before.status == PeerStatus::Ready && status == PeerStatus::Connecting;
        peer.flaps += u64::from(lost && reason != Reason::Reset);
        enter(&mut peer, status, at);
    }
    peer
}

/// The last word about a peer: why it closed is known from before.
fn removed_peer(before: &PeerState, at: SystemTime, revision: u64) -> PeerState {
    let mut peer = PeerState { revision, ..before.clone() };
    enter(&mut peer, PeerStatus::Disconnected, at);
    peer
}

fn enter(peer: &mut PeerState, status: PeerStatus, at: SystemTime) {
    if peer.status == status {
        return;
    }
    // Until this moment it was READY; from this moment it is.
    if peer.status == PeerStatus::Ready || status == PeerStatus::Ready {
        peer.last_ready = Some(at);
    }
    peer.status = status;
    peer.status_since = at;
    peer.transitions += 1;
}
