//! The age of changes when they are handed to the transport of a client.

use std::time::Duration;

use prometheus_client::{
    metrics::histogram::Histogram,
    registry::{Registry, Unit},
};

/// Upper bounds in seconds: from one change for one client to a client that is a minute behind.
const BOUNDS: [f64; 17] = [
    0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    10.0, 60.0,
];

/// The age of delivered changes. Clones share it.
#[derive(Clone, Debug)]
pub struct Deliveries(Histogram);

impl Default for Deliveries {
    fn default() -> Self {
        Self(Histogram::new(BOUNDS))
    }
}

impl Deliveries {
    /// Counts `count` changes, the oldest of which has this age.
    pub fn observe(&self, age: Duration, count: usize) {
        (0..count).for_each(|_| self.0.observe(age.as_secs_f64()));
    }

    /// Registers the metrics.
    pub fn register(&self, registry: &mut Registry) {
        let help = "From when a change was observed to when it was handed to the transport of a client";
        registry.register_with_unit("opflex_peerstatus_delivery", help, Unit::Seconds, self.0.clone());
    }
}
