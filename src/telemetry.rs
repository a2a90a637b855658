//! Logs: where they go and how they look.

use std::io::{self, IsTerminal as _};

use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;

use crate::config::Log;

/// Lines that wait to be written. What comes when there are so many is dropped: whoever reads our standard error, or
/// does not, must not hold up the peers.
const WAITING_LINES: usize = 8 * 1024;

/// Keeps the logs flowing. What waits when it is dropped is written, if somebody takes it soon.
#[must_use]
pub struct Logs(#[expect(dead_code, reason = "held for its end")] WorkerGuard);

/// Sends logs to standard error, from a thread of their own, for as long as what is returned is held. `None` if that
/// has been done before, or if the level can't be read (which [`crate::config::Config::load`] has checked).
pub fn init(log: &Log) -> Option<Logs> {
    let filter = log.level.parse::<EnvFilter>().ok()?;
    let (writer, guard) =
        NonBlockingBuilder::default().lossy(true).buffered_lines_limit(WAITING_LINES).finish(io::stderr());
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer).with_target(false);
    let builder = if io::stderr().is_terminal() { builder } else { builder.with_ansi(false) };
    let begun = if log.json { builder.json().flatten_event(true).try_init() } else { builder.try_init() };
    begun.ok().map(|()| Logs(guard))
}
