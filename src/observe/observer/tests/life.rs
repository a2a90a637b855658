//! An agent's life: killed, started again, at other log levels; observation that begins late, and that is lost.

use super::{
    super::*,
    scene::{A, Scene},
};
use crate::{
    observe::log_line::Framer,
    peer::PeerStatus::{Connected, Connecting, Disconnected, Ready, Unknown},
};

#[test]
fn a_peer_whose_agent_was_killed_is_not_ready_within_a_second() {
    let mut scene = Scene::ready();
    scene.sockets.clear();
    scene.pass(1000);
    let (status, reason, detail, evidence) = &scene.told[A];
    assert_eq!((*status, *reason, *evidence), (Connecting, Reason::RemoteClosed, Some(Evidence::Socket)));
    assert!(detail.contains("may have been killed"), "{detail}");
}

#[test]
fn sockets_that_are_up_at_the_start_are_ready_when_a_handshake_would_have_timed_out_and_not_earlier() {
    let mut log = Scene::ready();
    log.disconnect(A);
    let history = {
        let mut lines = Vec::new();
        let text = log.line("info", "OpflexPEHandler.cpp:155:ready", &format!("[{A}] Handshake succeeded"));
        Framer::default().push(format!("{text}\n").as_bytes(), &mut lines);
        lines
    };
    for history in [&history[..], &[]] {
        let mut scene = Scene::with_level(None);
        scene.open(A);
        scene.step(Input::History(history));
        let (is_named, detail) = (!history.is_empty(), scene.told.get(A).map(|told| told.2.clone()));
        assert!(
            !is_named || detail.is_some_and(|detail| detail.ends_with("in 45s")),
            "it says when it is known"
        );
        scene.pass(45_000);
        assert_eq!(scene.told[A].0, Unknown);
        assert_eq!(scene.told[A].1, Reason::ObservationLost);
        scene.pass(1000);
        assert_eq!((scene.told[A].0, scene.told[A].3), (Ready, Some(Evidence::Inferred)));
    }
}

#[test]
fn a_peer_of_the_history_without_a_connection_is_connecting() {
    let mut scene = Scene::with_level(None);
    let mut lines = Vec::new();
    let failed = scene.line(
        "error",
        "OpflexClientConnection.cpp:1:on_state_change",
        &format!("[{A}] Connection error: permanent failure"),
    );
    let info = scene.line("info", "OpflexPool.cpp:1:doAddPeer", "Adding peer 10.0.0.2:8009");
    Framer::default().push(format!("{info}\n{failed}\n").as_bytes(), &mut lines);
    scene.step(Input::History(&lines));
    scene.pass(1000);
    assert_eq!((scene.told[A].0, scene.told[A].1), (Connecting, Reason::ConnectFailed));
    assert_eq!(scene.status("10.0.0.2:8009"), Some(Connecting));
    scene.pass(301_000);
    assert!(scene.told.is_empty(), "nothing was seen of them for five minutes");
}

#[test]
fn above_level_info_a_peer_is_never_ready_and_the_detail_says_why() {
    for hint in [Some(Level::Warning), None] {
        let mut scene = Scene::with_level(hint);
        scene.step(Input::History(&[]));
        scene.write(
            "error",
            "OpflexClientConnection.cpp:1:on_state_change",
            &format!("[{A}] Connection error: permanent failure"),
        );
        scene.pass(200);
        assert_eq!((scene.told[A].0, scene.told[A].1), (Connecting, Reason::ConnectFailed));
        scene.open(A);
        scene.pass(100_000);
        assert_eq!(scene.told[A].0, Unknown);
        assert!(scene.told[A].2.contains("level"), "{}", scene.told[A].2);
        assert!(!scene.statuses.iter().any(|it| matches!(it.what, Observed::Status { status: Ready, .. })));
    }
}

#[test]
fn a_log_that_does_not_mention_a_new_connection_makes_its_peer_unknown() {
    let mut scene = Scene::ready();
    scene.disconnect(A);
    scene.pass(500);
    scene.open(A);
    scene.pass(4000);
    assert_eq!(scene.status(A), Some(Connecting));
    scene.pass(2000);
    assert_eq!((scene.status(A), scene.observer.counts().unmentioned), (Some(Unknown), 1));
    scene.pass(60_000);
    assert_eq!(scene.status(A), Some(Unknown));
    // It was only late.
    scene.state(A, "New client connection");
    scene.handshake(A);
    scene.pass(200);
    assert_eq!(scene.status(A), Some(Ready));
}

#[test]
fn after_a_loss_a_peer_is_unknown_until_its_socket_is_old_enough() {
    let loss = Loss { cause: LossCause::Truncated, detail: "agent.log".to_owned() };
    let mut scene = Scene::ready();
    scene.pass(10_000);
    scene.step(Input::Lost(&loss));
    assert_eq!((scene.status(A), scene.observer.counts().lost), (Some(Unknown), 1));
    scene.pass(30_000);
    assert_eq!(scene.status(A), Some(Unknown));
    scene.pass(10_000);
    assert_eq!((scene.told[A].0, scene.told[A].3), (Ready, Some(Evidence::Inferred)));
    scene.step(Input::Lost(&loss));
    assert_eq!(scene.status(A), Some(Ready), "it has been established for long");
    assert!(matches!(
        scene.statuses[scene.statuses.len() - 2].what,
        Observed::Status { status: Unknown, .. }
    ));
}

#[test]
fn while_the_log_or_the_sockets_cannot_be_read_peers_are_unknown() {
    let mut scene = Scene::ready();
    scene.pass(60_000);
    scene.step(Input::Lost(&Loss { cause: LossCause::Unreadable, detail: "permission denied".to_owned() }));
    scene.pass(60_000);
    assert_eq!(scene.told[A].0, Unknown);
    assert!(scene.told[A].2.contains("permission denied"));
    scene.step(Input::Lines(&[]));
    assert_eq!(scene.status(A), Some(Ready));
    scene.error = Some("netlink: operation not permitted");
    scene.pass(1000);
    assert_eq!((scene.told[A].0, &*scene.told[A].2), (Unknown, "netlink: operation not permitted"));
    scene.error = None;
    scene.pass(200);
    assert_eq!(scene.status(A), Some(Ready));
}

#[test]
fn a_peer_that_does_not_list_itself_is_parked_and_comes_back() {
    let mut scene = Scene::new();
    scene.add(A);
    scene.connect(A);
    scene.pass(200);
    let text = format!("[{A}] Current peer not found in peer list; closing");
    scene.write("info", "OpflexPEHandler.cpp:337:handleSendIdentityRes", &text);
    scene.disconnect(A);
    scene.state(A, "Connection closed");
    scene.pass(500);
    assert_eq!((scene.told[A].0, scene.told[A].1), (Disconnected, Reason::NotInPeerList));
    scene.add(A);
    scene.connect(A);
    scene.pass(500);
    assert_eq!(scene.status(A), Some(Connected));
}

#[test]
fn a_new_process_has_only_the_peers_that_it_adds() {
    for says_so in [true, false] {
        let mut scene = Scene::ready();
        scene.add("10.0.0.2:8009");
        scene.pass(200);
        scene.sockets.clear();
        if says_so {
            scene.write("info", "Agent.cpp:1:start", "Starting OpFlex Agent 1234");
        } else {
            scene.step(Input::NewInstance);
        }
        scene.add(A);
        scene.connect(A);
        scene.handshake(A);
        scene.pass(1000);
        assert_eq!((scene.status(A), scene.status("10.0.0.2:8009")), (Some(Ready), Some(Connecting)));
        scene.pass(60_000);
        assert_eq!((scene.status(A), scene.status("10.0.0.2:8009")), (Some(Ready), None));
    }
}

#[test]
fn reasons_come_from_the_lines_before() {
    let mut scene = Scene::ready();
    scene.write(
        "warning",
        "CommunicationPeer.cpp:1:timeout",
        "{0x1}[2] tearing down the connection upon timeout",
    );
    scene.disconnect(A);
    scene.pass(200);
    assert_eq!(scene.told[A].1, Reason::KeepaliveTimeout);
    scene.write(
        "warning",
        "active_connection.cpp:1:on_active_connection",
        "connect: [ECONNREFUSED] connection refused",
    );
    scene.write(
        "error",
        "OpflexClientConnection.cpp:1:on_state_change",
        &format!("[{A}] Connection error: permanent failure"),
    );
    scene.pass(200);
    assert_eq!((scene.told[A].1, &*scene.told[A].2), (Reason::ConnectFailed, "connection refused"));
    scene.connect(A);
    scene.write(
        "error",
        "OpflexClientConnection.cpp:1:on_state_change",
        &format!("[{A}] SSL Connection error: error:1:certificate verify failed\n"),
    );
    scene.disconnect(A);
    scene.pass(200);
    assert_eq!(
        (scene.told[A].1, &*scene.told[A].2),
        (Reason::TlsFailed, "error:1:certificate verify failed")
    );
    scene.connect(A);
    let error = format!("[{A}] Remote peer returned error with message (1,Send Identity): E: \u{1b}[2Jno");
    scene.write("error", "OpflexHandler.cpp:1:handleError", &error);
    scene.disconnect(A);
    scene.pass(500);
    assert_eq!(scene.told[A].1, Reason::HandshakeRejected);
    assert!(scene.told[A].2.starts_with("the peer sent E: ") && !scene.told[A].2.contains('\u{1b}'));
}

#[test]
fn a_peer_that_is_known_by_name_has_the_socket_that_no_other_peer_has() {
    let mut scene = Scene::new();
    scene.add("leaf-1:8009");
    scene.open("10.0.0.7:8009");
    scene.state("leaf-1:8009", "New client connection");
    scene.handshake("leaf-1:8009");
    scene.pass(200);
    assert_eq!((scene.status("leaf-1:8009"), scene.told.len()), (Some(Ready), 1));
}

#[test]
fn there_are_no_more_peers_than_allowed() {
    let mut scene = Scene::new();
    for last in 1..20 {
        scene.add(&format!("10.0.0.{last}:8009"));
    }
    scene.pass(500);
    assert_eq!((scene.told.len(), scene.observer.counts().rejected_peers > 0), (5, true));
}

#[test]
fn what_cannot_be_seen_of_the_agent_is_said() {
    let lost = Loss { cause: LossCause::Unreadable, detail: "no file".to_owned() };
    let mut scene = Scene::new();
    scene.pass(100);
    assert!(scene.observer.blindness().is_none());
    assert!(
        scene.observer.limitation().starts_with("no peer was seen yet"),
        "{}",
        scene.observer.limitation()
    );
    scene.add(A);
    scene.pass(300);
    assert_eq!(scene.observer.limitation(), "");
    scene.step(Input::Lost(&lost));
    scene.pass(300);
    assert_eq!(scene.observer.blindness(), Some("the agent's log cannot be read: no file"));
    assert_eq!(scene.observer.limitation(), "the agent's log cannot be read: no file");
    scene.step(Input::Lines(&[]));
    scene.pass(300);
    assert_eq!(
        (scene.observer.blindness(), scene.observer.limitation()),
        (None, ""),
        "its peer was there all the time"
    );
    scene.state(A, "Disconnected");
    scene.state(A, "Connection closed");
    scene.pass(300);
    assert_eq!((scene.told.len(), scene.observer.limitation()), (0, ""), "it was seen to leave");
    scene.step(Input::Lost(&lost));
    scene.pass(300);
    scene.step(Input::Lines(&[]));
    scene.pass(300);
    assert!(scene.observer.limitation().starts_with("no peer was seen yet"), "others may have come");
}
