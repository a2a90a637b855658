//! Observed pools: what the opflex-agent of this node does with its own connections, without opening any. The agent's log
//! says what happened, the kernel's socket table whether it can be true; neither is believed alone about READY.
//!
//! [`LogLine`]s and [`Socket`]s go into the pure [`Observer`], [`Observation`]s come out.

pub mod log_line;
mod log_reader;
pub mod observer;
mod sockets;
mod source;

pub use log_line::{Level, LogLine};
pub use log_reader::{LogEvent, ReadEvent, check_log, follow};
pub use observer::{
    Counts, Input, Loss, LossCause, Observation, Observed, Observer, ObserverSettings, Socket, SocketState,
};
pub use sockets::{SocketTable, SocketsError};
pub use source::LogSource;
