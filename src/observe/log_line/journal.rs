//! The journal's export format: entries of fields, separated by an empty line. A field is `NAME=text`, or `NAME`, a
//! newline, the length in 8 bytes (little endian), and that many bytes.

use std::time::{Duration, SystemTime};

use super::{Level, LogLine, MAX_LINE};

#[derive(Debug, Default)]
pub(super) struct Journal {
    /// What was read and not used yet: less than a field.
    buffer: Vec<u8>,
    /// How many bytes of a long value to skip.
    skip: u64,
    /// In a text field that is too long.
    in_long_field: bool,
    entry: Entry,
}

#[derive(Debug, Default)]
struct Entry {
    message: Option<Vec<u8>>,
    time: Option<SystemTime>,
    level: Option<Level>,
    is_cut: bool,
}

impl Journal {
    pub(super) fn push(&mut self, bytes: &[u8], lines: &mut Vec<LogLine>) {
        // In pieces, so that the buffer stays bounded.
        for piece in bytes.chunks(MAX_LINE) {
            self.buffer.extend_from_slice(piece);
            let mut used = 0;
            while let Some(length) = self.take_field(used, lines) {
                used += length;
            }
            self.buffer.drain(..used.min(self.buffer.len()));
        }
    }

    /// Handles one field, or a part of a long one, and returns its length; `None` if it is not complete.
    fn take_field(&mut self, from: usize, lines: &mut Vec<LogLine>) -> Option<usize> {
        let rest = self.buffer.get(from..).filter(|rest| !rest.is_empty())?;
        if self.skip > 0 {
            let skipped = rest.len().min(usize::try_from(self.skip).unwrap_or(usize::MAX));
            self.skip -= skipped as u64;
            return Some(skipped);
        }
        let Some(end) = rest.iter().position(|byte| *byte == b'\n') else {
            let is_long = rest.len() > MAX_LINE;
            self.in_long_field |= is_long;
            self.entry.is_cut |= is_long;
            return is_long.then_some(rest.len());
        };
        let line = rest.get(..end)?;
        let after = rest.get(end + 1..)?;
        if std::mem::take(&mut self.in_long_field) {
            return Some(end + 1);
        }
        if line.is_empty() {
            lines.extend(std::mem::take(&mut self.entry).into_line());
            return Some(1);
        }
        if let Some(equals) = line.iter().position(|byte| *byte == b'=') {
            let (name, value) = line.split_at(equals);
            self.entry.set(name, value.get(1..)?);
            return Some(end + 1);
        }
        let length = u64::from_le_bytes(*after.first_chunk()?);
        let value = after.get(8..)?;
        if length > MAX_LINE as u64 {
            self.entry.is_cut = true;
            self.skip = length.saturating_add(1);
            return Some(end + 9);
        }
        let length = usize::try_from(length).ok()?;
        let value = value.get(..=length)?.get(..length)?;
        self.entry.set(line, value);
        Some(end + 10 + length)
    }
}

impl Entry {
    fn set(&mut self, name: &[u8], value: &[u8]) {
        let number = || str::from_utf8(value).ok()?.parse::<u64>().ok();
        match name {
            b"MESSAGE" => self.message = Some(value.to_vec()),
            b"__REALTIME_TIMESTAMP" => {
                self.time =
                    number().and_then(|us| SystemTime::UNIX_EPOCH.checked_add(Duration::from_micros(us)));
            }
            b"PRIORITY" => self.level = number().and_then(level),
            _ => {}
        }
    }

    fn into_line(self) -> Option<LogLine> {
        let message = self.message.or_else(|| self.is_cut.then(Vec::new))?;
        let line = LogLine::parse_message(&message);
        Some(LogLine { received: self.time, level: line.level.or(self.level), is_cut: self.is_cut, ..line })
    }
}

/// The level of a priority of syslog.
const fn level(priority: u64) -> Option<Level> {
    Some(match priority {
        0..=2 => Level::Fatal,
        3 => Level::Error,
        4 => Level::Warning,
        5 | 6 => Level::Info,
        7 => Level::Debug,
        _ => return None,
    })
}
