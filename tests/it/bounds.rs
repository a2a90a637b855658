//! Limits per client and for all clients: excess requests wait, and no connection is closed.

use std::{
    future::Future,
    net::{IpAddr, UdpSocket},
    pin::pin,
    task::Poll,
};

use futures_util::future::select_all;
use opflex_peerstatus::api::pb::{
    AddPeerRequest, GetPoolRequest, ListPeersRequest, WatchPeerStatusRequest,
    peer_status_service_client::PeerStatusServiceClient, pool_service_client::PoolServiceClient,
};
use opflex_peerstatus::auth::AccessRole;
use tonic::{Code, Request, transport::Channel};

use crate::support::{
    RawClient, Server, Watch, explain, peerstatus,
    raw::{DATA, END_STREAM, HEADERS, LARGEST_WINDOW},
    report_skipped, settings, within,
};

const CHECK: &str = "/grpc.health.v1.Health/Check";
const REFLECTION: &str = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";

fn pool() -> GetPoolRequest {
    GetPoolRequest { name: "pools/default".into() }
}

/// Whether it is still waiting, some round trips of another client later.
async fn waits<F: Future + Unpin>(server: &Server, future: &mut F) -> bool {
    for _ in 0..20 {
        if matches!(futures_util::poll!(&mut *future), Poll::Ready(_)) {
            return false;
        }
        server.pools().get_pool(pool()).await.unwrap();
    }
    true
}

#[tokio::test]
async fn there_are_only_so_many_connections_and_the_next_waits_for_its_turn() {
    let mut config = settings(&[]);
    config.limits.max_connections = 1;
    let server = Server::start_with(config).await;
    server.pools().get_pool(pool()).await.unwrap();
    let address = format!("http://{}", server.address());
    let next = async {
        let channel = Channel::from_shared(address).unwrap().connect().await.unwrap();
        PoolServiceClient::new(channel).get_pool(pool()).await
    };
    let mut next = pin!(next);
    assert!(waits(&server, &mut next).await);
    let server = server.without_client();
    within("its turn", next).await.unwrap();
    server.stop().await;
}

/// An address of this machine that others could use. `None` if it has no network. Nothing is sent.
fn own_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    Some(socket.local_addr().ok()?.ip()).filter(|own| !own.is_loopback())
}

#[tokio::test]
async fn an_address_has_only_so_many_connections_and_others_are_served() {
    let Some(own) = own_address() else {
        return report_skipped("needs an address beside loopback; see the test of the same in netns.rs");
    };
    let mut config = settings(&[]);
    config.server.listen = "0.0.0.0:0".parse().unwrap();
    config.server.insecure = true;
    config.server.auth.anonymous = Some(AccessRole::Viewer);
    config.limits.max_connections_per_source = 2;
    let server = Server::start_with(config).await;
    let port = server.address().port();
    let connect = async |host: IpAddr| {
        let channel = Channel::from_shared(format!("http://{host}:{port}")).unwrap().connect().await?;
        let mut client = PoolServiceClient::new(channel);
        client.get_pool(pool()).await?;
        Ok::<_, Box<dyn std::error::Error>>(client)
    };
    let first = connect(own).await.unwrap();
    let second = connect(own).await.unwrap();
    assert!(within("a refusal", connect(own)).await.is_err());
    for _ in 0..4 {
        within("loopback", connect([127, 0, 0, 1].into())).await.unwrap();
    }
    drop(first);
    within("a place", async { while connect(own).await.is_err() {} }).await;
    drop(second);
    server.stop().await;
}

#[tokio::test]
async fn a_connection_has_only_so_many_streams_and_the_next_waits_for_its_turn() {
    let server = Server::start(&[]).await;
    let address = format!("http://{}", server.address());
    let channel = Channel::from_shared(address).unwrap().connect().await.unwrap();
    let mut one = PeerStatusServiceClient::new(channel);
    let mut watches = Vec::new();
    for _ in 0..128 {
        watches.push(one.watch_peer_status(WatchPeerStatusRequest::default()).await.unwrap());
    }
    let mut clone = one.clone();
    let mut next = pin!(clone.watch_peer_status(WatchPeerStatusRequest::default()));
    assert!(waits(&server, &mut next).await);
    watches.pop();
    within("its turn", next).await.unwrap();
    drop((watches, one));
    server.stop().await;
}

#[tokio::test]
async fn headers_beyond_measure_are_refused_and_the_connection_stays() {
    let server = Server::start(&[]).await;
    let mut long = Request::new(pool());
    long.metadata_mut().insert("x", "x".repeat(20 * 1024).parse().unwrap());
    within("a refusal", server.pools().get_pool(long)).await.unwrap_err();
    server.pools().get_pool(pool()).await.unwrap();
    server.stop().await;
}

/// Whoever sends what is too long over and over keeps the watch that it has on the same connection.
#[tokio::test]
async fn requests_beyond_measure_are_refused_and_the_watch_beside_them_stays() {
    let server = Server::start(&[]).await;
    let channel =
        Channel::from_shared(format!("http://{}", server.address())).unwrap().connect().await.unwrap();
    let mut watches = PeerStatusServiceClient::new(channel.clone());
    let watch = watches.watch_peer_status(WatchPeerStatusRequest::default()).await.unwrap().into_inner();
    let mut watch = Watch::new(watch);
    watch.synced().await;
    let mut pools = PoolServiceClient::new(channel);
    let long = ListPeersRequest { page_token: "x".repeat(200 * 1024), ..Default::default() };
    for _ in 0..1100 {
        let refusal = within("a refusal", pools.list_peers(long.clone())).await.unwrap_err();
        assert_eq!(explain(&refusal), (Code::InvalidArgument, "REQUEST_TOO_LARGE".to_owned(), vec![]));
    }
    let add = AddPeerRequest { parent: "pools/default".into(), host: "127.0.0.1".into(), port: 1 };
    pools.add_peer(add).await.unwrap();
    watch.change().await;
    server.stop().await;
}

#[tokio::test]
async fn calls_that_need_no_credentials_and_stall_keep_no_health_check_out() {
    let server = Server::start(&[]).await;
    let address = server.address();
    let mut idle = Vec::new();
    for _ in 0..9 {
        let mut client = RawClient::connect(address, LARGEST_WINDOW).await;
        for number in 0..128 {
            client.begin(2 * number + 1, REFLECTION).await;
        }
        idle.push(client);
    }
    let health = peerstatus(&["--server", &address.to_string(), "health", "--timeout", "20s"]).await;
    assert!(health.status.success(), "{health:?}");
    drop(idle);
    // They announce all that all of them together may have: long messages until one is refused, and then shorter ones.
    let mut greedy = Vec::new();
    for (connections, length) in [(5, 0xffff_u32), (1, 0x1000), (1, 0x400), (1, 64), (1, 0)] {
        let first = greedy.len();
        for _ in 0..connections {
            let mut client = RawClient::connect(address, LARGEST_WINDOW).await;
            for number in 0..32 {
                client.begin(2 * number + 1, CHECK).await;
                client.send(DATA, 0, 2 * number + 1, &[&[0][..], &length.to_be_bytes()].concat()).await;
            }
            greedy.push(client);
        }
        if length >= 0x400 {
            let refusals = greedy[first..].iter_mut().map(|client| {
                Box::pin(async { while client.any_frame().await.expect("a connection").kind != HEADERS {} })
            });
            within("a refusal", select_all(refusals)).await;
        }
    }
    let health = peerstatus(&["--server", &address.to_string(), "health", "--timeout", "20s"]).await;
    assert!(health.status.success(), "{health:?}");
    drop(greedy);
    // They end with the service, too.
    let mut idle = RawClient::connect(address, LARGEST_WINDOW).await;
    idle.begin(1, REFLECTION).await;
    within("the beginning of the stream", async { while idle.frame().await.unwrap().kind != HEADERS {} })
        .await;
    server.begin_stop();
    within("the end of the stream", async {
        while idle.frame().await.expect("trailers come first").flags & END_STREAM == 0 {}
    })
    .await;
    idle.ended().await;
    server.stop().await;
}
