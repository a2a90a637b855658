//! What a peer can answer to our identity, and what else it can say instead.

use super::*;

fn failure(frame: impl AsRef<[u8]>) -> (Reason, String) {
    let mut scene = Scene::connected();
    let report = scene.report(received(frame));
    assert_eq!(report.status, PeerStatus::Connecting);
    (report.reason, report.detail.to_string())
}

#[test]
fn an_answer_that_cannot_be_followed_is_a_protocol_error_that_says_why() {
    let peers = |peers: &str| format!(r#"{{"id":["send_identity",1],"result":{{"peers":{peers}}}}}"#);
    let cases = [
        (peers("{}"), "peers is not a list"),
        (WELCOME.replace(",1]", ",2]"), "answer to send_identity 2, expected 1"),
        (WELCOME.replace(",1]", ",0]"), "answer to send_identity 0, expected 1"),
        (peers("[1]"), "peers[0] is not an object"),
        (listing(&["leaf-1:99999"]), r#"peers[0] has connectivity_info "leaf-1:99999" with a bad port"#),
        (listing(&[":1", "leaf"]), r#"peers[0] has connectivity_info ":1" without a host"#),
        (r#"{"id":["send_identity",1],"result":[]}"#.into(), "identity answer is not an object"),
        (r#"{"id":["send_identity",1],"result":null}"#.into(), "identity answer is not an object"),
        (WELCOME.replace(",1]", ",-1]"), "answer id is not [method, number]"),
        (WELCOME.replace(",1]", "]"), "answer id is not [method, number]"),
        (WELCOME.replace(r#"["send_identity",1]"#, "null"), "answer id is not [method, number]"),
        (
            r#"{"id":["send_identity",1]}"#.into(),
            "frame is neither request nor answer: no method, no result, no error",
        ),
        (r#"{"id":["send_identity",1],"error":"no"}"#.into(), "error of an answer is not an object"),
        (r#"{"method":"echo","params":[]}"#.into(), "request without id"),
        ("[]".into(), "frame is not a JSON object"),
        ("{".into(), "frame is not JSON: EOF while parsing an object at line 1 column 1"),
        (format!("{WELCOME} x"), "frame is not JSON: trailing characters at line 1 column 117"),
        ("[".repeat(1_000_000), "frame is nested deeper than 64 levels"),
    ];
    for (frame, detail) in cases {
        let short: String = frame.chars().take(100).collect();
        assert_eq!(failure(&frame), (Reason::ProtocolError, detail.to_owned()), "{short}");
    }
    let (reason, detail) = failure(b"{\"id\":\xff}");
    assert_eq!(reason, Reason::ProtocolError);
    assert!(detail.starts_with("frame is not UTF-8"), "{detail}");
}

#[test]
fn white_space_around_an_answer_is_fine() {
    let mut scene = Scene::connected();
    assert_eq!(scene.receive(&format!(" \r\n\t{WELCOME}\n"))[0], "identified, lists itself");
}

#[test]
fn a_peer_finds_itself_in_any_spelling_of_its_address() {
    for (address, listed) in [
        ("leaf-1:8009", "LEAF-1:8009"),
        ("[2001:db8::1]:8009", "2001:DB8:0::1:8009"),
        ("[2001:db8::1]:8009", "[2001:db8::1]:8009"),
        ("10.0.0.30:8009", "10.0.0.30:08009"),
    ] {
        let mut scene = Scene::idle();
        scene.fsm.address = address.parse().unwrap();
        scene.feed(Input::Started);
        scene.feed(established());
        assert_eq!(scene.receive(&listing(&["leaf-9:1", listed]))[0], "identified, lists itself", "{listed}");
    }
}

#[test]
fn a_list_without_peers_does_not_list_the_peer() {
    for result in ["{}", r#"{"peers":[]}"#, r#"{"peers":[{}]}"#, r#"{"peers":[{"connectivity_info":1}]}"#] {
        let mut scene = Scene::connected();
        let orders = scene.receive(&format!(r#"{{"id":["send_identity",1],"result":{result}}}"#));
        assert_eq!(orders, ["identified, does not list itself"], "{result}");
    }
}

#[test]
fn identified_tells_the_pool_what_the_peer_said() {
    let frame = r#"{"id":["send_identity",1],"result":{"your_location":"rack 7","peers":[
        {"connectivity_info":"leaf-2:8009"},{"role":[]},{"connectivity_info":"leaf-1:8009"}]}}"#;
    let orders = Scene::connected().orders(received(frame));
    let Some(Action::Identified { answer, peers, ready }) = orders.first() else {
        panic!("{orders:?}");
    };
    assert_eq!(answer.location.as_deref(), Some("rack 7"));
    assert_eq!(peers.iter().map(ToString::to_string).collect::<Vec<_>>(), ["leaf-2:8009", "leaf-1:8009"]);
    assert!(ready.is_some());
}

#[test]
fn a_second_answer_is_followed_like_the_first() {
    let mut scene = Scene::ready();
    scene.wait(1);
    assert_eq!(scene.receive(WELCOME), ["identified, lists itself", "READY HANDSHAKE_COMPLETE"]);
    scene.wait(2);
    assert_eq!(scene.receive(&listing(&["leaf-2:8009"])), ["identified, does not list itself"]);
    assert_eq!(scene.receive(r#"{"id":["send_identity",1],"result":[]}"#).last().unwrap(), "disconnect");
}

#[test]
fn of_a_flood_of_answers_the_last_is_followed_more_and_more_rarely() {
    let mut scene = Scene::ready();
    for pause in [1, 2, 4] {
        for _ in 0..1000 {
            assert!(scene.receive(&listing(&["leaf-2:8009"])).is_empty(), "before {pause} s");
        }
        assert!(scene.receive(&listing(&["leaf-1:8009", "leaf-3:8009"])).is_empty());
        assert_eq!(scene.deadline(), Some(Duration::from_secs(pause)));
        let orders = scene.orders_when_due();
        let [Action::Identified { peers, ready: Some(_), .. }] = &orders[..] else { panic!("{orders:?}") };
        assert_eq!(peers[1].host(), "leaf-3");
    }
    scene.wait(16);
    assert_eq!(scene.receive(WELCOME)[0], "identified, lists itself", "one in time is followed at once");
    assert!(scene.receive(WELCOME).is_empty());
    assert_eq!(scene.deadline(), Some(Duration::from_secs(1)), "a peer that was quiet starts over");
    scene.sleep();
    assert!(scene.deadline() > Some(Duration::from_secs(1)), "it is followed once");
    assert_eq!(
        scene.receive(r#"{"id":["send_identity",1],"result":[]}"#).last().unwrap(),
        "disconnect",
        "what is wrong is never too soon"
    );
}

#[test]
fn a_rejection_carries_the_peers_own_words() {
    let error = |error: &str| format!(r#"{{"id":["send_identity",1],"error":{error}}}"#);
    for (frame, detail) in [
        (error(r#"{"code":"ERROR","message":"name\ttaken\r\n"}"#), "ERROR: name taken"),
        (error(r#"{"code":"EDOMAIN"}"#), "EDOMAIN and no message"),
        (error(r#"{"message":"no"}"#), "an error without code: no"),
        (error("{}"), "an error without code and message"),
        (r#"{"id":["send_identity",1],"result":[{"error":"denied"}]}"#.into(), "denied and no message"),
    ] {
        let detail = format!("the peer sent {detail}");
        assert_eq!(failure(&frame), (Reason::HandshakeRejected, detail), "{frame}");
    }
}

#[test]
fn a_detail_is_one_line_of_at_most_512_bytes_whoever_wrote_it() {
    let evil = "ä\n\u{1b}[2J\u{85}\u{2028}\u{202e}\0".repeat(500);
    let mut scene = Scene::dialing();
    let mut inputs = vec![
        Input::DialFailed { reason: Reason::ResolveFailed, detail: evil.clone() },
        Input::Established { detail: evil.clone() },
        Input::Lost { detail: evil.clone() },
    ];
    let quoted = serde_json::to_string(&evil).unwrap();
    for frame in [
        format!(r#"{{"id":["send_identity",N],"error":{{"code":{quoted},"message":{quoted}}}}}"#),
        format!(r#"{{"id":["send_identity",N],"result":{{"peers":[{{"connectivity_info":{quoted}}}]}}}}"#),
        format!(r#"{{"id":[{quoted},N],"result":{{}}}}"#),
        format!(r#"{{"id":{quoted},"method":{quoted}}}"#),
        evil,
    ] {
        let number = scene.fsm.next_request;
        inputs.extend([established(), received(frame.replace('N', &number.to_string()))]);
        for input in inputs.drain(..) {
            for action in scene.orders(input) {
                let Action::Publish(report) = action else { continue };
                assert!(report.detail.len() <= 512, "{}", report.detail.len());
                let steers = |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{202e}');
                assert!(!report.detail.contains(steers), "{:?}", report.detail);
            }
            if scene.deadline().is_some() && matches!(scene.fsm.state, State::Waiting { .. }) {
                scene.sleep();
            }
        }
    }
}

#[test]
fn an_answer_without_proxies_is_followed_only_where_none_are_needed() {
    let proxies = |data: &str| WELCOME.replace(r#""my_role""#, &format!(r#""data":{data},"my_role""#));
    let good = proxies(r#"{"proxy_v4":"10.0.0.1","proxy_v6":"10.0.0.2","proxy_mac":"10.0.0.3"}"#);
    for (answer, followed) in [
        (WELCOME.to_owned(), false),
        (proxies("{}"), false),
        (proxies(r#"{"proxy_v4":"10.0.0.1","proxy_v6":"10.0.0.2"}"#), false),
        (good.replace("10.0.0.3", "224.0.0.1"), false),
        (good, true),
    ] {
        let mut scene = Scene::connected();
        scene.fsm.set_needs_proxies(true);
        let report = scene.report(received(&answer));
        assert_eq!(report.reason == Reason::HandshakeComplete, followed, "{answer}");
        assert_eq!(report.reason == Reason::ProtocolError, !followed, "{answer}");
        assert_eq!(report.detail.contains("transport mode needs"), !followed, "{}", report.detail);
        let mut scene = Scene::connected();
        assert_eq!(scene.report(received(&answer)).reason, Reason::HandshakeComplete, "{answer}");
    }
}

#[test]
fn a_peer_that_wants_tls_is_not_just_one_that_does_not_speak_json() {
    let mut scene = Scene::connected();
    let orders = scene.feed(received(b"\x15\x03\x01"));
    assert_eq!(orders[0], "CONNECTING PROTOCOL_ERROR: the peer speaks TLS, and TLS is not on for this pool");
}

#[test]
fn a_peer_without_roles_and_of_another_domain_is_ready_all_the_same() {
    for more in ["", r#""my_role":"observer","#, r#""my_role":["spine",1],"domain":"other","name":7,"#] {
        let peers = r#""peers":[{"role":["spine"],"connectivity_info":"leaf-1:8009"}]"#;
        let frame = format!(r#"{{"id":["send_identity",1],"result":{{{more}{peers}}}}}"#);
        let report = Scene::connected().report(received(frame));
        assert_eq!(
            (report.status, report.roles),
            (PeerStatus::Ready, Some(opflex::Roles::default())),
            "{more}"
        );
    }
}

#[test]
fn a_name_and_the_address_behind_it_are_two_peers() {
    let mut scene = Scene::idle();
    scene.fsm.address = "127.0.0.1:8009".parse().unwrap();
    scene.feed(Input::Started);
    scene.feed(established());
    assert_eq!(scene.receive(&listing(&["localhost:8009"])), ["identified, does not list itself"]);
}

#[test]
fn nothing_of_an_answer_that_is_refused_is_applied() {
    for rest in [r#""peers":7"#, r#""peers":[{"connectivity_info":":1"}]"#] {
        let result = format!(r#"{{"your_location":"rack 7","my_role":["observer"],{rest}}}"#);
        let orders =
            Scene::connected().receive(&format!(r#"{{"id":["send_identity",1],"result":{result}}}"#));
        assert!(orders[0].starts_with("CONNECTING PROTOCOL_ERROR: ") && orders.len() == 2, "{orders:?}");
    }
}

#[test]
fn unusable_entries_of_a_list_are_left_out_and_the_peer_is_ready() {
    let cases = [
        (r#"[1,{"connectivity_info":"leaf-1:8009"}]"#, "peers[0] is not an object"),
        (
            r#"[{"connectivity_info":"leaf-1:8009"},{"connectivity_info":"leaf"}]"#,
            r#"peers[1] has connectivity_info "leaf" without a port"#,
        ),
        (
            r#"[{"connectivity_info":"leaf-1:8009"},{"connectivity_info":"leaf-2:0"}]"#,
            r#"peers[1] has connectivity_info "leaf-2:0" with a bad port"#,
        ),
        (
            r#"[{"connectivity_info":"leaf-1:8009"},{"connectivity_info":"leaf 2:8009"}]"#,
            r#"host "leaf 2" contains ' ': allowed are letters, digits, '.', '-' and '_'"#,
        ),
    ];
    for (peers, problem) in cases {
        let orders = Scene::connected()
            .receive(&format!(r#"{{"id":["send_identity",1],"result":{{"peers":{peers}}}}}"#));
        let warning = format!("warn: 1 unusable entries in its list: {problem}");
        assert_eq!(orders, [&*warning, "identified, lists itself", "READY HANDSHAKE_COMPLETE"]);
    }
}

#[test]
fn an_answer_with_another_number_leaves_a_ready_peer_ready_and_is_logged_once() {
    let mut scene = Scene::ready();
    scene.wait(5);
    let other = listing(&["leaf-2:8009"]).replace(",1]", ",2]");
    assert_eq!(scene.receive(&other), ["warn: answer to send_identity 2, expected 1: ignored"]);
    assert!(scene.receive(&other).is_empty());
}

#[test]
fn an_answer_from_before_a_reconnect_is_not_an_answer() {
    let mut scene = Scene::ready();
    scene.feed(lost());
    scene.sleep();
    scene.feed(established());
    let orders = scene.receive(WELCOME);
    assert_eq!(orders[0], "CONNECTING PROTOCOL_ERROR: answer to send_identity 1, expected 2");
}

#[test]
fn the_round_trip_of_an_echo_is_that_of_the_newest_one() {
    let mut scene = Scene::ready();
    let rtt = |scene: &mut Scene, number: u64| {
        let frame = format!(r#"{{"id":["echo",{number}],"result":[]}}"#);
        scene.orders(received(frame)).into_iter().find_map(|action| match action {
            Action::EchoRtt(rtt) => Some(rtt.as_secs()),
            _ => None,
        })
    };
    scene.wait(3);
    assert_eq!(rtt(&mut scene, 7), None, "never sent");
    assert_eq!(rtt(&mut scene, 0), Some(3));
    assert_eq!(rtt(&mut scene, 0), None, "answered twice");
}
