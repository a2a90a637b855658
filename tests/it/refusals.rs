//! Valid requests that are rejected: exhausted limits, expired deadlines, shutdown.

use std::{collections::BTreeMap, future::Future, sync::Arc, time::SystemTime};

use opflex_peerstatus::{
    api::{
        Api,
        pb::{
            AddPeerRequest, CreateListenerRequest, DestroyListenerRequest, GapPolicy, GetPoolRequest,
            ListPeersRequest, PoolHealth, RemovePeerRequest, ResetPeersRequest, WaitForPoolRequest,
            WatchPeerStatusRequest, peer_status_service_client::PeerStatusServiceClient,
            pool_service_client::PoolServiceClient,
        },
    },
    app::LoadedConfig,
    metrics::{PeerMetrics, WatchMetrics},
    peer::{PeerAddress, PeerOrigin},
    pool::{self, LogBudget},
    status::{Hub, ListenerLimits, Listeners, PeerUpdate, Update},
    transport::DialLimits,
};
use tokio::sync::watch;
use tokio_stream::StreamExt as _;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::{Code, Request, Response, Status};

use crate::support::{Server, explain, settings, within};

fn no_room(reason: &str) -> (Code, String, Vec<String>) {
    (Code::ResourceExhausted, reason.into(), vec![])
}

#[tokio::test]
async fn there_are_only_so_many_listeners() {
    let mut config = settings(&[]);
    config.limits.max_listeners = 1;
    let server = Server::start_with(config).await;
    let only = server.create(CreateListenerRequest::default()).await.listener.unwrap().name;
    let create = server.listeners().create_listener(CreateListenerRequest::default()).await;
    assert_eq!(explain(&create.unwrap_err()), no_room("LISTENER_QUOTA"));
    let watch = server.watch_with(WatchPeerStatusRequest::default()).await;
    assert_eq!(explain(&watch.err().unwrap()), no_room("LISTENER_QUOTA"));
    let destroy = DestroyListenerRequest { name: only, allow_missing: false };
    server.listeners().destroy_listener(destroy).await.unwrap();
    server.watch().await.synced().await;
    server.stop().await;
}

#[tokio::test]
async fn there_are_only_so_many_streams() {
    let mut config = settings(&[]);
    config.limits.max_streams = 1;
    let server = Server::start_with(config).await;
    let name = server.create(CreateListenerRequest::default()).await.listener.unwrap().name;
    let named = WatchPeerStatusRequest { listener: name, ..Default::default() };
    let mut only = server.watch_with(named.clone()).await.unwrap();
    only.synced().await;
    let other = server.create(CreateListenerRequest::default()).await.listener.unwrap().name;
    for request in
        [WatchPeerStatusRequest::default(), WatchPeerStatusRequest { listener: other, ..Default::default() }]
    {
        let watch = server.watch_with(request).await;
        assert_eq!(explain(&watch.err().unwrap()), no_room("STREAM_QUOTA"));
    }
    let wait = WaitForPoolRequest { name: "pools/default".into(), health: PoolHealth::Healthy.into() };
    assert_eq!(explain(&server.pools().wait_for_pool(wait).await.unwrap_err()), no_room("STREAM_QUOTA"));
    let takeover = WatchPeerStatusRequest { takeover: true, ..named };
    server.watch_with(takeover).await.expect("it takes the place that there is").synced().await;
    server.stop().await;
}

#[tokio::test]
async fn a_cursor_that_the_log_has_left_behind_is_refused_if_that_is_the_policy() {
    let mut config = settings(&[]);
    config.history.changes = 2;
    let server = Server::start_with(config).await;
    let created = server.create(CreateListenerRequest::default()).await;
    for port in 1..=3 {
        let request = AddPeerRequest { host: "127.0.0.1".into(), port, ..Default::default() };
        server.pools().add_peer(request).await.unwrap();
    }
    let request = WatchPeerStatusRequest {
        listener: created.listener.unwrap().name,
        resume_after: created.cursor,
        gap_policy: GapPolicy::Fail.into(),
        ..Default::default()
    };
    let status = server.watch_with(request.clone()).await.err().unwrap();
    assert_eq!(explain(&status), (Code::OutOfRange, "CURSOR_COMPACTED".into(), vec![]));
    let policy = GapPolicy::Resnapshot.into();
    let mut watch = server
        .watch_with(WatchPeerStatusRequest { gap_policy: policy, stop_after_sync: true, ..request })
        .await
        .unwrap();
    assert_eq!(watch.synced().await.len(), 3, "otherwise a snapshot takes the place of what is missing");
    server.stop().await;
}

/// The services, as functions, with the pool `default` that nobody runs: whatever got to it would wait for ever.
fn api() -> Api {
    let hub = Arc::new(Hub::new(1, 16));
    let listeners = Listeners::new(
        Arc::clone(&hub),
        ListenerLimits { listeners: 9, per_owner: 9, streams: 9, streams_per_owner: 9 },
    );
    let loaded = LoadedConfig::new(settings(&["127.0.0.1:1".into()])).unwrap();
    let config = loaded.pools().next().unwrap();
    let (limits, stop) = (DialLimits::for_files(64), CancellationToken::new());
    let (handle, _) = pool::open(
        config,
        limits,
        Arc::clone(&hub),
        &PeerMetrics::default(),
        LogBudget::default(),
        TaskTracker::new(),
        stop,
    );
    let pools = Arc::new(BTreeMap::from([("default".into(), handle)]));
    Api { hub, listeners, pools, metrics: WatchMetrics::default(), draining: watch::channel(false).1 }
}

#[tokio::test]
async fn a_stream_that_the_log_has_left_behind_ends_if_that_is_the_policy() {
    let api = api();
    let request = WatchPeerStatusRequest { gap_policy: GapPolicy::Fail.into(), ..Default::default() };
    let mut listeners = PeerStatusServiceClient::new(api.clone().routes());
    let mut stream = listeners.watch_peer_status(Request::new(request)).await.unwrap().into_inner();
    for port in 1..=17 {
        let address = PeerAddress::new("leaf-101", port).unwrap();
        let what = Update::added(PeerOrigin::Configured);
        api.hub.publish(PeerUpdate { pool: "default".into(), address, at: SystemTime::now(), what }).unwrap();
    }
    let end = within("the end", async {
        loop {
            if let Err(status) = stream.next().await.expect("no end without a word") {
                break status;
            }
        }
    });
    assert_eq!(explain(&end.await), (Code::OutOfRange, "CURSOR_COMPACTED".into(), vec![]));
}

/// Those of a process that is stopping. Once it does, no connection takes up another call, and those on their way are
/// too quick to be caught.
fn stopping() -> Api {
    let api = api();
    api.listeners.drain();
    Api { draining: watch::channel(true).1, ..api }
}

async fn end<T>(call: impl Future<Output = Result<Response<T>, Status>>) -> Option<Status> {
    within("an answer", call).await.err()
}

#[tokio::test]
async fn a_service_that_is_stopping_begins_nothing_and_changes_nothing() {
    let api = stopping();
    let mut listeners = PeerStatusServiceClient::new(api.clone().routes());
    let mut pools = PoolServiceClient::new(api.routes());
    let add = AddPeerRequest { host: "leaf-101".into(), port: 8009, ..Default::default() };
    let remove = RemovePeerRequest { name: "pools/default/peers/127.0.0.1:1".into() };
    let wait =
        |health: PoolHealth| WaitForPoolRequest { name: "pools/default".into(), health: health.into() };
    let watch = WatchPeerStatusRequest::default();
    let refusals = [
        (
            "CreateListener",
            end(listeners.create_listener(Request::new(CreateListenerRequest::default()))).await,
        ),
        ("WatchPeerStatus", end(listeners.watch_peer_status(Request::new(watch))).await),
        ("WaitForPool", end(pools.wait_for_pool(Request::new(wait(PoolHealth::Healthy)))).await),
        ("WaitForPool", end(pools.wait_for_pool(Request::new(wait(PoolHealth::Down)))).await),
        ("AddPeer", end(pools.add_peer(Request::new(add))).await),
        ("RemovePeer", end(pools.remove_peer(Request::new(remove))).await),
        ("ResetPeers", end(pools.reset_peers(Request::new(ResetPeersRequest::default()))).await),
    ];
    for (call, status) in refusals {
        let status = status.unwrap_or_else(|| panic!("{call} was answered"));
        assert_eq!(explain(&status), (Code::Unavailable, "DRAINING".into(), vec![]), "{call}");
    }
    let get = GetPoolRequest { name: "pools/default".into() };
    assert!(pools.get_pool(Request::new(get)).await.is_ok(), "what is only read is answered to the end");
    assert!(pools.list_peers(Request::new(ListPeersRequest::default())).await.is_ok());
}
