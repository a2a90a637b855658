//! Files that are replaced, written in place, half written, removed, and no files at all.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use std::{
    os::unix::fs::symlink,
    process::Command,
    sync::atomic::{AtomicUsize, Ordering},
    sync::mpsc::sync_channel,
    thread,
};

use tempfile::{TempDir, tempdir};

use super::*;

fn write(folder: &TempDir, name: &str, text: &str) -> PathBuf {
    let path = folder.path().join(name);
    fs::write(&path, text).unwrap();
    path
}

#[test]
fn files_are_loaded_again_when_they_have_changed_and_invalid_ones_are_tried_once() {
    let folder = tempdir().unwrap();
    let path = write(&folder, "file", "one");
    let loads = Arc::new(AtomicUsize::new(0));
    let load = {
        let (path, loads) = (path.clone(), Arc::clone(&loads));
        move || {
            loads.fetch_add(1, Ordering::Relaxed);
            let text = fs::read_to_string(&path).unwrap();
            if text == "bad" { Err("bad") } else { Ok(text) }
        }
    };
    let watched = Watched::new(vec![path], load).unwrap();
    // The value, and how often it was loaded, after the next check.
    let next = || {
        for _ in 0..2 {
            watched.expire();
            watched.current();
        }
        (watched.current().to_string(), loads.load(Ordering::Relaxed))
    };
    assert_eq!(next(), ("one".into(), 1), "nothing has changed");
    write(&folder, "file", "two more");
    assert_eq!(next(), ("two more".into(), 2));
    write(&folder, "file", "three");
    assert_eq!(*watched.current(), "two more", "the files were checked just now");
    assert_eq!(next(), ("three".into(), 3));
    let version = watched.version();
    write(&folder, "file", "bad");
    assert_eq!(next(), ("three".into(), 4), "the last valid value stays");
    assert_eq!(next(), ("three".into(), 4), "invalid files are tried once");
    assert_eq!(watched.version(), version);
    write(&folder, "file", "good");
    assert_eq!(next(), ("good".into(), 5));
    assert_ne!(watched.version(), version);
}

/// Whether there is another content at two checks in a row.
fn has_settled(files: &mut WatchedFiles) -> bool {
    assert!(!files.have_changed(), "a file may be half written");
    files.have_changed()
}

#[test]
fn a_file_that_is_being_written_counts_when_it_is_complete() {
    let folder = tempdir().unwrap();
    let path = write(&folder, "file", "text");
    let mut files = WatchedFiles::new(vec![path]);
    for part in ["", "n", "ne", "new"] {
        write(&folder, "file", part);
        assert!(!files.have_changed(), "{part:?}");
    }
    assert!(files.have_changed());
    assert!(!files.have_changed());
    write(&folder, "file", "newer");
    assert!(!files.have_changed());
    write(&folder, "file", "new");
    assert!(!files.have_changed() && !files.have_changed(), "it is as before");
    write(&folder, "file", "newest");
    files.accept();
    assert!(!files.have_changed() && !files.have_changed(), "it is loaded anyway");
}

#[test]
fn a_new_file_in_a_directory_is_a_change() {
    let folder = tempdir().unwrap();
    let mut files = WatchedFiles::new(vec![folder.path().to_owned()]);
    for number in 1..3 {
        write(&folder, &number.to_string(), "");
        assert!(has_settled(&mut files));
        assert!(!files.have_changed());
    }
}

#[test]
fn a_link_above_the_file_that_is_swapped_is_a_change() {
    let folder = tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    for (version, text) in [("..1", "first"), ("..2", "other")] {
        fs::create_dir(at(version)).unwrap();
        fs::write(at(version).join("file"), text).unwrap();
    }
    // As Kubernetes mounts a ConfigMap: the file links to `..data`, which is a link that is replaced.
    symlink("..1", at("..data")).unwrap();
    symlink("..data/file", at("file")).unwrap();
    let mut files = WatchedFiles::new(vec![at("file")]);
    assert!(!files.have_changed());
    symlink("..2", at("..new")).unwrap();
    fs::rename(at("..new"), at("..data")).unwrap();
    assert!(has_settled(&mut files));
    assert!(!files.have_changed());
}

#[test]
fn the_content_decides_and_not_the_times() {
    let folder = tempdir().unwrap();
    let path = write(&folder, "file", "text");
    let mut files = WatchedFiles::new(vec![path.clone()]);
    write(&folder, "other", "text");
    fs::rename(folder.path().join("other"), &path).unwrap();
    assert!(!files.have_changed(), "another file with the same content");
    let modified = fs::metadata(&path).unwrap().modified().unwrap();
    write(&folder, "file", "TEXT");
    fs::File::options().append(true).open(&path).unwrap().set_modified(modified).unwrap();
    assert!(has_settled(&mut files), "another content with the same size and time");
}

#[test]
fn a_file_that_is_gone_is_a_change_and_so_is_its_return() {
    let folder = tempdir().unwrap();
    let path = write(&folder, "file", "text");
    let mut files = WatchedFiles::new(vec![path.clone()]);
    fs::remove_file(&path).unwrap();
    assert!(has_settled(&mut files));
    assert!(!files.have_changed());
    write(&folder, "file", "text");
    assert!(has_settled(&mut files));
}

#[test]
fn no_file_is_no_change() {
    assert!(!WatchedFiles::new(Vec::new()).have_changed());
}

#[test]
fn only_regular_files_of_limited_size_are_read_and_a_fifo_does_not_block() {
    let folder = tempdir().unwrap();
    let fits = "x".repeat(1 << 20);
    assert_eq!(read(&write(&folder, "fits", &fits)).unwrap().len(), 1 << 20);
    let too_large = read(&write(&folder, "large", &format!("{fits}x"))).unwrap_err();
    assert_eq!(too_large.to_string(), "is larger than 1048576 bytes");
    let fifo = folder.path().join("fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    for path in [folder.path().to_owned(), "/dev/zero".into(), fifo] {
        let (done, is_done) = sync_channel(1);
        let name = path.display().to_string();
        thread::spawn(move || done.send(read(&path).unwrap_err().to_string()));
        let error = is_done.recv_timeout(Duration::from_secs(10)).expect("it blocks");
        assert_eq!(error, "is not a regular file", "{name}");
    }
}
