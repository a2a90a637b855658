//! The journal, by `journalctl`, which ships with it. Its files need a library of systemd otherwise.

use std::{
    process::{ExitStatus, Stdio},
    time::{Duration, SystemTime},
};

use tokio::{
    io::AsyncReadExt,
    process::{Child, ChildStdout, Command},
    sync::mpsc,
    time::{Instant, sleep, timeout_at},
};

use super::{LogEvent, LossCause, loss};
use crate::observe::{LogLine, log_line::Framer};

/// How many entries are read back at the start.
const HISTORY: &str = "--lines=5000";

/// They come at once.
const HISTORY_TIME: Duration = Duration::from_secs(1);

/// How long after it ended it is started again.
const RESTART: Duration = Duration::from_secs(1);

/// Follows the entries of a unit; ends if nobody takes the events.
pub(super) async fn follow(program: &str, unit: &str, events: &mpsc::Sender<LogEvent>) {
    let mut history = HISTORY;
    let mut told = String::new();
    loop {
        let started = SystemTime::now();
        let error = match start(program, unit, history) {
            Ok((mut child, stdout)) => {
                let first = (history == HISTORY).then_some(started);
                let was_read = read(stdout, first, events).await;
                match child.wait().await {
                    _ if was_read.is_err() => return,
                    Ok(status) => ended(program, status),
                    Err(error) => format!("{program}: {error}"),
                }
            }
            Err(error) => format!("run {program}: {error}"),
        };
        history = "--lines=0";
        if error != told && events.send(loss(LossCause::Ended, &error)).await.is_err() {
            return;
        }
        told = error;
        sleep(RESTART).await;
    }
}

fn start(program: &str, unit: &str, history: &str) -> std::io::Result<(Child, ChildStdout)> {
    let mut child = Command::new(program)
        .args(["--follow", "--output=export", "--no-pager", "--quiet", history])
        .arg(format!("--unit={unit}"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    let stdout = child.stdout.take().ok_or(std::io::ErrorKind::BrokenPipe)?;
    Ok((child, stdout))
}

fn ended(program: &str, status: ExitStatus) -> String {
    format!("{program} ended ({status}): this user may not read the journal, or the unit does not exist")
}

/// Reads to the end. An error: nobody takes the events.
async fn read(
    mut stdout: ChildStdout,
    first: Option<SystemTime>,
    events: &mpsc::Sender<LogEvent>,
) -> Result<(), mpsc::error::SendError<LogEvent>> {
    let (mut framer, mut buffer) = (Framer::journal(), vec![0; 64 << 10]);
    let mut lines = Vec::new();
    let mut history = first.map(|start| (start, Instant::now() + HISTORY_TIME));
    if first.is_none() {
        events.send(LogEvent::Lines(Vec::new())).await?;
    }
    loop {
        let until = history.map_or_else(|| Instant::now() + Duration::from_secs(3600), |(_, until)| until);
        match timeout_at(until, stdout.read(&mut buffer)).await {
            Ok(Ok(0) | Err(_)) => break,
            Ok(Ok(length)) => framer.push(buffer.get(..length).unwrap_or_default(), &mut lines),
            Err(_) if history.is_none() => continue,
            Err(_) => {}
        }
        if let Some((start, until)) = history {
            let is_new = |line: &LogLine| line.received.is_some_and(|at| at >= start);
            let first_new = lines.iter().position(is_new);
            if first_new.is_none() && Instant::now() < until {
                continue;
            }
            let new = lines.split_off(first_new.unwrap_or(lines.len()));
            events.send(LogEvent::History(std::mem::replace(&mut lines, new))).await?;
            history = None;
        }
        if !lines.is_empty() {
            events.send(LogEvent::Lines(std::mem::take(&mut lines))).await?;
        }
    }
    Ok(())
}
