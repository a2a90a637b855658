//! Logs: where they go and how they look.

use std::io::{self, IsTerminal as _};

use tracing_subscriber::EnvFilter;

use crate::config::Log;

/// Sends logs to standard error from now on. Does nothing if that has been done before, or if the level can't
/// be read (which [`crate::config::Config::load`] has checked).
pub fn init(log: &Log) {
    let Ok(filter) = log.level.parse::<EnvFilter>() else {
        return;
    };
    let builder =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_target(false);
    let builder = if io::stderr().is_terminal() { builder } else { builder.with_ansi(false) };
    // A second initialisation is refused: the first one stays.
    let _ = if log.json { builder.json().flatten_event(true).try_init() } else { builder.try_init() };
}
