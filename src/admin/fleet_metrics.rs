//! How far the stream of the fleet is behind the log of this node.

use std::{fmt, sync::Arc, time::Duration};

use prometheus_client::{collector::Collector, encoding::DescriptorEncoder};

use super::service_metrics::gauge;
use crate::{
    metrics::ForwarderMetrics,
    status::{Hub, clock},
};

pub(super) struct ForwardLag {
    pub(super) hub: Arc<Hub>,
    pub(super) metrics: ForwarderMetrics,
}

impl fmt::Debug for ForwardLag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ForwardLag").finish_non_exhaustive()
    }
}

impl Collector for ForwardLag {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let acknowledged = self.metrics.acknowledged_revision();
        let changes = self.hub.cursor().revision.saturating_sub(acknowledged);
        let help = "Changes that the stream has not acknowledged.";
        gauge(&mut encoder, "opflex_fleet_forward_lag", help, changes)?;
        let help = "Age of the oldest of them that is still in the log.";
        gauge(&mut encoder, "opflex_fleet_forward_lag_seconds", help, self.age(acknowledged).as_secs_f64())
    }
}

impl ForwardLag {
    /// The age of the oldest change after this one that is still in the log.
    fn age(&self, acknowledged: u64) -> Duration {
        let mut events = Vec::new();
        let oldest = match self.hub.read_after(acknowledged, 1, &mut events) {
            Ok(_) => events.pop(),
            Err(_) => {
                // All of the log.
                self.hub.read_before(u64::MAX, usize::MAX, &mut events);
                events.pop()
            }
        };
        oldest.and_then(|event| clock::now().duration_since(event.time).ok()).unwrap_or_default()
    }
}
