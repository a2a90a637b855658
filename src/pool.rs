//! The pools: connections of an OpFlex identity, kept alive.
//!
//! One owner task per pool (`supervisor`) decides who belongs to it and publishes what happens; one task
//! per peer (`session`) drives that peer's state machine. What to decide is in pure neighbours.

mod command;
mod log_limiter;
mod membership;
mod probe;
mod restart_backoff;
mod session;
#[cfg(test)]
mod simulation;
mod steps;
mod supervisor;
mod time_to_ready;
mod transition_log;

pub use command::{PoolError, PoolHandle, Reset};
pub use supervisor::{PoolConfig, REDISCOVERY_INTERVAL, open};
