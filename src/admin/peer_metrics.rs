//! Metrics of each peer, from one snapshot: those of a removed peer are not in the next page.

use std::fmt;

use prometheus_client::{
    encoding::{DescriptorEncoder, EncodeLabelSet, NoLabelSet},
    metrics::MetricType,
};

use super::service_metrics::{gauges, unix_seconds};
use crate::{
    metrics::LowercaseLabel,
    peer::{PeerStatus, Reason},
    status::{PeerState, Snapshot, clock},
};

type Encoder<'a> = DescriptorEncoder<'a>;
/// A peer and its address as text, which is formatted once and used several times.
type Named<'a> = [(&'a PeerState, String)];

pub(super) fn encode(snapshot: &Snapshot, encoder: &mut Encoder<'_>) -> Result<(), fmt::Error> {
    let peers: Vec<_> = snapshot.peers.iter().map(|peer| (&**peer, peer.address.to_string())).collect();
    statuses(&peers, encoder)?;
    times(&peers, encoder)?;
    failures(&peers, encoder)
}

fn statuses(peers: &Named<'_>, encoder: &mut Encoder<'_>) -> Result<(), fmt::Error> {
    let statuses = peers.iter().flat_map(|(peer, name)| {
        statuses_of(peer.observed.is_some()).map(move |status| {
            let labels = (labels(peer, name), [("status", LowercaseLabel(status.as_str()))]);
            (labels, is(peer.status == *status))
        })
    });
    gauges(encoder, "opflex_peer_status", "1 for the status of the peer, 0 for the others.", statuses)?;
    let up = peers.iter().map(|(peer, name)| (labels(peer, name), is(peer.status == PeerStatus::Ready)));
    gauges(encoder, "opflex_peer_up", "Whether the peer is READY.", up)?;
    let wanted = peers.iter().map(|(peer, name)| (labels(peer, name), is(peer.status.is_wanted())));
    gauges(encoder, "opflex_peer_wanted", "Whether the peer counts in the health of its pool.", wanted)
}

/// Only what is observed can be unknown.
pub(super) fn statuses_of(is_observed: bool) -> impl Iterator<Item = &'static PeerStatus> {
    PeerStatus::ALL.iter().filter(move |status| is_observed || **status != PeerStatus::Unknown)
}

fn times(peers: &Named<'_>, encoder: &mut Encoder<'_>) -> Result<(), fmt::Error> {
    let clock = clock::shift();
    let not_ready = peers.iter().filter(|(peer, _)| peer.status.is_wanted()).filter_map(|(peer, name)| {
        Some((labels(peer, name), unix_seconds(clock.to_system(peer.not_ready_since?))))
    });
    let help = "Since when a wanted peer has not been READY.";
    gauges(encoder, "opflex_peer_not_ready_since_timestamp_seconds", help, not_ready)?;
    let rtts =
        peers.iter().filter_map(|(peer, name)| Some((labels(peer, name), peer.echo_rtt?.as_secs_f64())));
    gauges(encoder, "opflex_peer_echo_rtt_seconds", "Round trip of the last echo.", rtts)?;
    let observed =
        || peers.iter().filter_map(|(peer, name)| Some((labels(peer, name), peer.observed.as_ref()?)));
    let rtts = observed().filter_map(|(labels, seen)| Some((labels, seen.socket.rtt?.as_secs_f64())));
    let help = "Smoothed round trip of the TCP connection of an observed peer.";
    gauges(encoder, "opflex_peer_tcp_rtt_seconds", help, rtts)?;
    let received = observed().filter_map(|(labels, seen)| {
        Some((labels, unix_seconds(clock.to_system(seen.socket.last_received?))))
    });
    let help = "When data came in last on the connection of an observed peer.";
    gauges(encoder, "opflex_peer_last_received_timestamp_seconds", help, received)
}

fn failures(peers: &Named<'_>, encoder: &mut Encoder<'_>) -> Result<(), fmt::Error> {
    let help = "How often the peer left READY without being asked to.";
    let flaps = peers.iter().map(|(peer, name)| (labels(peer, name), peer.flaps));
    counters(encoder, "opflex_peer_flaps", help, flaps)?;
    let help = "Failed attempts and lost connections.";
    let failures = peers.iter().flat_map(|(peer, name)| {
        peer.failures.iter().map(move |(reason, count)| (failed(peer, name, reason), u64::from(count)))
    });
    counters(encoder, "opflex_peer_attempt_failures", help, failures)?;
    let help = "When the peer failed last, and why.";
    let clock = clock::shift();
    let last = peers.iter().filter_map(|(peer, name)| {
        let failure = peer.last_failure.as_ref()?;
        Some((failed(peer, name, failure.reason), unix_seconds(clock.to_system(failure.time))))
    });
    gauges(encoder, "opflex_peer_last_failure_timestamp_seconds", help, last)
}

fn labels<'a>(peer: &'a PeerState, name: &'a str) -> [(&'static str, &'a str); 2] {
    [("pool", &*peer.pool), ("peer", name)]
}

fn failed<'a>(peer: &'a PeerState, name: &'a str, reason: Reason) -> impl EncodeLabelSet + use<'a> {
    (labels(peer, name), [("reason", LowercaseLabel(reason.as_str()))])
}

fn is(fact: bool) -> u64 {
    u64::from(fact)
}

fn counters<L: EncodeLabelSet>(
    encoder: &mut Encoder<'_>,
    name: &str,
    help: &str,
    values: impl IntoIterator<Item = (L, u64)>,
) -> Result<(), fmt::Error> {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (labels, value) in values {
        family.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&value, None)?;
    }
    Ok(())
}
