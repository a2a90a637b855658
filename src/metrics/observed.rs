//! Metrics of observed pools.

use std::{
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::{Registry, Unit},
};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PoolLabel {
    pool: Arc<str>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CauseLabels {
    pool: Arc<str>,
    cause: &'static str,
}

/// The metrics of all observed pools. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct ObserverMetrics {
    lines: Family<PoolLabel, Counter>,
    rejected: Family<CauseLabels, Counter>,
    losses: Family<PoolLabel, Counter>,
    unmentioned: Family<PoolLabel, Counter>,
    log_lag: Family<PoolLabel, Gauge<f64, AtomicU64>>,
    log_readable: Family<PoolLabel, Gauge>,
    sockets_readable: Family<PoolLabel, Gauge>,
}

impl ObserverMetrics {
    /// The metrics of one pool.
    #[must_use]
    pub fn of(&self, pool: Arc<str>) -> ObservedPoolMetrics {
        ObservedPoolMetrics { all: self.clone(), label: PoolLabel { pool }, last: ObservedCounts::default() }
    }

    /// Registers the metrics.
    pub fn register(&self, registry: &mut Registry) {
        let help = "Lines of the agent's log that were read";
        registry.register("opflex_observed_log_lines", help, self.lines.clone());
        let help = "Lines of the agent's log that were not believed";
        registry.register("opflex_observed_log_lines_rejected", help, self.rejected.clone());
        let help = "Pieces of the agent's log that were lost";
        registry.register("opflex_observed_log_losses", help, self.losses.clone());
        let help = "Connections of the agent that its log did not mention in time";
        registry.register("opflex_observed_connections_unmentioned", help, self.unmentioned.clone());
        let help = "Time from the newest line of the agent's log to its reading";
        registry.register_with_unit("opflex_observed_log_lag", help, Unit::Seconds, self.log_lag.clone());
        let help = "Whether the agent's log can be read";
        registry.register("opflex_observed_log_readable", help, self.log_readable.clone());
        let help = "Whether the sockets of the node can be read";
        registry.register("opflex_observed_sockets_readable", help, self.sockets_readable.clone());
    }
}

/// What one observed pool has counted so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ObservedCounts {
    /// Lines that were read.
    pub lines: u64,
    /// Lines that were rejected, by cause.
    pub rejected: [(&'static str, u64); 6],
    /// Pieces of the log that were lost.
    pub losses: u64,
    /// Connections without a line.
    pub unmentioned: u64,
}

/// The metrics of one observed pool.
#[derive(Clone, Debug)]
pub struct ObservedPoolMetrics {
    all: ObserverMetrics,
    label: PoolLabel,
    /// What was added already.
    last: ObservedCounts,
}

impl ObservedPoolMetrics {
    /// Adds what was counted since the last call.
    pub fn count(&mut self, counts: ObservedCounts) {
        let Self { all, label, last } = self;
        let raise = |counter: Counter, from: u64, to: u64| counter.inc_by(to.saturating_sub(from));
        raise(all.lines.get_or_create_owned(label), last.lines, counts.lines);
        raise(all.losses.get_or_create_owned(label), last.losses, counts.losses);
        raise(all.unmentioned.get_or_create_owned(label), last.unmentioned, counts.unmentioned);
        for ((_, from), (cause, to)) in last.rejected.into_iter().zip(counts.rejected) {
            let labels = CauseLabels { pool: Arc::clone(&label.pool), cause };
            raise(all.rejected.get_or_create_owned(&labels), from, to);
        }
        *last = counts;
    }

    /// The newest line was so old when it was read.
    pub fn log_lag(&self, lag: Duration) {
        self.all.log_lag.get_or_create(&self.label).set(lag.as_secs_f64());
    }

    /// Whether the log can be read.
    pub fn log_readable(&self, is_readable: bool) {
        self.all.log_readable.get_or_create(&self.label).set(i64::from(is_readable));
    }

    /// Whether the sockets can be read.
    pub fn sockets_readable(&self, is_readable: bool) {
        self.all.sockets_readable.get_or_create(&self.label).set(i64::from(is_readable));
    }
}
