//! Reads the agent's log as it grows: a file, the newest of the files of a container, or the journal. Files are polled, because
//! policies deny inotify to services. Memory is bounded: who is slow to take the events makes the reader wait, and the files keep
//! what was not read.
//!
//! What it does not read, it says: [`LogEvent::Lost`].

use std::{thread, time::Duration};

use tokio::{sync::mpsc, task::spawn_blocking};
use tokio_util::sync::CancellationToken;

use super::{LogLine, LogSource, Loss, LossCause};

mod files;
mod journalctl;
mod open_file;
mod rotation;

use files::FileReader;

#[cfg(test)]
mod tests;

/// How often files are polled: a twentieth of a second is what a status is late at most. Lines that are read together taint each other.
const POLL: Duration = Duration::from_millis(50);

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

/// Reads until `stop`, or until nobody takes the events.
pub async fn follow(source: LogSource, events: mpsc::Sender<LogEvent>, stop: CancellationToken) {
    let token = stop.clone();
    let read = async {
        match source {
            LogSource::Files(pattern) => follow_files(FileReader::new(&pattern), events, token).await,
            LogSource::Journal(unit) => journalctl::follow("journalctl", &unit, &events).await,
        }
    };
    stop.run_until_cancelled(read).await;
}

/// In a thread of its own, since reading a file can block, for example on a network. It ends soon after `stop`.
async fn follow_files(mut reader: FileReader, events: mpsc::Sender<LogEvent>, stop: CancellationToken) {
    let thread = spawn_blocking(move || {
        while !stop.is_cancelled() {
            for event in reader.poll() {
                if events.blocking_send(event).is_err() {
                    return;
                }
            }
            if !reader.has_more() {
                thread::sleep(POLL);
            }
        }
    });
    // A panic has been printed.
    let _ = thread.await;
}

fn loss(cause: LossCause, detail: impl Into<String>) -> LogEvent {
    LogEvent::Lost(Loss { cause, detail: detail.into() })
}
