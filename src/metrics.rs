//! What is counted and measured, for whoever scrapes it. Nothing here is global: each part of the service is handed
//! what it counts with, or owns it, and the admin port puts it together. docs/metrics.md tells what each number means.
//!
//! What can be read from the state of the service is not kept here a second time; the admin port reads it when it is
//! asked.

mod calls;
mod label;
mod loop_monitor;
mod peers;
mod reloads;
mod watches;

pub use calls::{Call, Calls, Kind, Method};
pub use label::LowercaseLabel;
pub use loop_monitor::{LoopMonitor, LoopMonitors};
pub use peers::{Peers, Pool, Transition};
pub use reloads::{Reload, Reloads};
pub use watches::{Detach, WatchMetrics};
