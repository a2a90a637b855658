//! The pools: connections of an OpFlex identity, kept alive.
//!
//! One owner task per pool (`supervisor`) decides who belongs to it and publishes what happens; one task
//! per peer (`session`) drives that peer's state machine. What to decide is in pure neighbours.

mod membership;
mod session;
mod supervisor;

pub use supervisor::{PoolConfig, open};
