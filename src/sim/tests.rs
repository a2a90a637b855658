//! Simulated peers as a client on the other end of a real socket sees them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use std::{
    net::SocketAddr,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time,
};

use super::{Behaviour, Outages, SimConfig, SimPeer, answer::Answer};
use crate::opflex::{self, FrameDecoder, Identity, IdentityAnswer, Message, Proxies};

/// A client of a few lines, which says only what it is told to.
struct Client {
    stream: TcpStream,
    frames: FrameDecoder,
}

impl Client {
    async fn connect(address: SocketAddr) -> Self {
        Self { stream: TcpStream::connect(address).await.unwrap(), frames: FrameDecoder::new(1 << 20) }
    }

    /// A client that has said who it is.
    async fn greet(peer: &SimPeer) -> Self {
        let mut client = Self::connect(peer.address()).await;
        client.send(&opflex::send_identity(1, &Identity::new("client", "domain"))).await;
        client
    }

    async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    /// The next frame; `None` once the peer has closed.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(frame) = self.frames.next_frame().unwrap() {
                return Some(frame);
            }
            let mut chunk = [0; 4096];
            match self.stream.read(&mut chunk).await {
                Ok(0) | Err(_) => return None,
                Ok(read) => self.frames.push(&chunk[..read]),
            }
        }
    }

    async fn next_json(&mut self) -> Value {
        let frame = self.next().await.expect("the peer has closed the connection");
        serde_json::from_slice(&frame).unwrap()
    }

    /// The next frame that is not an echo of the peer.
    async fn next_answer(&mut self) -> Value {
        loop {
            let frame = self.next_json().await;
            if frame.get("method").is_none() {
                return frame;
            }
        }
    }
}

fn start(behaviour: Behaviour) -> SimPeer {
    SimPeer::start(SimConfig { behaviour, ..SimConfig::default() }).unwrap()
}

#[tokio::test]
async fn the_first_echo_comes_with_the_connection() {
    let peer = start(Behaviour::Normal);
    let mut client = Client::connect(peer.address()).await;
    let echo = client.next_json().await;
    assert_eq!((&echo["id"], &echo["method"]), (&json!(["echo", 0]), &json!("echo")));
}

#[tokio::test(start_paused = true)]
async fn echoes_follow_after_10_seconds_and_then_every_15_until_the_client_has_been_silent_for_120() {
    let peer = start(Behaviour::Normal);
    let mut client = Client::connect(peer.address()).await;
    let mut times = Vec::new();
    while let Some(frame) = client.next().await {
        let echo: Value = serde_json::from_slice(&frame).unwrap();
        assert_eq!(echo["id"], json!(["echo", times.len()]));
        times.push(echo["params"][0].as_u64().unwrap() / 1000);
    }
    assert_eq!(times, [0, 10, 25, 40, 55, 70, 85, 100, 115]);
}

#[tokio::test]
async fn an_echo_is_answered_with_its_params() {
    let peer = start(Behaviour::Normal);
    let mut client = Client::connect(peer.address()).await;
    client.send(&opflex::echo(7, 964_427)).await;
    assert_eq!(client.next_answer().await, json!({"id": ["echo", 7], "result": [964_427]}));
}

#[tokio::test]
async fn an_identity_is_answered_with_a_list_of_the_peer_itself_or_of_others() {
    let peer = start(Behaviour::Normal);
    let (host, port) = (peer.address().ip().to_string(), peer.address().port());
    let answer = Client::greet(&peer).await.next_answer().await;
    assert_eq!(answer["id"], json!(["send_identity", 1]));
    assert_eq!(answer["result"]["name"], format!("{host}:{port}"));
    assert_eq!(answer["result"]["peers"][0]["connectivity_info"], format!("{host}:{port}"));

    peer.set_peers(vec![("leaf".into(), 1), ("::1".into(), 2)]);
    let answer = Client::greet(&peer).await.next_answer().await;
    let peers: Vec<_> = answer["result"]["peers"].as_array().unwrap().iter().collect();
    assert_eq!(peers.len(), 2);
    assert_eq!(
        (&peers[0]["connectivity_info"], &peers[1]["connectivity_info"]),
        (&json!("leaf:1"), &json!("::1:2"))
    );
}

#[test]
fn the_answer_to_an_identity_is_that_of_the_reference_to_the_byte() {
    let discovery = include_str!("../../tests/golden/c-bootstrap-discovery.frames.jsonl");
    let proxies = include_str!("../../tests/golden/n1-transport-proxies.frames.jsonl");
    let three = Proxies::new([1, 2, 3].map(|host| [10, 0, 0, host].into()));
    for (recording, own, proxies, peers) in
        [(discovery, 21033, None, &[21031, 21032][..]), (proxies, 21102, three, &[21101])]
    {
        let recorded = recording
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap())
            .find_map(|line| {
                line["raw"].as_str().filter(|raw| raw.contains("your_location")).map(str::to_owned)
            })
            .unwrap();
        let local = |port: &u16| ("127.0.0.1".to_owned(), *port);
        let ours = Answer {
            own: &local(&own),
            domain: "testdomain",
            location: "location_string",
            proxies,
            roles: SimConfig::default().roles,
            peers: &peers.iter().map(local).collect::<Vec<_>>(),
        };
        let ours = ours.encode();
        assert_eq!(format!("{{\"id\":[\"send_identity\",1],\"result\":{ours}}}"), recorded);
        assert_eq!(IdentityAnswer::parse(&ours).unwrap().proxies, proxies);
    }
}

#[tokio::test]
async fn other_requests_are_refused_and_the_connection_stays() {
    let peer = start(Behaviour::Normal);
    let mut client = Client::connect(peer.address()).await;
    for method in ["policy_resolve", "nonsense"] {
        client.send(format!("{{\"id\":1,\"method\":\"{method}\",\"params\":[]}}\0\0").as_bytes()).await;
        assert_eq!(client.next_answer().await["error"]["code"], "EUNSUPPORTED");
    }
}

#[tokio::test]
async fn what_is_no_message_ends_the_connection() {
    let peer = start(Behaviour::Normal);
    let mut client = Client::connect(peer.address()).await;
    client.next_json().await;
    client.send(b"hello\0").await;
    assert_eq!(client.next().await, None);
}

#[tokio::test(start_paused = true)]
async fn a_silent_peer_says_nothing() {
    let peer = start(Behaviour::Silent);
    let mut client = Client::greet(&peer).await;
    client.send(&opflex::echo(0, 0)).await;
    let started = time::Instant::now();
    assert_eq!(client.next().await, None);
    assert!(started.elapsed() > Duration::from_secs(120));
}

#[tokio::test(start_paused = true)]
async fn a_mute_peer_says_nothing_after_the_identity() {
    let peer = start(Behaviour::Mute);
    let mut client = Client::greet(&peer).await;
    assert!(client.next_answer().await["result"].is_object());
    client.send(&opflex::echo(0, 0)).await;
    assert_eq!(client.next().await, None);
}

#[tokio::test]
async fn a_peer_can_reject_identities_or_answer_them_with_garbage() {
    let peer = start(Behaviour::RejectIdentity);
    assert_eq!(Client::greet(&peer).await.next_answer().await["error"]["code"], "ERROR");

    peer.set_behaviour(Behaviour::Garbage);
    let mut client = Client::greet(&peer).await;
    client.next_json().await;
    assert!(Message::parse(&client.next().await.unwrap()).is_err());
}

#[tokio::test]
async fn a_flapping_peer_closes_after_the_answer_and_never_before() {
    let peer = start(Behaviour::Flap(Duration::ZERO));
    for _ in 0..20 {
        let mut client = Client::greet(&peer).await;
        client.send(&opflex::echo(0, 0)).await;
        assert!(client.next_answer().await["result"]["peers"].is_array());
        while client.next().await.is_some() {}
    }
}

#[tokio::test(start_paused = true)]
async fn a_flapping_peer_can_take_its_time() {
    let peer = start(Behaviour::Flap(Duration::from_secs(2)));
    let mut client = Client::greet(&peer).await;
    client.next_answer().await;
    let started = time::Instant::now();
    assert_eq!(client.next().await, None);
    assert_eq!(started.elapsed().as_secs(), 2);
}

#[tokio::test]
async fn a_peer_with_bad_tls_refuses_the_handshake() {
    let peer = start(Behaviour::BadTls);
    let mut stream = TcpStream::connect(peer.address()).await.unwrap();
    stream.write_all(b"a client hello").await.unwrap();
    let mut alert = Vec::new();
    stream.read_to_end(&mut alert).await.unwrap();
    assert_eq!(alert, [21, 3, 3, 0, 2, 2, 40]);
}

#[tokio::test]
async fn a_peer_that_only_has_its_port_refuses_connections() {
    let mut peer = SimPeer::bind(SimConfig::default()).unwrap();
    assert!(TcpStream::connect(peer.address()).await.is_err());
    peer.restart().await.unwrap();
    assert!(Client::greet(&peer).await.next_answer().await["result"].is_object());
}

#[tokio::test]
async fn a_new_behaviour_holds_for_connections_that_are_up() {
    let peer = start(Behaviour::Normal);
    let mut client = Client::connect(peer.address()).await;
    client.next_json().await;
    peer.set_behaviour(Behaviour::RejectIdentity);
    client.send(&opflex::send_identity(1, &Identity::new("client", "domain"))).await;
    assert!(client.next_answer().await["error"].is_object());
}

#[tokio::test]
async fn a_stopped_peer_has_closed_everything_and_comes_back_on_the_same_port() {
    let mut peer = start(Behaviour::Normal);
    let address = peer.address();
    let mut client = Client::greet(&peer).await;
    client.next_answer().await;
    peer.stop().await;
    assert!(!peer.is_running());
    assert_eq!(client.next().await, None);
    assert!(TcpStream::connect(address).await.is_err());

    for _ in 0..3 {
        peer.restart().await.unwrap();
        assert_eq!(peer.address(), address);
        assert!(Client::greet(&peer).await.next_answer().await["result"].is_object());
    }
}

#[tokio::test]
async fn connections_can_be_dropped_while_the_peer_goes_on() {
    let peer = start(Behaviour::Normal);
    let mut client = Client::greet(&peer).await;
    client.next_answer().await;
    peer.drop_connections();
    assert_eq!(client.next().await, None);
    assert!(Client::greet(&peer).await.next_answer().await["result"].is_object());
}

#[tokio::test]
async fn dropping_a_peer_ends_its_tasks() {
    let peer = start(Behaviour::Normal);
    let mut client = Client::greet(&peer).await;
    client.next_answer().await;
    drop(peer);
    assert_eq!(client.next().await, None);
}

#[test]
fn outages_come_from_the_seed_alone_and_hit_every_peer() {
    let outages = |seed| Outages::new(3, seed).take(50).collect::<Vec<_>>();
    assert_eq!(outages(7), outages(7));
    assert_ne!(outages(7), outages(8));
    for peer in 0..3 {
        assert!(outages(7).iter().any(|outage| outage.peer == peer));
    }
    assert_eq!(Outages::new(0, 7).next(), None);
}

#[tokio::test]
async fn a_peer_listens_again_while_processes_are_started() {
    let is_over = Arc::new(AtomicBool::new(false));
    let starters = (0..4).map(|_| {
        let is_over = Arc::clone(&is_over);
        tokio::task::spawn_blocking(move || {
            while !is_over.load(Ordering::Relaxed) {
                // Until it runs its program, it has all descriptors of this process.
                Command::new("true").status().unwrap();
            }
        })
    });
    let starters: Vec<_> = starters.collect();
    let mut peer = SimPeer::start(SimConfig::default()).unwrap();
    let mut restarted = Ok(());
    for _ in 0..200 {
        restarted = restarted.and(peer.restart().await);
        time::sleep(Duration::from_millis(1)).await;
    }
    is_over.store(true, Ordering::Relaxed);
    for starter in starters {
        starter.await.unwrap();
    }
    restarted.unwrap();
}
