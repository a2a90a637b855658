//! Conversion of the service's types to the API's.

use std::{sync::Arc, time::SystemTime};

use bytes::Bytes;
use prost_types::Timestamp;

use super::{names, pb};
use crate::{
    opflex::Role,
    peer::{Evidence, PeerOrigin, PeerStatus, PoolHealth, Reason},
    status::{
        ChangeKind, Cursor, Delivery, Event, Interest, ListenerMessage, ListenerView, Liveness, NodeSummary,
        Parts, PeerState, PoolState, ResetReason, clock, node_of,
    },
};

/// Defines the conversion of an enum to the one of the API, whose variants have the same names.
macro_rules! to_api {
    ($visibility:vis $function:ident: $name:ident { $($variant:ident),+ $(,)? }) => {
        $visibility const fn $function(value: $name) -> pb::$name {
            match value { $($name::$variant => pb::$name::$variant,)+ }
        }
    };
}

/// Defines the conversion back, too. A number without a variant has none.
macro_rules! to_api_and_back {
    ($function:ident, $parse:ident: $name:ident { $($variant:ident $(= $in_api:ident)?),+ $(,)? }) => {
        pub(super) const fn $function(value: $name) -> pb::$name {
            match value { $($name::$variant => to_api_and_back!(@ $name $variant $($in_api)?),)+ }
        }

        pub(crate) fn $parse(number: i32) -> Option<$name> {
            let value = pb::$name::try_from(number).ok()?;
            $(if value == to_api_and_back!(@ $name $variant $($in_api)?) { return Some($name::$variant); })+
            None
        }
    };
    (@ $name:ident $variant:ident) => { pb::$name::$variant };
    (@ $name:ident $variant:ident $in_api:ident) => { pb::$name::$in_api };
}

to_api_and_back!(peer_status, parse_peer_status: PeerStatus {
    Unknown = Unspecified, Disconnected, Connecting, Connected, Ready, Closing,
});
to_api_and_back!(pool_health, parse_pool_health: PoolHealth { Unknown = Unspecified, Down, Degraded, Healthy });
to_api_and_back!(evidence, parse_evidence: Evidence { Log, Socket, Both, Inferred });
to_api_and_back!(origin, parse_origin: PeerOrigin { Configured, Learned });
to_api_and_back!(interest, parse_interest: Interest { Peers, Health, Nodes });
to_api_and_back!(role, parse_role: Role { PolicyElement, PolicyRepository, EndpointRegistry, Observer });
to_api!(change_kind: ChangeKind { Added, Status, Removed, Origin });
to_api!(reset_reason: ResetReason { Overflow, Compacted, EpochChanged });
to_api_and_back!(reason, parse_reason: Reason {
    Added, Dialing, TcpEstablished, HandshakeComplete, ResolveFailed, ConnectFailed, ConnectTimeout, TlsFailed,
    HandshakeTimeout, HandshakeRejected, ProtocolError, KeepaliveTimeout, RemoteClosed, RemovedByClient, NotInPeerList,
    Reset, PoolStopping, ObservationLost,
});

/// Shows the times of one message.
fn timestamps() -> impl Fn(SystemTime) -> Timestamp + Copy {
    let shift = clock::shift();
    move |time| Timestamp::from(shift.to_system(time))
}

pub(super) const fn cursor(cursor: Cursor) -> pb::Cursor {
    pb::Cursor { epoch: cursor.epoch, revision: cursor.revision }
}

pub(crate) fn peer(peer: &PeerState) -> pb::Peer {
    peer_with(peer, timestamps())
}

fn peer_with(peer: &PeerState, timestamp: impl Fn(SystemTime) -> Timestamp + Copy) -> pb::Peer {
    let observed = peer.observed.as_deref();
    pb::Peer {
        name: names::peer(&peer.pool, &peer.address),
        pool: peer.pool.to_string(),
        host: peer.address.host().to_owned(),
        port: u32::from(peer.address.port()),
        origin: origin(peer.origin).into(),
        status: peer_status(peer.status).into(),
        reason: reason(peer.reason).into(),
        detail: peer.detail.to_string(),
        status_since: Some(timestamp(peer.status_since)),
        last_ready_time: peer.last_ready.map(timestamp),
        consecutive_failures: peer.consecutive_failures,
        transition_count: peer.transitions,
        roles: peer.roles.iter().map(|known| role(known).into()).collect(),
        revision: peer.revision,
        wanted: peer.status.is_wanted(),
        not_ready_since: peer.not_ready_since.map(timestamp),
        last_failure: peer.last_failure.as_ref().map(|failure| pb::PeerFailure {
            reason: reason(failure.reason).into(),
            detail: failure.detail.to_string(),
            time: Some(timestamp(failure.time)),
        }),
        failure_count: peer.failures.total(),
        flap_count: peer.flaps,
        learned_from: peer.learned_from.as_ref().map(|by| names::peer(&peer.pool, by)).unwrap_or_default(),
        echo_rtt: peer.echo_rtt.and_then(|rtt| rtt.try_into().ok()),
        flapping_until: peer.newest_flaps.flapping_until().map(timestamp),
        evidence: observed.and_then(|seen| seen.evidence).map_or(pb::Evidence::Unspecified, evidence).into(),
        observed_time: observed.map(|seen| timestamp(seen.time)),
        tcp_rtt: observed.and_then(|seen| seen.socket.rtt?.try_into().ok()),
        last_received_time: observed.and_then(|seen| seen.socket.last_received).map(timestamp),
    }
}

pub(crate) fn pool(pool: &PoolState) -> pb::Pool {
    let timestamp = timestamps();
    let identity = pool.identity.as_ref().map(|identity| pb::Identity {
        name: identity.name.clone(),
        domain: identity.domain.clone(),
        location: identity.location.clone().unwrap_or_default(),
    });
    pb::Pool {
        name: names::pool(&pool.name),
        health: pool_health(pool.health).into(),
        health_since: Some(timestamp(pool.health_since)),
        identity,
        proxies: pool.proxies.map(|proxies| pb::Proxies {
            v4: proxies.v4.to_string(),
            v6: proxies.v6.to_string(),
            mac: proxies.mac.to_string(),
        }),
        peer_count: pool.wanted,
        ready_count: pool.known_ready(),
        revision: pool.revision,
        not_healthy_since: pool.not_healthy_since.map(timestamp),
        parked_count: pool.parked,
        stale_since: pool.stale_since.map(timestamp),
        detail: pool.detail.to_string(),
    }
}

/// A node, with the counts of its pools.
pub(super) fn node(summary: &NodeSummary) -> pb::Node {
    node_with(summary, timestamps())
}

fn node_with(summary: &NodeSummary, timestamp: impl Fn(SystemTime) -> Timestamp + Copy) -> pb::Node {
    let node = &summary.node;
    let own_name = |pool: &Arc<str>| node_of(pool).map_or(&**pool, |(_, name)| name).to_owned();
    pb::Node {
        name: names::node(&node.name),
        cluster: node.cluster.to_string(),
        state: liveness(node.liveness).into(),
        stale_since: node.stale_since.map(timestamp),
        last_seen_time: Some(timestamp(node.last_seen)),
        epoch: node.epoch,
        revision: node.own_revision,
        pools: node.pools.iter().map(own_name).collect(),
        pool_count: u32::try_from(node.pools.len()).unwrap_or(u32::MAX),
        peer_count: summary.wanted,
        ready_count: summary.ready,
        version: node.version.to_string(),
        chain_break_count: node.chain_breaks,
        conflict: node.has_conflict,
        incomplete: node.is_incomplete,
    }
}

const fn liveness(liveness: Liveness) -> pb::NodeState {
    match liveness {
        Liveness::Live => pb::NodeState::Live,
        Liveness::Stale => pb::NodeState::Stale,
        Liveness::Gone => pb::NodeState::Gone,
    }
}

pub(super) fn listener(view: &ListenerView) -> pb::Listener {
    let timestamp = timestamps();
    let spec = &view.listener.spec;
    let filter = spec.filter.spec();
    let state = if view.client.is_some() { pb::ListenerState::Attached } else { pb::ListenerState::Detached };
    pb::Listener {
        name: names::listener(&view.listener.id),
        filter: Some(pb::ListenerFilter {
            nodes: filter.nodes,
            pools: filter.pools,
            peers: filter.peers,
            origins: filter.origins.into_iter().map(|value| origin(value).into()).collect(),
            statuses: filter.statuses.into_iter().map(|value| peer_status(value).into()).collect(),
            interests: filter.interests.into_iter().map(|value| interest(value).into()).collect(),
        }),
        user_data: to_bytes(&spec.user_data),
        idle_ttl: spec.idle_ttl.and_then(|ttl| ttl.try_into().ok()),
        create_time: Some(timestamp(view.listener.created)),
        expire_time: view.expires.map(timestamp),
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

/// A past change, with all parts.
pub(super) fn transition(event: &Event) -> pb::Transition {
    let everything = Parts { peer: true, health: true, node: true };
    pb::Transition { revision: event.revision, change: Some(change(event, everything)) }
}

/// The parts of a change that pass a filter.
pub(crate) fn change(event: &Event, parts: Parts) -> pb::Change {
    let timestamp = timestamps();
    let moved = event.peer.as_ref();
    let peer = moved.filter(|_| parts.peer).map(|moved| pb::PeerChange {
        peer: Some(peer_with(&moved.peer, timestamp)),
        kind: change_kind(moved.kind).into(),
        previous_status: moved.previous.map_or(pb::PeerStatus::Unspecified, peer_status).into(),
        time: Some(timestamp(event.time)),
    });
    let node = event.node.as_ref().filter(|_| parts.node).map(|change| pb::NodeChange {
        node: Some(node_with(&change.node, timestamp)),
        previous: change.previous.map_or(pb::NodeState::Unspecified, liveness).into(),
        time: Some(timestamp(event.time)),
    });
    let health = event.health.filter(|_| parts.health).zip(moved).map(|(health, moved)| pb::HealthChange {
        pool: names::pool(&moved.peer.pool),
        previous: pool_health(health.previous).into(),
        health: pool_health(health.health).into(),
        ready_count: health.ready,
        peer_count: health.wanted,
        cause: names::peer(&moved.peer.pool, &moved.peer.address),
        time: Some(timestamp(event.time)),
    });
    pb::Change { peer, health, node }
}

fn to_bytes(data: &Arc<[u8]>) -> Bytes {
    Bytes::copy_from_slice(data)
}

/// One message of a watch. `user_data` is the listener's.
pub(super) fn message(
    message: &ListenerMessage,
    user_data: Option<&Arc<[u8]>>,
) -> pb::WatchPeerStatusResponse {
    use pb::watch_peer_status_response::Event as Out;
    let out = match &message.delivery {
        Delivery::Attached { listener: view, cursor: at, resumed } => Out::Attached(pb::Attached {
            listener: Some(listener(view)),
            cursor: Some(cursor(*at)),
            resumed: *resumed,
        }),
        Delivery::Snapshot { peers, pools, nodes } => Out::Snapshot(pb::Snapshot {
            peers: peers.iter().map(|state| peer(state)).collect(),
            pools: pools.iter().map(|state| pool(state)).collect(),
            nodes: nodes.iter().map(node).collect(),
        }),
        Delivery::Synced { cursor: at, peers } => Out::Synced(pb::Synced {
            cursor: Some(cursor(*at)),
            peer_count: u32::try_from(*peers).unwrap_or(u32::MAX),
        }),
        Delivery::Change { event, parts } => Out::Change(change(event, *parts)),
        Delivery::Reset { reason, missed } => {
            Out::Reset(pb::Reset { reason: reset_reason(*reason).into(), missed_count: *missed })
        }
        Delivery::Heartbeat(at) => Out::Heartbeat(pb::Heartbeat { cursor: Some(cursor(*at)) }),
        Delivery::Draining { cursor: at, retry_after } => Out::Draining(pb::Draining {
            cursor: Some(cursor(*at)),
            retry_after: (*retry_after).try_into().ok(),
        }),
    };
    let user_data = match out {
        Out::Attached(_) | Out::Change(_) => user_data.map(to_bytes).unwrap_or_default(),
        _ => Bytes::new(),
    };
    pb::WatchPeerStatusResponse {
        revision: message.revision,
        previous_revision: message.previous,
        user_data,
        event: Some(out),
    }
}
