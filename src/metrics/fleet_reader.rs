//! Metrics of the service of a fleet: its nodes, and the stream that they publish to.

use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
};

use parking_lot::Mutex;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use super::{LowercaseLabel, ReasonLabel};

/// Nodes that are named in labels. The others are counted together: a page of metrics must stay readable.
const MAX_NODES: usize = 100;
/// Problems of nodes that are named.
pub const MAX_PROBLEMS: usize = 100;
const OTHERS: &str = "(others)";

/// A node, and what is wrong with it.
pub type Problem = (Arc<str>, &'static str);

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabel {
    state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct NodeLabel {
    node: Arc<str>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SkippedLabels {
    node: Arc<str>,
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ProblemLabels {
    node: Arc<str>,
    problem: &'static str,
}

/// Clones share them.
#[derive(Clone, Debug, Default)]
pub struct FleetMetrics {
    nodes: Family<StateLabel, Gauge>,
    problems: Family<ProblemLabels, Gauge>,
    /// Those that have a series.
    known_problems: Arc<Mutex<BTreeSet<Problem>>>,
    stream_bytes: Gauge,
    stream_max_bytes: Gauge,
    records: Counter,
    pending: Gauge,
    reading: Gauge,
    chain_breaks: Family<NodeLabel, Counter>,
    resyncs: Family<ReasonLabel, Counter>,
    skipped: Family<SkippedLabels, Counter>,
    named: Arc<Mutex<HashSet<Arc<str>>>>,
}

impl FleetMetrics {
    /// Registers the metrics.
    pub fn register(&self, registry: &mut Registry) {
        let help = "Nodes of the fleet";
        registry.register("opflex_fleet_nodes", help, self.nodes.clone());
        let help = "1 for each node with this problem, at most 100";
        registry.register("opflex_fleet_node_problem", help, self.problems.clone());
        let help = "Bytes of the stream that the nodes publish to";
        registry.register("opflex_fleet_stream_bytes", help, self.stream_bytes.clone());
        let help = "Most bytes that the stream keeps; 0: no limit";
        registry.register("opflex_fleet_stream_max_bytes", help, self.stream_max_bytes.clone());
        let help = "Records that were read from the stream since the snapshot";
        registry.register("opflex_fleet_records", help, self.records.clone());
        let help = "Records of the stream that are not read yet";
        registry.register("opflex_fleet_records_pending", help, self.pending.clone());
        let help = "1 while the stream is read, 0 while it cannot be";
        registry.register("opflex_fleet_reading", help, self.reading.clone());
        let help = "Places where changes of a node are missing in the stream";
        registry.register("opflex_fleet_chain_breaks", help, self.chain_breaks.clone());
        let help = "How often the state of all nodes was read anew";
        registry.register("opflex_fleet_resyncs", help, self.resyncs.clone());
        let help = "Records that were skipped";
        registry.register("opflex_fleet_records_skipped", help, self.skipped.clone());
    }

    /// How many nodes are in which state, and what is wrong with which: at most [`MAX_PROBLEMS`].
    pub fn set_nodes(&self, live: usize, stale: usize, problems: BTreeSet<Problem>) {
        let labels = |(node, problem): &Problem| ProblemLabels { node: Arc::clone(node), problem };
        let mut known = self.known_problems.lock();
        for problem in problems.difference(&known) {
            self.problems.get_or_create(&labels(problem)).set(1);
        }
        for problem in known.difference(&problems) {
            self.problems.remove(&labels(problem));
        }
        *known = problems;
        for (state, count) in [("live", live), ("stale", stale)] {
            self.nodes.get_or_create(&StateLabel { state }).set(count.try_into().unwrap_or(i64::MAX));
        }
    }

    /// The size of the stream, and the limit; not above 0: none.
    pub fn set_stream(&self, bytes: u64, max: i64) {
        self.stream_bytes.set(bytes.try_into().unwrap_or(i64::MAX));
        self.stream_max_bytes.set(max.max(0));
    }

    /// The stream is read.
    pub fn set_reading(&self) {
        self.reading.set(1);
    }

    /// It cannot be.
    pub fn interrupted(&self) {
        self.reading.set(0);
    }

    /// A record was read, and there are more.
    pub fn record(&self, pending: u64) {
        self.records.inc();
        self.pending.set(pending.try_into().unwrap_or(i64::MAX));
    }

    /// Changes of this node are missing.
    pub fn chain_break(&self, node: &Arc<str>) {
        self.chain_breaks.get_or_create(&NodeLabel { node: self.name(Some(node)) }).inc();
    }

    /// The state of all nodes is read anew.
    pub fn resync(&self, reason: &'static str) {
        self.resyncs.get_or_create(&ReasonLabel { reason: LowercaseLabel(reason) }).inc();
    }

    /// A record was skipped.
    pub fn skipped(&self, node: Option<&Arc<str>>, reason: &'static str) {
        self.skipped.get_or_create(&SkippedLabels { node: self.name(node), reason }).inc();
    }

    fn name(&self, node: Option<&Arc<str>>) -> Arc<str> {
        let Some(node) = node else { return Arc::from("") };
        let mut named = self.named.lock();
        if named.contains(node) || named.len() < MAX_NODES {
            named.insert(Arc::clone(node));
            return Arc::clone(node);
        }
        Arc::from(OTHERS)
    }
}
