//! Wrong requests, and what they are answered with.

use opflex_peerstatus::grpc::pb::{
    AddPeerRequest, CreateListenerRequest, Cursor, GapPolicy, GetListenerRequest, GetPeerRequest,
    GetPoolRequest, ListListenersRequest, ListPeersRequest, ListPoolsRequest, ListTransitionsRequest,
    ListenerFilter, PoolHealth, RemovePeerRequest, ResetPeersRequest, ResetScope, WaitForPoolRequest,
    WatchPeerStatusRequest,
};
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::support::{Server, explain, settings, sims};

fn invalid(reason: &str, field: &str) -> (Code, String, Vec<String>) {
    (Code::InvalidArgument, reason.into(), vec![field.into()])
}

#[tokio::test]
async fn wrong_listeners_are_refused_with_the_field_that_is_wrong() {
    let server = Server::start(&[]).await;
    let filter =
        |filter: ListenerFilter| CreateListenerRequest { filter: Some(filter), ..Default::default() };
    let seconds = |seconds| CreateListenerRequest {
        idle_ttl: Some(prost_types::Duration { seconds, nanos: 0 }),
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
        (seconds(9), invalid("BAD_DURATION", "idle_ttl")),
        (seconds(86_401), invalid("BAD_DURATION", "idle_ttl")),
        (seconds(-1), invalid("BAD_DURATION", "idle_ttl")),
        (
            filter(ListenerFilter { peers: vec![String::new()], ..Default::default() }),
            invalid("BAD_FILTER", "filter.peers"),
        ),
        (
            filter(ListenerFilter { pools: vec!["*".into(); 65], ..Default::default() }),
            invalid("BAD_FILTER", "filter.pools"),
        ),
        (
            filter(ListenerFilter { statuses: vec![0], ..Default::default() }),
            invalid("BAD_FILTER", "filter.statuses"),
        ),
        (
            filter(ListenerFilter { origins: vec![77], ..Default::default() }),
            invalid("BAD_FILTER", "filter.origins"),
        ),
        (
            filter(ListenerFilter { interests: vec![-1], ..Default::default() }),
            invalid("BAD_FILTER", "filter.interests"),
        ),
    ];
    for (request, expected) in cases {
        let status = server.listeners().create_listener(request.clone()).await.unwrap_err();
        assert_eq!(explain(&status), expected, "{request:?}: {}", status.message());
    }
    server.create(id("taken")).await;
    let status = server.listeners().create_listener(id("taken")).await.unwrap_err();
    assert_eq!(explain(&status), (Code::AlreadyExists, "LISTENER_EXISTS".into(), vec![]));
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
        (listener("mine"), invalid("BAD_NAME", "listener")),
        (listener("listeners/gone"), (Code::NotFound, "LISTENER_NOT_FOUND".into(), vec![])),
        (
            WatchPeerStatusRequest { filter: Some(ListenerFilter::default()), ..listener(&name) },
            invalid("BAD_FILTER", "filter"),
        ),
        (
            WatchPeerStatusRequest { user_data: vec![1].into(), ..listener(&name) },
            invalid("BAD_FILTER", "user_data"),
        ),
        (
            WatchPeerStatusRequest {
                heartbeat_interval: Some(prost_types::Duration { seconds: 0, nanos: 1 }),
                ..Default::default()
            },
            invalid("BAD_DURATION", "heartbeat_interval"),
        ),
        (WatchPeerStatusRequest { gap_policy: 77, ..Default::default() }, invalid("BAD_ENUM", "gap_policy")),
        (resume(later, GapPolicy::Fail), invalid("CURSOR_IN_FUTURE", "resume_after.revision")),
        (resume(elsewhere, GapPolicy::Fail), (Code::OutOfRange, "EPOCH_MISMATCH".into(), vec![])),
    ];
    for (request, expected) in cases {
        let status = server.watch_with(request.clone()).await.err().unwrap();
        assert_eq!(explain(&status), expected, "{request:?}: {}", status.message());
    }
    let left = server.listeners().list_listeners(ListListenersRequest::default()).await.unwrap().into_inner();
    assert_eq!(left.listeners.len(), 1, "nothing was left behind");
    server.stop().await;
}

#[tokio::test]
async fn wrong_names_and_page_tokens_are_refused() {
    let server = Server::start(&[]).await;
    let mut pools = server.pools();
    for name in ["", "default", "pools/", "pools/No", "pools/a/b"] {
        let status = pools.get_pool(GetPoolRequest { name: name.into() }).await.unwrap_err();
        assert_eq!(explain(&status), invalid("BAD_NAME", "name"), "{name:?}");
    }
    for name in ["", "pools/default/peers/", "pools/default/peers/h", "peers/h:1", "pools/No/peers/h:1"] {
        let status = pools.get_peer(GetPeerRequest { name: name.into() }).await.unwrap_err();
        assert_eq!(explain(&status), invalid("BAD_NAME", "name"), "{name:?}");
    }
    for address in ["h:0", "h:65536", ":1", "[::g]:1", "::1:1", "a b:1"] {
        let name = format!("pools/default/peers/{address}");
        let status = pools.get_peer(GetPeerRequest { name: name.clone() }).await.unwrap_err();
        assert_eq!(explain(&status), invalid("BAD_PEER_ADDRESS", "name"), "{name}");
        let status = pools.remove_peer(RemovePeerRequest { name: name.clone() }).await.unwrap_err();
        assert_eq!(explain(&status), invalid("BAD_PEER_ADDRESS", "name"), "{name}");
    }
    let status = pools.get_pool(GetPoolRequest { name: "pools/other".into() }).await.unwrap_err();
    assert_eq!(explain(&status), (Code::NotFound, "POOL_NOT_FOUND".into(), vec![]));
    let status = pools.get_peer(GetPeerRequest { name: "pools/default/peers/h:1".into() }).await.unwrap_err();
    assert_eq!(explain(&status), (Code::NotFound, "PEER_NOT_FOUND".into(), vec![]));
    let name = "pools/other/peers/h:1";
    let status = pools.get_peer(GetPeerRequest { name: name.into() }).await.unwrap_err();
    assert_eq!(explain(&status), (Code::NotFound, "POOL_NOT_FOUND".into(), vec![]));
    let status = pools.remove_peer(RemovePeerRequest { name: name.into() }).await.unwrap_err();
    assert_eq!(explain(&status), (Code::NotFound, "POOL_NOT_FOUND".into(), vec![]));
    let parent = |parent: &str| ListPeersRequest { parent: parent.into(), ..Default::default() };
    let status = pools.list_peers(parent("other")).await.unwrap_err();
    assert_eq!(explain(&status), invalid("BAD_NAME", "parent"));
    let status = pools.list_peers(parent("pools/other")).await.unwrap_err();
    assert_eq!(explain(&status), (Code::NotFound, "POOL_NOT_FOUND".into(), vec![]));
    let request = ListPeersRequest { page_token: "?".into(), ..Default::default() };
    let status = pools.list_peers(request).await.unwrap_err();
    assert_eq!(explain(&status), invalid("BAD_PAGE_TOKEN", "page_token"));
    let request = ListPoolsRequest { page_token: "?".into(), ..Default::default() };
    let status = pools.list_pools(request).await.unwrap_err();
    assert_eq!(explain(&status), invalid("BAD_PAGE_TOKEN", "page_token"));
    let request = GetListenerRequest { name: "listeners/gone".into() };
    let status = server.listeners().get_listener(request).await.unwrap_err();
    assert_eq!(explain(&status), (Code::NotFound, "LISTENER_NOT_FOUND".into(), vec![]));
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
        (add("default", "leaf-101", 8009), invalid("BAD_NAME", "parent")),
        (add("pools/other", "leaf-101", 8009), (Code::NotFound, "POOL_NOT_FOUND".into(), vec![])),
        (
            add("pools/default", "127.0.0.1", peers[0].address().port().into()),
            (Code::AlreadyExists, "PEER_EXISTS".into(), vec![]),
        ),
    ];
    for (request, expected) in cases {
        let status = pools.add_peer(request.clone()).await.unwrap_err();
        assert_eq!(explain(&status), expected, "{request:?}: {}", status.message());
    }
    let remove = |name: String| RemovePeerRequest { name };
    let cases = [
        (remove("leaf-101:8009".into()), invalid("BAD_NAME", "name")),
        (remove("pools/default/peers/h:1".into()), (Code::NotFound, "PEER_NOT_FOUND".into(), vec![])),
        (remove("pools/other/peers/h:1".into()), (Code::NotFound, "POOL_NOT_FOUND".into(), vec![])),
        (
            remove(format!("pools/default/peers/{}", peers[1].address())),
            (Code::FailedPrecondition, "PEER_NOT_CONFIGURED".into(), vec![]),
        ),
    ];
    for (request, expected) in cases {
        let status = pools.remove_peer(request.clone()).await.unwrap_err();
        assert_eq!(explain(&status), expected, "{request:?}: {}", status.message());
    }
    let reset = |scope: i32, names: &[&str]| ResetPeersRequest {
        scope,
        names: names.iter().map(|name| (*name).to_owned()).collect(),
        ..Default::default()
    };
    let named = i32::from(ResetScope::Named);
    let cases = [
        (reset(named, &[]), invalid("BAD_NAME", "names")),
        (reset(named, &["h:1"]), invalid("BAD_NAME", "names")),
        (reset(named, &["pools/other/peers/h:1"]), invalid("BAD_NAME", "names")),
        (reset(named, &["pools/default/peers/h:1"]), (Code::NotFound, "PEER_NOT_FOUND".into(), vec![])),
        (reset(0, &["pools/default/peers/h:1"]), invalid("BAD_NAME", "names")),
        (reset(named, &["pools/default/peers/h:0"]), invalid("BAD_PEER_ADDRESS", "names")),
        (reset(named, &["pools/default/peers/h:1"; 1001]), invalid("BAD_NAME", "names")),
        (reset(77, &[]), invalid("BAD_ENUM", "scope")),
        (ResetPeersRequest { parent: "default".into(), ..reset(0, &[]) }, invalid("BAD_NAME", "parent")),
        (
            ResetPeersRequest { parent: "pools/other".into(), ..reset(0, &[]) },
            (Code::NotFound, "POOL_NOT_FOUND".into(), vec![]),
        ),
    ];
    for (request, expected) in cases {
        let status = pools.reset_peers(request.clone()).await.unwrap_err();
        assert_eq!(explain(&status), expected, "{request:?}: {}", status.message());
    }
    let known = format!("pools/default/peers/{}", peers[0].address());
    let status = pools.reset_peers(reset(named, &[&known, "pools/default/peers/h:1"])).await.unwrap_err();
    assert_eq!(explain(&status), (Code::NotFound, "PEER_NOT_FOUND".into(), vec![]));
    assert!(status.message().contains("h:1"), "which one: {}", status.message());
    let after = pools.list_peers(ListPeersRequest::default()).await.unwrap().into_inner().cursor;
    assert_eq!(before, after);
    server.stop().await;
}

#[tokio::test]
async fn a_full_pool_takes_no_peer() {
    let mut config = settings(&["127.0.0.1:1".into()]);
    config.pools[0].peer_limit = 1;
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
        (wait("default", down), invalid("BAD_NAME", "name")),
        (wait("pools/default", 0), invalid("BAD_ENUM", "health")),
        (wait("pools/default", 77), invalid("BAD_ENUM", "health")),
        (wait("pools/default", -1), invalid("BAD_ENUM", "health")),
        (wait("pools/other", down), (Code::NotFound, "POOL_NOT_FOUND".into(), vec![])),
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
        (ListTransitionsRequest { parent: "other".into(), ..asked() }, invalid("BAD_NAME", "parent")),
        (
            ListTransitionsRequest { parent: "pools/other".into(), ..asked() },
            (Code::NotFound, "POOL_NOT_FOUND".into(), vec![]),
        ),
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
        (token("?".into()), bad_token()),
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
