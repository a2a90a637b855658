//! The lifecycle of a peer, as seen by a client.

use opflex_peerstatus::api::pb::{
    GetPeerRequest, PeerOrigin,
    PeerStatus::{Connected, Connecting, Ready},
    PoolHealth::{Degraded, Down, Healthy},
    Reason::{Added, ConnectFailed, Dialing, HandshakeComplete, RemoteClosed, TcpEstablished},
    Role,
};

use crate::support::{Health, ScriptedPeer, Seen, Server, sim, sims};

const fn seen(
    status: opflex_peerstatus::api::pb::PeerStatus,
    reason: opflex_peerstatus::api::pb::Reason,
    health: Option<Health>,
) -> Seen {
    Seen { status, reason, health }
}

#[tokio::test]
async fn a_peer_that_dies_and_comes_back_is_heard_of_in_order() {
    let mut peer = sim();
    let address = peer.address().to_string();
    peer.stop().await;
    let server = Server::start(std::slice::from_ref(&address)).await;
    let mut watch = server.watch().await;
    watch.synced().await;

    peer.restart().await.unwrap();
    watch.until(&address, Connected, TcpEstablished).await;
    assert_eq!(watch.seen(&address).await, seen(Ready, HandshakeComplete, Some((Down, Healthy, 1, 1))));

    peer.stop().await;
    assert_eq!(watch.seen(&address).await, seen(Connecting, RemoteClosed, Some((Healthy, Down, 0, 1))));
    assert_eq!(watch.seen(&address).await, seen(Connecting, ConnectFailed, None));

    peer.restart().await.unwrap();
    assert_eq!(watch.seen(&address).await, seen(Connected, TcpEstablished, None));
    assert_eq!(watch.seen(&address).await, seen(Ready, HandshakeComplete, Some((Down, Healthy, 1, 1))));
    server.stop().await;
}

#[tokio::test]
async fn a_new_peer_is_added_dialed_and_connected_in_the_log() {
    let mut peer = ScriptedPeer::listen().await;
    let address = peer.address();
    let server = Server::start(std::slice::from_ref(&address)).await;
    let id = peer.greeted().await;
    let mut watch = server.watch().await;
    watch.synced().await;
    // From the very first change on: revision 0 is before it.
    let mut all = server
        .watch_with(opflex_peerstatus::api::pb::WatchPeerStatusRequest {
            resume_after: Some(opflex_peerstatus::api::pb::Cursor { revision: 0, ..watch.cursor() }),
            ..Default::default()
        })
        .await
        .unwrap();
    peer.answer_well(&id).await;
    assert_eq!(all.seen(&address).await, seen(Connecting, Added, None));
    assert_eq!(all.seen(&address).await, seen(Connecting, Dialing, None));
    assert_eq!(all.seen(&address).await, seen(Connected, TcpEstablished, None));
    assert_eq!(all.seen(&address).await, seen(Ready, HandshakeComplete, Some((Down, Healthy, 1, 1))));
    assert_eq!(watch.seen(&address).await, seen(Ready, HandshakeComplete, Some((Down, Healthy, 1, 1))));
    server.stop().await;
}

#[tokio::test]
async fn a_learned_peer_is_added_and_the_pool_goes_from_degraded_to_healthy() {
    let (mut first, second) = {
        let mut peers = sims(2);
        let second = peers.pop().unwrap();
        (peers.pop().unwrap(), second)
    };
    let (configured, learned) = (first.address().to_string(), second.address().to_string());
    first.stop().await;
    let server = Server::start(std::slice::from_ref(&configured)).await;
    let mut watch = server.watch().await;
    watch.synced().await;
    first.restart().await.unwrap();

    let added = watch.until_added().await;
    assert_eq!(added.name, format!("pools/default/peers/{learned}"));
    assert_eq!(added.origin(), PeerOrigin::Learned);
    // The first peer's READY counts the second one already: the pool was never healthy in between.
    assert_eq!(watch.seen(&configured).await, seen(Ready, HandshakeComplete, Some((Down, Degraded, 1, 2))));
    watch.until_health(Healthy).await;

    let name = added.name;
    let peer = server.pools().get_peer(GetPeerRequest { name }).await.unwrap().into_inner().peer.unwrap();
    assert_eq!((peer.status(), peer.origin()), (Ready, PeerOrigin::Learned));
    assert!(peer.roles().any(|role| role == Role::PolicyRepository));
    let pool = server.pool().await;
    assert_eq!((pool.ready_count, pool.peer_count, pool.health()), (2, 2, Healthy));
    assert_eq!(pool.identity.unwrap().location, "simulated", "learned from the peers");
    server.stop().await;
}

#[tokio::test]
async fn identity_and_echo_go_out_as_the_reference_sends_them_and_numbers_go_on() {
    let mut peer = ScriptedPeer::listen().await;
    let server = Server::start(&[peer.address()]).await;
    peer.accept().await;
    let echo = peer.receive().await;
    assert_eq!((&echo["id"], &echo["method"]), (&serde_json::json!(["echo", 0]), &serde_json::json!("echo")));
    let identity = peer.receive().await;
    assert_eq!(identity["id"], serde_json::json!(["send_identity", 1]));
    let expected = serde_json::json!([{
        "proto_version": "1.0", "name": "test", "domain": "default", "my_role": ["policy_element"],
        "data": { "mac": "00:00:00:00:00:00", "features": ["anycastFallback"] },
    }]);
    assert_eq!(identity["params"], expected);
    peer.send(b"{\"id\":[\"echo\",0],\"method\":\"echo\",\"params\":[1.50, \"x\"]}\0").await;
    let answer = peer.receive().await;
    assert_eq!(answer, serde_json::json!({ "id": ["echo", 0], "result": [1.50, "x"] }));
    peer.accept().await;
    assert_eq!(peer.receive().await["id"], serde_json::json!(["echo", 1]));
    assert_eq!(peer.receive().await["id"], serde_json::json!(["send_identity", 2]));
    server.stop().await;
}
