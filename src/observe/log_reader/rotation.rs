//! Which files there are: those that a glob matches, and those that a log was renamed to.

use std::{
    fs::{self, Metadata},
    io,
    os::unix::ffi::OsStrExt,
    path::{Component, Path, PathBuf},
    time::SystemTime,
};

use wildmatch::WildMatch;

use super::open_file::{FileId, id};

/// More files than this in a directory are not looked at: a node has a hundred pods.
const MAX_FILES: usize = 10_000;

/// A file of a rotation.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) path: PathBuf,
    pub(super) id: FileId,
    pub(super) modified: SystemTime,
}

/// The files that a path with `*` and `?` in its names matches. An error only if it has neither.
pub(super) fn find(pattern: &str) -> io::Result<Vec<PathBuf>> {
    if !is_glob(pattern) {
        fs::metadata(pattern)?;
        return Ok(vec![PathBuf::from(pattern)]);
    }
    let mut found = vec![PathBuf::from("/")];
    for component in Path::new(pattern).components() {
        let Component::Normal(name) = component else { continue };
        let name = name.to_string_lossy();
        if !is_glob(&name) {
            found.iter_mut().for_each(|path| path.push(&*name));
            continue;
        }
        let pattern = WildMatch::new(&name);
        let entries = found.iter().flat_map(|directory| entries(directory));
        let matching = entries.filter(|path| file_name(path).is_some_and(|name| pattern.matches(&name)));
        found = matching.take(MAX_FILES).collect();
    }
    found.retain(|path| !is_compressed(path) && path.exists());
    Ok(found)
}

pub(super) fn is_glob(text: &str) -> bool {
    text.contains(['*', '?'])
}

/// The file of the newest container. Restarted containers count up in one directory; pods have directories of their own.
pub(super) fn newest(paths: Vec<PathBuf>) -> Option<PathBuf> {
    let modified =
        |path: &Path| fs::metadata(path).and_then(|it| it.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
    let newest = paths.iter().max_by_key(|path| modified(path))?;
    let directory = newest.parent();
    paths
        .iter()
        .filter(|path| path.parent() == directory)
        .max_by_key(|path| (number(path), modified(path)))
        .cloned()
}

/// N of `N.log`.
pub(super) fn number(path: &Path) -> Option<u64> {
    file_name(path)?.strip_suffix(".log")?.parse().ok()
}

/// What a log was renamed to, oldest first, without what was compressed: `agent.log.1`, `agent.log-20261129`,
/// `0.log.20261129-195100`.
pub(super) fn rotated(path: &Path) -> Vec<Found> {
    let (Some(directory), Some(name)) = (path.parent(), file_name(path)) else { return Vec::new() };
    let mut found: Vec<_> = entries(directory)
        .filter(|path| {
            let rest = file_name(path).and_then(|its| its.strip_prefix(&*name).map(str::to_owned));
            rest.is_some_and(|rest| rest.starts_with(['.', '-'])) && !is_compressed(path)
        })
        .filter_map(|path| {
            let metadata = fs::metadata(&path).ok().filter(Metadata::is_file)?;
            Some(Found { id: id(&metadata), modified: metadata.modified().ok()?, path })
        })
        .collect();
    found.sort_by_key(|it| it.modified);
    found
}

fn is_compressed(path: &Path) -> bool {
    path.extension().is_some_and(|it| matches!(it.as_bytes(), b"gz" | b"xz" | b"zst" | b"bz2" | b"tmp"))
}

fn file_name(path: &Path) -> Option<String> {
    Some(path.file_name()?.to_string_lossy().into_owned())
}

fn entries(directory: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    fs::read_dir(directory).into_iter().flatten().take(MAX_FILES).filter_map(|it| Some(it.ok()?.path()))
}
