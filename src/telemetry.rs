//! Logging: level, format, and the writer thread.

use std::{
    fmt,
    io::{self, IsTerminal as _},
    sync::Arc,
};

use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::{EnvFilter, filter::ParseError, reload};

use crate::config::LogSection;

/// Most lines queued for writing; further lines are dropped, because a blocked standard error must not block the peers.
const WAITING_LINES: usize = 8 * 1024;

/// Keeps the writer thread running. Dropping it flushes the lines that wait.
#[must_use]
pub struct Logs {
    level: Level,
    dropped: ErrorCounter,
    _flow: WorkerGuard,
}

impl Logs {
    /// Counts the lines that were dropped because too many waited.
    #[must_use]
    pub fn dropped(&self) -> ErrorCounter {
        self.dropped.clone()
    }

    /// Changes the log level.
    #[must_use]
    pub fn level(&self) -> Level {
        self.level.clone()
    }
}

/// Changes the log level. Clones change the same one.
#[derive(Clone)]
pub struct Level(Arc<dyn Fn(EnvFilter) -> Result<(), reload::Error> + Send + Sync>);

impl fmt::Debug for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Level").finish_non_exhaustive()
    }
}

impl Level {
    /// Sets the level. Invalid directives change nothing; [`crate::config::Config::load`] rejects them.
    pub fn set(&self, directives: &str) {
        if let Ok(filter) = filter(directives) {
            // It fails when the logs have ended.
            let _ = (self.0)(filter);
        }
    }
}

/// Libraries whose lines are logged from this level on, unless the level names them: clients can make h2 log a warning for
/// each frame, and what async_nats logs about its connection is logged by us.
const QUIET: [(&str, &str); 2] = [("h2", "error"), ("async_nats", "error")];

fn filter(level: &str) -> Result<EnvFilter, ParseError> {
    if level == "off" {
        return level.parse();
    }
    let quiet = QUIET.iter().filter(|(library, _)| !level.contains(library));
    quiet.fold(level.to_owned(), |level, (library, from)| format!("{level},{library}={from}")).parse()
}

/// Logs to standard error from a thread of its own, until the result is dropped. `None` if logging is initialized
/// already or the level is invalid, which [`crate::config::Config::load`] rejects.
pub fn init(log: &LogSection) -> Option<Logs> {
    let filter = filter(&log.level).ok()?;
    let (writer, flow) =
        NonBlockingBuilder::default().lossy(true).buffered_lines_limit(WAITING_LINES).finish(io::stderr());
    let dropped = writer.error_counter();
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
    begun.ok().map(|()| Logs { level, dropped, _flow: flow })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn warnings_that_clients_can_provoke_at_will_are_logged_only_if_the_level_says_so() {
        for (level, expected) in [
            ("info", "async_nats=error,h2=error,info"),
            ("warn,opflex_peerstatus=debug", "opflex_peerstatus=debug,async_nats=error,h2=error,warn"),
            ("info,h2=debug", "async_nats=error,h2=debug,info"),
            ("info,async_nats=info", "async_nats=info,h2=error,info"),
            ("off", "off"),
        ] {
            assert_eq!(filter(level).unwrap().to_string(), expected);
        }
    }
}
