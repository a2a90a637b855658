//! The pools: connections of an OpFlex identity, kept alive.
//!
//! The core of a pool is a value (`core`, `membership`): events in, effects out. One owner task per pool
//! (`supervisor`) waits for events and performs the effects; one task per peer (`session`) drives that peer's state
//! machine.

mod admission;
mod command;
mod core;
mod effect;
mod log_limiter;
mod membership;
mod observed;
mod rediscovery;
mod restart_backoff;
mod session;
mod supervisor;
#[cfg(test)]
mod tests;
mod time_to_ready;
mod token_bucket;
mod transition_log;

pub use command::{PoolError, PoolHandle, Reset};
pub use log_limiter::LogBudget;
pub(crate) use log_limiter::LogLimiter;
pub use observed::{ObservedConfig, ObservedContext, observe};
pub use rediscovery::REDISCOVERY_INTERVAL;
pub use supervisor::{PoolConfig, open};
