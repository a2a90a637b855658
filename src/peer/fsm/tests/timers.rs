//! Times to the nanosecond, and counters.

use super::*;

const ECHO: Duration = Duration::from_secs(15);

/// The orders of the failure that comes in the end, and when; before it there are echo requests only.
fn until_failure(scene: &mut Scene, mut meanwhile: impl FnMut(&mut Scene)) -> (String, Duration) {
    loop {
        meanwhile(scene);
        let orders = scene.sleep();
        if orders.iter().any(|order| order == "disconnect") {
            assert_eq!(orders.len(), 2, "{orders:?}");
            return (orders[0].clone(), scene.elapsed());
        }
        assert!(orders.iter().all(|order| order.contains(r#""method":"echo""#)), "{orders:?}");
    }
}

#[test]
fn a_peer_that_talks_and_never_says_who_it_is_has_45_seconds() {
    let mut scene = Scene::connected();
    let (order, at) = until_failure(&mut scene, |scene| drop(scene.receive("")));
    assert_eq!(order, "CONNECTING HANDSHAKE_TIMEOUT: no answer to send_identity within 45s");
    assert_eq!(at, Duration::from_secs(45));
}

#[test]
fn the_45_seconds_begin_when_tcp_is_up_and_tls_is_part_of_them() {
    let mut scene = Scene::securing();
    scene.wait(30);
    scene.feed(established());
    let (order, at) = until_failure(&mut scene, |scene| drop(scene.receive("")));
    assert_eq!(order, "CONNECTING HANDSHAKE_TIMEOUT: no answer to send_identity within 45s");
    assert_eq!(at, Duration::from_secs(45));
}

#[test]
fn a_tls_handshake_that_does_not_end_is_told_as_such() {
    let mut scene = Scene::securing();
    let (order, at) = until_failure(&mut scene, |_| {});
    assert_eq!(order, "CONNECTING HANDSHAKE_TIMEOUT: the TLS handshake was not complete within 45s");
    assert_eq!(at, Duration::from_secs(45));
}

#[test]
fn a_silent_peer_is_given_120_seconds_once_it_is_ready() {
    let mut scene = Scene::ready();
    let (order, at) = until_failure(&mut scene, |_| {});
    assert_eq!(order, "CONNECTING KEEPALIVE_TIMEOUT: no frame received for 120s");
    assert_eq!(at, Duration::from_secs(120));
}

#[test]
fn every_complete_frame_counts_as_heard() {
    let answer = r#"{"id":["echo",0],"result":[0]}"#;
    let request = r#"{"id":["echo",0],"method":"echo","params":[0]}"#;
    let update = r#"{"id":["policy_update",0],"method":"policy_update","params":[]}"#;
    for frame in ["", answer, request, update, WELCOME] {
        let mut scene = Scene::ready();
        scene.wait(14);
        scene.receive(frame);
        let (order, at) = until_failure(&mut scene, |_| {});
        assert_eq!(order, "CONNECTING KEEPALIVE_TIMEOUT: no frame received for 120s", "{frame}");
        assert_eq!(at, Duration::from_secs(134), "{frame}");
    }
}

#[test]
fn a_frame_in_the_last_nanosecond_saves_a_peer() {
    let mut scene = Scene::ready();
    while scene.elapsed() < Duration::from_secs(105) {
        scene.sleep();
    }
    scene.now += ECHO - Duration::from_nanos(1);
    scene.receive("");
    scene.now += Duration::from_nanos(1);
    let orders = scene.feed(Input::DeadlinePassed);
    assert!(matches!(&orders[..], [echo] if echo.contains("echo")), "{orders:?}");
}

#[test]
fn an_echo_goes_out_when_the_stream_comes_up_and_every_15_seconds_from_then_on() {
    let mut scene = Scene::connected();
    scene.wait(1);
    scene.receive(WELCOME);
    for number in 1..=100_u64 {
        let expected =
            format!(r#"send {{"id":["echo",{number}],"method":"echo","params":[{}]}}"#, number * 15_000);
        assert_eq!(scene.sleep(), [expected]);
        assert_eq!(scene.elapsed(), ECHO * u32::try_from(number).unwrap());
        scene.receive(&format!(r#"{{"id":["echo",{number}],"result":[{}]}}"#, number * 15_000));
    }
}

#[test]
fn a_driver_that_comes_late_sends_one_echo_and_not_all_that_it_missed() {
    let mut scene = Scene::ready();
    scene.wait(100);
    assert_eq!(scene.feed(Input::DeadlinePassed).len(), 1);
    assert!(scene.fsm.next_deadline().expect("a deadline") > scene.now);
}

#[test]
fn a_flood_of_frames_that_leaves_no_time_for_deadlines_delays_none() {
    let mut scene = Scene::connected();
    let mut sent = Vec::new();
    while !sent.iter().any(|order: &String| order == "disconnect") {
        assert!(scene.elapsed() < Duration::from_secs(45), "{sent:?}");
        scene.now += Duration::from_millis(1);
        sent.extend(scene.receive(""));
    }
    assert_eq!(scene.elapsed(), Duration::from_secs(45));
    let echo = |number: u64| {
        format!(r#"send {{"id":["echo",{number}],"method":"echo","params":[{}]}}"#, number * 15_000)
    };
    let timeout = "CONNECTING HANDSHAKE_TIMEOUT: no answer to send_identity within 45s";
    assert_eq!(sent, [echo(1), echo(2), timeout.into(), "disconnect".into()]);
}

#[test]
fn an_answer_that_was_there_before_anyone_looked_at_the_clock_is_in_time() {
    let mut scene = Scene::connected();
    scene.wait(46);
    let orders = scene.receive(WELCOME);
    assert_eq!(orders[..2], ["identified, lists itself", "READY HANDSHAKE_COMPLETE"]);
    assert!(!orders.contains(&"disconnect".into()), "{orders:?}");
}

#[test]
fn both_counters_go_on_over_reconnects() {
    let mut scene = Scene::dialing();
    for connection in 0..4_u64 {
        let orders = scene.feed(established());
        assert_eq!(orders[0], "CONNECTED TCP_ESTABLISHED");
        assert!(
            orders[1].starts_with(&format!(r#"send {{"id":["echo",{}]"#, 2 * connection)),
            "{}",
            orders[1]
        );
        assert_eq!(orders[2], format!("send_identity {}", connection + 1));
        assert!(scene.sleep()[0].starts_with(&format!(r#"send {{"id":["echo",{}]"#, 2 * connection + 1)));
        scene.feed(lost());
        assert_eq!(scene.sleep(), ["dial"]);
        scene.feed(refused());
        assert_eq!(scene.sleep(), ["dial"]);
    }
}

#[test]
fn timers_are_those_that_were_given() {
    let millis = Duration::from_millis;
    let timers =
        Timers { handshake: millis(70), keepalive: millis(50), echo: millis(20), ..Timers::default() };
    let start = Instant::now();
    let fsm = PeerFsm::new(ADDRESS.parse().unwrap(), timers, 7, start);
    let mut scene = Scene { fsm, start, now: start };
    scene.feed(Input::Started);
    scene.feed(established());
    let (order, at) = until_failure(&mut scene, |_| {});
    assert_eq!(
        (order.as_str(), at),
        ("CONNECTING KEEPALIVE_TIMEOUT: no frame received for 50ms", millis(50))
    );
}

/// Caps of so many seconds, and of as many minutes after a lookup.
fn caps(seconds: u64) -> BackoffCaps {
    BackoffCaps { dial: Duration::from_secs(seconds), lookup: Duration::from_secs(60 * seconds) }
}

#[test]
fn pauses_after_a_lookup_that_failed_have_a_cap_of_their_own() {
    let mut scene = Scene::dialing();
    scene.fsm.set_backoff_caps(caps(1));
    let fail = |scene: &mut Scene, input: fn() -> Input| {
        let mut longest = Duration::ZERO;
        for _ in 0..50 {
            let begin = scene.elapsed();
            scene.feed(input());
            scene.sleep();
            longest = longest.max(scene.elapsed() - begin);
        }
        longest
    };
    let unresolved = || Input::DialFailed { reason: Reason::ResolveFailed, detail: String::new() };
    let (dialled, looked_up) = (fail(&mut scene, refused), fail(&mut scene, unresolved));
    assert!(dialled <= Duration::from_secs(1), "{dialled:?}");
    assert!((30..=60).contains(&looked_up.as_secs()), "{looked_up:?}");
    assert!(fail(&mut scene, refused) <= Duration::from_secs(1), "the reason of the last failure counts");
}

#[test]
fn pauses_grow_with_failures_up_to_the_cap_and_start_again_once_ready_has_held() {
    let mut scene = Scene::dialing();
    scene.fsm.set_backoff_caps(caps(1));
    for ceiling in [250, 500, 1000, 1000, 1000] {
        scene.feed(refused());
        assert!(scene.deadline().expect("a pause") <= Duration::from_millis(ceiling));
        scene.sleep();
    }
    assert_eq!(scene.fsm.backoff.ceiling(), Duration::from_secs(1));
    for (held, ceiling) in [(9, 1000), (10, 500)] {
        scene.feed(established());
        scene.receive(&WELCOME.replace(",1]", &format!(",{}]", scene.fsm.next_request - 1)));
        scene.wait(held);
        assert_eq!(scene.report(lost()).failures, 1, "failures are counted from the last READY");
        // The pause that follows has been drawn below the ceiling before this one.
        assert_eq!(scene.fsm.backoff.ceiling(), Duration::from_millis(ceiling), "after {held} s");
        scene.sleep();
    }
}

#[test]
fn a_peer_that_closes_after_each_handshake_is_dialled_less_and_less_often() {
    let mut scene = Scene::dialing();
    scene.fsm.set_backoff_caps(caps(30));
    for _ in 0..100 {
        scene.feed(established());
        scene.receive(&WELCOME.replace(",1]", &format!(",{}]", scene.fsm.next_request - 1)));
        scene.feed(lost());
        scene.sleep();
    }
    // Full jitter: half of the ceiling on average, which is soon 30 s.
    assert!(scene.elapsed() > Duration::from_secs(900), "{:?}", scene.elapsed());
}
