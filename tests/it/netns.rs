//! Network faults: links go down, packets are lost in one or both directions, names change their address. And clients of
//! several addresses.

use std::{future::Future, time::Duration};

use opflex_peerstatus::api::pb::{
    PeerStatus::{Connected, Connecting, Ready},
    Reason::{ConnectFailed, ConnectTimeout, HandshakeComplete, KeepaliveTimeout, TcpEstablished},
};
use tokio::time::{interval, timeout};

use crate::support::{Direction, Network};

/// Timers of the services here: a fraction of the defaults, so that what follows from these can be told from what
/// follows from those.
const CONNECT: Duration = Duration::from_secs(1);
const HANDSHAKE: Duration = Duration::from_secs(2);
const KEEPALIVE: Duration = Duration::from_secs(2);
const ECHO: Duration = Duration::from_millis(500);
/// The longest pause between two attempts in a small pool: the documented one.
const BACKOFF_CAP: Duration = Duration::from_secs(1);
/// What a machine with other things to do may add.
const SLACK: Duration = Duration::from_secs(15);

/// The attempt that is under way when the network returns may still fail; the one after it succeeds.
const FOUND_WITHIN: Duration = CONNECT
    .saturating_add(BACKOFF_CAP)
    .saturating_add(CONNECT)
    .saturating_add(HANDSHAKE)
    .saturating_add(SLACK);
const MISSED_WITHIN: Duration = KEEPALIVE.saturating_add(SLACK);
const TIMED_OUT_WITHIN: Duration = BACKOFF_CAP.saturating_add(CONNECT).saturating_add(SLACK);

/// Settings for a service with these peers.
fn config(peers: &[&str]) -> String {
    format!(
        "[[pool]]\npeers = {peers:?}\n[pool.timers]\nconnect = \"{CONNECT:?}\"\nhandshake = \"{HANDSHAKE:?}\"\n\
         keepalive = \"{KEEPALIVE:?}\"\necho = \"{ECHO:?}\"\n"
    )
}

/// Holds what must come to its limit.
async fn in_time<T>(what: &str, limit: Duration, future: impl Future<Output = T>) -> T {
    timeout(limit, future).await.unwrap_or_else(|_| panic!("{what}: not within {limit:?}"))
}

#[tokio::test]
async fn a_peer_whose_cable_comes_out_is_missed_in_time_and_found_again_when_it_is_back() {
    let Some(network) = Network::with_peers(1) else { return };
    let _sim = network.simulate(0, &network.address(0)).await;
    let peer = format!("{}:8009", network.address(0));
    let mut service = network.observe(&config(&[&peer])).await;
    in_time("the peer", FOUND_WITHIN, service.until(&peer, Ready, HandshakeComplete)).await;
    for _ in 0..2 {
        network.unplug(0);
        let missed = service.until(&peer, Connecting, KeepaliveTimeout);
        let detail = in_time("the loss", MISSED_WITHIN, missed).await;
        assert_eq!(detail, "no frame received for 2s");
        network.plug(0);
        in_time("the return", FOUND_WITHIN, service.until(&peer, Ready, HandshakeComplete)).await;
    }
}

#[tokio::test]
async fn a_peer_whose_packets_vanish_is_missed_though_it_hears_us() {
    one_way(Direction::FromPeer).await;
}

#[tokio::test]
async fn a_peer_that_our_packets_do_not_reach_is_missed() {
    one_way(Direction::ToPeer).await;
}

/// Packets vanish in one direction for a while.
async fn one_way(direction: Direction) {
    let Some(network) = Network::with_peers(1) else { return };
    let _sim = network.simulate(0, &network.address(0)).await;
    let peer = format!("{}:8009", network.address(0));
    let mut service = network.observe(&config(&[&peer])).await;
    in_time("the peer", FOUND_WITHIN, service.until(&peer, Ready, HandshakeComplete)).await;
    network.lose(0, direction);
    // The peer's own echo may come between, once.
    let missed = service.until(&peer, Connecting, KeepaliveTimeout);
    in_time("the loss", MISSED_WITHIN + KEEPALIVE, missed).await;
    let timed_out = service.until(&peer, Connecting, ConnectTimeout);
    let detail = in_time("the failure to connect", TIMED_OUT_WITHIN, timed_out).await;
    assert_eq!(detail, format!("no answer from {peer} within 1s"));
    network.lose_no_more(0, direction);
    in_time("the return", FOUND_WITHIN, service.until(&peer, Ready, HandshakeComplete)).await;
}

#[tokio::test]
async fn a_peer_whose_name_moves_to_another_address_is_found_there() {
    let Some(network) = Network::with_peers(2) else { return };
    network.name("leaf", 0);
    let mut service = network.observe(&config(&["leaf:8009"])).await;
    // It comes up when the watch is there, which thereby hears where.
    in_time("a refusal", FOUND_WITHIN, service.until("leaf:8009", Connecting, ConnectFailed)).await;
    let _sims = [network.simulate(0, "leaf").await, network.simulate(1, "leaf").await];
    let found = service.until("leaf:8009", Connected, TcpEstablished);
    assert_eq!(in_time("the peer", FOUND_WITHIN, found).await, format!("at {}:8009", network.address(0)));
    in_time("the peer", FOUND_WITHIN, service.until("leaf:8009", Ready, HandshakeComplete)).await;
    network.name("leaf", 1);
    network.unplug(0);
    in_time("the loss", MISSED_WITHIN, service.until("leaf:8009", Connecting, KeepaliveTimeout)).await;
    let found = service.until("leaf:8009", Connected, TcpEstablished);
    assert_eq!(in_time("the move", FOUND_WITHIN, found).await, format!("at {}:8009", network.address(1)));
    in_time("the return", FOUND_WITHIN, service.until("leaf:8009", Ready, HandshakeComplete)).await;
}

#[tokio::test]
async fn a_peer_that_never_answers_does_not_disturb_another_one() {
    let Some(network) = Network::with_peers(2) else { return };
    let _sims =
        [network.simulate(0, &network.address(0)).await, network.simulate(1, &network.address(1)).await];
    let [well, lost] = [0, 1].map(|n| format!("{}:8009", network.address(n)));
    network.lose(1, Direction::ToPeer);
    let mut service = network.observe(&config(&[&well, &lost])).await;
    in_time("the good peer", FOUND_WITHIN, service.until(&well, Ready, HandshakeComplete)).await;
    let fails = async {
        let mut looks = interval(ECHO);
        loop {
            looks.tick().await;
            let told = service.peer(&lost).await;
            if told["consecutiveFailures"].as_u64() >= Some(3) {
                return told;
            }
        }
    };
    let told = in_time("three failures", 3 * TIMED_OUT_WITHIN, fails).await;
    assert_eq!(told["reason"], ConnectTimeout.as_str_name());
    network.lose_no_more(1, Direction::ToPeer);
    let undisturbed = async {
        loop {
            let told = service.next().await;
            assert!(!told["name"].as_str().unwrap().ends_with(&well), "disturbed: {told}");
            if told["status"] == Ready.as_str_name() {
                return;
            }
        }
    };
    in_time("the other peer", FOUND_WITHIN, undisturbed).await;
}

#[tokio::test]
async fn an_address_has_only_so_many_connections_and_another_has_as_many() {
    let Some(network) = Network::with_peers(2) else { return };
    let config = "[server]\ninsecure = true\n[server.auth]\nanonymous = \"viewer\"\n[limits]\nmax_connections_per_source = 2\n";
    let (_service, address) = network.serve("0.0.0.0:0", config).await;
    let port = address.rsplit(':').next().unwrap();
    let servers = [0, 1].map(|peer| format!("{}:{port}", network.service_address(peer)));
    let mut watches = Vec::new();
    for peer in [0, 0, 1] {
        let mut watch = network.start_at(peer, &["watch", "-o", "json", "--server", &servers[peer]]);
        assert!(watch.line().await.is_some());
        watches.push(watch);
    }
    let asked =
        async |peer: usize| network.succeeds_at(peer, &["pool", "list", "--server", &servers[peer]]).await;
    assert_eq!((asked(0).await, asked(1).await), (false, true));
    drop(watches);
    in_time("a place", SLACK, async { while !asked(0).await {} }).await;
}
