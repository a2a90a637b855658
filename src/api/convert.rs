//! From the service's words to the API's.

use std::time::SystemTime;

use prost_types::Timestamp;

use super::{names, pb};
use crate::{
    opflex::Role,
    peer::{PeerOrigin, PeerStatus, PoolHealth, Reason},
    status::{
        ChangeKind, Cursor, Delivery, Event, Interest, ListenerView, Message, Parts, PeerState, PoolState,
        ResetReason,
    },
};

pub(super) const fn peer_status(status: PeerStatus) -> pb::PeerStatus {
    match status {
        PeerStatus::Disconnected => pb::PeerStatus::Disconnected,
        PeerStatus::Connecting => pb::PeerStatus::Connecting,
        PeerStatus::Connected => pb::PeerStatus::Connected,
        PeerStatus::Ready => pb::PeerStatus::Ready,
        PeerStatus::Closing => pb::PeerStatus::Closing,
    }
}

pub(super) const fn pool_health(health: PoolHealth) -> pb::PoolHealth {
    match health {
        PoolHealth::Down => pb::PoolHealth::Down,
        PoolHealth::Degraded => pb::PoolHealth::Degraded,
        PoolHealth::Healthy => pb::PoolHealth::Healthy,
    }
}

pub(super) const fn origin(origin: PeerOrigin) -> pb::PeerOrigin {
    match origin {
        PeerOrigin::Configured => pb::PeerOrigin::Configured,
        PeerOrigin::Learned => pb::PeerOrigin::Learned,
    }
}

const fn reason(reason: Reason) -> pb::Reason {
    match reason {
        Reason::Added => pb::Reason::Added,
        Reason::Dialing => pb::Reason::Dialing,
        Reason::TcpEstablished => pb::Reason::TcpEstablished,
        Reason::HandshakeComplete => pb::Reason::HandshakeComplete,
        Reason::ResolveFailed => pb::Reason::ResolveFailed,
        Reason::ConnectFailed => pb::Reason::ConnectFailed,
        Reason::ConnectTimeout => pb::Reason::ConnectTimeout,
        Reason::TlsFailed => pb::Reason::TlsFailed,
        Reason::HandshakeTimeout => pb::Reason::HandshakeTimeout,
        Reason::HandshakeRejected => pb::Reason::HandshakeRejected,
        Reason::ProtocolError => pb::Reason::ProtocolError,
        Reason::KeepaliveTimeout => pb::Reason::KeepaliveTimeout,
        Reason::RemoteClosed => pb::Reason::RemoteClosed,
        Reason::RemovedByClient => pb::Reason::RemovedByClient,
        Reason::NotInPeerList => pb::Reason::NotInPeerList,
        Reason::GivenUp => pb::Reason::GivenUp,
        Reason::Reset => pb::Reason::Reset,
        Reason::PoolStopping => pb::Reason::PoolStopping,
    }
}

const fn role(role: Role) -> pb::Role {
    match role {
        Role::PolicyElement => pb::Role::PolicyElement,
        Role::PolicyRepository => pb::Role::PolicyRepository,
        Role::EndpointRegistry => pb::Role::EndpointRegistry,
        Role::Observer => pb::Role::Observer,
    }
}

const fn interest(interest: Interest) -> pb::Interest {
    match interest {
        Interest::Peers => pb::Interest::Peers,
        Interest::Health => pb::Interest::Health,
    }
}

const fn change_kind(kind: ChangeKind) -> pb::ChangeKind {
    match kind {
        ChangeKind::Added => pb::ChangeKind::Added,
        ChangeKind::Status => pb::ChangeKind::Status,
        ChangeKind::Removed => pb::ChangeKind::Removed,
        ChangeKind::Origin => pb::ChangeKind::Origin,
    }
}

pub(super) fn time(time: SystemTime) -> Timestamp {
    Timestamp::from(time)
}

pub(super) const fn cursor(cursor: Cursor) -> pb::Cursor {
    pb::Cursor { epoch: cursor.epoch, revision: cursor.revision }
}

pub(super) fn peer(peer: &PeerState) -> pb::Peer {
    pb::Peer {
        name: names::peer(&peer.pool, &peer.address),
        pool: peer.pool.to_string(),
        host: peer.address.host().to_owned(),
        port: u32::from(peer.address.port()),
        origin: origin(peer.origin).into(),
        status: peer_status(peer.status).into(),
        reason: reason(peer.reason).into(),
        detail: peer.detail.to_string(),
        status_since: Some(time(peer.status_since)),
        last_ready_time: peer.last_ready.map(time),
        consecutive_failures: peer.consecutive_failures,
        transition_count: peer.transitions,
        roles: peer.roles.iter().map(|known| role(known).into()).collect(),
        revision: peer.revision,
    }
}

pub(super) fn pool(pool: &PoolState) -> pb::Pool {
    let identity = pb::Identity {
        name: pool.identity.name.clone(),
        domain: pool.identity.domain.clone(),
        location: pool.identity.location.clone().unwrap_or_default(),
    };
    pb::Pool {
        name: names::pool(&pool.name),
        health: pool_health(pool.health).into(),
        health_since: Some(time(pool.health_since)),
        identity: Some(identity),
        proxies: pool.proxies.map(|proxies| pb::Proxies {
            v4: proxies.v4.to_string(),
            v6: proxies.v6.to_string(),
            mac: proxies.mac.to_string(),
        }),
        peer_count: pool.wanted,
        ready_count: pool.ready,
        revision: pool.revision,
    }
}

pub(super) fn listener(view: &ListenerView) -> pb::Listener {
    let spec = &view.listener.spec;
    let filter = spec.filter.spec();
    let state = if view.client.is_some() { pb::ListenerState::Attached } else { pb::ListenerState::Detached };
    pb::Listener {
        name: names::listener(&view.listener.id),
        filter: Some(pb::ListenerFilter {
            pools: filter.pools.clone(),
            peers: filter.peers.clone(),
            origins: filter.origins.iter().map(|wanted| origin(*wanted).into()).collect(),
            statuses: filter.statuses.iter().map(|wanted| peer_status(*wanted).into()).collect(),
            interests: filter.interests.iter().map(|wanted| interest(*wanted).into()).collect(),
        }),
        user_data: spec.user_data.clone(),
        idle_ttl: spec.idle_ttl.and_then(|ttl| ttl.try_into().ok()),
        create_time: Some(time(view.listener.created)),
        expire_time: view.expires.map(time),
        state: state.into(),
        cursor: Some(cursor(view.cursor)),
        lag: view.lag,
        delivered_count: view.delivered,
        reset_count: view.resets,
        missed_count: view.missed,
        client: view.client.clone().unwrap_or_default(),
        owner: spec.owner.name.to_string(),
    }
}

/// All of a past change.
pub(super) fn transition(event: &Event) -> pb::Transition {
    let everything = Parts { peer: true, health: true };
    pb::Transition { revision: event.revision, change: Some(change(event, everything)) }
}

/// The parts of a change that a filter lets pass.
pub(super) fn change(event: &Event, parts: Parts) -> pb::Change {
    let moved = &event.peer;
    let peer = parts.peer.then(|| pb::PeerChange {
        peer: Some(peer(&moved.peer)),
        kind: change_kind(moved.kind).into(),
        previous_status: moved.previous.map_or(pb::PeerStatus::Unspecified, peer_status).into(),
        time: Some(time(event.time)),
    });
    let health = event.health.filter(|_| parts.health).map(|health| pb::HealthChange {
        pool: names::pool(&moved.peer.pool),
        previous: pool_health(health.previous).into(),
        health: pool_health(health.health).into(),
        ready_count: health.ready,
        peer_count: health.wanted,
        cause: names::peer(&moved.peer.pool, &moved.peer.address),
        time: Some(time(event.time)),
    });
    pb::Change { peer, health }
}

/// One message of a watch. `user_data` is the listener's.
pub(super) fn message(message: &Message, user_data: &bytes::Bytes) -> pb::WatchPeerStatusResponse {
    use pb::watch_peer_status_response::Event as Out;
    let out = match &message.delivery {
        Delivery::Attached { listener: view, cursor: at, resumed } => Out::Attached(pb::Attached {
            listener: Some(listener(view)),
            cursor: Some(cursor(*at)),
            resumed: *resumed,
        }),
        Delivery::Snapshot { peers, pools } => Out::Snapshot(pb::Snapshot {
            peers: peers.iter().map(|state| peer(state)).collect(),
            pools: pools.iter().map(|state| pool(state)).collect(),
        }),
        Delivery::Synced { cursor: at, peers } => Out::Synced(pb::Synced {
            cursor: Some(cursor(*at)),
            peer_count: u32::try_from(*peers).unwrap_or(u32::MAX),
        }),
        Delivery::Change { event, parts } => Out::Change(change(event, *parts)),
        Delivery::Reset { reason, missed } => Out::Reset(pb::Reset {
            reason: match reason {
                ResetReason::Overflow => pb::ResetReason::Overflow,
                ResetReason::Compacted => pb::ResetReason::Compacted,
                ResetReason::EpochChanged => pb::ResetReason::EpochChanged,
            }
            .into(),
            missed_count: *missed,
        }),
        Delivery::Heartbeat(at) => Out::Heartbeat(pb::Heartbeat { cursor: Some(cursor(*at)) }),
        Delivery::Draining { cursor: at, retry_after } => Out::Draining(pb::Draining {
            cursor: Some(cursor(*at)),
            retry_after: (*retry_after).try_into().ok(),
        }),
    };
    let user_data = match out {
        Out::Attached(_) | Out::Change(_) => user_data.clone(),
        _ => bytes::Bytes::new(),
    };
    pb::WatchPeerStatusResponse {
        revision: message.revision,
        previous_revision: message.previous,
        user_data,
        event: Some(out),
    }
}
