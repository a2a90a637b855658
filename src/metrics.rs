//! Counters and histograms. None is global: each part of the service owns its metrics or gets them passed, and the admin
//! port registers them. docs/metrics.md documents them.
//!
//! Gauges of the state of the service are not kept here: the admin port reads that state at each scrape.

mod calls;
mod fleet;
mod fleet_reader;
mod loop_monitor;
mod observed;
mod peers;
mod reloads;
mod watches;

use std::fmt::{self, Write as _};

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};

pub use calls::{Call, CallMetrics, MethodKind, MethodMetrics};
pub use fleet::ForwarderMetrics;
pub use fleet_reader::{FleetMetrics, MAX_PROBLEMS, Problem};
pub use loop_monitor::{LoopMonitor, LoopMonitors};
pub use observed::{ObservedCounts, ObservedPoolMetrics, ObserverMetrics};
pub use peers::{PeerMetrics, PeerTransition, PoolMetrics};
pub use reloads::{ReloadMetrics, ReloadResult};
pub use watches::{DetachReason, WatchMetrics};

/// A name of the API as the value of a label: in lower case, as is usual for metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LowercaseLabel(pub &'static str);

/// What kind it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabel {
    kind: LowercaseLabel,
}

/// Why it happened.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: LowercaseLabel,
}

impl EncodeLabelValue for LowercaseLabel {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), fmt::Error> {
        self.0.chars().try_for_each(|letter| encoder.write_char(letter.to_ascii_lowercase()))
    }
}
