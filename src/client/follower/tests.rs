#![allow(clippy::unwrap_used)]

use tonic::Code;
use tonic_types::ErrorDetails;

use super::*;
use crate::{
    client::samples::{attached, change, cursor, draining, heartbeat, peer, pool, reset, snapshot, synced},
    pb::{Interest, ListenerFilter, Peer, PeerStatus, Pool, PoolHealth, Reason, Reset, ResetReason},
};

fn follower() -> Follower {
    Follower::new(WatchPeerStatusRequest { user_data: "mine".into(), ..Default::default() })
}

/// A follower that has applied `messages`, none of which was remarkable.
fn after(messages: &[WatchPeerStatusResponse]) -> Follower {
    let mut follower = follower();
    for message in messages {
        assert_eq!(follower.apply(message).1, [], "{message:?}");
    }
    follower
}

fn live_at_10() -> Follower {
    after(&[attached(10, false), snapshot(10, vec![], vec![]), synced(10, 0)])
}

fn status(code: Code, reason: &str) -> StreamEnd {
    let details = ErrorDetails::with_error_info(reason, "opflex.peerstatus", []);
    StreamEnd::Status(Status::with_error_details(code, "because", details))
}

fn lost() -> StreamEnd {
    StreamEnd::Lost("connection refused".into())
}

#[track_caller]
fn retry(next: Next) -> (Duration, Option<Notice>) {
    match next {
        Next::Retry { after, notice } => (after, notice),
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn cause_of(notice: Option<Notice>) -> String {
    match notice {
        Some(Notice::Lost { cause, .. }) => cause.text,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn failure(next: Next) -> Error {
    match next {
        Next::Fail(error) => error,
        other => panic!("{other:?}"),
    }
}

#[test]
fn it_asks_for_what_comes_after_the_last_change_and_keeps_the_rest_of_the_request() {
    let mut follower = live_at_10();
    assert_eq!(follower.request().resume_after, cursor(10));
    follower.apply(&change(11, 10));
    let request = follower.request();
    assert_eq!(request.resume_after, cursor(11));
    assert_eq!(request.user_data, "mine");
}

#[test]
fn it_asks_for_a_snapshot_as_long_as_it_has_no_complete_one() {
    assert_eq!(follower().request().resume_after, None);
    let mut follower = after(&[attached(10, false), snapshot(10, vec![], vec![])]);
    assert_eq!(follower.request().resume_after, None);
    follower.apply(&heartbeat(12));
    assert_eq!(follower.request().resume_after, None, "a heartbeat does not complete it");
    follower.apply(&synced(10, 0));
    assert_eq!(follower.request().resume_after, cursor(10));
}

#[test]
fn a_reset_makes_the_state_incomplete_until_the_new_snapshot_is_there() {
    let mut follower = live_at_10();
    let (is_news, notices) = follower.apply(&reset(50, ResetReason::Overflow, 40));
    assert!(is_news);
    let missed = Reset { reason: ResetReason::Overflow.into(), missed_count: 40 };
    assert_eq!(notices, [Notice::Missed(missed)]);
    assert_eq!(follower.request().resume_after, None);
    for message in [snapshot(50, vec![], vec![]), synced(50, 0), change(51, 50)] {
        assert_eq!(follower.apply(&message).1, [], "{message:?}");
    }
    assert_eq!(follower.request().resume_after, cursor(51));
}

#[test]
fn a_reset_within_a_stream_may_begin_an_epoch_whose_revisions_are_lower() {
    let mut follower = live_at_10();
    follower.apply(&reset(3, ResetReason::EpochChanged, 0));
    for message in [snapshot(3, vec![], vec![]), synced(3, 0), change(4, 3)] {
        assert_eq!(follower.apply(&message), (true, vec![]), "{message:?}");
    }
}

#[test]
fn heartbeats_are_not_shown_but_move_the_place_to_go_on_from() {
    let mut follower = live_at_10();
    assert_eq!(follower.apply(&heartbeat(30)), (false, vec![]));
    assert_eq!(follower.request().resume_after, cursor(30));
    assert_eq!(
        follower.apply(&change(31, 10)),
        (true, vec![]),
        "the chain is one of changes, not of heartbeats"
    );
}

#[test]
fn a_broken_chain_is_told_and_the_change_is_shown() {
    let mut follower = live_at_10();
    assert_eq!(follower.apply(&change(14, 13)), (true, vec![Notice::Gap { expected: 10, found: 13 }]));
    assert_eq!(follower.apply(&change(15, 14)).1, [], "once is enough");
}

#[test]
fn a_change_is_never_shown_twice() {
    let mut follower = live_at_10();
    assert!(follower.apply(&change(11, 10)).0);
    let again = follower.apply(&change(11, 10));
    assert_eq!(again, (false, vec![Notice::Repeated { revision: 11 }]));
    retry(follower.ended(lost()));
    follower.apply(&attached(9, true));
    assert!(!follower.apply(&change(10, 9)).0, "nor after a service that goes back too far");
    assert!(!follower.apply(&change(11, 10)).0);
    assert!(follower.apply(&change(12, 11)).0);
}

#[test]
fn another_process_counts_from_the_start_and_its_changes_are_news() {
    let mut follower = live_at_10();
    retry(follower.ended(status(Code::Unavailable, "DRAINING")));
    let mut restarted = [attached(0, false), reset(0, ResetReason::EpochChanged, 0), synced(0, 0)];
    for message in &mut restarted {
        match message.event.as_mut().unwrap() {
            Event::Attached(attached) => attached.cursor.as_mut().unwrap().epoch = 78,
            Event::Synced(synced) => synced.cursor.as_mut().unwrap().epoch = 78,
            _ => {}
        }
        follower.apply(message);
    }
    assert_eq!(follower.apply(&change(1, 0)), (true, vec![]));
    assert_eq!(follower.request().resume_after, Some(Cursor { epoch: 78, revision: 1 }));
}

#[test]
fn a_lost_connection_is_told_once_and_so_is_its_return() {
    let mut follower = live_at_10();
    let reset = Status::from_error(Box::new(std::io::Error::from(std::io::ErrorKind::ConnectionReset)));
    let (_, notice) = retry(follower.ended(StreamEnd::Status(reset)));
    assert_eq!(cause_of(notice), "connection lost: connection reset");
    assert!(retry(follower.ended(lost())).1.is_some(), "another cause");
    assert!(retry(follower.ended(lost())).1.is_none(), "the same cause");
    let (_, notices) = follower.apply(&attached(10, true));
    assert_eq!(notices, [Notice::Reconnected { resumed: true, attempts: 3 }]);
    assert_eq!(follower.apply(&synced(10, 0)).1, []);
}

#[test]
fn a_resumption_at_a_later_place_is_a_gap() {
    let mut follower = live_at_10();
    retry(follower.ended(lost()));
    let (_, notices) = follower.apply(&attached(12, true));
    assert!(notices.contains(&Notice::Gap { expected: 10, found: 12 }));
}

#[test]
fn the_wait_doubles_up_to_five_seconds_and_starts_anew_once_synced() {
    let mut follower = live_at_10();
    let ceilings = [250, 500, 1000, 2000, 4000, 5000, 5000].map(Duration::from_millis);
    for ceiling in ceilings {
        assert_eq!(follower.backoff.ceiling(), ceiling);
        assert!(retry(follower.ended(lost())).0 <= ceiling);
    }
    follower.apply(&attached(10, true));
    assert_eq!(follower.backoff.ceiling(), LONGEST_DELAY, "attached is not enough");
    follower.apply(&synced(10, 0));
    assert_eq!(follower.backoff.ceiling(), FIRST_DELAY);
}

#[test]
fn the_wait_that_the_service_asks_for_is_kept_within_reason() {
    let mut follower = live_at_10();
    assert!(follower.apply(&draining(12, 3)).0);
    assert_eq!(follower.request().resume_after, cursor(12));
    assert_eq!(retry(follower.ended(status(Code::Unavailable, "DRAINING"))).0.as_secs(), 3);
    assert!(retry(follower.ended(lost())).0 < Duration::from_secs(3), "once");

    let mut details = ErrorDetails::with_error_info("STREAM_QUOTA", "opflex.peerstatus", []);
    details.set_retry_info(Some(Duration::from_secs(7)));
    let full = Status::with_error_details(Code::ResourceExhausted, "full", details.clone());
    assert_eq!(retry(follower.ended(StreamEnd::Status(full))).0.as_secs(), 7);
    details.set_retry_info(Some(Duration::from_secs(86_400)));
    let full = Status::with_error_details(Code::ResourceExhausted, "full", details);
    assert_eq!(retry(follower.ended(StreamEnd::Status(full))).0, LONGEST_RETRY_AFTER);
}

/// What becomes of a watch after an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Retried,
    Ended,
}

fn fate(follower: &mut Follower, code: Code, reason: Option<&str>) -> Fate {
    let end = match reason {
        Some(reason) => status(code, reason),
        None => StreamEnd::Status(Status::new(code, "because")),
    };
    match follower.ended(end) {
        Next::Retry { .. } => Fate::Retried,
        Next::Fail(Error::Refused(status)) => {
            assert_eq!(status.code(), code);
            Fate::Ended
        }
        Next::Fail(error) => panic!("{error}"),
        Next::Done => panic!("an error is no success"),
    }
}

#[test]
fn only_a_refusal_of_the_service_ends_the_watch() {
    use Fate::{Ended, Retried};
    // code, reason in the `ErrorInfo` of the service, before the first stream, after it
    let table = [
        (Code::Ok, None, Retried, Retried),
        (Code::Cancelled, None, Retried, Retried),
        (Code::Unknown, None, Retried, Retried),
        (Code::InvalidArgument, None, Retried, Retried),
        (Code::DeadlineExceeded, None, Retried, Retried),
        (Code::NotFound, None, Retried, Retried),
        (Code::AlreadyExists, None, Retried, Retried),
        (Code::PermissionDenied, None, Retried, Retried),
        (Code::ResourceExhausted, None, Retried, Retried),
        (Code::FailedPrecondition, None, Retried, Retried),
        (Code::Aborted, None, Retried, Retried),
        (Code::OutOfRange, None, Retried, Retried),
        (Code::Unimplemented, None, Retried, Retried),
        (Code::Internal, None, Retried, Retried),
        (Code::Unavailable, None, Retried, Retried),
        (Code::DataLoss, None, Retried, Retried),
        (Code::Unauthenticated, None, Retried, Retried),
        (Code::PermissionDenied, Some(""), Retried, Retried),
        (Code::InvalidArgument, Some("BAD_NAME"), Ended, Ended),
        (Code::InvalidArgument, Some("BAD_FILTER"), Ended, Ended),
        (Code::InvalidArgument, Some("MALFORMED_REQUEST"), Ended, Ended),
        (Code::InvalidArgument, Some("CURSOR_IN_FUTURE"), Ended, Ended),
        (Code::NotFound, Some("LISTENER_NOT_FOUND"), Ended, Ended),
        (Code::NotFound, Some("POOL_NOT_FOUND"), Ended, Ended),
        (Code::FailedPrecondition, Some("LISTENER_ATTACHED"), Ended, Retried),
        (Code::OutOfRange, Some("CURSOR_COMPACTED"), Ended, Ended),
        (Code::OutOfRange, Some("EPOCH_MISMATCH"), Ended, Ended),
        (Code::ResourceExhausted, Some("LISTENER_QUOTA"), Retried, Retried),
        (Code::ResourceExhausted, Some("STREAM_QUOTA"), Retried, Retried),
        (Code::Aborted, Some("LISTENER_TAKEN_OVER"), Ended, Ended),
        (Code::Cancelled, Some("LISTENER_DESTROYED"), Ended, Ended),
        (Code::Unavailable, Some("DRAINING"), Retried, Retried),
        (Code::DeadlineExceeded, Some("REQUEST_LATE"), Retried, Retried),
        (Code::Unauthenticated, Some("CREDENTIALS_MISSING"), Ended, Ended),
        (Code::Unauthenticated, Some("CREDENTIALS_INVALID"), Ended, Ended),
        (Code::Unauthenticated, Some("TOKEN_EXPIRED"), Ended, Retried),
        (Code::PermissionDenied, Some("ROLE_REQUIRED"), Ended, Ended),
        (Code::FailedPrecondition, Some("UNKNOWN_TO_THIS_CLIENT"), Ended, Ended),
        (Code::Internal, Some("UNKNOWN_TO_THIS_CLIENT"), Retried, Retried),
    ];
    for (code, reason, first, later) in table {
        let got = (fate(&mut follower(), code, reason), fate(&mut live_at_10(), code, reason));
        assert_eq!(got, (first, later), "{code:?} {reason:?}");
    }
    retry(follower().ended(StreamEnd::Closed));
    retry(live_at_10().ended(StreamEnd::Closed));
}

#[test]
fn details_of_another_service_do_not_end_the_watch() {
    let details = ErrorDetails::with_error_info("BAD_FILTER", "googleapis.com", []);
    let refused = Status::with_error_details(Code::InvalidArgument, "because", details);
    let (_, notice) = retry(live_at_10().ended(StreamEnd::Status(refused)));
    assert_eq!(cause_of(notice), "because (INVALID_ARGUMENT), sent by a proxy or another server");
}

#[test]
fn the_first_connection_is_tried_again_and_each_cause_is_told_once() {
    let mut follower = follower();
    assert!(retry(follower.ended(lost())).1.is_some());
    assert!(retry(follower.ended(lost())).1.is_none(), "the same cause");
    assert_eq!(fate(&mut follower, Code::Unimplemented, None), Fate::Retried);
    let (_, notices) = follower.apply(&attached(10, false));
    assert_eq!(notices, [Notice::Connected { attempts: 3 }]);
}

#[test]
fn a_file_that_is_wrong_ends_the_watch_only_before_the_first_stream() {
    let wrong = || StreamEnd::Failed(Error::Invalid { setting: "token-file", reason: "no such file".into() });
    assert!(matches!(failure(follower().ended(wrong())), Error::Invalid { .. }));
    retry(live_at_10().ended(wrong()));
}

#[test]
fn a_watch_until_synced_is_retried_only_after_the_first_stream() {
    let until_synced =
        || Follower::new(WatchPeerStatusRequest { stop_after_sync: true, ..Default::default() });
    assert!(matches!(failure(until_synced().ended(lost())), Error::Unreachable(_)));
    assert_eq!(fate(&mut until_synced(), Code::Unavailable, None), Fate::Ended);
    assert_eq!(fate(&mut until_synced(), Code::Unimplemented, None), Fate::Ended);
    let mut begun = until_synced();
    begun.apply(&attached(10, false));
    retry(begun.ended(lost()));
    assert_eq!(fate(&mut begun, Code::Unimplemented, None), Fate::Retried);
}

#[test]
fn a_watch_until_synced_that_has_time_is_retried_before_the_first_stream() {
    let patient = || {
        Follower::new(WatchPeerStatusRequest { stop_after_sync: true, ..Default::default() }).keep_trying()
    };
    retry(patient().ended(lost()));
    assert_eq!(fate(&mut patient(), Code::Unavailable, None), Fate::Retried);
}

#[test]
fn a_watch_that_resumes_its_listener_asks_for_the_cursor_until_it_is_attached() {
    let request = WatchPeerStatusRequest { listener: "listeners/noc".into(), ..Default::default() };
    assert_eq!(Follower::new(request.clone()).cursor_request(), None);
    let mut follower = Follower::resuming(request);
    for revision in [7, 9] {
        assert_eq!(follower.cursor_request().unwrap().name, "listeners/noc");
        follower.begin_after(cursor(revision));
        assert_eq!(follower.request().resume_after, cursor(revision));
        retry(follower.ended(lost()));
    }
    follower.apply(&attached(9, true));
    assert_eq!(follower.cursor_request(), None);
}

/// What a watch with this filter is told when it begins with these pools and peers.
fn begun(filter: ListenerFilter, pools: Vec<Pool>, peers: Vec<Peer>) -> Vec<Notice> {
    let mut follower = follower();
    let mut begin = attached(10, false);
    if let Some(Event::Attached(attached)) = &mut begin.event {
        attached.listener.as_mut().unwrap().filter = Some(filter);
    }
    let mut told = Vec::new();
    let count = u32::try_from(peers.len()).unwrap();
    for message in [begin, snapshot(10, pools, peers), synced(10, count)] {
        told.extend(follower.apply(&message).1);
    }
    retry(follower.ended(lost()));
    for message in [attached(10, false), snapshot(10, vec![], vec![]), synced(10, 0)] {
        let again = follower.apply(&message).1;
        let matches = |notice: &Notice| matches!(notice, Notice::NothingMatches { .. });
        assert!(!again.iter().any(matches), "once is enough: {again:?}");
    }
    told
}

#[test]
fn a_filter_that_nothing_passes_may_be_a_typo() {
    let nothing = |filter: ListenerFilter| vec![Notice::NothingMatches { filter }];
    let (down, ready) = (
        || pool("lab", PoolHealth::Down, 0, 1),
        || peer("a:1", PeerStatus::Ready, Reason::HandshakeComplete, ""),
    );
    let any = ListenerFilter::default;
    let pools = || ListenerFilter { pools: vec!["lab".into()], ..any() };
    let peers = || ListenerFilter { peers: vec!["a*".into()], ..any() };
    let health = || vec![Interest::Health.into()];
    assert_eq!(begun(pools(), vec![], vec![]), nothing(pools()));
    assert_eq!(begun(pools(), vec![down()], vec![]), []);
    assert_eq!(begun(peers(), vec![down()], vec![]), nothing(peers()), "there always is a pool");
    assert_eq!(begun(peers(), vec![down()], vec![ready()]), []);
    let of_health = ListenerFilter { interests: health(), ..peers() };
    assert_eq!(begun(of_health, vec![down()], vec![]), [], "who hears of health alone hears of no peers");
    assert_eq!(begun(any(), vec![], vec![]), [], "an empty service is no typo");
}

#[test]
fn what_a_snapshot_had_that_started_over_does_not_count() {
    let mut follower = follower();
    let mut begin = attached(10, false);
    if let Some(Event::Attached(attached)) = &mut begin.event {
        attached.listener = Some(noc());
    }
    let gone = peer("10.0.0.1:1", PeerStatus::Ready, Reason::HandshakeComplete, "");
    for message in [begin, snapshot(10, vec![], vec![gone]), reset(50, ResetReason::Overflow, 40)] {
        follower.apply(&message);
    }
    follower.apply(&snapshot(50, vec![], vec![]));
    let told = follower.apply(&synced(50, 0)).1;
    assert_eq!(told, [Notice::NothingMatches { filter: noc().filter.unwrap() }]);
}

/// A follower of `listeners/noc`, live, and a service that has lost it.
fn follower_of_a_lost_listener() -> Follower {
    let request = WatchPeerStatusRequest { listener: "listeners/noc".into(), ..Default::default() };
    let mut follower = Follower::new(request);
    for mut message in [attached(10, false), snapshot(10, vec![], vec![]), synced(10, 0)] {
        if let Some(Event::Attached(attached)) = &mut message.event {
            attached.listener = Some(noc());
        }
        follower.apply(&message);
    }
    retry(follower.ended(lost()));
    follower
}

fn noc() -> Listener {
    Listener {
        name: "listeners/noc".into(),
        filter: Some(ListenerFilter { peers: vec!["10.*".into()], ..Default::default() }),
        user_data: "rack-7".into(),
        idle_ttl: Some(prost_types::Duration { seconds: 3600, nanos: 0 }),
        ..Default::default()
    }
}

#[test]
fn a_listener_that_the_service_has_lost_is_made_again_as_it_was_and_at_once() {
    let mut follower = follower_of_a_lost_listener();
    assert_eq!(follower.lost_listener(), None, "as long as nobody says so");
    let (after, notice) = retry(follower.ended(status(Code::NotFound, "LISTENER_NOT_FOUND")));
    assert_eq!(after, Duration::ZERO);
    assert_eq!(notice, Some(Notice::Recreating { name: "listeners/noc".into() }));
    let Listener { filter, user_data, idle_ttl, .. } = noc();
    let again = CreateListenerRequest { listener_id: "noc".into(), filter, user_data, idle_ttl };
    assert_eq!(follower.lost_listener(), Some(again));
    assert_eq!(follower.request().resume_after, cursor(10), "where it was, should it be the same service");
    follower.apply(&attached(10, true));
    assert_eq!(follower.lost_listener(), None);
}

#[test]
fn a_listener_that_is_gone_as_soon_as_it_is_made_is_made_with_patience() {
    let mut follower = follower_of_a_lost_listener();
    retry(follower.ended(status(Code::NotFound, "LISTENER_NOT_FOUND")));
    assert_eq!(follower.backoff.ceiling(), Duration::from_secs(1));
    retry(follower.ended(status(Code::NotFound, "LISTENER_NOT_FOUND")));
    assert_eq!(follower.backoff.ceiling(), Duration::from_secs(2), "not at once again");
    assert!(follower.lost_listener().is_some());
}

#[test]
fn a_listener_that_never_was_there_or_was_destroyed_is_not_made() {
    let request = WatchPeerStatusRequest { listener: "listeners/noc".into(), ..Default::default() };
    let refused = Follower::new(request).ended(status(Code::NotFound, "LISTENER_NOT_FOUND"));
    assert_eq!(failure(refused).reason(), "LISTENER_NOT_FOUND");
    let destroyed = status(Code::Cancelled, "LISTENER_DESTROYED");
    assert_eq!(failure(follower_of_a_lost_listener().ended(destroyed)).reason(), "LISTENER_DESTROYED");
}

#[test]
fn a_watch_until_synced_is_done_only_when_it_was() {
    let mut follower = Follower::new(WatchPeerStatusRequest { stop_after_sync: true, ..Default::default() });
    follower.apply(&attached(10, false));
    follower.apply(&snapshot(10, vec![], vec![]));
    retry(follower.ended(StreamEnd::Closed));
    for message in [attached(10, false), snapshot(10, vec![], vec![]), synced(10, 0)] {
        follower.apply(&message);
    }
    assert!(matches!(follower.ended(StreamEnd::Closed), Next::Done));
}

#[test]
fn a_pause_that_makes_no_sense_is_none() {
    let given = |seconds, nanos| positive(Some(prost_types::Duration { seconds, nanos }));
    assert_eq!(given(2, 500_000_000), Duration::from_millis(2_500));
    for (seconds, nanos) in [(i64::MIN, i32::MIN), (-1, 0), (0, -1), (1, i32::MAX)] {
        assert_eq!(given(seconds, nanos), Duration::ZERO, "{seconds} {nanos}");
    }
    assert_eq!(positive(None), Duration::ZERO);
}
