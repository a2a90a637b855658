//! Invalid requests and their errors.

use opflex_peerstatus::api::pb::{
    AddPeerRequest, CreateListenerRequest, Cursor, GapPolicy, ListListenersRequest, ListPeersRequest,
    ListTransitionsRequest, ListenerFilter, PoolHealth, RemovePeerRequest, ResetPeersRequest, ResetScope,
    WaitForPoolRequest, WatchPeerStatusRequest,
};
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::support::{Server, explain, settings, sims};

pub(crate) fn invalid(reason: &str, field: &str) -> (Code, String, Vec<String>) {
    (Code::InvalidArgument, reason.into(), vec![field.into()])
}

#[tokio::test]
async fn wrong_listeners_are_refused_with_the_field_that_is_wrong() {
    let server = Server::start(&[]).await;
    let lasts = |seconds, nanos| CreateListenerRequest {
        idle_ttl: Some(prost_types::Duration { seconds, nanos }),
        ..Default::default()
    };
    let id = |id: &str| CreateListenerRequest { listener_id: id.into(), ..Default::default() };
    let cases = [
        (id("Bad Name!"), invalid("BAD_NAME", "listener_id")),
        (id(&"x".repeat(64)), invalid("BAD_NAME", "listener_id")),
        (
            CreateListenerRequest { user_data: vec![0; 4097].into(), ..Default::default() },
            invalid("USER_DATA_TOO_LARGE", "user_data"),
        ),
    ];
    for (request, expected) in cases {
        let status = server.listeners().create_listener(request.clone()).await.unwrap_err();
        assert_eq!(explain(&status), expected, "{request:?}: {}", status.message());
    }
    for (seconds, nanos) in durations_outside(10, 24 * 3600) {
        let status = server.listeners().create_listener(lasts(seconds, nanos)).await.unwrap_err();
        let expected = invalid("BAD_DURATION", "idle_ttl");
        assert_eq!(explain(&status), expected, "{seconds} s {nanos} ns: {}", status.message());
    }
    for (seconds, nanos) in [(10, 0), (24 * 3600, 0), (10, 999_999_999)] {
        server.create(lasts(seconds, nanos)).await;
    }
    server.create(id("taken")).await;
    let status = server.listeners().create_listener(id("taken")).await.unwrap_err();
    assert_eq!(explain(&status), (Code::AlreadyExists, "LISTENER_EXISTS".into(), vec![]));
    server.stop().await;
}

/// Durations that are too short or too long, and what is no duration.
fn durations_outside(least: i64, most: i64) -> Vec<(i64, i32)> {
    vec![
        (0, 0),
        (least - 1, 999_999_999),
        (most, 1),
        (most + 1, 0),
        (-least, 0),
        (0, -1),
        (i64::MAX, 0),
        (i64::MIN, 0),
        (i64::MIN, i32::MIN),
        (i64::MAX, i32::MAX),
        // Two that would be in range if they were put right.
        (least - 1, 1_000_000_000),
        (least + 1, -1),
    ]
}

#[tokio::test]
async fn wrong_filters_are_refused_where_a_listener_is_made_and_where_a_watch_makes_one() {
    let server = Server::start(&[]).await;
    let any = ListenerFilter::default;
    let cases = [
        (ListenerFilter { peers: vec![String::new()], ..any() }, "filter.peers"),
        (ListenerFilter { peers: vec!["*".into(); 65], ..any() }, "filter.peers"),
        (ListenerFilter { peers: vec!["x".repeat(321)], ..any() }, "filter.peers"),
        (ListenerFilter { peers: vec!["x".repeat(315); 14], ..any() }, "filter.peers"),
        (ListenerFilter { pools: vec![String::new()], ..any() }, "filter.pools"),
        (ListenerFilter { pools: vec!["*".into(); 65], ..any() }, "filter.pools"),
        (ListenerFilter { pools: vec!["x".repeat(321)], ..any() }, "filter.pools"),
        (ListenerFilter { statuses: vec![-1], ..any() }, "filter.statuses"),
        (ListenerFilter { statuses: vec![6], ..any() }, "filter.statuses"),
        (ListenerFilter { statuses: vec![4; 65], ..any() }, "filter.statuses"),
        (ListenerFilter { origins: vec![0], ..any() }, "filter.origins"),
        (ListenerFilter { origins: vec![77], ..any() }, "filter.origins"),
        (ListenerFilter { origins: vec![1; 65], ..any() }, "filter.origins"),
        (ListenerFilter { interests: vec![0], ..any() }, "filter.interests"),
        (ListenerFilter { interests: vec![-1], ..any() }, "filter.interests"),
        (ListenerFilter { interests: vec![1; 65], ..any() }, "filter.interests"),
    ];
    for (filter, field) in cases {
        let filter = Some(filter);
        let create = CreateListenerRequest { filter: filter.clone(), ..Default::default() };
        let status = server.listeners().create_listener(create).await.unwrap_err();
        assert_eq!(explain(&status), invalid("BAD_FILTER", field), "{filter:?}: {}", status.message());
        let watch = WatchPeerStatusRequest { filter: filter.clone(), ..Default::default() };
        let status = server.watch_with(watch).await.err().unwrap();
        assert_eq!(explain(&status), invalid("BAD_FILTER", field), "{filter:?}: {}", status.message());
    }
    server.stop().await;
}

#[tokio::test]
async fn wrong_watches_are_refused_before_anything_is_attached() {
    let server = Server::start(&[]).await;
    let here = server.create(CreateListenerRequest::default()).await;
    let (name, cursor) = (here.listener.unwrap().name, here.cursor.unwrap());
    let resume = |cursor: Cursor, policy: GapPolicy| WatchPeerStatusRequest {
        resume_after: Some(cursor),
        gap_policy: policy.into(),
        ..Default::default()
    };
    let elsewhere = Cursor { epoch: cursor.epoch ^ 1, ..cursor };
    let later = Cursor { revision: cursor.revision + 1, ..cursor };
    let listener =
        |listener: &str| WatchPeerStatusRequest { listener: listener.into(), ..Default::default() };
    let cases = [
        (
            WatchPeerStatusRequest { filter: Some(ListenerFilter::default()), ..listener(&name) },
            invalid("BAD_FILTER", "filter"),
        ),
        (
            WatchPeerStatusRequest { user_data: vec![1].into(), ..listener(&name) },
            invalid("BAD_FILTER", "user_data"),
        ),
        (
            WatchPeerStatusRequest { user_data: vec![0; 4097].into(), ..Default::default() },
            invalid("USER_DATA_TOO_LARGE", "user_data"),
        ),
        (WatchPeerStatusRequest { gap_policy: 77, ..Default::default() }, invalid("BAD_ENUM", "gap_policy")),
        (resume(later, GapPolicy::Fail), invalid("CURSOR_IN_FUTURE", "resume_after.revision")),
        (resume(later, GapPolicy::Resnapshot), invalid("CURSOR_IN_FUTURE", "resume_after.revision")),
        (resume(elsewhere, GapPolicy::Fail), (Code::OutOfRange, "EPOCH_MISMATCH".into(), vec![])),
    ];
    for (request, expected) in cases {
        let status = server.watch_with(request.clone()).await.err().unwrap();
        assert_eq!(explain(&status), expected, "{request:?}: {}", status.message());
    }
    for (seconds, nanos) in durations_outside(1, 5 * 60) {
        let heartbeat_interval = Some(prost_types::Duration { seconds, nanos });
        let request = WatchPeerStatusRequest { heartbeat_interval, ..Default::default() };
        let status = server.watch_with(request).await.err().unwrap();
        let expected = invalid("BAD_DURATION", "heartbeat_interval");
        assert_eq!(explain(&status), expected, "{seconds} s {nanos} ns: {}", status.message());
    }
    let left = server.listeners().list_listeners(ListListenersRequest::default()).await.unwrap().into_inner();
    assert_eq!(left.listeners.len(), 1, "nothing was left behind");
    server.stop().await;
}

#[tokio::test]
async fn wrong_changes_of_a_pool_are_refused_and_change_nothing() {
    let peers = sims(2);
    let server = Server::start(&[peers[0].address().to_string()]).await;
    server.watch().await.until_ready(&peers[1].address().to_string()).await;
    let mut pools = server.pools();
    let before = pools.list_peers(ListPeersRequest::default()).await.unwrap().into_inner().cursor;
    let add = |parent: &str, host: &str, port: u32| AddPeerRequest {
        parent: parent.into(),
        host: host.into(),
        port,
    };
    let cases = [
        (add("", "leaf-101", 0), invalid("BAD_PEER_ADDRESS", "port")),
        (add("", "leaf-101", 65_536), invalid("BAD_PEER_ADDRESS", "port")),
        (add("", "", 8009), invalid("BAD_PEER_ADDRESS", "host")),
        (add("", &"x".repeat(254), 8009), invalid("BAD_PEER_ADDRESS", "host")),
        (add("", "2001:db8::g", 8009), invalid("BAD_PEER_ADDRESS", "host")),
        (add("", "two words", 8009), invalid("BAD_PEER_ADDRESS", "host")),
        (add("", "leaf-101", u32::MAX), invalid("BAD_PEER_ADDRESS", "port")),
        (add("", "[2001:db8::1", 8009), invalid("BAD_PEER_ADDRESS", "host")),
        (add("", "[]", 8009), invalid("BAD_PEER_ADDRESS", "host")),
        (add("", "leaf-101:8009", 8009), invalid("BAD_PEER_ADDRESS", "host")),
        (
            add("pools/default", "127.0.0.1", peers[0].address().port().into()),
            (Code::AlreadyExists, "PEER_EXISTS".into(), vec![]),
        ),
    ];
    for (request, expected) in cases {
        let status = pools.add_peer(request.clone()).await.unwrap_err();
        assert_eq!(explain(&status), expected, "{request:?}: {}", status.message());
    }
    let learned = RemovePeerRequest { name: format!("pools/default/peers/{}", peers[1].address()) };
    let status = pools.remove_peer(learned).await.unwrap_err();
    assert_eq!(explain(&status), (Code::FailedPrecondition, "PEER_NOT_CONFIGURED".into(), vec![]));
    let reset = |scope: i32, names: &[&str]| ResetPeersRequest {
        scope,
        names: names.iter().map(|name| (*name).to_owned()).collect(),
        ..Default::default()
    };
    let named = i32::from(ResetScope::Named);
    let cases = [
        (reset(named, &[]), invalid("BAD_NAME", "names")),
        (reset(named, &["pools/other/peers/h:1"]), invalid("BAD_NAME", "names")),
        (reset(0, &["pools/default/peers/h:1"]), invalid("BAD_NAME", "names")),
        (reset(named, &["pools/default/peers/h:1"; 1001]), invalid("BAD_NAME", "names")),
        (reset(77, &[]), invalid("BAD_ENUM", "scope")),
    ];
    for (request, expected) in cases {
        let status = pools.reset_peers(request.clone()).await.unwrap_err();
        assert_eq!(explain(&status), expected, "{request:?}: {}", status.message());
    }
    let known = format!("pools/default/peers/{}", peers[0].address());
    let status = pools.reset_peers(reset(named, &[&known, "pools/default/peers/h:1"])).await.unwrap_err();
    assert_eq!(explain(&status), (Code::NotFound, "PEER_NOT_FOUND".into(), vec![]));
    assert_eq!(status.message(), "pools/default/peers/h:1: no such peer");
    let after = pools.list_peers(ListPeersRequest::default()).await.unwrap().into_inner().cursor;
    assert_eq!(before, after);
    server.stop().await;
}

#[tokio::test]
async fn a_full_pool_takes_no_peer() {
    let mut config = settings(&["127.0.0.1:1".into()]);
    config.limits.max_peers = 1;
    let server = Server::start_with(config).await;
    let request = AddPeerRequest { host: "leaf-101".into(), port: 8009, ..Default::default() };
    let status = server.pools().add_peer(request).await.unwrap_err();
    assert_eq!(explain(&status), (Code::ResourceExhausted, "PEER_QUOTA".into(), vec![]));
    assert!(status.get_details_retry_info().is_some_and(|retry| retry.retry_delay.is_some()));
    server.stop().await;
}

#[tokio::test]
async fn wrong_waits_are_refused_at_once() {
    let server = Server::start(&[]).await;
    let wait = |name: &str, health: i32| WaitForPoolRequest { name: name.into(), health };
    let down = i32::from(PoolHealth::Down);
    let cases = [
        (wait("", down), invalid("BAD_NAME", "name")),
        (wait("pools/default", 0), invalid("BAD_ENUM", "health")),
        (wait("pools/default", 77), invalid("BAD_ENUM", "health")),
        (wait("pools/default", -1), invalid("BAD_ENUM", "health")),
    ];
    for (request, expected) in cases {
        let status = server.pools().wait_for_pool(request.clone()).await.unwrap_err();
        assert_eq!(explain(&status), expected, "{request:?}: {}", status.message());
    }
    server.stop().await;
}

#[tokio::test]
async fn wrong_questions_about_the_past_are_refused() {
    let server = Server::start(&["127.0.0.1:1".into()]).await;
    let mut watch = server.watch().await;
    watch.synced().await;
    let epoch = watch.cursor().epoch;
    let time = |seconds, nanos| Some(prost_types::Timestamp { seconds, nanos });
    let asked = ListTransitionsRequest::default;
    let token = |token: String| ListTransitionsRequest { page_token: token, ..asked() };
    let bad_token = || invalid("BAD_PAGE_TOKEN", "page_token");
    let cases = [
        (ListTransitionsRequest { peer: "x".repeat(321), ..asked() }, invalid("BAD_FILTER", "peer")),
        (ListTransitionsRequest { start_time: time(0, -1), ..asked() }, invalid("BAD_FILTER", "start_time")),
        (
            ListTransitionsRequest { start_time: time(i64::MIN, 0), ..asked() },
            invalid("BAD_FILTER", "start_time"),
        ),
        (
            ListTransitionsRequest { end_time: time(0, 1_000_000_000), ..asked() },
            invalid("BAD_FILTER", "end_time"),
        ),
        (
            ListTransitionsRequest { start_time: time(2, 0), end_time: time(1, 0), ..asked() },
            invalid("BAD_FILTER", "end_time"),
        ),
        (token(format!("{epoch:x}")), bad_token()),
        (token(format!("{epoch:x}-0")), bad_token()),
        (token(format!("{epoch:x}-+1")), bad_token()),
        (token(format!("{epoch:x}-{}", u64::MAX)), bad_token()),
        (token(format!("{:x}-1", epoch ^ 1)), bad_token()),
    ];
    for (request, expected) in cases {
        let status = server.pools().list_transitions(request.clone()).await.unwrap_err();
        assert_eq!(explain(&status), expected, "{request:?}: {}", status.message());
    }
    let request = token(format!("{epoch:x}-1"));
    let answer = server.pools().list_transitions(request).await.unwrap().into_inner();
    assert!(
        answer.transitions.is_empty() && answer.next_page_token.is_empty(),
        "nothing was before the first"
    );
    server.stop().await;
}
