//! The pools: connections of an OpFlex identity, kept alive.
//!
//! One owner task per pool (`supervisor`) decides who belongs to it and publishes what happens; one task
//! per peer (`session`) drives that peer's state machine. What to decide is in pure neighbours.

mod command;
mod limiter;
mod membership;
mod pacing;
mod probe;
mod session;
#[cfg(test)]
mod simulation;
mod steps;
mod supervisor;
mod telling;
mod waits;

pub use command::{PoolError, PoolHandle, Reset};
pub use supervisor::{ASK_AGAIN, PoolConfig, open};
