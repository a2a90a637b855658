//! Messages to test with.

use prost_types::Timestamp;

use crate::pb::{
    Attached, Change, ChangeKind, Cursor, Draining, HealthChange, Heartbeat, Identity, Listener, Peer,
    PeerChange, PeerOrigin, PeerStatus, Pool, PoolHealth, Reason, Reset, ResetReason, Snapshot, Synced,
    WatchPeerStatusResponse, watch_peer_status_response::Event,
};

/// The process that the samples speak of.
pub(crate) const EPOCH: u64 = 77;

/// 1970-01-02, 08:31:02.114 and so many seconds.
pub(crate) fn at(second: i64) -> Option<Timestamp> {
    Some(Timestamp { seconds: 86_400 + 8 * 3600 + 31 * 60 + 2 + second, nanos: 114_000_000 })
}

pub(crate) fn cursor(revision: u64) -> Option<Cursor> {
    Some(Cursor { epoch: EPOCH, revision })
}

pub(crate) fn message(revision: u64, previous_revision: u64, event: Event) -> WatchPeerStatusResponse {
    WatchPeerStatusResponse { revision, previous_revision, event: Some(event), ..Default::default() }
}

pub(crate) fn attached(revision: u64, resumed: bool) -> WatchPeerStatusResponse {
    let listener = Some(Listener { name: "listeners/abc".into(), ..Default::default() });
    message(revision, revision, Event::Attached(Attached { listener, cursor: cursor(revision), resumed }))
}

pub(crate) fn snapshot(revision: u64, pools: Vec<Pool>, peers: Vec<Peer>) -> WatchPeerStatusResponse {
    message(revision, revision, Event::Snapshot(Snapshot { peers, pools, nodes: Vec::new() }))
}

pub(crate) fn synced(revision: u64, peer_count: u32) -> WatchPeerStatusResponse {
    message(revision, revision, Event::Synced(Synced { cursor: cursor(revision), peer_count }))
}

pub(crate) fn heartbeat(revision: u64) -> WatchPeerStatusResponse {
    message(revision, revision, Event::Heartbeat(Heartbeat { cursor: cursor(revision) }))
}

pub(crate) fn reset(revision: u64, reason: ResetReason, missed_count: u64) -> WatchPeerStatusResponse {
    message(revision, revision, Event::Reset(Reset { reason: reason.into(), missed_count }))
}

pub(crate) fn draining(revision: u64, seconds: i64) -> WatchPeerStatusResponse {
    let retry_after = Some(prost_types::Duration { seconds, nanos: 0 });
    message(revision, revision, Event::Draining(Draining { cursor: cursor(revision), retry_after }))
}

pub(crate) fn pool(name: &str, health: PoolHealth, ready_count: u32, peer_count: u32) -> Pool {
    Pool {
        name: format!("pools/{name}"),
        health: health.into(),
        health_since: at(-192),
        identity: Some(Identity {
            name: "agent-1".into(),
            domain: "comp/prov".into(),
            location: String::new(),
        }),
        peer_count,
        ready_count,
        revision: 9,
        proxies: None,
        not_healthy_since: (health != PoolHealth::Healthy).then(|| at(-192)).flatten(),
        parked_count: 0,
        stale_since: None,
        detail: String::new(),
    }
}

pub(crate) fn peer(address: &str, status: PeerStatus, reason: Reason, detail: &str) -> Peer {
    let (host, port) = address.rsplit_once(':').unwrap_or((address, "0"));
    Peer {
        name: format!("pools/default/peers/{address}"),
        pool: "default".into(),
        host: host.into(),
        port: port.parse().unwrap_or(0),
        origin: PeerOrigin::Configured.into(),
        status: status.into(),
        reason: reason.into(),
        detail: detail.into(),
        status_since: at(-5),
        ..Default::default()
    }
}

/// A change of a peer at second `second`; `before` unspecified means that it was added.
pub(crate) fn peer_change(second: i64, peer: Peer, before: PeerStatus) -> PeerChange {
    let kind = match before {
        PeerStatus::Unspecified => ChangeKind::Added,
        _ => ChangeKind::Status,
    };
    PeerChange { peer: Some(peer), kind: kind.into(), previous_status: before.into(), time: at(second) }
}

pub(crate) fn health_change(from: PoolHealth, to: PoolHealth, ready: u32, peers: u32) -> HealthChange {
    HealthChange {
        pool: "pools/default".into(),
        previous: from.into(),
        health: to.into(),
        ready_count: ready,
        peer_count: peers,
        cause: "pools/default/peers/127.0.0.1:18010".into(),
        time: at(0),
    }
}

/// Some change.
pub(crate) fn change(revision: u64, previous_revision: u64) -> WatchPeerStatusResponse {
    let peer = peer("127.0.0.1:18010", PeerStatus::Ready, Reason::HandshakeComplete, "");
    let peer = Some(peer_change(0, peer, PeerStatus::Connected));
    message(revision, previous_revision, Event::Change(Change { peer, health: None, node: None }))
}
