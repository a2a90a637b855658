//! Progress, as it is seen from outside.

use super::*;

#[tokio::test(start_paused = true)]
async fn the_cursor_is_never_ahead_of_what_was_handed_out() {
    let (hub, listeners) = service(700);
    for host in 0..10 {
        add(&hub, &format!("leaf-{host}"));
    }
    let spec = ListenerSpec { idle_ttl: Some(TTL), ..ListenerSpec::default() };
    listeners.create(Some("l"), spec).unwrap();
    flap(&hub, "leaf-0", 1);
    let mut stream = listeners.attach("l", options()).unwrap();
    set(&hub, "leaf-1", Ready);
    set(&hub, "leaf-2", Ready);
    // A client that has but a part of a snapshot has nothing to go on from.
    for (message, cursor, lag, delivered) in [
        ("nothing yet", 10, 4, 0),
        ("attached", 10, 4, 0),
        ("snapshot", 10, 4, 0),
        ("snapshot", 10, 4, 0),
        ("synced", 12, 2, 0),
        ("12>13", 13, 1, 1),
        ("13>14", 14, 0, 2),
    ] {
        if message != "nothing yet" {
            assert_eq!(next(&mut stream).split(' ').next(), Some(message));
        }
        let view = listeners.get("l", &ListenerScope::All).unwrap();
        let seen = (view.cursor, view.lag, view.delivered);
        assert_eq!(seen, (Cursor { epoch: EPOCH, revision: cursor }, lag, delivered), "after {message}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_cursor_of_a_resumed_stream_is_the_clients_and_moves_with_the_replay() {
    let (hub, listeners) = service(64);
    add(&hub, "a");
    flap(&hub, "a", 2);
    let mut stream = watch(&listeners, resume(EPOCH, 2));
    for (message, cursor) in [("attached", 2), ("2>3", 3), ("3>4", 4), ("4>5", 5), ("synced", 5)] {
        assert_eq!(next(&mut stream).split(' ').next(), Some(message));
        assert_eq!(view(&listeners).cursor.revision, cursor, "after {message}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_cursor_stays_in_the_past_until_a_new_snapshot_is_complete() {
    let (hub, listeners) = service(4);
    add(&hub, "a");
    let mut stream = watch(&listeners, options());
    told(&mut stream);
    flap(&hub, "a", 5);
    for (message, cursor) in [("reset", 1), ("snapshot", 1), ("synced", 11)] {
        assert_eq!(next(&mut stream).split(' ').next(), Some(message));
        let view = view(&listeners);
        assert_eq!((view.cursor.revision, view.resets, view.missed), (cursor, 1, 10), "after {message}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_cursor_passes_what_the_filter_holds_back() {
    let (hub, listeners) = service(64);
    add(&hub, "a");
    let filter =
        FilterSpec { peers: vec!["a".into()], interests: vec![Interest::Peers], ..Default::default() };
    let mut stream = attach(&listeners, filter, options());
    told(&mut stream);
    add(&hub, "b");
    set(&hub, "a", Ready);
    flap(&hub, "b", 1);
    assert_eq!(next(&mut stream), "1>3 a READY");
    assert_eq!(view(&listeners).cursor.revision, 3);
    assert_eq!((next(&mut stream).as_str(), view(&listeners).cursor.revision), ("nothing", 5));
    flap(&hub, "b", 1);
    assert_eq!((next(&mut stream).as_str(), view(&listeners).cursor.revision), ("nothing", 7));
}

#[tokio::test(start_paused = true)]
async fn progress_adds_up_over_the_streams_of_a_listener() {
    let (hub, listeners) = service(4);
    let spec = ListenerSpec { idle_ttl: Some(TTL), user_data: b"data"[..].into(), ..ListenerSpec::default() };
    listeners.create(Some("l"), spec).unwrap();
    add(&hub, "a");
    for round in 1..=3 {
        let mut stream = listeners.attach("l", resume(EPOCH, 0)).unwrap();
        assert_eq!(**stream.user_data(), *b"data");
        told(&mut stream);
        flap(&hub, "a", 1);
        assert_eq!(told(&mut stream).len(), 2);
        drop(stream);
        let view = listeners.get("l", &ListenerScope::All).unwrap();
        // The first replays one change; from the second on the log has lost the beginning: 3 + 5.
        let expected = [(3, 0, 0), (8, 0, 0), (10, 1, 5)][round - 1];
        assert_eq!((view.delivered, view.resets, view.missed), expected, "round {round}");
        assert_eq!((view.cursor.revision, view.lag), (1 + 2 * round as u64, 0));
    }
}
