//! From the bytes of a log, in pieces of any size, to its lines.

use super::{LogLine, MAX_LINE, cri::Cri, journal::Journal};

/// How lines are framed around what the agent writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Not at all.
    File,
    /// By the container runtime: `time stream P|F text`.
    Cri,
    /// By journald: entries of its export format.
    Journal,
}

/// Joins what was read to lines. What is incomplete waits for the rest, up to [`MAX_LINE`].
#[derive(Debug, Default)]
pub struct Framer {
    /// Known from the first line: not decided line by line, since text of a peer could choose then.
    format: Option<Format>,
    line: Vec<u8>,
    is_cut: bool,
    skips_line: bool,
    cri: Cri,
    journal: Journal,
}

impl Framer {
    /// For a stream in the format of `journalctl --output=export`.
    #[must_use]
    pub fn journal() -> Self {
        Self { format: Some(Format::Journal), ..Self::default() }
    }

    /// Adds bytes and appends the lines that they complete.
    pub fn push(&mut self, mut bytes: &[u8], lines: &mut Vec<LogLine>) {
        if self.format == Some(Format::Journal) {
            return self.journal.push(bytes, lines);
        }
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            let (line, rest) = bytes.split_at(end);
            self.extend_line(line);
            self.finish_line(lines);
            bytes = rest.get(1..).unwrap_or_default();
        }
        self.extend_line(bytes);
    }

    /// A file is read from its beginning, or from somewhere in a line, whose rest is skipped.
    pub const fn start(&mut self, is_at_line: bool) {
        self.skips_line = !is_at_line;
    }

    /// The file ended, and another one follows. Parts of lines in the format of the container runtime go on there.
    pub fn end_file(&mut self, lines: &mut Vec<LogLine>) {
        if !self.line.is_empty() {
            self.is_cut = true;
            self.finish_line(lines);
        }
    }

    /// Forgets what is incomplete, since its rest is lost.
    pub fn reset(&mut self) {
        *self = Self { format: self.format, ..Self::default() };
    }

    fn extend_line(&mut self, bytes: &[u8]) {
        let fitting = bytes.get(..MAX_LINE.saturating_sub(self.line.len())).unwrap_or(bytes);
        self.line.extend_from_slice(fitting);
        self.is_cut |= fitting.len() < bytes.len();
    }

    fn finish_line(&mut self, lines: &mut Vec<LogLine>) {
        let line = std::mem::take(&mut self.line);
        let is_cut = std::mem::take(&mut self.is_cut);
        if std::mem::take(&mut self.skips_line) {
            return;
        }
        let format = *self
            .format
            .get_or_insert_with(|| if Cri::is_framed(&line) { Format::Cri } else { Format::File });
        match format {
            Format::Cri => self.cri.push(&line, is_cut, lines),
            _ => lines.push(LogLine { is_cut, ..LogLine::parse(&line) }),
        }
        if line.capacity() <= MAX_LINE / 16 {
            self.line = line;
            self.line.clear();
        }
    }
}
