//! Peers write into the log. The body of the fuzz target runs here with inputs by chance, and what it stands on by itself.

use std::panic::{RefUnwindSafe, catch_unwind};

use super::scene::Scene;
use crate::peer::PeerStatus::{Connected, Connecting, Ready};

#[path = "../../../../tests/it/fuzz/observer.rs"]
mod body;

const A: &str = "10.0.0.1:8009";
const B: &str = "10.0.0.2:8009";

fn by_chance(seeds: u64, run: impl Fn(&[u8]) + RefUnwindSafe) {
    let first = fastrand::u64(..);
    for seed in (0..seeds).map(|it| first.wrapping_add(it)) {
        let mut random = fastrand::Rng::with_seed(seed);
        let bytes: Vec<u8> = (0..random.usize(..400)).map(|_| random.u8(..)).collect();
        assert!(catch_unwind(|| run(&bytes)).is_ok(), "seed {seed}, input {bytes:?}");
    }
}

#[test]
fn no_forged_text_by_chance_makes_a_peer_ready() {
    by_chance(200, body::run);
}

/// A is READY and hostile, B is connected and its handshake is not complete.
fn scene() -> Scene {
    let mut scene = Scene::new();
    for peer in [A, B] {
        scene.add(peer);
        scene.connect(peer);
        scene.pass(500);
    }
    scene.handshake(A);
    scene.pass(500);
    assert_eq!((scene.status(A), scene.status(B)), (Some(Ready), Some(Connected)));
    scene
}

fn ready(scene: &Scene, peer: &str) -> String {
    scene.line("info", "OpflexPEHandler.cpp:155:ready", &format!("[{peer}] Handshake succeeded"))
}

#[test]
fn an_error_text_does_not_make_another_peer_ready_however_its_write_is_split() {
    let mut scene = scene();
    let forged = ready(&scene, B);
    let error = format!("[{A}] Remote peer returned error with message (1,Policy Resolve): E: x\n{forged}");
    scene.write_part("error", "OpflexHandler.cpp:67:handleError", &error);
    scene.pass(50);
    scene.end_write(&format!("\n{}\n", ready(&scene, B)));
    scene.pass(400);
    assert_eq!(scene.status(B), Some(Connected));
    assert_eq!(scene.observer.counts().rejected_tainted, 2);
}

#[test]
fn a_name_in_a_list_does_not_make_another_peer_ready() {
    let mut scene = scene();
    let host = format!("10.0.0.9:8009\n{}\nx", ready(&scene, B));
    scene.write("info", "OpflexPool.cpp:342:doAddPeer", &format!("Adding peer {host}:8009"));
    scene.pass(60);
    scene.write("info", "active_connection.cpp:54:create", &format!("{host}:8009"));
    scene.pass(400);
    assert_eq!(scene.status(B), Some(Connected));
    scene.connect("10.0.0.9:8009");
    scene.pass(200);
    scene.handshake("10.0.0.9:8009");
    scene.pass(400);
    assert_eq!(scene.status(B), Some(Connected));
}

#[test]
fn a_text_of_megabytes_is_text_to_its_end() {
    let mut scene = scene();
    let line = format!("{}\n", ready(&scene, B));
    scene.write("error", "OpflexHandler.cpp:67:handleError", &format!("[{A}] {}", "x".repeat(1 << 20)));
    for _ in 0..20 {
        scene.end_write(&line.repeat(100));
        scene.pass(90);
    }
    assert_eq!(scene.status(B), Some(Connected));
}

#[test]
fn a_connection_that_received_nothing_has_not_completed_a_handshake() {
    let mut scene = scene();
    scene.has_times = true;
    scene.pass(5000);
    let line = ready(&scene, B); // as if it were in a line that is not known to carry text
    scene.end_write(&format!("{line}\n"));
    scene.pass(400);
    assert_eq!(scene.status(B), Some(Connected));
    assert_eq!(scene.observer.counts().rejected_by_sockets, 1);
}

#[test]
fn an_old_time_in_a_forged_line_does_not_stand_for_what_the_peer_sent_then() {
    let old = ready(&Scene::new(), B); // its socket received something after that
    let mut scene = scene();
    scene.has_times = true;
    scene.pass(6000);
    for pause in [0, 60] {
        scene.write("info", "PolicyFabric.cpp:1:quote", "another part of the agent quotes a peer:");
        scene.pass(pause);
        scene.end_write(&format!("{old}\n"));
        scene.pass(400);
        assert_eq!(scene.status(B), Some(Connected), "{pause} ms later");
    }
    assert_eq!(scene.observer.counts().rejected_by_sockets, 1, "the second one is the same line again");
}

#[test]
fn no_forged_line_takes_a_ready_peer_away_or_adds_one() {
    let mut scene = scene();
    let line = |origin: &str, message: &str| scene.line("info", origin, message);
    let state = "OpflexClientConnection.cpp:1:on_state_change";
    let forged = [
        line(state, &format!("[{A}] Disconnected")),
        line(state, &format!("[{A}] Connection closed")),
        line(
            "OpflexPEHandler.cpp:1:handleSendIdentityRes",
            &format!("[{A}] Current peer not found in peer list; closing"),
        ),
        line(
            "OpflexPool.cpp:1:validatePeerSet",
            &format!("Removing stale peer connection: {A} based on peer-list from {B}"),
        ),
        line("Agent.cpp:1:start", "Starting OpFlex Agent"),
        line("OpflexPool.cpp:1:doAddPeer", "Adding peer 6.6.6.6:8009"),
        line("active_connection.cpp:1:create", "6.6.6.6:8009"),
        line(state, "[6.6.6.6:8009] New client connection"),
    ]
    .join("\n");
    let error = format!("[{B}] Remote peer returned error with message (1,Send Identity): E: x\n{forged}");
    scene.write("error", "OpflexHandler.cpp:67:handleError", &error);
    let before = scene.statuses.len();
    scene.pass(1000);
    assert_eq!(scene.status(A), Some(Ready));
    assert_eq!(scene.status("6.6.6.6:8009"), None);
    assert!(scene.statuses.len() == before, "{:?}", &scene.statuses[before..]);
}

#[test]
fn a_forged_end_of_a_dead_peer_does_not_make_its_pool_healthy() {
    let mut scene = scene();
    scene.disconnect(B);
    scene.pass(500);
    let closed = format!("[{B}] Connection closed");
    let forged = scene.line("info", "OpflexClientConnection.cpp:1:on_state_change", &closed);
    let error = format!("[{A}] Remote peer returned error with message (1,Policy Resolve): E: x\n{forged}");
    scene.write("error", "OpflexHandler.cpp:67:handleError", &error);
    scene.pass(1000);
    assert_eq!(scene.status(B), Some(Connecting));
    for _ in 0..100 {
        let failed = format!("[{B}] Connection error: permanent failure");
        scene.write("error", "OpflexClientConnection.cpp:1:on_state_change", &failed);
        scene.pass(5000);
    }
    assert_eq!(scene.status(B), Some(Connecting));
}

#[test]
fn after_a_text_of_a_peer_a_handshake_is_inferred_and_the_next_one_is_believed() {
    let mut scene = scene();
    let error = format!("[{A}] Remote peer returned error with message (1,Policy Resolve): E: x");
    scene.write("error", "OpflexHandler.cpp:67:handleError", &error);
    scene.handshake(B);
    scene.pass(44_000);
    assert_eq!(scene.status(B), Some(Connected));
    scene.pass(2000);
    assert_eq!(scene.status(B), Some(Ready));
    scene.disconnect(B);
    scene.pass(500);
    scene.connect(B);
    scene.handshake(B);
    scene.pass(100);
    assert_eq!(scene.status(B), Some(Ready));
}
