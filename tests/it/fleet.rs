//! A node of a fleet publishes to a real NATS server, and never waits for it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    time::{Duration, Instant},
};

use async_nats::jetstream::{
    Context,
    stream::{Config as StreamConfig, DiscardPolicy},
};
use opflex_peerstatus::{
    api::pb::{AddPeerRequest, ChangeKind, ListPeersRequest, Node, Peer, Pool, RemovePeerRequest},
    config::{Config, FleetSection},
    fleet::{Content, Entry, Record, StreamSettings},
};
use tokio::time::sleep;

use crate::{
    admin::{documented, exported},
    support::{Folder, NatsServer, Server, numbers, page, settings, sim, within},
};

const POLL: Duration = Duration::from_millis(20);

fn config(peers: &[String], fleet: FleetSection) -> Config {
    Config { fleet: Some(fleet), ..settings(peers) }
}

/// Waits until the stream has acknowledged every change.
async fn until_published(admin: SocketAddr) {
    within("the end of the lag", async {
        loop {
            let numbers = numbers(admin).await;
            let of = |name: &str| numbers[name];
            let is_started = of("opflex_fleet_published_total{kind=\"node\"}") >= 1.0;
            if is_started && of("opflex_fleet_forward_lag") == 0.0 && of("opflex_fleet_unacknowledged") == 0.0
            {
                return;
            }
            sleep(POLL).await;
        }
    })
    .await;
}

/// A counter or a gauge reaches this value.
async fn until_at_least(admin: SocketAddr, name: &str, value: f64) {
    within(name, async {
        while numbers(admin).await[name] < value {
            sleep(POLL).await;
        }
    })
    .await;
}

/// Every record in the stream, in order.
async fn records(jetstream: &Context) -> Vec<Record> {
    let mut stream = within("the stream", jetstream.get_stream("OPFLEX")).await.unwrap();
    let state = stream.info().await.unwrap().state.clone();
    let mut records = Vec::new();
    for sequence in state.first_sequence..=state.last_sequence {
        // A sign of life may have expired.
        let Ok(message) = stream.get_raw_message(sequence).await else { continue };
        match Entry::decode(&message.subject, &message.headers, &message.payload).unwrap() {
            Entry::Record(record) => records.push(*record),
            Entry::Marker(..) => {}
        }
    }
    records
}

/// What a reader of the stream knows about one node.
#[derive(Default)]
struct Reader {
    epochs: Vec<u64>,
    peers: BTreeMap<String, (u64, u64, Peer)>,
    pool: Option<Pool>,
    node: Option<Node>,
    chain: Option<u64>,
    changes: usize,
}

impl Reader {
    /// Reads records, whose chain must be whole.
    fn of(records: &[Record]) -> Self {
        let mut reader = Self::default();
        let mut ids = BTreeSet::new();
        for (index, record) in records.iter().enumerate() {
            if let Content::Change { previous, .. } = &record.content
                && reader.chain != Some(*previous)
            {
                let near = &records[index.saturating_sub(20)..records.len().min(index + 20)];
                let near: Vec<_> = near.iter().map(|record| &record.header.id).collect();
                panic!("{previous} is not before {}: {near:#?}", record.header.id);
            }
            // Another node that guessed it could publish with it first.
            assert!(!record.header.id.contains(&record.header.epoch.to_string()), "{}", record.header.id);
            assert!(ids.insert(record.header.id.clone()), "{} is there twice", record.header.id);
            reader.read(record);
        }
        reader
    }

    fn read(&mut self, record: &Record) {
        let (epoch, revision) = (record.header.epoch, record.header.revision);
        if self.epochs.last() != Some(&epoch) {
            self.epochs.push(epoch);
            self.chain = None;
        }
        match &record.content {
            Content::State(change) => {
                self.keep(change.peer.as_ref().unwrap().peer.clone().unwrap(), epoch, revision)
            }
            Content::Change { change, previous } => {
                assert_eq!(Some(*previous), self.chain, "the change before {revision}");
                self.chain = Some(revision);
                self.changes += 1;
                let moved = change.peer.as_ref().unwrap();
                let peer = moved.peer.clone().unwrap();
                if moved.kind() == ChangeKind::Removed {
                    self.peers.remove(&peer.name);
                } else {
                    self.keep(peer, epoch, revision);
                }
            }
            Content::Pool(pool) => self.pool = Some(pool.clone()),
            Content::Commit { node, state } => {
                self.peers.retain(|_, (of, at, _)| *of == epoch && *at >= *state);
                self.chain = Some(revision);
                self.node = Some(node.clone());
            }
            Content::Up(node) => assert_eq!(node.revision, revision),
        }
    }

    fn keep(&mut self, peer: Peer, epoch: u64, revision: u64) {
        self.peers.insert(peer.name.clone(), (epoch, revision, peer));
    }

    /// It knows the same as a client of the node.
    async fn assert_equals(&self, server: &Server) {
        let request = ListPeersRequest { page_size: 5000, ..Default::default() };
        let peers = server.pools().list_peers(request).await.unwrap().into_inner().peers;
        let key = |peer: &Peer| (peer.name.clone(), peer.status, peer.reason, peer.revision);
        let mut truth: Vec<_> = peers.iter().map(key).collect();
        truth.sort();
        assert_eq!(self.peers.values().map(|(_, _, peer)| key(peer)).collect::<Vec<_>>(), truth);
        let (pool, own) = (server.pool().await, self.pool.clone().unwrap());
        assert_eq!(own, Pool { revision: own.revision, ..pool });
    }
}

/// Adds peers that refuse connections, and removes half of them: a few hundred changes at most.
async fn churn(server: &Server, peers: std::ops::Range<u32>) {
    let mut pools = server.pools();
    for number in peers {
        let (parent, host) = ("pools/default".to_owned(), "127.0.0.1".to_owned());
        pools.add_peer(AddPeerRequest { parent, host, port: number }).await.unwrap();
        if number % 2 == 0 {
            let name = format!("pools/default/peers/127.0.0.1:{number}");
            pools.remove_peer(RemovePeerRequest { name }).await.unwrap();
        }
    }
}

/// Removes the other half, and waits until only so many peers are left, so that the stream can be compared: peers that cannot be reached change forever.
async fn settle(server: &Server, peers: std::ops::Range<u32>, left: usize) {
    let mut pools = server.pools();
    for number in peers.filter(|number| number % 2 == 1) {
        let name = format!("pools/default/peers/127.0.0.1:{number}");
        pools.remove_peer(RemovePeerRequest { name }).await.unwrap();
    }
    // Those that are closing are gone a moment later.
    within("the end of the changes", async {
        let request = || ListPeersRequest { page_size: 5000, ..Default::default() };
        while server.pools().list_peers(request()).await.unwrap().into_inner().peers.len() > left {
            sleep(POLL).await;
        }
    })
    .await;
}

#[tokio::test]
async fn the_state_and_every_change_arrive_in_order_with_a_whole_chain() {
    let Some(nats) = NatsServer::start("").await else { return };
    let peer = sim();
    let server = Server::start_with(config(&[peer.address().to_string()], nats.section())).await;
    server.watch().await.until_ready(&peer.address().to_string()).await;
    churn(&server, 1..21).await;
    settle(&server, 1..21, 1).await;
    until_published(server.admin()).await;
    let records = records(&nats.jetstream().await).await;
    let reader = Reader::of(&records);
    reader.assert_equals(&server).await;
    assert!(reader.changes >= 40, "{}", reader.changes);
    assert_eq!(reader.epochs.len(), 1);
    let node = reader.node.unwrap();
    assert_eq!((node.name.as_str(), node.cluster.as_str()), ("nodes/node-1", "lab"));
    assert_eq!(node.pools, ["default"]);
    assert!(records.iter().any(|record| matches!(record.content, Content::Up(_))));
    // The metrics are those of the documentation.
    let page = page(server.admin(), "/metrics").await;
    let mut families = exported(&page.body);
    families.retain(|name, _| name.starts_with("opflex_fleet_"));
    assert_eq!(families, documented(true));
    server.stop().await;
}

#[tokio::test]
async fn after_a_killed_nats_server_nothing_is_missing_and_nothing_twice() {
    let Some(mut nats) = NatsServer::start("").await else { return };
    let peer = sim();
    let server = Server::start_with(config(&[peer.address().to_string()], nats.section())).await;
    server.watch().await.until_ready(&peer.address().to_string()).await;
    until_published(server.admin()).await;
    for round in 0..3_u32 {
        let numbers = 100 * round + 1..100 * round + 41;
        let (change, kill) = (churn(&server, numbers.clone()), async {
            sleep(Duration::from_millis(5)).await;
            nats.kill().await;
            sleep(Duration::from_millis(50)).await;
            nats.restart().await;
        });
        tokio::join!(change, kill);
        settle(&server, numbers, 1).await;
    }
    until_published(server.admin()).await;
    let reader = Reader::of(&records(&nats.jetstream().await).await);
    reader.assert_equals(&server).await;
    assert_eq!(reader.epochs.len(), 1);
    server.stop().await;
}

#[tokio::test]
async fn a_nats_server_that_hangs_delays_no_watch_and_catches_up() {
    let Some(nats) = NatsServer::start("").await else { return };
    let peer = sim();
    let server = Server::start_with(config(&[peer.address().to_string()], nats.section())).await;
    let mut watch = server.watch().await;
    watch.until_ready(&peer.address().to_string()).await;
    until_published(server.admin()).await;
    nats.pause();
    let mut slowest = Duration::ZERO;
    for number in 1..=300_u32 {
        let (parent, host) = ("pools/default".to_owned(), "127.0.0.1".to_owned());
        let (name, port) = (format!("pools/default/peers/127.0.0.1:{number}"), number);
        let started = Instant::now();
        server.pools().add_peer(AddPeerRequest { parent, host, port }).await.unwrap();
        watch.until_added().await;
        slowest = slowest.max(started.elapsed());
        server.pools().remove_peer(RemovePeerRequest { name }).await.unwrap();
    }
    // A request to NATS fails after 5 s.
    assert!(slowest < Duration::from_secs(4), "{slowest:?}");
    let numbers = numbers(server.admin()).await;
    assert!(numbers["opflex_fleet_forward_lag"] >= 300.0, "{}", numbers["opflex_fleet_forward_lag"]);
    assert!(numbers["opflex_fleet_unacknowledged"] <= 256.0);
    nats.resume();
    settle(&server, 1..1, 1).await;
    until_published(server.admin()).await;
    let reader = Reader::of(&records(&nats.jetstream().await).await);
    reader.assert_equals(&server).await;
    server.stop().await;
}

#[tokio::test]
async fn a_full_stream_and_none_at_all_are_told_by_the_metrics_alone() {
    let Some(nats) = NatsServer::start("").await else { return };
    let section = FleetSection { create_stream: false, ..nats.section() };
    let server = Server::start_with(config(&[], section)).await;
    until_at_least(server.admin(), "opflex_fleet_publish_errors_total{kind=\"no_stream\"}", 1.0).await;
    let jetstream = nats.jetstream().await;
    let stream = StreamConfig { discard: DiscardPolicy::New, max_bytes: 4096, ..wanted().config() };
    jetstream.create_stream(stream.clone()).await.unwrap();
    churn(&server, 1..41).await;
    until_at_least(server.admin(), "opflex_fleet_publish_errors_total{kind=\"rejected\"}", 1.0).await;
    let peers = server.pools().list_peers(ListPeersRequest::default()).await.unwrap().into_inner().peers;
    assert!(peers.len() >= 20);
    // With more room it goes on by itself.
    jetstream.update_stream(StreamConfig { max_bytes: 1 << 30, ..stream }).await.unwrap();
    settle(&server, 1..41, 0).await;
    until_published(server.admin()).await;
    Reader::of(&records(&jetstream).await).assert_equals(&server).await;
    server.stop().await;
}

fn wanted() -> StreamSettings {
    FleetSection::default().stream()
}

#[tokio::test]
async fn a_node_that_stops_publishes_what_there_is_and_starts_with_a_new_epoch() {
    let Some(nats) = NatsServer::start("").await else { return };
    let peer = sim();
    let start = || Server::start_with(config(&[peer.address().to_string()], nats.section()));
    let server = start().await;
    server.watch().await.until_ready(&peer.address().to_string()).await;
    churn(&server, 1..21).await;
    let last = server.watch().await.synced().await.len();
    let started = Instant::now();
    server.stop().await;
    assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());
    let jetstream = nats.jetstream().await;
    let reader = Reader::of(&records(&jetstream).await);
    // The end of the service is no removal of its peers.
    assert!(reader.peers.len() >= last.min(11), "{} of {last}", reader.peers.len());

    let server = start().await;
    server.watch().await.until_ready(&peer.address().to_string()).await;
    until_published(server.admin()).await;
    let reader = Reader::of(&records(&jetstream).await);
    assert_eq!((reader.epochs.len(), reader.peers.len()), (2, 1));
    reader.assert_equals(&server).await;
    server.stop().await;
}

#[tokio::test]
async fn credentials_for_the_own_subjects_alone_are_enough() {
    let users = r#"authorization { users = [
        { user: admin, password: admin }
        { user: node-1, password: secret, permissions: {
            publish: { allow: ["opflex.v1.lab.node-1.>"] }, subscribe: { allow: ["_INBOX.lab.node-1.>"] } } }
    ] }"#;
    let Some(nats) = NatsServer::start(users).await else { return };
    let jetstream = nats.jetstream_as("admin", "admin").await;
    assert_eq!(wanted().ensure(&jetstream).await.unwrap(), Vec::<String>::new());
    assert_eq!(wanted().ensure(&jetstream).await.unwrap(), Vec::<String>::new());
    let other = StreamSettings { max_bytes: 1 << 20, ..wanted() };
    assert_eq!(other.ensure(&jetstream).await.unwrap(), ["max_bytes is 1073741824, and should be 1048576"]);
    let folder = Folder::new();
    let password = folder.write("password", "secret\n");
    let (user, password) = (Some("node-1".to_owned()), Some(password.into()));
    let own = FleetSection { user, password_file: password, create_stream: false, ..nats.section() };
    let server = Server::start_with(config(&[], own.clone())).await;
    churn(&server, 1..5).await;
    until_published(server.admin()).await;
    server.stop().await;
    assert!(Reader::of(&records(&jetstream).await).changes >= 8);

    // Under another name it may not publish.
    let other = FleetSection { node: Some("node-2".parse().unwrap()), ..own };
    let server = Server::start_with(config(&[], other)).await;
    until_at_least(server.admin(), "opflex_fleet_publish_errors_total{kind=\"timeout\"}", 1.0).await;
    server.stop().await;
}
