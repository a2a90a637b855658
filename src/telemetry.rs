//! Logs: where they go, how they look, and how much of them there is.

use std::{
    fmt,
    io::{self, IsTerminal as _},
    sync::Arc,
};

use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::{EnvFilter, reload};

use crate::config::Log;

/// Lines that wait to be written. What comes when there are so many is dropped: whoever reads our standard error, or
/// does not, must not hold up the peers.
const WAITING_LINES: usize = 8 * 1024;

/// Keeps the logs flowing. What waits when it is dropped is written, if somebody takes it soon.
#[must_use]
pub struct Logs {
    level: Level,
    _flow: WorkerGuard,
}

impl Logs {
    /// By which what is logged can be changed.
    #[must_use]
    pub fn level(&self) -> Level {
        self.level.clone()
    }
}

/// What is logged, to be changed. Clones change the same.
#[derive(Clone)]
pub struct Level(Arc<dyn Fn(EnvFilter) -> Result<(), reload::Error> + Send + Sync>);

impl fmt::Debug for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Level").finish_non_exhaustive()
    }
}

impl Level {
    /// From now on, this is. What can't be read, which [`crate::config::Config::load`] has checked, changes nothing.
    pub fn set(&self, directives: &str) {
        if let Ok(filter) = directives.parse() {
            // It fails when the logs have ended.
            let _ = (self.0)(filter);
        }
    }
}

/// Sends logs to standard error, from a thread of their own, for as long as what is returned is held. `None` if that
/// has been done before, or if the level can't be read (which [`crate::config::Config::load`] has checked).
pub fn init(log: &Log) -> Option<Logs> {
    let filter = log.level.parse::<EnvFilter>().ok()?;
    let (writer, flow) =
        NonBlockingBuilder::default().lossy(true).buffered_lines_limit(WAITING_LINES).finish(io::stderr());
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer).with_target(false);
    let builder = if io::stderr().is_terminal() { builder } else { builder.with_ansi(false) };
    let (begun, level) = if log.json {
        let builder = builder.json().flatten_event(true).with_filter_reloading();
        let handle = builder.reload_handle();
        (builder.try_init(), Level(Arc::new(move |filter| handle.reload(filter))))
    } else {
        let builder = builder.with_filter_reloading();
        let handle = builder.reload_handle();
        (builder.try_init(), Level(Arc::new(move |filter| handle.reload(filter))))
    };
    begun.ok().map(|()| Logs { level, _flow: flow })
}
