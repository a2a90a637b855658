//! Metrics of peers, by pool.

use std::{sync::Arc, time::Duration};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, histogram::Histogram},
    registry::{Registry, Unit},
};

use super::LowercaseLabel;
use crate::peer::{PeerStatus, Reason};

/// Buckets in seconds, from a leaf in the same rack to the timeout of the handshake.
const HANDSHAKE: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 15.0, 45.0];
/// Buckets in seconds, from a restarted process to an upgrade of a leaf.
const TO_READY: [f64; 14] =
    [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PoolLabel {
    pool: Arc<str>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TransitionLabels {
    pool: Arc<str>,
    from: LowercaseLabel,
    to: LowercaseLabel,
    reason: LowercaseLabel,
}

/// A change of a peer's status or reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerTransition {
    /// The previous status; `None` for a new peer.
    pub from: Option<PeerStatus>,
    /// The new status.
    pub to: PeerStatus,
    /// The reason.
    pub reason: Reason,
}

/// The metrics of all pools. Clones share them.
#[derive(Clone, Debug)]
pub struct PeerMetrics {
    transitions: Family<TransitionLabels, Counter>,
    attempts: Family<PoolLabel, Counter>,
    handshakes: Family<PoolLabel, Histogram, fn() -> Histogram>,
    to_ready: Family<PoolLabel, Histogram, fn() -> Histogram>,
    skipped_entries: Family<PoolLabel, Counter>,
    deferred_entries: Family<PoolLabel, Counter>,
}

impl Default for PeerMetrics {
    fn default() -> Self {
        Self {
            transitions: Family::default(),
            attempts: Family::default(),
            handshakes: Family::new_with_constructor(|| Histogram::new(HANDSHAKE)),
            to_ready: Family::new_with_constructor(|| Histogram::new(TO_READY)),
            skipped_entries: Family::default(),
            deferred_entries: Family::default(),
        }
    }
}

impl PeerMetrics {
    /// The metrics of one pool.
    #[must_use]
    pub fn of(&self, pool: Arc<str>) -> PoolMetrics {
        let label = PoolLabel { pool: Arc::clone(&pool) };
        PoolMetrics {
            pool,
            transitions: self.transitions.clone(),
            attempts: self.attempts.get_or_create_owned(&label),
            handshakes: self.handshakes.get_or_create_owned(&label),
            to_ready: self.to_ready.get_or_create_owned(&label),
            skipped_entries: self.skipped_entries.get_or_create_owned(&label),
            deferred_entries: self.deferred_entries.get_or_create_owned(&label),
        }
    }

    /// Registers the metrics.
    pub fn register(&self, registry: &mut Registry) {
        let help = "Changes of a peer's status or reason";
        registry.register("opflex_peer_transitions", help, self.transitions.clone());
        let help = "Attempts to connect to a peer";
        registry.register("opflex_peer_connect_attempts", help, self.attempts.clone());
        let help = "Time from the TCP connection to READY, including TLS";
        let handshakes = self.handshakes.clone();
        registry.register_with_unit("opflex_peer_handshake", help, Unit::Seconds, handshakes);
        let help = "Time from adding, losing or resetting a peer to READY";
        registry.register_with_unit("opflex_peer_time_to_ready", help, Unit::Seconds, self.to_ready.clone());
        let help = "Entries of peers' lists that are no usable addresses";
        registry.register("opflex_peer_list_entries_skipped", help, self.skipped_entries.clone());
        let help = "New entries of peers' lists that are learned later, because there were too many at once";
        registry.register("opflex_peer_list_entries_deferred", help, self.deferred_entries.clone());
    }
}

/// The metrics of one pool. Clones share them.
#[derive(Clone, Debug)]
pub struct PoolMetrics {
    pool: Arc<str>,
    transitions: Family<TransitionLabels, Counter>,
    attempts: Counter,
    handshakes: Histogram,
    to_ready: Histogram,
    skipped_entries: Counter,
    deferred_entries: Counter,
}

impl PoolMetrics {
    /// Counts a published change.
    pub fn moved(&self, transition: PeerTransition) {
        let labels = TransitionLabels {
            pool: Arc::clone(&self.pool),
            from: LowercaseLabel(transition.from.map_or("none", PeerStatus::as_str)),
            to: LowercaseLabel(transition.to.as_str()),
            reason: LowercaseLabel(transition.reason.as_str()),
        };
        self.transitions.get_or_create(&labels).inc();
    }

    /// Counts an attempt to connect.
    pub fn attempts(&self) {
        self.attempts.inc();
    }

    /// Records the time from the TCP connection to READY.
    pub fn shook_hands(&self, after: Duration) {
        self.handshakes.observe(after.as_secs_f64());
    }

    /// Records the time from adding, losing or resetting a peer to READY.
    pub fn became_ready(&self, after: Duration) {
        self.to_ready.observe(after.as_secs_f64());
    }

    /// Counts the new entries of a list that are learned later.
    pub fn deferred(&self, entries: usize) {
        self.deferred_entries.inc_by(entries as u64);
    }

    /// Counts the entries of a list that are no usable addresses.
    pub fn skipped(&self, entries: usize) {
        self.skipped_entries.inc_by(entries as u64);
    }
}
