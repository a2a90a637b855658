//! One who reads what is published and knows the rules.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    POOL,
    session::{Link, Task},
    world::World,
};
use crate::{
    peer::{PeerAddress, PeerOrigin, PeerStatus, PoolHealth, Reason},
    status::{ChangeKind, Event, Hub},
};

/// What is known from what was published alone.
#[derive(Debug)]
pub(super) struct Oracle {
    pub(super) peers: BTreeMap<PeerAddress, PeerStatus>,
    pub(super) origins: BTreeMap<PeerAddress, PeerOrigin>,
    health: PoolHealth,
    revision: u64,
    /// Up to which revision that was compared with what the hub says when asked.
    checked: u64,
}

impl Default for Oracle {
    fn default() -> Self {
        Self {
            peers: BTreeMap::new(),
            origins: BTreeMap::new(),
            health: PoolHealth::Down,
            revision: 0,
            checked: 0,
        }
    }
}

/// Health by definition.
fn health<'a>(statuses: impl Iterator<Item = &'a PeerStatus>) -> (PoolHealth, u32, u32) {
    use PeerStatus::{Closing, Disconnected, Ready};
    let wanted: Vec<_> = statuses.filter(|status| !matches!(status, Closing | Disconnected)).collect();
    let ready = wanted.iter().filter(|status| ***status == Ready).count();
    let health = match ready {
        0 => PoolHealth::Down,
        _ if ready == wanted.len() => PoolHealth::Healthy,
        _ => PoolHealth::Degraded,
    };
    (health, u32::try_from(ready).unwrap(), u32::try_from(wanted.len()).unwrap())
}

/// Whether a peer may go from one status to another, for that reason.
fn is_legal(kind: ChangeKind, from: Option<PeerStatus>, to: PeerStatus, reason: Reason) -> bool {
    use PeerStatus::{Closing, Connected, Connecting, Disconnected, Ready};
    use Reason as R;
    let leaves = matches!(reason, R::RemovedByClient | R::NotInPeerList | R::Reset | R::PoolStopping);
    match (kind, from, to) {
        (ChangeKind::Added, None, Connecting) => reason == R::Added,
        (ChangeKind::Removed, Some(Closing), Disconnected) => leaves,
        (ChangeKind::Status, Some(Connecting), Connected) => reason == R::TcpEstablished,
        (ChangeKind::Status, Some(Connected), Ready) => reason == R::HandshakeComplete,
        // The first attempt begins, perhaps after it was parked.
        (ChangeKind::Status, Some(Connecting | Disconnected), Connecting) if reason == R::Dialing => true,
        (ChangeKind::Status, Some(Connecting), Connecting) => {
            is_failure_to_connect(reason) || reason == R::Reset
        }
        (ChangeKind::Status, Some(Connected | Ready), Connecting) => is_loss(reason) || reason == R::Reset,
        (ChangeKind::Status, Some(Connecting | Connected | Ready | Disconnected), Closing) => leaves,
        // Parked.
        (ChangeKind::Status, Some(Closing), Disconnected) => reason == R::NotInPeerList,
        _ => false,
    }
}

const fn is_failure_to_connect(reason: Reason) -> bool {
    use Reason::{ConnectFailed, ConnectTimeout, ResolveFailed, TlsFailed};
    matches!(reason, ConnectFailed | ConnectTimeout | ResolveFailed | TlsFailed)
}

const fn is_loss(reason: Reason) -> bool {
    use Reason::{HandshakeRejected, HandshakeTimeout, KeepaliveTimeout, ProtocolError, RemoteClosed};
    matches!(reason, HandshakeRejected | HandshakeTimeout | KeepaliveTimeout | ProtocolError | RemoteClosed)
}

impl Oracle {
    /// Reads what was published in one step. The health changes at most once, to what it is at the end of the step.
    pub(super) fn read_step(&mut self, hub: &Hub) {
        let mut events = Vec::new();
        hub.read_after(self.revision, usize::MAX, &mut events).expect("the log holds everything");
        let before = self.health;
        for event in &events {
            self.hear(event);
            let (health, ready, wanted) = health(self.peers.values());
            if let Some(change) = event.health {
                assert_eq!(self.health, before, "a health in between: {event:?}");
                let expected = (before, health, ready, wanted);
                assert_eq!(
                    (change.previous, change.health, change.ready, change.wanted),
                    expected,
                    "{event:?}"
                );
                self.health = health;
            }
        }
        assert_eq!(self.health, health(self.peers.values()).0, "after {events:?}");
    }

    pub(super) fn has_learned(&self) -> bool {
        self.origins.values().any(|origin| *origin == PeerOrigin::Learned)
    }

    fn hear(&mut self, event: &Arc<Event>) {
        let (peer, change) = event.peer.as_ref().map(|change| (&change.peer, change)).unwrap();
        assert_eq!(event.revision, self.revision + 1, "a hole in the log");
        self.revision = event.revision;
        let before = self.peers.get(&peer.address).copied();
        let origin = self.origins.get(&peer.address).copied();
        assert_eq!((change.previous, change.previous_origin), (before, origin), "{event:?}");
        let adopted = origin.is_some_and(|origin| origin != peer.origin);
        assert_eq!(change.kind == ChangeKind::Origin, adopted, "{event:?}");
        let legal = match adopted {
            true => peer.origin == PeerOrigin::Configured && before == Some(peer.status),
            false => is_legal(change.kind, before, peer.status, peer.reason),
        };
        assert!(legal, "{before:?} may not become {}, {}: {event:?}", peer.status, peer.reason);
        let begins = matches!(peer.reason, Reason::Dialing | Reason::Reset);
        let fine = peer.status == PeerStatus::Ready || peer.status == PeerStatus::Connecting && begins;
        assert!(!fine || adopted || peer.consecutive_failures == 0, "failures: {event:?}");
        if change.kind == ChangeKind::Removed {
            self.peers.remove(&peer.address);
            self.origins.remove(&peer.address);
        } else {
            self.peers.insert(peer.address.clone(), peer.status);
            self.origins.insert(peer.address.clone(), peer.origin);
        }
    }
}

impl World {
    /// What always holds.
    pub(super) fn check(&mut self) {
        if self.oracle.revision != self.oracle.checked {
            self.oracle.checked = self.oracle.revision;
            self.note(|world| format!("        {} {:?}", world.oracle.health, world.oracle.peers));
            self.check_state();
        }
        self.check_members();
    }

    /// A learned peer has failed four times, or none is left: all that are parked are asked again, but the one that has
    /// just been asked.
    pub(super) fn check_asked_again(&self, asked: &PeerAddress) {
        for (address, status) in &self.oracle.peers {
            let runs = *status != PeerStatus::Disconnected || self.pool.running.contains_key(address);
            assert!(runs || address == asked, "{address} may know of others, and is not asked");
        }
    }

    /// What is said when asked is what was published.
    fn check_state(&self) {
        let (pool, _) = self.pool.hub.pool(POOL).unwrap();
        let expected = health(self.oracle.peers.values());
        assert_eq!((pool.health, pool.ready, pool.wanted), expected, "health of the pool");
        let (peers, _) = self.pool.hub.peers(None, None, usize::MAX).unwrap();
        let peers = peers.iter().map(|peer| (&peer.address, &peer.status));
        assert!(peers.eq(&self.oracle.peers), "peers of the pool");
    }

    /// Every member has a session unless it is parked, and no one else has one.
    fn check_members(&self) {
        let pool = &self.pool;
        assert_eq!(pool.core.len(), self.oracle.peers.len(), "members and peers");
        assert_eq!(pool.running.len(), pool.sessions.len(), "a session has been forgotten");
        for address in pool.running.keys() {
            assert!(self.oracle.peers.contains_key(address), "{address} is no member");
        }
        for (address, status) in &self.oracle.peers {
            let session = pool.running.get(address).map(|id| &pool.sessions[id]);
            let silent = pool.reports.is_empty();
            match (status, session) {
                (PeerStatus::Disconnected, None) => {}
                // It was parked and will be dialled in a moment.
                (PeerStatus::Disconnected, Some(session)) => {
                    assert!(!silent || matches!(session.task, Task::Pausing), "{address} is parked and runs");
                }
                (PeerStatus::Closing, _) => panic!("{address} closes and does not go"),
                (_, None) => panic!("{address} is {status}, and nobody minds it"),
                (status, Some(session)) if silent => {
                    assert_eq!(*status == PeerStatus::Ready, session.ready, "{address} is {status}");
                    let up = matches!(session.link, Link::Up(_));
                    assert!(up || *status != PeerStatus::Connected, "{address} is {status}");
                }
                _ => {}
            }
        }
    }
}
