//! An operator finds with the command line alone which peer is down, since when, and why.

use std::time::Duration;

use opflex_peerstatus::{
    api::pb::{ListPeersRequest, PeerStatus::Connecting, Reason},
    sim::{Behaviour, SimConfig, SimPeer},
};
use tokio::net::TcpSocket;

use crate::support::{Process, Server, anybody, peerstatus, peerstatus_with, settings, sim};

fn faulty(behaviour: Behaviour) -> SimPeer {
    SimPeer::start(SimConfig { behaviour, ..SimConfig::default() }).unwrap()
}

/// The standard output of a command that must succeed.
async fn told(server: &Server, args: &[&str]) -> String {
    let address = server.address().to_string();
    let output = peerstatus(&[args, &["--server", &address]].concat()).await;
    assert_eq!(output.status.code(), Some(0), "{args:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test]
async fn the_list_of_peers_alone_names_each_fault_and_its_cause() {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let dead = socket.local_addr().unwrap().to_string();
    let good = sim();
    let peers = [Behaviour::Flap(Duration::ZERO), Behaviour::RejectIdentity, Behaviour::Silent].map(faulty);
    let [flapping, rejecting, silent] = [0, 1, 2].map(|peer| peers[peer].address().to_string());
    let plain = sim();
    let tls = plain.address().to_string();

    let good_address = good.address().to_string();
    let all = [good_address.clone(), dead.clone(), flapping.clone(), rejecting.clone(), silent.clone()];
    let mut config = settings(&all);
    config.pools[0].timers.handshake = Duration::from_millis(300);
    let mut secure = settings(std::slice::from_ref(&tls)).pools.remove(0);
    secure.name = "secure".into();
    secure.tls = anybody();
    config.pools.push(secure);
    let server = Server::start_with(config).await;
    let mut watch = server.watch().await;
    watch.until(&silent, Connecting, Reason::HandshakeTimeout).await;

    let list = told(&server, &["peers", "list"]).await;
    let line = |address: &str| {
        let found =
            list.lines().find(|line| line.split(' ').next().is_some_and(|name| name.ends_with(address)));
        found.unwrap_or_else(|| panic!("no {address}: {list}")).to_owned()
    };
    for (address, cause) in [
        (&dead, "connect failed: connection refused"),
        (&flapping, "remote closed: "),
        (&rejecting, "handshake rejected: the peer sent ERROR: rejected by the simulation"),
        (&silent, "handshake timeout: no answer to send_identity"),
        (&tls, "tls failed: "),
    ] {
        let line = line(address);
        assert!(line.contains(cause), "{cause}: {line}");
        assert!(line.contains("not ready ") || line.contains("up "), "since when: {line}");
    }
    assert!(line(&good_address).contains("READY"), "{list}");
    assert!(list.lines().last().unwrap().ends_with(" of 6 READY"), "{list}");
    let not_ready = told(&server, &["peers", "list", "--not-ready"]).await;
    assert!(not_ready.contains(&dead) && !not_ready.contains(&good_address), "{not_ready}");
    server.stop().await;
}

#[tokio::test]
async fn a_peer_is_found_in_the_only_pool_that_has_it() {
    let mut config = settings(&["10.255.255.1:1".to_owned(), "10.255.255.2:1".to_owned()]);
    let mut lab = config.pools[0].clone();
    lab.name = "lab".into();
    config.pools[0].peers.pop();
    config.pools.push(lab);
    let server = Server::start_with(config).await;
    assert!(
        told(&server, &["peers", "get", "10.255.255.2:1"]).await.contains("pools/lab/peers/10.255.255.2:1")
    );
    assert!(told(&server, &["peers", "get", "default/10.255.255.1:1"]).await.contains("pools/default/"));
    let address = server.address().to_string();
    for (peer, code, why) in [
        ("10.255.255.1:1", 64, "is in the pools default and lab: choose one with --pool"),
        ("10.255.255.3:1", 1, "no such peer in any pool\n  `peerstatus peers list` shows"),
    ] {
        let output = peerstatus(&["peers", "get", peer, "--server", &address]).await;
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{stderr}");
        assert!(stderr.contains(why), "{stderr}");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_peer_is_found_by_its_host_if_it_is_the_only_one() {
    let peers = ["10.255.255.1:9", "10.255.255.1:10", "10.255.255.2:1", "[2001:db8::1]:1"].map(str::to_owned);
    let server = Server::start(&peers).await;
    assert!(told(&server, &["peers", "get", "10.255.255.2"]).await.contains("peers/10.255.255.2:1"));
    assert!(told(&server, &["peers", "get", "default/[2001:DB8::1]"]).await.contains("/[2001:db8::1]:1"));
    assert!(told(&server, &["peers", "history", "10.255.255.2"]).await.contains("added"));
    assert_eq!(told(&server, &["peers", "reset", "10.255.255.2"]).await, "peers reset: 1\n");
    assert!(
        told(&server, &["peers", "remove", "10.255.255.2"]).await.contains("removed pools/default/peers/10.")
    );
    let address = server.address().to_string();
    for (command, host, code, why) in [
        ("get", "10.255.255.1", 64, "choose one: 10.255.255.1:9, 10.255.255.1:10\n"),
        ("remove", "10.255.255.1", 64, "choose one: 10.255.255.1:9, 10.255.255.1:10\n"),
        ("get", "10.255.255.2", 1, "no peer in any pool has this host\n  `peerstatus peers list` shows"),
        ("reset", "10.255.255.2", 1, "no peer in pool default has this host\n"),
    ] {
        let output = peerstatus(&["peers", command, host, "--server", &address]).await;
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{stderr}");
        assert!(stderr.contains(why), "{stderr}");
    }
    server.stop().await;
}

#[tokio::test]
async fn peers_are_in_one_order_everywhere() {
    let hosts =
        ["10.255.255.10:1", "leaf-10.invalid:1", "10.255.255.2:10", "leaf-9.invalid:1", "10.255.255.2:9"];
    let ordered =
        ["10.255.255.2:9", "10.255.255.2:10", "10.255.255.10:1", "leaf-9.invalid:1", "leaf-10.invalid:1"];
    let server = Server::start(&hosts.map(str::to_owned)).await;
    for command in
        [&["peers", "list", "--sort", "name"][..], &["peers", "list", "--sort", "name", "-o", "json"]]
    {
        let list = told(&server, command).await;
        let places: Vec<_> = ordered.iter().map(|name| list.find(&**name).expect(name)).collect();
        assert!(places.is_sorted(), "{list}");
    }
    let request = ListPeersRequest::default();
    let listed = server.pools().list_peers(request).await.unwrap().into_inner().peers;
    let names: Vec<_> = listed.iter().map(|peer| format!("{}:{}", peer.host, peer.port)).collect();
    assert_eq!(names, ordered, "the service itself");
    server.stop().await;
}

#[tokio::test]
async fn a_list_that_is_watched_appends_a_line_for_each_change() {
    let mut peer = sim();
    let address = peer.address().to_string();
    let server = Server::start(std::slice::from_ref(&address)).await;
    server.watch().await.until_ready(&address).await;
    let of = server.address().to_string();
    let mut list = Process::start(&["peers", "list", "--watch", "--server", &of]);
    assert!(list.line().await.unwrap().starts_with("TIME  "));
    let first = list.line().await.unwrap();
    assert!(first.starts_with("20") && first.contains(&format!("Z  {address}  ")), "{first}");
    assert!(first.contains("READY") && first.contains("up "), "{first}");
    peer.stop().await;
    let lost = list.line().await.unwrap();
    assert!(lost.contains("CONNECTING") && lost.contains("remote closed"), "{lost}");
    list.signal("INT").await;
    assert_eq!(list.ended().await.code(), Some(130));
    server.stop().await;
}

#[tokio::test]
async fn the_shell_completes_names_that_the_service_knows() {
    let server = Server::start(&["10.255.255.1:8009".to_owned()]).await;
    let address = server.address().to_string();
    let completed = async |server: &str, words: &[&str]| {
        let line = [&["--", "peerstatus", "--server", server], words].concat();
        let index = (line.len() - 2).to_string();
        let variables =
            [("PEERSTATUS_COMPLETE", "bash"), ("_CLAP_COMPLETE_INDEX", &index), ("_CLAP_IFS", "\n")];
        let output = peerstatus_with(&variables, &line).await;
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(completed(&address, &["peers", "get", "10."]).await, "10.255.255.1:8009");
    assert_eq!(completed(&address, &["peers", "list", "--pool", "d"]).await, "default");
    assert_eq!(completed("127.0.0.1:1", &["peers", "list", "--pool", "d"]).await, "", "and no error");
    server.stop().await;
}
