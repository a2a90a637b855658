//! Metrics of a node that publishes to a fleet.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use super::{KindLabel, LowercaseLabel, ReasonLabel};

const RECORDS: [&str; 5] = ["change", "state", "pool", "node", "up"];
const ERRORS: [&str; 5] = ["no_stream", "timeout", "rejected", "disconnected", "other"];
const STATES: [&str; 5] = ["start", "overrun", "order", "foreign", "lost"];
const FOREIGN: [&str; 2] = ["process", "other"];

/// Metrics of the forwarder. Clones share them.
#[derive(Clone, Debug)]
pub struct ForwarderMetrics(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    connected: Gauge,
    unacknowledged: Gauge,
    /// The newest change that the stream has acknowledged.
    acknowledged: AtomicU64,
    published: Family<KindLabel, Counter>,
    duplicates: Counter,
    retries: Counter,
    errors: Family<KindLabel, Counter>,
    states: Family<ReasonLabel, Counter>,
    foreign: Family<KindLabel, Counter>,
}

impl Default for ForwarderMetrics {
    /// Creates all counters, so that rates begin at zero.
    fn default() -> Self {
        let (published, errors, states) = (Family::default(), Family::default(), Family::default());
        let foreign = Family::default();
        FOREIGN.into_iter().for_each(|kind| drop(foreign.get_or_create(&of_kind(kind))));
        RECORDS.into_iter().for_each(|kind| drop(published.get_or_create(&of_kind(kind))));
        ERRORS.into_iter().for_each(|kind| drop(errors.get_or_create(&of_kind(kind))));
        STATES.into_iter().for_each(|reason| drop(states.get_or_create(&of_reason(reason))));
        Self(Arc::new(Inner {
            connected: Gauge::default(),
            unacknowledged: Gauge::default(),
            acknowledged: AtomicU64::new(0),
            published,
            duplicates: Counter::default(),
            retries: Counter::default(),
            errors,
            states,
            foreign,
        }))
    }
}

impl ForwarderMetrics {
    /// Whether there is a connection to NATS.
    pub fn set_connected(&self, is_connected: bool) {
        self.0.connected.set(i64::from(is_connected));
    }

    /// How many records are unacknowledged.
    pub fn set_unacknowledged(&self, count: usize) {
        self.0.unacknowledged.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// The stream has acknowledged a record of this kind, and so all changes up to `revision`.
    pub fn acknowledged(&self, kind: &'static str, revision: u64, is_duplicate: bool) {
        self.0.acknowledged.store(revision, Ordering::Release);
        if is_duplicate {
            self.0.duplicates.inc();
        } else {
            self.0.published.get_or_create(&of_kind(kind)).inc();
        }
    }

    /// The newest change that the stream has acknowledged.
    #[must_use]
    pub fn acknowledged_revision(&self) -> u64 {
        self.0.acknowledged.load(Ordering::Acquire)
    }

    /// A record was not acknowledged, and is sent again.
    pub fn failed(&self, kind: &'static str) {
        self.0.retries.inc();
        self.0.errors.get_or_create(&of_kind(kind)).inc();
    }

    /// The whole state is published.
    pub fn state(&self, reason: &'static str) {
        self.0.states.get_or_create(&of_reason(reason)).inc();
    }

    /// Somebody else published on the node's subjects.
    pub fn foreign(&self, kind: &'static str) {
        self.0.foreign.get_or_create(&of_kind(kind)).inc();
    }

    /// Registers them for export.
    pub fn register(&self, registry: &mut Registry) {
        let Inner {
            connected,
            unacknowledged,
            acknowledged: _,
            published,
            duplicates,
            retries,
            errors,
            states,
            foreign,
        } = &*self.0;
        let help = "Whether there is a connection to NATS";
        registry.register("opflex_fleet_connected", help, connected.clone());
        let help = "Records that the stream has not acknowledged";
        registry.register("opflex_fleet_unacknowledged", help, unacknowledged.clone());
        let help = "Records that the stream has stored";
        registry.register("opflex_fleet_published", help, published.clone());
        let help = "Records that the stream had already when they were sent again";
        registry.register("opflex_fleet_duplicates", help, duplicates.clone());
        let help = "Times that the unacknowledged records were sent again";
        registry.register("opflex_fleet_retries", help, retries.clone());
        let help = "Records that were not acknowledged";
        registry.register("opflex_fleet_publish_errors", help, errors.clone());
        let help = "Times that the whole state was published";
        registry.register("opflex_fleet_states", help, states.clone());
        let help = "Messages on the subjects of this node that it did not publish";
        registry.register("opflex_fleet_foreign_messages", help, foreign.clone());
    }
}

const fn of_kind(kind: &'static str) -> KindLabel {
    KindLabel { kind: LowercaseLabel(kind) }
}

const fn of_reason(reason: &'static str) -> ReasonLabel {
    ReasonLabel { reason: LowercaseLabel(reason) }
}
