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

use super::{EventSender, LogEvent, LossCause, ReadEvent, loss};
use crate::observe::{LogLine, log_line::Framer};

/// How many entries are read back at the start.
const HISTORY: &str = "--lines=5000";

/// They come at once.
const HISTORY_TIME: Duration = Duration::from_secs(1);

/// How long after it ended it is started again.
const RESTART: Duration = Duration::from_secs(1);

/// What the reader gives if there is nothing to read.
fn no_entries(unit: &str) -> String {
    format!(
        "the journal has no entries of the unit {unit}: it does not exist, was not started yet, or this user may not read them"
    )
}

/// Why there is nothing to read now.
pub(super) fn check(program: &str, unit: &str) -> Result<(), String> {
    let output = std::process::Command::new(program)
        .args(["--output=cat", "--no-pager", "--quiet", "--lines=1"])
        .arg(format!("--unit={unit}"))
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("run {program}: {error}"))?;
    match (output.status.success(), output.stdout.is_empty()) {
        (false, _) => Err(ended(program, output.status)),
        (true, true) => Err(no_entries(unit)),
        (true, false) => Ok(()),
    }
}

/// Follows the entries of a unit; ends if nobody takes the events.
pub(super) async fn follow(program: &str, unit: &str, events: &EventSender) {
    let mut history = HISTORY;
    let mut told = String::new();
    loop {
        let started = SystemTime::now();
        let error = match start(program, unit, history) {
            Ok((mut child, stdout)) => {
                let first = (history == HISTORY).then_some(started);
                let was_read = read(stdout, unit, first, events).await;
                match child.wait().await {
                    _ if was_read.is_err() => return,
                    Ok(status) => ended(program, status),
                    Err(error) => format!("{program}: {error}"),
                }
            }
            Err(error) => format!("run {program}: {error}"),
        };
        history = "--lines=0";
        if error != told && send(events, loss(LossCause::Ended, &error)).await.is_err() {
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

async fn send(events: &EventSender, event: LogEvent) -> Result<(), mpsc::error::SendError<Vec<ReadEvent>>> {
    events.send(vec![ReadEvent::now(event)]).await
}

/// Reads to the end. An error: nobody takes the events.
async fn read(
    mut stdout: ChildStdout,
    unit: &str,
    first: Option<SystemTime>,
    events: &EventSender,
) -> Result<(), mpsc::error::SendError<Vec<ReadEvent>>> {
    let (mut framer, mut buffer) = (Framer::journal(), vec![0; 64 << 10]);
    let mut lines = Vec::new();
    let mut history = first.map(|start| (start, Instant::now() + HISTORY_TIME));
    if first.is_none() {
        send(events, LogEvent::Lines(Vec::new())).await?;
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
            let is_empty = lines.is_empty() && new.is_empty();
            send(events, LogEvent::History(std::mem::replace(&mut lines, new))).await?;
            history = None;
            if is_empty {
                send(events, loss(LossCause::Unreadable, no_entries(unit))).await?;
            }
        }
        if !lines.is_empty() {
            send(events, LogEvent::Lines(std::mem::take(&mut lines))).await?;
        }
    }
    Ok(())
}
