//! Follows the agent's log.

use std::{
    fs::File,
    io::{Read as _, Seek as _, SeekFrom},
    time::Duration,
};

use tokio::{sync::mpsc, time::sleep};
use tokio_util::sync::CancellationToken;

use super::{LogLine, LogSource, Loss};

/// How often files are read.
const POLL: Duration = Duration::from_millis(50);

/// What is new in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogEvent {
    /// Lines from before the observation began.
    History(Vec<LogLine>),
    /// New lines.
    Lines(Vec<LogLine>),
    /// A piece is missing.
    Lost(Loss),
    /// A new log of a new process of the agent.
    NewInstance,
}

/// Follows the log until `stop`.
pub async fn follow(source: LogSource, events: mpsc::Sender<LogEvent>, stop: CancellationToken) {
    let LogSource::Files(path) = source else { return };
    let mut file = File::open(path).ok();
    if let Some(file) = &mut file {
        let _ = file.seek(SeekFrom::End(0));
    }
    while !stop.is_cancelled() {
        let mut text = String::new();
        if let Some(file) = &mut file {
            let _ = file.read_to_string(&mut text);
        }
        if !text.is_empty() && events.send(LogEvent::Lines(Vec::new())).await.is_err() {
            return;
        }
        sleep(POLL).await;
    }
}
