//! Reloads files when they change: certificates, keys and tokens ([`Watched`]). For the configuration file it only detects
//! changes ([`WatchedFiles`]); `app::config_reload` applies them.
//!
//! Files are polled. inotify is often denied in containers, and it reports nothing about a file below a symbolic link that
//! Kubernetes swaps. Whether something has changed is decided by the content; a [`FileStamp`] only saves reading it.

use std::{
    fmt,
    fs::{self, Metadata, OpenOptions},
    hash::{DefaultHasher, Hash as _, Hasher as _},
    io::{self, Read as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use parking_lot::Mutex;
use rustix::fs::OFlags;
use tracing::{info, warn};

/// Largest file that is read: far more than thousands of peers take, or any bundle of authorities.
pub(crate) const MAX_SIZE: u64 = 1 << 20;
/// How often [`Watched`] checks its files, at most: soon enough for a new certificate, and cheap when a thousand peers
/// reconnect at once.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// A file that changed this shortly before it was read may change again without a new stamp, because file systems have
/// coarse clocks.
const CLOCK_GRANULARITY: Duration = Duration::from_secs(2);

/// Reads a regular file of at most [`MAX_SIZE`] bytes.
///
/// # Errors
/// The file cannot be read, is not a regular file, or is too large.
pub(crate) fn read(path: &Path) -> io::Result<Vec<u8>> {
    // Without O_NONBLOCK, opening a FIFO waits for a writer.
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("is not a regular file"));
    }
    let mut content = Vec::new();
    file.take(MAX_SIZE + 1).read_to_end(&mut content)?;
    if content.len() as u64 > MAX_SIZE {
        return Err(io::Error::other(format!("is larger than {MAX_SIZE} bytes")));
    }
    Ok(content)
}

/// A value that is loaded from files: the newest that could be loaded.
pub(crate) struct Watched<T> {
    load: Box<dyn Fn() -> Result<T, String> + Send + Sync>,
    state: Mutex<State<T>>,
}

struct State<T> {
    value: Arc<T>,
    version: usize,
    files: WatchedFiles,
    checked_at: Instant,
}

impl<T> Watched<T> {
    /// Loads the value for the first time.
    ///
    /// # Errors
    /// The value cannot be loaded.
    pub(crate) fn new<E: fmt::Display>(
        paths: Vec<PathBuf>,
        load: impl Fn() -> Result<T, E> + Send + Sync + 'static,
    ) -> Result<Self, E> {
        let files = WatchedFiles::new(paths);
        let value = Arc::new(load()?);
        let load = Box::new(move || load().map_err(|error| error.to_string()));
        let state = State { value, version: 0, files, checked_at: Instant::now() };
        Ok(Self { load, state: Mutex::new(state) })
    }

    /// The newest value that could be loaded. Files that cannot be loaded are logged once, and change nothing.
    ///
    /// From time to time this reads small files on the caller's thread: less work than the handshake that follows.
    pub(crate) fn current(&self) -> Arc<T> {
        let mut state = self.state.lock();
        if state.checked_at.elapsed() >= CHECK_INTERVAL {
            if state.files.have_changed() {
                self.reload(&mut state);
            }
            state.checked_at = Instant::now();
        }
        Arc::clone(&state.value)
    }

    /// A number that differs after each successful reload.
    pub(crate) fn version(&self) -> usize {
        self.state.lock().version
    }

    fn reload(&self, state: &mut State<T>) {
        match (self.load)() {
            Ok(value) => {
                state.value = Arc::new(value);
                state.version = state.version.wrapping_add(1);
                info!(files = ?state.files.paths, "reloaded changed files");
            }
            Err(error) => warn!(%error, "changed files cannot be used: the previous content stays in use"),
        }
    }

    /// Makes the next call of [`Self::current`] check the files.
    #[cfg(test)]
    pub(crate) fn expire(&self) {
        self.state.lock().checked_at -= CHECK_INTERVAL;
    }
}

impl<T> fmt::Debug for Watched<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watched").field("files", &self.state.lock().files.paths).finish_non_exhaustive()
    }
}

/// Files, and their state when they were read last. A directory stands for the files in it.
#[derive(Debug)]
pub(crate) struct WatchedFiles {
    paths: Vec<PathBuf>,
    stamps: Vec<(PathBuf, Option<FileStamp>)>,
    /// A hash of everything in the files. For files that cannot be read, the reason counts.
    content: u64,
    /// The content that is in use.
    applied: u64,
    read_at: SystemTime,
}

impl WatchedFiles {
    /// Call this before loading the files, so that a change in between is noticed.
    pub(crate) fn new(paths: Vec<PathBuf>) -> Self {
        let (stamps, read_at) = (Vec::new(), SystemTime::UNIX_EPOCH);
        let mut files = Self { paths, stamps, content: 0, applied: 0, read_at };
        files.accept();
        files
    }

    /// Whether the content has changed and is complete. A file that is written in place is incomplete for a while, so the
    /// content counts when it is the same twice in a row.
    pub(crate) fn have_changed(&mut self) -> bool {
        let before = self.content;
        let stamps = self.stamps();
        let is_recent = |stamp: &FileStamp| stamp.is_recent(self.read_at);
        if stamps != self.stamps || stamps.iter().filter_map(|(_, stamp)| stamp.as_ref()).any(is_recent) {
            self.read(stamps);
        }
        let has_changed = self.content == before && self.content != self.applied;
        if has_changed {
            self.applied = self.content;
        }
        has_changed
    }

    /// Takes the content as it is now: it is loaded in any case.
    pub(crate) fn accept(&mut self) {
        self.read(self.stamps());
        self.applied = self.content;
    }

    /// The stamps were taken before, so that a change while the files are read is noticed next time.
    fn read(&mut self, stamps: Vec<(PathBuf, Option<FileStamp>)>) {
        self.read_at = SystemTime::now();
        let mut hasher = DefaultHasher::new();
        for (path, _) in &stamps {
            path.hash(&mut hasher);
            read(path).map_err(|error| error.to_string()).hash(&mut hasher);
        }
        self.content = hasher.finish();
        self.stamps = stamps;
    }

    fn stamps(&self) -> Vec<(PathBuf, Option<FileStamp>)> {
        let stamp = |path: PathBuf| {
            let stamp = fs::metadata(&path).ok().map(|metadata| FileStamp::new(&metadata));
            (path, stamp)
        };
        let entries = |path: &PathBuf| fs::read_dir(path).into_iter().flatten().flatten();
        let in_directories = self.paths.iter().flat_map(entries).map(|entry| entry.path());
        let mut stamps: Vec<_> = self.paths.iter().cloned().chain(in_directories).map(stamp).collect();
        stamps.sort_unstable();
        stamps
    }
}

/// Tells two states of a file apart without reading it. Symbolic links are followed.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct FileStamp {
    device: u64,
    inode: u64,
    size: u64,
    /// Nanoseconds since 1970, as the next one.
    modified: i128,
    /// Also changes with ownership and mode, and cannot be set back.
    changed: i128,
}

impl FileStamp {
    fn new(metadata: &Metadata) -> Self {
        let nanoseconds = |seconds: i64, rest: i64| i128::from(seconds) * 1_000_000_000 + i128::from(rest);
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: nanoseconds(metadata.mtime(), metadata.mtime_nsec()),
            changed: nanoseconds(metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// Whether the file changed so shortly before it was read that a later change may have the same stamp.
    fn is_recent(&self, read_at: SystemTime) -> bool {
        let read_at = read_at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let threshold = read_at.saturating_sub(CLOCK_GRANULARITY).as_nanos();
        u128::try_from(self.changed).is_ok_and(|changed| changed >= threshold)
    }
}

#[cfg(test)]
mod tests;
