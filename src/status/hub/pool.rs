//! The state of one pool and its peers.

use std::{collections::BTreeMap, sync::Arc, time::SystemTime};

use super::{PeerUpdate, Update};
use crate::{
    opflex::Roles,
    peer::{PeerAddress, PeerOrigin, PeerStatus, PoolHealth, Reason, Report},
    status::{ChangeKind, Event, HealthChange, PeerChange, PeerState, PoolState},
};

/// A pool and its peers.
pub(super) struct Pool {
    pub(super) state: Arc<PoolState>,
    pub(super) peers: BTreeMap<PeerAddress, Arc<PeerState>>,
}

impl Pool {
    pub(super) fn new(state: PoolState) -> Self {
        Self { state: Arc::new(state), peers: BTreeMap::new() }
    }

    /// Applies an update to the state. Returns the event to publish, if it was a change.
    pub(super) fn apply(&mut self, update: PeerUpdate, revision: u64) -> Option<Event> {
        let PeerUpdate { pool, address, at, what } = update;
        let before = self.peers.get(&address).cloned();
        let (previous, previous_origin) = before.as_deref().map(|peer| (peer.status, peer.origin)).unzip();
        let (mut peer, kind) = match (&what, before.as_deref()) {
            (Update::Added(origin), None) => (new_peer(pool, address, *origin, at), ChangeKind::Added),
            (Update::Added(_), Some(_)) | (_, None) => return None,
            (Update::Status(_), Some(before)) => (before.clone(), ChangeKind::Status),
            (Update::Origin(_), Some(before)) => (before.clone(), ChangeKind::Origin),
            (Update::Removed, Some(before)) => (before.clone(), ChangeKind::Removed),
        };
        match what {
            Update::Added(_) => {}
            Update::Status(Report { status, reason, detail, failures, roles }) => {
                let is_same = peer.status == status && peer.reason == reason;
                let is_lost = peer.status == PeerStatus::Ready && status == PeerStatus::Connecting;
                peer.flaps += u64::from(is_lost && reason != Reason::Reset);
                peer.roles = roles.unwrap_or(peer.roles);
                (peer.reason, peer.detail, peer.consecutive_failures) = (reason, detail, failures);
                enter(&mut peer, status, at);
                if is_same {
                    self.peers.insert(peer.address.clone(), Arc::new(peer));
                    return None;
                }
            }
            Update::Origin(origin) if peer.origin == origin => return None,
            Update::Origin(origin) => peer.origin = origin,
            // The reason stays that for which it closed.
            Update::Removed => enter(&mut peer, PeerStatus::Disconnected, at),
        }
        peer.revision = revision;
        let peer = Arc::new(peer);
        let after = if kind == ChangeKind::Removed {
            self.peers.remove(&peer.address);
            None
        } else {
            self.peers.insert(peer.address.clone(), Arc::clone(&peer));
            Some(peer.status)
        };
        let health = self.recompute([previous, after], at, revision);
        let peer = PeerChange { peer, kind, previous, previous_origin };
        Some(Event { revision, time: at, peer, health, attachment: Default::default() })
    }

    /// Brings the pool's state up to date with the move of a peer between statuses; `None`: it is not in the pool.
    fn recompute(
        &mut self,
        [before, after]: [Option<PeerStatus>; 2],
        at: SystemTime,
        revision: u64,
    ) -> Option<HealthChange> {
        let state = Arc::make_mut(&mut self.state);
        let ((left, unready), (entered, ready)) = (counts(before), counts(after));
        state.wanted = state.wanted.saturating_sub(left).saturating_add(entered);
        state.ready = state.ready.saturating_sub(unready).saturating_add(ready);
        state.revision = revision;
        let health = health(state.wanted, state.ready);
        let previous = std::mem::replace(&mut state.health, health);
        if previous == health {
            return None;
        }
        state.health_since = at;
        Some(HealthChange { previous, health, ready: state.ready, wanted: state.wanted })
    }
}

/// How much a peer in this status adds to the wanted peers of its pool, and to the READY ones.
pub(in crate::status) fn counts(status: Option<PeerStatus>) -> (u32, u32) {
    let is_wanted = |status| !matches!(status, PeerStatus::Closing | PeerStatus::Disconnected);
    (u32::from(status.is_some_and(is_wanted)), u32::from(status == Some(PeerStatus::Ready)))
}

pub(in crate::status) const fn health(wanted: u32, ready: u32) -> PoolHealth {
    match ready {
        0 => PoolHealth::Down,
        _ if ready < wanted => PoolHealth::Degraded,
        _ => PoolHealth::Healthy,
    }
}

fn new_peer(pool: Arc<str>, address: PeerAddress, origin: PeerOrigin, at: SystemTime) -> PeerState {
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
        revision: 0,
    }
}

fn enter(peer: &mut PeerState, status: PeerStatus, at: SystemTime) {
    if peer.status == status {
        return;
    }
    // While it is READY, since when; afterwards, until when.
    if peer.status == PeerStatus::Ready || status == PeerStatus::Ready {
        peer.last_ready = Some(at);
    }
    peer.status = status;
    peer.status_since = at;
    peer.transitions += 1;
}
