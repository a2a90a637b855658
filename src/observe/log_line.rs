//! One line of the agent's log.

use std::time::{Duration, SystemTime};

/// How important the agent takes a line to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// More than debug.
    Trace,
    /// Details.
    Debug,
    /// The agent's default: it includes what happens to connections.
    Info,
    /// Includes failed attempts to connect, but not what succeeds.
    Warning,
    /// Errors alone.
    Error,
    /// The agent ends.
    Fatal,
}

/// One line of the agent's log, or of something else that writes to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// When the container runtime or journald received it.
    pub received: Option<SystemTime>,
    /// What the agent wrote as its time: local, without a zone, as the time since 1970 of the same date in UTC.
    pub written: Option<Duration>,
    /// Unknown in the journal if it has no priority.
    pub level: Option<Level>,
    /// The file and function that wrote it. `None`: not framed as the agent frames its lines.
    pub origin: Option<(Box<str>, Box<str>)>,
    /// What it says, without the frame.
    pub message: Box<str>,
    /// Longer than the limit, so the rest is missing.
    pub is_cut: bool,
}
