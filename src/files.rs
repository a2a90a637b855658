//! Something made of files, made anew when they change: certificates, keys, and who may do what.
//!
//! It is the content that counts. Kubernetes swaps a link above the files, others write to them or rename new ones over
//! them; when the files were changed only saves reading them each time.

use std::{
    fmt, fs,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use parking_lot::Mutex;
use tracing::{info, warn};

/// How often the files are looked at, at most: often enough for a certificate that is replaced, and nothing to a
/// pool whose thousand peers redial at once.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A file that was changed this shortly before it was looked at may have been changed again without it showing: clocks
/// of file systems are coarse.
const COARSE: Duration = Duration::from_secs(2);
/// Larger than any bundle of authorities; more is a mistake, or a device that never ends.
const LARGEST: u64 = 16 << 20;

/// Reads a file that is not too large to be right.
///
/// # Errors
/// It is not there, is not a file, or is too large.
pub(crate) fn read(path: &Path) -> io::Result<Vec<u8>> {
    use io::Read as _;
    // To open a pipe would wait for somebody to write to it.
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("is not a regular file"));
    }
    let mut text = Vec::new();
    fs::File::open(path)?.take(LARGEST + 1).read_to_end(&mut text)?;
    if text.len() as u64 > LARGEST { Err(io::Error::other("is too large")) } else { Ok(text) }
}

/// What was made of the files when they were good last.
pub(crate) struct Reloaded<T> {
    files: Vec<PathBuf>,
    state: Mutex<State<T>>,
}

struct State<T> {
    current: Arc<T>,
    version: usize,
    /// How the files were before they were read, so that a change while they are read is one.
    seen: Seen,
    looked: Instant,
}

struct Seen {
    looks: Vec<Look>,
    content: u64,
    at: SystemTime,
}

/// What tells one state of a file from another without reading it.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Look {
    path: PathBuf,
    /// Device, number, length, and when content and anything else changed last; `None` if it is not there.
    stamp: Option<[i128; 5]>,
}

impl<T> Reloaded<T> {
    /// Makes it for the first time.
    ///
    /// # Errors
    /// It cannot be made.
    pub(crate) fn new<E>(files: Vec<PathBuf>, make: impl FnOnce() -> Result<T, E>) -> Result<Self, E> {
        let seen = Seen::now(look_at(&files));
        let state = State { current: Arc::new(make()?), version: 0, seen, looked: Instant::now() };
        Ok(Self { files, state: Mutex::new(state) })
    }

    /// The newest that could be made. New files that are bad are warned of once, and change nothing.
    ///
    /// Now and then this reads small files on the thread that asks: less work than the handshake that follows.
    pub(crate) fn current<E: fmt::Display>(&self, make: impl FnOnce() -> Result<T, E>) -> Arc<T> {
        let mut state = self.state.lock();
        if state.looked.elapsed() >= LOOK_EVERY {
            if let Some(seen) = state.seen.again(&self.files) {
                let is_new = seen.content != state.seen.content;
                state.seen = seen;
                if is_new {
                    self.make_anew(&mut state, make);
                }
            }
            state.looked = Instant::now();
        }
        Arc::clone(&state.current)
    }

    /// Another number whenever it was made anew.
    pub(crate) fn version(&self) -> usize {
        self.state.lock().version
    }

    fn make_anew<E: fmt::Display>(&self, state: &mut State<T>, make: impl FnOnce() -> Result<T, E>) {
        match make() {
            Ok(new) => {
                state.current = Arc::new(new);
                state.version = state.version.wrapping_add(1);
                info!(files = ?self.files, "files have changed: what is new uses them");
            }
            Err(error) => warn!(%error, "files have changed and are bad: the old ones stay in use"),
        }
    }

    /// As if it had been long since the files were looked at.
    #[cfg(test)]
    pub(crate) fn forget_when(&self) {
        self.state.lock().looked -= LOOK_EVERY;
    }
}

impl<T> fmt::Debug for Reloaded<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reloaded").field("files", &self.files).finish_non_exhaustive()
    }
}

impl Seen {
    fn now(looks: Vec<Look>) -> Self {
        let at = SystemTime::now();
        let mut hasher = DefaultHasher::new();
        for look in &looks {
            look.path.hash(&mut hasher);
            read(&look.path).ok().hash(&mut hasher);
        }
        Self { looks, content: hasher.finish(), at }
    }

    /// How the files are now, if they may be other than they were.
    fn again(&self, files: &[PathBuf]) -> Option<Self> {
        let looks = look_at(files);
        let may_differ = looks != self.looks || looks.iter().any(|look| look.is_as_new_as(self.at));
        may_differ.then(|| Self::now(looks))
    }
}

fn look_at(files: &[PathBuf]) -> Vec<Look> {
    let mut looks = Vec::new();
    for path in files {
        looks.push(Look::at(path));
        let entries = fs::read_dir(path).into_iter().flatten().flatten();
        looks.extend(entries.map(|entry| Look::at(&entry.path())));
    }
    looks.sort_unstable();
    looks
}

impl Look {
    fn at(path: &Path) -> Self {
        let stamp = fs::metadata(path).ok().map(|about| {
            let changed = i128::from(about.ctime()) * 1_000_000_000 + i128::from(about.ctime_nsec());
            let modified = i128::from(about.mtime()) * 1_000_000_000 + i128::from(about.mtime_nsec());
            [about.dev().into(), about.ino().into(), about.len().into(), modified, changed]
        });
        Self { path: path.to_owned(), stamp }
    }

    /// Whether its last change was so shortly before `seen` that another one may look the same.
    fn is_as_new_as(&self, seen: SystemTime) -> bool {
        let seen = seen.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let doubtful = seen.saturating_sub(COARSE).as_nanos();
        self.stamp.is_some_and(|[.., changed]| u128::try_from(changed).is_ok_and(|at| at >= doubtful))
    }
}
