//! Metrics of configuration reloads.

use prometheus_client::{
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};

/// The result of a reload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReloadResult {
    /// Something was changed.
    Applied,
    /// Nothing that can be changed at runtime differs.
    Unchanged,
    /// The configuration is invalid.
    Refused,
}

/// The results of reloads. Clones share them.
#[derive(Clone, Debug)]
pub struct ReloadMetrics(Family<[(&'static str, &'static str); 1], Counter>);

impl Default for ReloadMetrics {
    /// All results exist from the start, so that rates begin at zero.
    fn default() -> Self {
        let reloads = Family::default();
        for reload in [ReloadResult::Applied, ReloadResult::Unchanged, ReloadResult::Refused] {
            drop(reloads.get_or_create(&reload.labels()));
        }
        Self(reloads)
    }
}

impl ReloadResult {
    const fn labels(self) -> [(&'static str, &'static str); 1] {
        let result = match self {
            Self::Applied => "applied",
            Self::Unchanged => "unchanged",
            Self::Refused => "refused",
        };
        [("result", result)]
    }
}

impl ReloadMetrics {
    /// Counts a reload.
    pub fn count(&self, reload: ReloadResult) {
        self.0.get_or_create(&reload.labels()).inc();
    }

    /// Registers the metrics.
    pub fn register(&self, registry: &mut Registry) {
        let help = "Reloads of the configuration";
        registry.register("opflex_peerstatus_config_reloads", help, self.0.clone());
    }
}
