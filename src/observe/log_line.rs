//! One line of the agent's log, and how it is framed: by the agent itself, by the container runtime around that, or by
//! journald. Bytes of a log never panic, and no line is longer than [`MAX_LINE`].

use std::time::{Duration, SystemTime};

use time::{
    OffsetDateTime, PrimitiveDateTime,
    format_description::{BorrowedFormatItem, well_known::Rfc3339},
    macros::format_description,
};

mod cri;
mod framer;
mod journal;

pub use framer::{Format, Framer};

#[cfg(test)]
mod tests;

/// The longest line, in bytes; the rest of a longer one is left out. The agent's own lines about peers have a few hundred.
pub const MAX_LINE: usize = 64 << 10;

/// As Boost.Log writes times. There is no fraction if it is zero.
const WRITTEN: &[BorrowedFormatItem<'_>] = format_description!(
    version = 2,
    "[year]-[month repr:short]-[day] [hour]:[minute]:[second][optional [.[subsecond digits:1+]]]"
);

/// How important the agent takes a line to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
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

impl Level {
    /// By the name that the agent uses in its log and its configuration.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "trace" => Self::Trace,
            "debug" => Self::Debug,
            "info" => Self::Info,
            "warning" => Self::Warning,
            "error" => Self::Error,
            "fatal" => Self::Fatal,
            _ => return None,
        })
    }
}

/// One line of the agent's log, or of something else that writes to it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
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

impl LogLine {
    /// A line as the agent writes it to a file: `[time] [level] [file:line:function] message`.
    #[must_use]
    pub fn parse(line: &[u8]) -> Self {
        let text = String::from_utf8_lossy(line);
        let framed = split_bracket(&text).and_then(|(time, rest)| {
            let written = parse_written(time)?;
            let (level, rest) = split_bracket(rest.strip_prefix(' ')?)?;
            let (origin, message) = split_origin(rest.strip_prefix(' ')?)?;
            Some(Self {
                received: None,
                written: Some(written),
                level: Some(Level::from_name(level)?),
                origin: Some(origin),
                message: message.into(),
                is_cut: false,
            })
        });
        framed.unwrap_or_else(|| Self::unframed(&text))
    }

    /// A message in the journal: `[file:line:function] message`.
    fn parse_message(message: &[u8]) -> Self {
        let text = String::from_utf8_lossy(message);
        match split_origin(&text) {
            Some((origin, message)) => {
                Self { origin: Some(origin), message: message.into(), ..Self::unframed("") }
            }
            None => Self::parse(message),
        }
    }

    fn unframed(text: &str) -> Self {
        Self { received: None, written: None, level: None, origin: None, message: text.into(), is_cut: false }
    }
}

/// What is in the bracket at the beginning, and what follows it.
fn split_bracket(text: &str) -> Option<(&str, &str)> {
    text.strip_prefix('[')?.split_once(']')
}

/// The file and function that wrote a line.
type Origin = (Box<str>, Box<str>);

fn split_origin(text: &str) -> Option<(Origin, &str)> {
    let (origin, message) = split_bracket(text)?;
    let (file, rest) = origin.split_once(':')?;
    let (line, function) = rest.split_once(':')?;
    let is_number = !line.is_empty() && line.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| ((file.into(), function.into()), message.strip_prefix(' ').unwrap_or(message)))
}

fn parse_written(text: &str) -> Option<Duration> {
    let written = PrimitiveDateTime::parse(text, WRITTEN).ok()?.assume_utc();
    Duration::try_from(written - OffsetDateTime::UNIX_EPOCH).ok()
}

fn parse_rfc3339(text: &str) -> Option<SystemTime> {
    let time = OffsetDateTime::parse(text, &Rfc3339).ok()?;
    let since = Duration::try_from(time - OffsetDateTime::UNIX_EPOCH).ok()?;
    SystemTime::UNIX_EPOCH.checked_add(since)
}
