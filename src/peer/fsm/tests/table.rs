//! Every state and every fact. A pair without a row changes nothing.

use super::*;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum In {
    Idle,
    Dialing,
    Waiting,
    Securing,
    Handshaking,
    Ready,
    Stopped,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fact {
    Started,
    TcpEstablished,
    Established,
    DialFailed,
    TlsFailed,
    EmptyFrame,
    Echo,
    Update,
    Welcome,
    OthersOnly,
    Rejection,
    Garbage,
    Overran,
    Lost,
    NotYet,
    Due,
    Reset,
    Stopped,
}

const STATES: [In; 7] =
    [In::Idle, In::Dialing, In::Waiting, In::Securing, In::Handshaking, In::Ready, In::Stopped];
const FACTS: [Fact; 18] = [
    Fact::Started,
    Fact::TcpEstablished,
    Fact::Established,
    Fact::DialFailed,
    Fact::TlsFailed,
    Fact::EmptyFrame,
    Fact::Echo,
    Fact::Update,
    Fact::Welcome,
    Fact::OthersOnly,
    Fact::Rejection,
    Fact::Garbage,
    Fact::Overran,
    Fact::Lost,
    Fact::NotYet,
    Fact::Due,
    Fact::Reset,
    Fact::Stopped,
];

/// The deadline after a fact.
#[derive(Clone, Copy, Debug)]
enum Next {
    Never,
    /// So many seconds after the fact.
    In(u64),
    /// After a pause that is drawn: the first one, so at most 250 ms.
    Pause,
    /// As it was.
    Unchanged,
}

/// What follows, for facts one second after the state was entered.
fn expected(state: In, fact: Fact) -> (&'static [&'static str], Next) {
    use Next::{In as Seconds, Never, Pause, Unchanged};
    let connected = matches!(state, In::Handshaking | In::Ready);
    match (state, fact) {
        (In::Stopped, _) => (&[], Never),
        (_, Fact::Stopped) => (&["disconnect"], Never),
        (In::Idle, Fact::Reset) => (&[], Never),
        (_, Fact::Reset) => (&["CONNECTING RESET", "disconnect", "dial"], Never),
        (In::Idle, Fact::Started) => (&["CONNECTING DIALING", "dial"], Never),
        (In::Dialing, Fact::TcpEstablished) => (&[], Seconds(45)),
        (In::Dialing | In::Securing, Fact::Established) => (
            &[
                "CONNECTED TCP_ESTABLISHED: at 10.0.0.30:8009",
                r#"send {"id":["echo",0],"method":"echo","params":[1000]}"#,
                "send_identity 1",
            ],
            Seconds(15),
        ),
        (In::Dialing, Fact::DialFailed) => {
            (&["CONNECTING CONNECT_FAILED: connection refused", "disconnect"], Pause)
        }
        (_, Fact::TlsFailed) if connected || state == In::Securing => {
            (&["CONNECTING TLS_FAILED: the peer refused: alert bad_certificate", "disconnect"], Pause)
        }
        (In::Securing, Fact::Due) => (
            &["CONNECTING HANDSHAKE_TIMEOUT: the TLS handshake was not complete within 45s", "disconnect"],
            Pause,
        ),
        (In::Waiting, Fact::Due) => (&["dial"], Never),
        (_, Fact::EmptyFrame) if connected => (&[], Unchanged),
        (_, Fact::Echo) if connected => (&[r#"send {"id":["echo",8],"result":[ 1.50 ]}"#], Unchanged),
        (In::Handshaking, Fact::Update) => (
            &[
                r#"send {"id":["policy_update",1],"error":{"code":"ESTATE","message":"Identity handshake not complete"}}"#,
                "CONNECTING PROTOCOL_ERROR: request policy_update before the handshake was complete",
                "disconnect",
            ],
            Pause,
        ),
        (In::Ready, Fact::Update) => (&[], Unchanged),
        (_, Fact::Welcome) if connected => {
            (&["identified, lists itself", "READY HANDSHAKE_COMPLETE"], Unchanged)
        }
        (_, Fact::OthersOnly) if connected => (&["identified, does not list itself"], Unchanged),
        (_, Fact::Rejection) if connected => {
            (&["CONNECTING HANDSHAKE_REJECTED: the peer sent EDOMAIN: no such domain", "disconnect"], Pause)
        }
        (_, Fact::Garbage) if connected => (
            &[
                "CONNECTING PROTOCOL_ERROR: frame is not JSON: expected value at line 1 column 1",
                "disconnect",
            ],
            Pause,
        ),
        (_, Fact::Overran) if connected => {
            (&["CONNECTING PROTOCOL_ERROR: frame is longer than 9 bytes", "disconnect"], Pause)
        }
        (In::Handshaking, Fact::Lost) => (
            &[
                "CONNECTING REMOTE_CLOSED: closed before its first frame: it may expect TLS or another domain",
                "disconnect",
            ],
            Pause,
        ),
        (_, Fact::Lost) if connected => {
            (&["CONNECTING REMOTE_CLOSED: the peer closed the connection", "disconnect"], Pause)
        }
        (_, Fact::Due) if connected => {
            (&[r#"send {"id":["echo",1],"method":"echo","params":[15000]}"#], Seconds(15))
        }
        _ => (&[], Unchanged),
    }
}

fn scene(state: In) -> Scene {
    match state {
        In::Idle => Scene::idle(),
        In::Dialing => Scene::dialing(),
        In::Waiting => {
            let mut scene = Scene::dialing();
            scene.feed(refused());
            scene
        }
        In::Securing => Scene::securing(),
        In::Handshaking => Scene::connected(),
        In::Ready => Scene::ready(),
        In::Stopped => {
            let mut scene = Scene::ready();
            scene.feed(Input::Stopped);
            scene
        }
    }
}

fn input(fact: Fact) -> Input {
    match fact {
        Fact::Started => Input::Started,
        Fact::TcpEstablished => Input::TcpEstablished,
        Fact::Established => Input::Established { detail: "at 10.0.0.30:8009".into() },
        Fact::DialFailed => refused(),
        Fact::TlsFailed => tls_failed(),
        Fact::EmptyFrame => received(""),
        Fact::Echo => received(r#"{"id":["echo",8],"method":"echo","params":[ 1.50 ]}"#),
        Fact::Update => received(r#"{"id":["policy_update",1],"method":"policy_update","params":[{}]}"#),
        Fact::Welcome => received(WELCOME),
        Fact::OthersOnly => received(listing(&["leaf-2:8009"])),
        Fact::Rejection => {
            received(r#"{"id":["send_identity",1],"error":{"code":"EDOMAIN","message":"no such domain"}}"#)
        }
        Fact::Garbage => received("hello"),
        Fact::Overran => Input::Overran { detail: "frame is longer than 9 bytes".into() },
        Fact::Lost => lost(),
        Fact::NotYet | Fact::Due => Input::DeadlinePassed,
        Fact::Reset => Input::Reset,
        Fact::Stopped => Input::Stopped,
    }
}

/// When the fact comes about.
fn advance(scene: &mut Scene, fact: Fact) {
    let second = scene.now + Duration::from_secs(1);
    scene.now = match (fact, scene.fsm.next_deadline()) {
        (Fact::NotYet, Some(deadline)) => deadline - Duration::from_nanos(1),
        (Fact::Due, Some(deadline)) => deadline,
        _ => second,
    };
}

#[test]
fn every_fact_in_every_state_has_the_consequences_in_the_table_and_no_others() {
    for state in STATES {
        for fact in FACTS {
            let place = format!("{fact:?} in {state:?}");
            let mut scene = scene(state);
            advance(&mut scene, fact);
            let before = scene.fsm.next_deadline();
            let (orders, next) = expected(state, fact);
            assert_eq!(scene.feed(input(fact)), orders, "{place}");
            let after = scene.fsm.next_deadline();
            match next {
                Next::Never => assert_eq!(after, None, "{place}"),
                Next::In(seconds) => {
                    assert_eq!(scene.deadline(), Some(Duration::from_secs(seconds)), "{place}")
                }
                Next::Pause => {
                    let pause = scene.deadline().expect(&place);
                    assert!(pause <= Duration::from_millis(250), "{place}: {pause:?}");
                }
                Next::Unchanged => assert_eq!(after, before, "{place}"),
            }
        }
    }
}

#[test]
fn nothing_follows_once_a_peer_is_stopped_whatever_state_it_was_stopped_in() {
    for state in STATES {
        let mut scene = scene(state);
        scene.feed(Input::Stopped);
        for fact in FACTS {
            advance(&mut scene, fact);
            assert!(scene.feed(input(fact)).is_empty(), "{fact:?} after {state:?} was stopped");
            assert_eq!(scene.fsm.next_deadline(), None);
        }
    }
}

#[test]
fn a_peer_that_does_not_list_itself_is_left_for_the_pool_to_decide_about() {
    let mut scene = Scene::connected();
    assert_eq!(scene.receive(&listing(&["leaf-2:8009"])), ["identified, does not list itself"]);
    // Nobody decided: the handshake is not complete, and its deadline still holds.
    let mut orders = Vec::new();
    while !orders.iter().any(|order: &String| order.starts_with("CONNECTING")) {
        scene.receive("");
        orders.extend(scene.sleep());
    }
    assert_eq!(scene.elapsed(), Duration::from_secs(45));
}

#[test]
fn failures_count_up_until_the_peer_is_ready() {
    let mut scene = Scene::dialing();
    for failures in 1..=5 {
        assert_eq!(scene.report(refused()).failures, failures);
        assert_eq!(scene.sleep(), ["dial"]);
    }
    let connected = scene.report(established());
    assert_eq!((connected.status, connected.failures), (PeerStatus::Connected, 5));
    let ready = scene.report(received(WELCOME));
    assert_eq!((ready.status, ready.failures), (PeerStatus::Ready, 0));
    assert_eq!(scene.report(lost()).failures, 1);
}

#[test]
fn a_connection_that_comes_up_does_not_by_itself_end_a_row_of_failures() {
    let mut scene = Scene::dialing();
    for failures in [1, 2, 3] {
        scene.feed(established());
        assert_eq!(scene.report(lost()).failures, failures);
        scene.sleep();
    }
}

#[test]
fn only_ready_names_the_roles_of_a_peer() {
    let mut scene = Scene::dialing();
    assert_eq!(scene.report(established()).roles, None);
    let roles = scene.report(received(WELCOME)).roles.expect("roles");
    assert_eq!(roles.iter().map(opflex::Role::as_str).collect::<Vec<_>>(), ["policy_repository"]);
    assert_eq!(scene.report(lost()).roles, None);
}

#[test]
fn a_peer_that_fails_and_fails_lets_others_go_first_until_it_has_been_ready() {
    let mut scene = Scene::dialing();
    let redial = |scene: &mut Scene| {
        scene.now = scene.fsm.next_deadline().unwrap();
        match scene.orders(Input::DeadlinePassed)[..] {
            [Action::Dial(priority)] => priority,
            ref other => panic!("{other:?}"),
        }
    };
    let prospects = [(); 4].map(|()| {
        scene.feed(refused());
        redial(&mut scene)
    });
    assert_eq!(prospects, [DialPriority::Normal, DialPriority::Normal, DialPriority::Low, DialPriority::Low]);
    scene.feed(established());
    scene.receive(WELCOME);
    scene.feed(lost());
    let prospects = [(); 4].map(|()| {
        let priority = redial(&mut scene);
        scene.feed(refused());
        priority
    });
    assert_eq!(prospects, [DialPriority::High; 4], "it may be back any moment");
}

/// The rows of the reference's state table that end in CONNECTING. There a failure counts twice, once or not at all.
#[test]
fn whatever_fails_a_peer_is_connecting_for_that_reason_and_it_counts_once() {
    let dial = |reason| Input::DialFailed { reason, detail: "no".into() };
    let answer = |result: &str| received(format!(r#"{{"id":["send_identity",1],"result":{result}}}"#));
    for (row, state, seconds, input, reason) in [
        ("name lookup", In::Dialing, 1, dial(Reason::ResolveFailed), Reason::ResolveFailed),
        ("refused", In::Dialing, 1, dial(Reason::ConnectFailed), Reason::ConnectFailed),
        ("SYN lost", In::Dialing, 10, dial(Reason::ConnectTimeout), Reason::ConnectTimeout),
        ("TLS error", In::Securing, 1, tls_failed(), Reason::TlsFailed),
        ("TLS error", In::Handshaking, 1, tls_failed(), Reason::TlsFailed),
        ("TLS error", In::Ready, 1, tls_failed(), Reason::TlsFailed),
        ("handshake timer", In::Securing, 45, Input::DeadlinePassed, Reason::HandshakeTimeout),
        ("malformed peers", In::Handshaking, 1, answer(r#"{"peers":7}"#), Reason::ProtocolError),
        ("proxies missing", In::Handshaking, 1, received(WELCOME), Reason::ProtocolError),
        ("identity error", In::Handshaking, 1, input(Fact::Rejection), Reason::HandshakeRejected),
        ("handshake timer", In::Handshaking, 45, Input::DeadlinePassed, Reason::HandshakeTimeout),
        ("end of stream", In::Handshaking, 1, lost(), Reason::RemoteClosed),
        ("end of stream", In::Ready, 1, lost(), Reason::RemoteClosed),
        ("keepalive", In::Ready, 120, Input::DeadlinePassed, Reason::KeepaliveTimeout),
        ("no JSON", In::Handshaking, 1, received("hello"), Reason::ProtocolError),
        ("no JSON", In::Ready, 1, received("hello"), Reason::ProtocolError),
        ("no message", In::Handshaking, 1, received(r#"{"id":7}"#), Reason::ProtocolError),
        ("no message", In::Ready, 1, received(r#"{"id":7}"#), Reason::ProtocolError),
    ] {
        let mut scene = scene(state);
        scene.fsm.set_needs_proxies(row == "proxies missing");
        scene.wait(seconds);
        let orders = scene.orders(input);
        let [Action::Publish(report), Action::Disconnect] = &orders[..] else {
            panic!("{row} in {state:?}: {orders:?}");
        };
        let told = (report.status, report.reason, report.failures, report.detail.is_empty());
        assert_eq!(told, (PeerStatus::Connecting, reason, 1, false), "{row} in {state:?}");
        assert!(scene.deadline().expect("a pause") <= Duration::from_millis(250), "{row} in {state:?}");
    }
}

#[test]
fn a_peer_that_closes_before_its_first_frame_is_told_with_what_it_may_expect() {
    for (security, expectations) in [
        (Security::Plaintext, "TLS or another domain"),
        (Security::Tls, "a client certificate or another domain"),
        (Security::TlsWithCertificate, "another client certificate or another domain"),
    ] {
        let connected = || {
            let mut scene = Scene::connected();
            scene.fsm.set_security(security);
            scene
        };
        let expected = format!("closed before its first frame: it may expect {expectations}");
        let report = connected().report(lost());
        assert_eq!((report.reason, &*report.detail), (Reason::RemoteClosed, &*expected));
        let reset = Input::Lost { detail: "connection reset".into() };
        let expected = format!("connection reset before its first frame: it may expect {expectations}");
        assert_eq!(&*connected().report(reset).detail, expected);
        let mut scene = connected();
        scene.receive(r#"{"id":["echo",8],"method":"echo","params":[]}"#);
        assert_eq!(&*scene.report(lost()).detail, CLOSED);
    }
}
