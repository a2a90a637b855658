//! What nodes publish, as states of the fleet's hub. Everything in it is checked here, because a node may be hostile.

use std::{net::Ipv4Addr, sync::Arc, time::SystemTime};

use crate::{
    api::{convert, pb},
    opflex::{Identity, Proxies},
    peer::{NewestFlaps, PeerAddress, PeerStatus},
    status::{
        ChangeKind, Failure, FailureCounts, HealthChange, ObservedPeer, PeerState, PoolState, SocketFacts,
        clock, fleet_pool,
    },
};

/// Longest detail of a peer, in bytes.
const MAX_DETAIL: usize = 512;
/// Longest name, domain or location of an identity, and version of a node.
const MAX_TEXT: usize = 1024;
/// Times are from 1970 to this: beyond, they cannot be shown.
const MAX_SECONDS: i64 = 253_402_300_799;

/// A record whose contents cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Invalid;

/// A peer change, and the change of its pool's health.
#[derive(Clone, Debug)]
pub(super) struct Change {
    pub(super) peer: PeerState,
    pub(super) kind: ChangeKind,
    pub(super) previous: Option<PeerStatus>,
    pub(super) health: Option<HealthChange>,
    pub(super) time: SystemTime,
}

/// A change of a peer at this address in the fleet's pool.
pub(super) fn change(pool: &Arc<str>, address: &PeerAddress, change: &pb::Change) -> Result<Change, Invalid> {
    let moved = change.peer.as_ref().ok_or(Invalid)?;
    let kind = match moved.kind() {
        pb::ChangeKind::Added => ChangeKind::Added,
        pb::ChangeKind::Status => ChangeKind::Status,
        pb::ChangeKind::Removed => ChangeKind::Removed,
        pb::ChangeKind::Origin => ChangeKind::Origin,
        pb::ChangeKind::Unspecified => return Err(Invalid),
    };
    Ok(Change {
        peer: peer(pool, address, moved.peer.as_ref().ok_or(Invalid)?)?,
        kind,
        previous: convert::parse_peer_status(moved.previous_status).filter(|_| kind != ChangeKind::Added),
        health: change.health.as_ref().map(health).transpose()?,
        time: time(moved.time)?,
    })
}

fn health(change: &pb::HealthChange) -> Result<HealthChange, Invalid> {
    let parse = |health| convert::parse_pool_health(health).ok_or(Invalid);
    Ok(HealthChange {
        previous: parse(change.previous)?,
        health: parse(change.health)?,
        ready: change.ready_count,
        wanted: change.peer_count,
    })
}

/// The state of a peer at this address in the fleet's pool. Its revision is not yet that of the fleet.
pub(super) fn peer(pool: &Arc<str>, address: &PeerAddress, peer: &pb::Peer) -> Result<PeerState, Invalid> {
    let last_failure = peer.last_failure.as_ref().map(|failure| {
        let reason = convert::parse_reason(failure.reason).ok_or(Invalid)?;
        Ok(Failure { reason, detail: text(&failure.detail, MAX_DETAIL)?, time: time(failure.time)? })
    });
    Ok(PeerState {
        pool: Arc::clone(pool),
        address: address.clone(),
        origin: convert::parse_origin(peer.origin).ok_or(Invalid)?,
        status: convert::parse_peer_status(peer.status).ok_or(Invalid)?,
        reason: convert::parse_reason(peer.reason).ok_or(Invalid)?,
        detail: text(&peer.detail, MAX_DETAIL)?,
        status_since: time(peer.status_since)?,
        last_ready: some_time(peer.last_ready_time)?,
        not_ready_since: some_time(peer.not_ready_since)?,
        consecutive_failures: peer.consecutive_failures,
        failures: FailureCounts::of_unknown_reasons(peer.failure_count),
        last_failure: last_failure.transpose()?,
        transitions: peer.transition_count,
        flaps: peer.flap_count,
        newest_flaps: some_time(peer.flapping_until)?.map(NewestFlaps::until).unwrap_or_default(),
        roles: peer.roles.iter().filter_map(|role| convert::parse_role(*role)).collect(),
        learned_from: learned_from(&peer.learned_from)?,
        echo_rtt: peer.echo_rtt.and_then(|rtt| rtt.try_into().ok()),
        observed: observed(peer)?.map(Box::new),
        revision: 0,
    })
}

/// The state of a pool in the fleet.
pub(super) fn pool(node: &str, pool: &str, published: &pb::Pool) -> Result<PoolState, Invalid> {
    Ok(PoolState {
        name: fleet_pool(node, pool).into(),
        health: convert::parse_pool_health(published.health).ok_or(Invalid)?,
        health_since: time(published.health_since)?,
        not_healthy_since: some_time(published.not_healthy_since)?,
        identity: published.identity.as_ref().map(identity).transpose()?.map(Arc::new),
        proxies: published.proxies.as_ref().map(proxies).transpose()?,
        wanted: published.peer_count,
        ready: published.ready_count,
        // The hub of the fleet counts its peers.
        unknown: 0,
        parked: published.parked_count,
        detail: text(&published.detail, MAX_DETAIL)?,
        stale_since: None,
        revision: 0,
    })
}

fn identity(published: &pb::Identity) -> Result<Identity, Invalid> {
    let mut known = Identity::new(&*text(&published.name, MAX_TEXT)?, &*text(&published.domain, MAX_TEXT)?);
    known.location = Some(text(&published.location, MAX_TEXT)?.to_string()).filter(|text| !text.is_empty());
    Ok(known)
}

/// What is known of a peer beyond its status, in an observed pool.
fn observed(peer: &pb::Peer) -> Result<Option<ObservedPeer>, Invalid> {
    let Some(time) = some_time(peer.observed_time)? else { return Ok(None) };
    let socket = SocketFacts {
        rtt: peer.tcp_rtt.and_then(|rtt| rtt.try_into().ok()),
        last_received: some_time(peer.last_received_time)?,
    };
    Ok(Some(ObservedPeer { evidence: convert::parse_evidence(peer.evidence), time, socket }))
}

/// The version of a node's service.
pub(super) fn version(node: &pb::Node) -> Arc<str> {
    text(&node.version, MAX_TEXT).unwrap_or_default()
}

fn proxies(proxies: &pb::Proxies) -> Result<Proxies, Invalid> {
    let address = |text: &str| text.parse::<Ipv4Addr>().map_err(|_| Invalid);
    Proxies::new([address(&proxies.v4)?, address(&proxies.v6)?, address(&proxies.mac)?]).ok_or(Invalid)
}

/// `pools/{pool}/peers/{address}`
fn learned_from(name: &str) -> Result<Option<PeerAddress>, Invalid> {
    if name.is_empty() {
        return Ok(None);
    }
    let (_, address) = name.split_once("/peers/").ok_or(Invalid)?;
    address.parse().map(Some).map_err(|_| Invalid)
}

fn text(text: &str, max: usize) -> Result<Arc<str>, Invalid> {
    if text.len() <= max { Ok(text.into()) } else { Err(Invalid) }
}

/// A time of the node's clock, to be kept as ours are.
fn time(time: Option<prost_types::Timestamp>) -> Result<SystemTime, Invalid> {
    some_time(time)?.ok_or(Invalid)
}

fn some_time(time: Option<prost_types::Timestamp>) -> Result<Option<SystemTime>, Invalid> {
    let Some(time) = time else { return Ok(None) };
    let is_known = (0..=MAX_SECONDS).contains(&time.seconds) && (0..1_000_000_000).contains(&time.nanos);
    let known = is_known.then(|| SystemTime::try_from(time).ok()).flatten().ok_or(Invalid)?;
    Ok(Some(clock::shift().from_system(known)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use std::time::Duration;

    use super::*;
    use crate::{
        peer::{Evidence, PoolHealth, Reason, Report},
        status::{Hub, Update},
    };

    #[test]
    fn unknown_and_observed_peers_survive_the_trip_and_so_do_their_pool_and_its_changes() {
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let hub = Hub::new(1, 16);
        hub.add_observed_pool("default".into(), at);
        let lost = Report::new(PeerStatus::Unknown, Reason::ObservationLost);
        let ready = Report::new(PeerStatus::Ready, Reason::HandshakeComplete);
        let socket = SocketFacts { rtt: Some(Duration::from_micros(250)), last_received: Some(at) };
        let address = |host: &str| format!("{host}:8009").parse::<PeerAddress>().unwrap();
        let events = hub.apply(
            "default",
            at,
            [
                (address("a"), Update::Observed(lost.clone(), None)),
                (address("b"), Update::Observed(ready, Some(Evidence::Both))),
                (address("b"), Update::Socket(socket)),
                (address("b"), Update::Observed(lost, None)),
            ],
        );
        let snapshot = hub.snapshot();
        let name: Arc<str> = "n.default".into();
        for sent in snapshot.peers.iter() {
            let back = peer(&name, &sent.address, &convert::peer(sent)).unwrap();
            let expected = PeerState { pool: Arc::clone(&name), revision: 0, ..PeerState::clone(sent) };
            assert_eq!(back, expected);
        }
        let back = pool("n", "default", &convert::pool(&snapshot.pools[0])).unwrap();
        assert_eq!((back.health, back.identity, back.wanted), (PoolHealth::Unknown, None, 2));
        let parts = crate::status::Parts { peer: true, health: true, node: false };
        let changes = events.iter().map(|event| {
            let sent = &event.peer.as_ref().unwrap().peer.address;
            change(&name, sent, &convert::change(event, parts)).unwrap()
        });
        let previous: Vec<_> = changes.map(|change| (change.kind, change.previous, change.health)).collect();
        let expected = [
            (ChangeKind::Added, None, None),
            (ChangeKind::Added, None, None),
            (ChangeKind::Status, Some(PeerStatus::Ready), None),
        ];
        assert_eq!(previous, expected);
    }
}
