//! Something made of files, made anew when they change.

use std::{
    fmt, fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tracing::{info, warn};

use super::TlsError;

/// How often the files are looked at, at most: often enough for a certificate that is replaced, and nothing to a
/// pool whose thousand peers redial at once.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What was made of the files when they were good last.
pub(super) struct Reloaded<T> {
    files: Vec<PathBuf>,
    state: Mutex<State<T>>,
}

struct State<T> {
    current: Arc<T>,
    /// How the files looked before they were read, so that a change while they are read is one.
    seen: Vec<Look>,
    looked: Instant,
}

/// What tells one state of a file from another.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Look {
    path: PathBuf,
    /// Device, number, length, and when content and anything else changed last; `None` if it is not there.
    stamp: Option<[i128; 5]>,
}

impl<T> Reloaded<T> {
    /// Makes it for the first time.
    pub(super) fn new(
        files: Vec<PathBuf>,
        make: impl FnOnce() -> Result<T, TlsError>,
    ) -> Result<Self, TlsError> {
        let seen = look_at(&files);
        let state = State { current: Arc::new(make()?), seen, looked: Instant::now() };
        Ok(Self { files, state: Mutex::new(state) })
    }

    /// The newest that could be made. New files that are bad are warned of once, and change nothing.
    ///
    /// Now and then this reads small files on the thread that asks: less work than the handshake that follows.
    pub(super) fn current(&self, make: impl FnOnce() -> Result<T, TlsError>) -> Arc<T> {
        let mut state = self.state.lock();
        if state.looked.elapsed() >= LOOK_EVERY {
            let seen = look_at(&self.files);
            if seen != state.seen {
                state.seen = seen;
                match make() {
                    Ok(new) => {
                        state.current = Arc::new(new);
                        info!(files = ?self.files, "TLS files have changed: new connections use them");
                    }
                    Err(error) => {
                        warn!(setting = error.setting, %error, "TLS files have changed and are bad: the old ones stay in use");
                    }
                }
            }
            state.looked = Instant::now();
        }
        Arc::clone(&state.current)
    }

    /// As if it had been long since the files were looked at.
    #[cfg(test)]
    pub(super) fn forget_when(&self) {
        self.state.lock().looked -= LOOK_EVERY;
    }
}

impl<T> fmt::Debug for Reloaded<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reloaded").field("files", &self.files).finish_non_exhaustive()
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
}
