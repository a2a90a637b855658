//! Reads the agent's log as it grows: a file, the newest of the files of a container, or the journal. Files are polled, because
//! policies deny inotify to services. Memory is bounded: who is slow to take the events makes the reader wait, and the files keep
//! what was not read.
//!
//! What it does not read, it says: [`LogEvent::Lost`].

use std::{
    thread,
    time::{Duration, Instant, SystemTime},
};

use tokio::{sync::mpsc, task::spawn_blocking};
use tokio_util::sync::CancellationToken;

use super::{LogLine, LogSource, Loss, LossCause};

mod files;
mod held;
mod journalctl;
mod open_file;
mod rotation;

use files::FileReader;
pub(super) use held::Held;

#[cfg(test)]
mod tests;

/// How often files are polled: a twentieth of a second is what a status is late at most. Lines that are read together taint each other.
const POLL: Duration = Duration::from_millis(50);

/// It ships with the journal.
const JOURNALCTL: &str = "journalctl";

/// What was read: the part of [`super::Input`] that is about the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogEvent {
    /// What was there at the start. Comes first, if the log can be read.
    History(Vec<LogLine>),
    /// New lines. None: the log can be read again.
    Lines(Vec<LogLine>),
    /// A piece is missing.
    Lost(Loss),
    /// The lines that follow are of another container.
    NewInstance,
}

/// An event, and when it was read: what changes nothing is handed over later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadEvent {
    /// What was read.
    pub event: LogEvent,
    /// When.
    pub at: Instant,
    /// The same in the time of day.
    pub wall: SystemTime,
}

impl ReadEvent {
    /// Just now.
    #[must_use]
    pub fn now(event: LogEvent) -> Self {
        Self { event, at: Instant::now(), wall: SystemTime::now() }
    }
}

/// Takes what was read, in its order.
type EventSender = mpsc::Sender<Vec<ReadEvent>>;

/// Reads until `stop`, or until nobody takes the events.
pub async fn follow(source: LogSource, events: EventSender, stop: CancellationToken) {
    let token = stop.clone();
    let read = async {
        match source {
            LogSource::Files(pattern) => follow_files(FileReader::new(&pattern), events, token).await,
            LogSource::Journal(unit) => journalctl::follow(JOURNALCTL, &unit, &events).await,
        }
    };
    stop.run_until_cancelled(read).await;
}

/// In a thread of its own, since reading a file can block, for example on a network. It ends soon after `stop`.
async fn follow_files(mut reader: FileReader, events: EventSender, stop: CancellationToken) {
    let thread = spawn_blocking(move || {
        let mut held = Held::default();
        while !stop.is_cancelled() {
            let read = reader.poll().into_iter().map(ReadEvent::now).collect();
            if let Some(due) = held.add(read, Instant::now())
                && events.blocking_send(due).is_err()
            {
                return;
            }
            if !reader.has_more() {
                thread::sleep(POLL);
            }
        }
    });
    // A panic has been printed.
    let _ = thread.await;
}

/// Why there is no log to read now, for people. The agent may not have been started yet.
///
/// # Errors
/// What is missing.
pub fn check_log(source: &LogSource) -> Result<(), String> {
    match source {
        LogSource::Files(pattern) => files::check(pattern),
        LogSource::Journal(unit) => journalctl::check(JOURNALCTL, unit),
    }
}

fn loss(cause: LossCause, detail: impl Into<String>) -> LogEvent {
    LogEvent::Lost(Loss { cause, detail: detail.into() })
}
