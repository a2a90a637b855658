//! Follows a log through its rotations. Each poll reads what is new in the file that is open. Only at its end does it look whether
//! another file has taken its place.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime},
};

use super::{
    LogEvent, LossCause, loss,
    open_file::{Chunk, FileId, OpenFile, id},
    rotation::{find, is_glob, newest, number, rotated},
};
use crate::observe::log_line::Framer;

/// As much is read back at the start: days of an agent at level info, from which its peers are known.
const HISTORY: u64 = 4 << 20;

/// How often directories are read, and failed attempts repeated.
const SCAN: Duration = Duration::from_millis(500);

/// A log of another pod is only taken for the newer one if the present one was not written to for so long before.
const IDLE: Duration = Duration::from_secs(2);

/// What is wrong with the log, for people.
fn describe(pattern: &str, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound if is_glob(pattern) => format!("no file matches {pattern}"),
        io::ErrorKind::NotFound => format!("there is no file {pattern}"),
        _ => format!("{pattern}: {error}"),
    }
}

/// Opens the newest of the files.
fn open(pattern: &str) -> io::Result<OpenFile> {
    let path = newest(find(pattern)?).ok_or(io::ErrorKind::NotFound)?;
    OpenFile::open(&path)
}

/// Why there is nothing to read now.
pub(super) fn check(pattern: &str) -> Result<(), String> {
    open(pattern).map(drop).map_err(|error| describe(pattern, &error))
}

#[derive(Debug)]
pub(super) struct FileReader {
    pattern: String,
    framer: Framer,
    current: Option<OpenFile>,
    /// Where the log is written, if the current file was renamed.
    log_path: Option<PathBuf>,
    scanned: Option<Instant>,
    /// The error that was told last.
    error: Option<String>,
    /// When the log appears after the start, all of it is new.
    was_missing: bool,
    has_begun: bool,
    has_more: bool,
}

impl FileReader {
    pub(super) fn new(pattern: &str) -> Self {
        Self {
            pattern: pattern.to_owned(),
            framer: Framer::default(),
            current: None,
            log_path: None,
            scanned: None,
            error: None,
            was_missing: false,
            has_begun: false,
            has_more: false,
        }
    }

    /// Whether there is more to read at once.
    pub(super) const fn has_more(&self) -> bool {
        self.has_more
    }

    /// Reads what is new.
    pub(super) fn poll(&mut self) -> Vec<LogEvent> {
        let mut events = Vec::new();
        self.has_more = false;
        if self.current.is_none() {
            self.open_first(&mut events);
        } else if let Err(error) = self.read(&mut events) {
            self.fail(&error, &mut events);
            self.current = None;
        }
        events
    }

    fn open_first(&mut self, events: &mut Vec<LogEvent>) {
        if !self.is_scan_due() {
            return;
        }
        match open(&self.pattern) {
            Ok(file) => {
                self.error = None;
                self.current = Some(file);
                let is_history = !self.has_begun && !self.was_missing;
                let begun = if is_history { self.read_history() } else { Ok(LogEvent::Lines(Vec::new())) };
                match begun {
                    Ok(event) => events.push(event),
                    Err(error) => self.fail(&error, events),
                }
                self.has_begun = true;
                self.has_more = true;
            }
            Err(error) => {
                self.was_missing |= error.kind() == io::ErrorKind::NotFound;
                self.fail(&error, events);
            }
        }
    }

    fn fail(&mut self, error: &io::Error, events: &mut Vec<LogEvent>) {
        self.framer.reset();
        let error = describe(&self.pattern, error);
        if self.error.as_ref() != Some(&error) {
            events.push(loss(LossCause::Unreadable, &error));
            self.error = Some(error);
        }
    }

    /// The end of the log as it is now, with the end of the file before it.
    fn read_history(&mut self) -> io::Result<LogEvent> {
        let mut lines = Vec::new();
        let Some(current) = &mut self.current else { return Ok(LogEvent::History(lines)) };
        let length = current.len()?;
        if let (Some(earlier), true) = (rotated(&current.path).pop(), length < HISTORY)
            && let Ok(mut file) = OpenFile::open(&earlier.path)
        {
            file.seek_back(HISTORY - length)?;
            self.framer.start(file.is_at_start());
            while let Chunk::Bytes(bytes) = file.read()? {
                self.framer.push(&bytes, &mut lines);
            }
            self.framer.end_file(&mut lines);
        }
        current.seek_back(HISTORY)?;
        if !current.is_at_start() {
            self.framer.start(false);
        }
        let mut left = length.min(HISTORY);
        while left > 0
            && let Chunk::Bytes(bytes) = current.read()?
        {
            self.framer.push(&bytes, &mut lines);
            left = left.saturating_sub(bytes.len() as u64);
        }
        Ok(LogEvent::History(lines))
    }

    fn read(&mut self, events: &mut Vec<LogEvent>) -> io::Result<()> {
        let Some(current) = &mut self.current else { return Ok(()) };
        let mut lines = Vec::new();
        match current.read()? {
            Chunk::Bytes(bytes) => {
                self.framer.push(&bytes, &mut lines);
                self.has_more = true;
            }
            Chunk::Overwritten => {
                // Whether everything was read before that cannot be known: lines that were written between copying
                // and truncating are in neither file.
                let detail = format!("{} was truncated or overwritten", current.path.display());
                events.push(loss(LossCause::Truncated, detail));
                self.framer.reset();
                current.rewind();
                self.has_more = true;
            }
            Chunk::End => return self.look_for_next(events),
        }
        if !lines.is_empty() {
            events.push(LogEvent::Lines(lines));
        }
        Ok(())
    }

    /// The current file was read to its end.
    fn look_for_next(&mut self, events: &mut Vec<LogEvent>) -> io::Result<()> {
        let Some(current) = &self.current else { return Ok(()) };
        let path = self.log_path.clone().unwrap_or_else(|| current.path.clone());
        match fs::metadata(&path) {
            // A file that nobody has written to yet may have been made long before the agent opens it.
            Ok(metadata) if id(&metadata) != current.id && metadata.len() > 0 => {
                if current.unread()? > 0 {
                    self.has_more = true; // it was written between the two looks
                    return Ok(());
                }
                // Others were written and renamed between them if this process paused.
                let files = rotated(&path);
                let ours = files.iter().position(|it| it.id == current.id);
                let between = ours.and_then(|ours| files.get(ours + 1));
                let (next, expected) = between.map_or((&path, id(&metadata)), |it| (&it.path, it.id));
                self.go_on_with(&next.clone(), expected, &path, events)
            }
            _ if is_glob(&self.pattern) && self.is_scan_due() => self.look_for_instance(events),
            _ => Ok(()),
        }
    }

    fn go_on_with(
        &mut self,
        path: &Path,
        expected: FileId,
        log_path: &Path,
        events: &mut Vec<LogEvent>,
    ) -> io::Result<()> {
        self.has_more = true;
        let file = match OpenFile::open(path) {
            // Renamed again since it was found: the next look finds it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Ok(file) if file.id != expected => return Ok(()),
            opened => opened?,
        };
        self.log_path = Some(log_path.to_owned());
        self.end_file(events);
        self.current = Some(file);
        Ok(())
    }

    /// What is incomplete at the end of a file stays so.
    fn end_file(&mut self, events: &mut Vec<LogEvent>) {
        let mut lines = Vec::new();
        self.framer.end_file(&mut lines);
        if !lines.is_empty() {
            events.push(LogEvent::Lines(lines));
        }
    }

    /// A restarted container has a file of a higher number, a new pod a directory of its own.
    fn look_for_instance(&mut self, events: &mut Vec<LogEvent>) -> io::Result<()> {
        let Some(current) = &self.current else { return Ok(()) };
        let Some(path) = newest(find(&self.pattern)?).filter(|path| *path != current.path) else {
            return Ok(());
        };
        let modified = |path: &Path| fs::metadata(path).and_then(|it| it.modified());
        let is_restart = path.parent() == current.path.parent() && number(&path) > number(&current.path);
        let is_idle = modified(&current.path).map_or(true, |own| {
            let other = modified(&path).unwrap_or(SystemTime::UNIX_EPOCH);
            other.duration_since(own).is_ok_and(|it| it >= IDLE)
        });
        if (is_restart || is_idle) && current.unread()? == 0 {
            let file = OpenFile::open(&path)?;
            self.end_file(events);
            self.framer.reset();
            events.push(LogEvent::NewInstance);
            self.log_path = None;
            self.current = Some(file);
            self.has_more = true;
        }
        Ok(())
    }

    fn is_scan_due(&mut self) -> bool {
        let now = Instant::now();
        let is_due = self.scanned.is_none_or(|at| now.saturating_duration_since(at) >= SCAN);
        if is_due {
            self.scanned = Some(now);
        }
        is_due
    }
}
