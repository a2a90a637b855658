//! What the fuzz targets of `fuzz/` found worth keeping, without a fuzzer: every file of `tests/corpus/` goes through
//! the body of its target. A body takes any bytes, knows the public API alone, and panics if a promise is broken.

mod frame;
mod message;
mod observer;
mod peer;

use std::{fs, path::Path};

/// Runs every input of a target, with its name in front of what a failure says.
fn every_input(target: &str, run: impl Fn(&[u8]) + std::panic::RefUnwindSafe) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(target);
    let mut inputs = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let bytes = fs::read(&path).unwrap();
        let ran = std::panic::catch_unwind(|| run(&bytes));
        assert!(ran.is_ok(), "{} breaks a promise: see above which", path.display());
        inputs += 1;
    }
    assert!(inputs > 10, "the corpus of {target} is missing");
}

#[test]
fn however_a_stream_is_split_its_frames_are_the_same_and_none_is_too_long() {
    every_input("frame", frame::run);
}

#[test]
fn whatever_a_frame_holds_it_is_read_without_panic_and_answered_in_one_frame() {
    every_input("message", message::run);
}

#[test]
fn whatever_a_peer_does_the_state_machine_keeps_its_promises() {
    every_input("peer", peer::run);
}

#[test]
fn whatever_peers_write_into_the_log_no_peer_is_ready_that_is_not() {
    every_input("observer", observer::run);
}
