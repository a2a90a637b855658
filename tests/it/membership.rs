//! Membership of a pool: peers are learned, parked, given up, found again, added, removed, reset.

use std::time::Duration;

use opflex_peerstatus::{
    api::pb::{
        AddPeerRequest, ChangeKind, Cursor, GetPoolRequest, ListPeersRequest, Peer, PeerOrigin,
        PeerStatus::{Closing, Connected, Connecting, Disconnected, Ready},
        PoolHealth::{Degraded, Healthy},
        Reason::{self, ConnectFailed, Dialing, HandshakeComplete, NotInPeerList, RemovedByClient},
        RemovePeerRequest, ResetPeersRequest, ResetScope, WatchPeerStatusRequest,
    },
    opflex::ElementMode,
    sim::{Behaviour, SimPeer},
};
use serde_json::json;
use tonic::Code;

use crate::support::{ScriptedPeer, Server, peerstatus, settings, sim, sims};

fn host_port(peer: &SimPeer) -> (String, u16) {
    (peer.address().ip().to_string(), peer.address().port())
}

async fn listed(server: &Server) -> Vec<Peer> {
    server.pools().list_peers(ListPeersRequest::default()).await.unwrap().into_inner().peers
}

#[tokio::test]
async fn a_dead_learned_peer_stays_counts_and_is_ready_again_when_it_comes_back() {
    let mut peers = sims(2);
    let [first, second] = [0, 1].map(|index| peers[index].address().to_string());
    peers[1].stop().await;
    peers[0].stop().await;
    let server = Server::start(&[first]).await;
    let mut watch = server.watch().await;
    watch.synced().await;
    peers[0].restart().await.unwrap();

    watch.until(&second, Connecting, ConnectFailed).await;
    let dead = loop {
        let peers = listed(&server).await;
        let dead = peers.into_iter().find(|peer| peer.name.ends_with(&second)).unwrap();
        if dead.consecutive_failures > 5 {
            break dead;
        }
    };
    assert_eq!((dead.status(), dead.wanted), (Connecting, true));
    assert_eq!(dead.last_failure.unwrap().reason(), ConnectFailed);
    assert!(dead.not_ready_since.is_some() && dead.failure_count >= u64::from(dead.consecutive_failures));
    let pool = server.pools().get_pool(GetPoolRequest { name: "pools/default".into() }).await.unwrap();
    let pool = pool.into_inner().pool.unwrap();
    assert_eq!((pool.health(), pool.ready_count, pool.peer_count), (Degraded, 1, 2));
    assert!(pool.not_healthy_since.is_some());

    peers[1].restart().await.unwrap();
    watch.until(&second, Ready, HandshakeComplete).await;
    let pool = server.pools().get_pool(GetPoolRequest { name: "pools/default".into() }).await.unwrap();
    assert_eq!(pool.into_inner().pool.unwrap().health(), Healthy);
    server.stop().await;
}

#[tokio::test]
async fn the_anycast_address_is_parked_and_asked_again_when_a_leaf_is_lost() {
    let (mut anycast, mut leaf) = (sim(), sim());
    let (any, real) = (anycast.address().to_string(), leaf.address().to_string());
    anycast.set_peers(vec![host_port(&leaf)]);
    anycast.stop().await;
    let server = Server::start(std::slice::from_ref(&any)).await;
    let mut watch = server.watch().await;
    watch.synced().await;
    anycast.restart().await.unwrap();

    let detail = format!("it lists {real}, not {any}");
    assert_eq!(watch.until(&any, Closing, NotInPeerList).await.detail, detail);
    assert_eq!(watch.until(&any, Disconnected, NotInPeerList).await.detail, detail);
    watch.until(&real, Ready, HandshakeComplete).await;
    let peers = listed(&server).await;
    assert_eq!(peers.len(), 2, "the parked one is still listed");
    let (host, port) = host_port(&anycast);
    let add = AddPeerRequest { host, port: port.into(), ..Default::default() };
    assert_eq!(server.pools().add_peer(add).await.unwrap_err().code(), Code::AlreadyExists);

    // The leaf goes for good, and another one takes its place.
    leaf.stop().await;
    let other = sim();
    anycast.set_peers(vec![host_port(&other)]);
    watch.until(&real, Closing, NotInPeerList).await;
    watch.until(&other.address().to_string(), Ready, HandshakeComplete).await;
    server.stop().await;
}

#[tokio::test]
async fn the_anycast_address_is_asked_again_while_nobody_is_ready_though_nobody_fails() {
    let (mut anycast, leaf) = (sim(), sim());
    let any = anycast.address().to_string();
    leaf.set_behaviour(Behaviour::Silent);
    anycast.set_peers(vec![host_port(&leaf)]);
    anycast.stop().await;
    let mut config = settings(std::slice::from_ref(&any));
    config.pools[0].rediscovery_interval = Duration::from_millis(200);
    let server = Server::start_with(config).await;
    let mut watch = server.watch().await;
    watch.synced().await;
    anycast.restart().await.unwrap();

    watch.until(&any, Disconnected, NotInPeerList).await;
    let other = sim();
    anycast.set_peers(vec![host_port(&other)]);
    watch.until(&any, Connecting, Dialing).await;
    watch.until(&other.address().to_string(), Ready, HandshakeComplete).await;
    server.stop().await;
}

#[tokio::test]
async fn a_learned_peer_that_the_newest_list_leaves_out_goes() {
    let mut peers = sims(3);
    let [first, second, third] = [0, 1, 2].map(|index| peers[index].address().to_string());
    let server = Server::start(std::slice::from_ref(&first)).await;
    let mut watch = server.watch().await;
    watch.until_ready(&third).await;
    for index in [0, 1] {
        peers[index].set_peers(vec![host_port(&peers[0]), host_port(&peers[1])]);
    }
    peers[0].restart().await.unwrap();
    let gone = watch.until(&third, Closing, NotInPeerList).await;
    let told = [&first, &second].map(|teller| gone.detail.starts_with(&format!("{teller} lists ")));
    assert!(told.contains(&true) && gone.detail.ends_with(&format!(", not {third}")), "{}", gone.detail);
    let names: Vec<_> = listed(&server).await.into_iter().map(|peer| peer.name).collect();
    assert!(names.iter().any(|name| name.ends_with(&second)) && names.len() == 2, "{names:?}");
    server.stop().await;
}

#[tokio::test]
async fn a_peer_is_added_and_removed_and_its_connection_closes_last() {
    let mut peer = ScriptedPeer::listen().await;
    let address: std::net::SocketAddr = peer.address().parse().unwrap();
    let server = Server::start(&[]).await;
    let mut watch = server.watch().await;
    watch.synced().await;
    let add =
        AddPeerRequest { host: address.ip().to_string(), port: address.port().into(), ..Default::default() };
    let added = server.pools().add_peer(add.clone()).await.unwrap().into_inner().peer.unwrap();
    assert_eq!(added.origin(), PeerOrigin::Configured);
    // It is dialled at once, and may be there already.
    let status = added.status();
    assert!(matches!(status, Connecting | Connected), "{status:?}");
    watch.until(&peer.address(), Connecting, Dialing).await;
    let id = peer.greeted().await;
    peer.answer_well(&id).await;
    watch.until(&peer.address(), Ready, HandshakeComplete).await;

    server.pools().remove_peer(RemovePeerRequest { name: added.name }).await.unwrap();
    watch.until(&peer.address(), Closing, RemovedByClient).await;
    let (change, _) = watch.change().await;
    assert_eq!(change.peer.unwrap().kind(), ChangeKind::Removed);
    peer.closed().await;
    assert!(listed(&server).await.is_empty());
    server.stop().await;
}

#[tokio::test]
async fn a_learned_peer_that_is_added_becomes_a_configured_one() {
    let peers = sims(2);
    let server = Server::start(&[peers[0].address().to_string()]).await;
    let mut watch = server.watch().await;
    let learned = peers[1].address();
    watch.until_ready(&learned.to_string()).await;
    let add =
        AddPeerRequest { host: learned.ip().to_string(), port: learned.port().into(), ..Default::default() };
    let peer = server.pools().add_peer(add).await.unwrap().into_inner().peer.unwrap();
    assert_eq!((peer.origin(), peer.status()), (PeerOrigin::Configured, Ready), "and it stays connected");
    let change = watch.change().await.0.peer.unwrap();
    assert_eq!((change.kind(), change.previous_status()), (ChangeKind::Origin, Ready));
    assert_eq!(change.peer.unwrap().origin(), PeerOrigin::Configured);
    server.stop().await;
}

#[tokio::test]
async fn a_reset_closes_and_dials_again_and_is_no_failure() {
    let peers = sims(2);
    let [first, second] = [0, 1].map(|index| peers[index].address().to_string());
    let server = Server::start(std::slice::from_ref(&first)).await;
    let mut watch = server.watch().await;
    watch.until_ready(&second).await;
    let name = format!("pools/default/peers/{first}");
    let named =
        ResetPeersRequest { scope: ResetScope::Named.into(), names: vec![name], ..Default::default() };
    assert_eq!(server.pools().reset_peers(named).await.unwrap().into_inner().reset_count, 1);
    assert_eq!(watch.until(&first, Connecting, Reason::Reset).await.consecutive_failures, 0);
    watch.until(&first, Ready, HandshakeComplete).await;

    let learned = server.pools().reset_peers(ResetPeersRequest::default()).await.unwrap().into_inner();
    assert_eq!(learned.reset_count, 1, "the learned one goes, the READY one that told of it stays connected");
    watch.until(&second, Closing, Reason::Reset).await;
    watch.until(&second, Ready, HandshakeComplete).await;
    server.stop().await;
}

#[tokio::test]
async fn lists_that_disagree_come_to_rest() {
    let peers = sims(3);
    let [a, b, c] = [0, 1, 2].map(|index| host_port(&peers[index]));
    peers[0].set_peers(vec![a.clone(), b.clone()]);
    peers[1].set_peers(vec![b.clone(), c.clone()]);
    peers[2].set_peers(vec![c]);
    let server = Server::start(&[peers[0].address().to_string()]).await;
    let mut watch = server.watch().await;
    watch.synced().await;
    // From the beginning: it may all have happened before there was a watch.
    let resume_after = Some(Cursor { revision: 0, ..watch.cursor() });
    let request = WatchPeerStatusRequest { resume_after, ..Default::default() };
    let mut watch = server.watch_with(request).await.expect("a watch");
    // a tells of b, b tells of c, and c of nobody, which sends b away.
    watch.until(&peers[1].address().to_string(), Disconnected, NotInPeerList).await;
    let names: Vec<_> = listed(&server).await.into_iter().map(|peer| peer.name).collect();
    assert_eq!(names.len(), 2, "{names:?}");
    server.stop().await;
}

#[tokio::test]
async fn bootstrap_addresses_that_tell_only_of_each_other_are_not_dialled_without_end() {
    let (first, second) = (sim(), sim());
    first.set_peers(vec![host_port(&second)]);
    second.set_peers(vec![host_port(&first)]);
    let server = Server::start(&[first.address().to_string(), second.address().to_string()]).await;
    let mut watch = server.watch().await;
    watch.synced().await;
    // A round is ten changes or so, and each pause longer than the one before: a second has room for a few rounds,
    // and not for the thousands that there would be without.
    let mut changes = 0;
    let second_over = tokio::time::sleep(std::time::Duration::from_secs(1));
    tokio::pin!(second_over);
    loop {
        tokio::select! {
            () = &mut second_over => break,
            _ = watch.change() => changes += 1,
        }
    }
    assert!(changes < 500, "{changes} changes in a second");
    server.stop().await;
}

#[tokio::test]
async fn a_pool_can_be_changed_from_a_shell() {
    let peer = sim();
    let address = peer.address().to_string();
    let server = Server::start(&[]).await;
    let at = server.address().to_string();
    let run = async |args: &[&str]| {
        let output = peerstatus(&[args, &["--server", &at]].concat()).await;
        (output.status.code(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
    };
    let (code, told) = run(&["peers", "add", &address]).await;
    assert!(code == Some(0) && told.contains(&address), "{told}");
    let (code, told) = run(&["peers", "add", &format!("default/{address}")]).await;
    assert!(code == Some(1) && told.contains("PEER_EXISTS"), "{told}");
    server.watch().await.until_ready(&address).await;
    for name in [address.clone(), format!("default/{address}"), format!("pools/default/peers/{address}")] {
        let (code, told) = run(&["peers", "reset", &name]).await;
        assert!(code == Some(0) && told.contains('1'), "{told}");
    }
    let (code, told) = run(&["peers", "reset", "--all"]).await;
    assert!(code == Some(0) && told.contains('1'), "{told}");
    let (code, told) = run(&["peers", "remove", &address]).await;
    assert!(code == Some(0) && told.contains(&address), "{told}");
    let (code, told) = run(&["peers", "remove", &address]).await;
    assert!(code == Some(1) && told.contains("PEER_NOT_FOUND"), "{told}");
    assert_eq!(run(&["peers", "reset"]).await.0, Some(64), "of what?");
    server.stop().await;
}

#[tokio::test]
async fn in_transport_mode_nobody_is_ready_until_a_peer_has_told_of_the_proxies() {
    let (mut first, mut second) = (ScriptedPeer::listen().await, ScriptedPeer::listen().await);
    let mut config = settings(&[first.address(), second.address()]);
    config.pools[0].mode = ElementMode::Transport;
    let server = Server::start_with(config).await;
    let mut watch = server.watch().await;
    watch.synced().await;
    let id = first.greeted().await;
    first.answer_well(&id).await;
    let refused = watch.until(&first.address(), Connecting, Reason::ProtocolError).await;
    assert!(refused.detail.contains("proxy_v4"), "{}", refused.detail);
    assert_eq!(server.pool().await.proxies, None);

    let id = first.greeted().await;
    let list = json!([{ "connectivity_info": first.address() }, { "connectivity_info": second.address() }]);
    let data = json!({ "proxy_v4": "10.0.0.1", "proxy_v6": "10.0.0.2", "proxy_mac": "10.0.0.3" });
    first.answer(&id, &json!({ "data": data, "peers": list })).await;
    watch.until(&first.address(), Ready, Reason::HandshakeComplete).await;
    let told = server.pool().await.proxies.expect("proxies");
    assert_eq!([told.v4, told.v6, told.mac], ["10.0.0.1", "10.0.0.2", "10.0.0.3"]);

    // One is enough for the whole pool.
    let id = second.greeted().await;
    second.answer_well(&id).await;
    watch.until(&second.address(), Ready, Reason::HandshakeComplete).await;

    // Who starts over forgets them.
    server.pools().reset_peers(ResetPeersRequest::default()).await.expect("an answer");
    assert_eq!(server.pool().await.proxies, None);
    server.stop().await;
}
