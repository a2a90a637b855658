//! What is counted of reloads of the configuration.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};

use super::LowercaseLabel;

/// How a reload went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reload {
    /// Something was changed.
    Applied,
    /// There was nothing to change that can be changed.
    Unchanged,
    /// The configuration is wrong.
    Refused,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    result: LowercaseLabel,
}

/// How reloads went. Clones share it.
#[derive(Clone, Debug)]
pub struct Reloads(Family<Outcome, Counter>);

impl Default for Reloads {
    /// All of them are there at once, so that rates begin at zero.
    fn default() -> Self {
        let reloads = Family::default();
        for how in [Reload::Applied, Reload::Unchanged, Reload::Refused] {
            drop(reloads.get_or_create(&how.outcome()));
        }
        Self(reloads)
    }
}

impl Reload {
    const fn outcome(self) -> Outcome {
        Outcome {
            result: LowercaseLabel(match self {
                Self::Applied => "applied",
                Self::Unchanged => "unchanged",
                Self::Refused => "refused",
            }),
        }
    }
}

impl Reloads {
    /// One went so.
    pub fn count(&self, reload: Reload) {
        self.0.get_or_create(&reload.outcome()).inc();
    }

    /// Adds it to what is exported.
    pub fn register(&self, registry: &mut Registry) {
        let help = "Reloads of the configuration";
        registry.register("opflex_peerstatus_config_reloads", help, self.0.clone());
    }
}
