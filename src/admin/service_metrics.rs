//! Metrics that are read from the state of the service at each scrape, so those of a removed peer end with it.

use std::{fmt, sync::Arc, time::SystemTime};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeGaugeValue, EncodeLabelSet},
    metrics::MetricType,
};

use super::{exposition::CertificateExpiry, peer_metrics};
use crate::{
    metrics::{LoopMonitors, LowercaseLabel},
    peer::{PeerOrigin, PoolHealth},
    status::{Hub, Listeners, PeerState, PoolState, Snapshot},
};

pub(super) struct ServiceMetrics {
    pub(super) hub: Arc<Hub>,
    pub(super) listeners: Arc<Listeners>,
    pub(super) loops: LoopMonitors,
    pub(super) certificates: Box<dyn Fn() -> Vec<CertificateExpiry> + Send + Sync>,
}

impl fmt::Debug for ServiceMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServiceMetrics").finish_non_exhaustive()
    }
}

impl Collector for ServiceMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let snapshot = self.hub.snapshot();
        if !self.hub.is_fleet() {
            // The nodes have them, each its own.
            peer_metrics::encode(&snapshot, &mut encoder)?;
        }
        pools(&snapshot, &mut encoder)?;
        self.listeners(&snapshot, &mut encoder)?;
        self.certificates(&mut encoder)?;
        self.event_loops(&mut encoder)
    }
}

impl ServiceMetrics {
    fn listeners(&self, snapshot: &Snapshot, encoder: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let listeners = self.listeners.stats();
        let name = "opflex_peerstatus_revision";
        gauge(encoder, name, "Changes published since the start.", snapshot.cursor.revision)?;
        let name = "opflex_peerstatus_listeners";
        let states = [("attached", listeners.attached), ("detached", listeners.detached)];
        gauges(encoder, name, "Listeners.", states.map(|(state, count)| ([("state", state)], count as u64)))?;
        let help = "Watches, and waiting calls of WaitForPool.";
        gauge(encoder, "opflex_peerstatus_streams", help, listeners.streams as u64)?;
        let help = "Revisions that the slowest attached listener is behind.";
        gauge(encoder, "opflex_peerstatus_listener_lag_max", help, listeners.lag)
    }

    fn certificates(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let name = "opflex_peerstatus_certificate_expiry_timestamp_seconds";
        let certificates = (self.certificates)();
        let expiries = certificates.iter().map(|certificate| {
            let expires = certificate.expires.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            ([("use", certificate.usage), ("pool", &*certificate.pool)], expires.as_secs())
        });
        gauges(encoder, name, "Expiry of a certificate.", expiries)
    }

    fn event_loops(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let help = "Lag of the slowest event loop.";
        gauge(encoder, "opflex_peerstatus_event_loop_lag_seconds", help, self.loops.lag().as_secs_f64())?;
        let (last, help) =
            (unix_seconds(self.loops.last_run()), "Time at which every event loop had last run.");
        gauge(encoder, "opflex_peerstatus_event_loop_last_turn_timestamp_seconds", help, last)
    }
}

fn pools(snapshot: &Snapshot, encoder: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
    // Of the pool of a STALE node, the health is not known.
    let known = snapshot.pools.iter().filter(|pool| pool.stale_since.is_none());
    let healths = known.flat_map(|pool| {
        let healths =
            PoolHealth::ALL.iter().filter(|health| is_observed(pool) || **health != PoolHealth::Unknown);
        healths.map(move |health| {
            let labels = ([("pool", &*pool.name)], [("health", LowercaseLabel(health.as_str()))]);
            (labels, u64::from(pool.health == *health))
        })
    });
    gauges(
        encoder,
        "opflex_pool_health",
        "1 for the current health of the pool, 0 for the others.",
        healths,
    )?;
    let by_pool = by_pool(snapshot);
    let peers = by_pool.iter().filter(|(pool, _)| pool.stale_since.is_none()).flat_map(|(pool, peers)| {
        peer_metrics::statuses_of(is_observed(pool)).map(move |status| {
            let count = peers.iter().filter(|peer| peer.status == *status).count();
            (([("pool", &*pool.name)], [("status", LowercaseLabel(status.as_str()))]), count as u64)
        })
    });
    gauges(encoder, "opflex_pool_peers", "Peers of the pool, by status.", peers)?;
    // An observed pool has none, and is none the worse for it.
    let connecting = by_pool.iter().filter(|(pool, _)| !is_observed(pool));
    let configured = connecting.map(|(pool, peers)| {
        let configured = peers.iter().filter(|peer| peer.origin == PeerOrigin::Configured).count();
        ([("pool", &*pool.name)], configured as u64)
    });
    gauges(encoder, "opflex_pool_configured_peers", "Peers from the configuration or AddPeer.", configured)
}

/// It announces no identity.
const fn is_observed(pool: &PoolState) -> bool {
    pool.identity.is_none()
}

/// Each pool with its peers. Both are ordered by the pool's name.
fn by_pool(snapshot: &Snapshot) -> Vec<(&PoolState, &[Arc<PeerState>])> {
    let mut left = &*snapshot.peers;
    let with_peers = snapshot.pools.iter().map(|pool| {
        let (peers, rest) = left.split_at(left.partition_point(|peer| peer.pool <= pool.name));
        left = rest;
        (&**pool, peers)
    });
    with_peers.collect()
}

pub(super) fn gauges<L: EncodeLabelSet, V: EncodeGaugeValue>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    values: impl IntoIterator<Item = (L, V)>,
) -> Result<(), fmt::Error> {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for (labels, value) in values {
        family.encode_family(&labels)?.encode_gauge(&value)?;
    }
    Ok(())
}

pub(super) fn gauge(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    value: impl EncodeGaugeValue,
) -> Result<(), fmt::Error> {
    encoder.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(&value)
}

/// A time in seconds since 1970.
pub(super) fn unix_seconds(time: SystemTime) -> f64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}
