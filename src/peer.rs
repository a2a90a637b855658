//! One peer as a value: address, status, state machine, backoff. No I/O, no clock.

mod address;
mod backoff;
mod flapping;
mod fsm;
mod reach;
mod request;
mod severity;
mod status;

pub use address::{AddressError, PeerAddress};
pub use backoff::Backoff;
pub use flapping::NewestFlaps;
pub use fsm::{Action, BackoffCaps, CLOSED, DialPriority, Input, PeerFsm, Report, Security, Timers};
pub use reach::{Reach, is_loopback};
pub use severity::Severity;
pub use status::{Evidence, PeerOrigin, PeerStatus, PoolHealth, Reason};
