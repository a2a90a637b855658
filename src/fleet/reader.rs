//! The fleet side: reads the stream into a hub.
//!
//! [`FleetCore`] is the fold of the records, pure; [`Reader`] is its task, with NATS. The state at a position of the
//! stream depends on the records up to there alone, so all replicas have the same, and honour each other's cursors.

mod census;
mod core;
mod history;
mod messages;
mod node;
mod parse;
mod purge;
mod recent;
mod shell;
mod signs_of_life;
#[cfg(test)]
mod tests;
mod view;

pub use self::{
    core::{FleetCore, FleetLimits, Outcome, Position},
    shell::{Reader, ReaderSettings},
    view::NodeLimits,
};
