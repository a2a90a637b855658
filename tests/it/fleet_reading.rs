//! The service of a fleet: real nodes publish to a real NATS server, and replicas read it.

use std::{collections::BTreeMap, time::Duration};

use async_nats::HeaderMap;
use opflex_peerstatus::{
    api::pb::{
        AddPeerRequest, Cursor, GetNodeRequest, ListNodesRequest, ListPeersRequest, ListPoolsRequest,
        ListenerFilter, Node, NodeState, Peer, PeerStatus, RemovePeerRequest, ResetReason,
        WatchPeerStatusRequest, node_service_client::NodeServiceClient,
        peer_status_service_client::PeerStatusServiceClient, pool_service_client::PoolServiceClient,
        watch_peer_status_response::Event,
    },
    config::{Admin, Config, Overrides, Role},
    sim::{Behaviour, SimPeer},
};
use tokio::time::{Instant, sleep};
use tonic::{Code, transport::Channel};

use crate::{
    admin::exported,
    support::{NatsServer, Process, Server, Watch, explain, numbers, page, peerstatus, sim, within},
};

const POLL: Duration = Duration::from_millis(50);
/// A node is STALE 45 s after its last sign of life.
const STALE_PATIENCE: Duration = Duration::from_secs(75);

/// A node in a process of its own.
pub(crate) fn node(nats: &NatsServer, name: &str, peers: &[&SimPeer]) -> Process {
    node_with(nats, name, peers, &[])
}

/// The same, with more options.
pub(crate) fn node_with(nats: &NatsServer, name: &str, peers: &[&SimPeer], options: &[&str]) -> Process {
    let (url, peers) = (nats.url(), peers.iter().map(|peer| peer.address().to_string()).collect::<Vec<_>>());
    let mut args = vec!["serve", "--listen", "127.0.0.1:0", "--admin", "off", "--fleet-cluster", "lab"];
    args.extend(["--fleet-node", name, "--fleet-nats", &url]);
    args.extend(options);
    peers.iter().for_each(|peer| args.extend(["--peer", peer]));
    Process::start(&args)
}

/// A replica of the service of the fleet, and a client of it.
pub(crate) struct Replica {
    pub(crate) process: Process,
    /// Where it listens.
    pub(crate) address: String,
    channel: Channel,
}

impl Replica {
    pub(crate) async fn start(nats: &NatsServer) -> Self {
        Self::start_with(nats, &[]).await
    }

    /// The same, with more options.
    pub(crate) async fn start_with(nats: &NatsServer, options: &[&str]) -> Self {
        let url = nats.url();
        let args = ["fleet", "--listen", "127.0.0.1:0", "--fleet-cluster", "lab", "--fleet-nats", &url];
        let mut process = Process::start(&[&args, options].concat());
        let address = process.address().await;
        let url = format!("http://{address}");
        let channel = Channel::from_shared(url).unwrap().connect().await.unwrap();
        let replica = Self { process, address, channel };
        within("the state of the fleet", async {
            while let Err(status) = replica.nodes_or_error().await {
                assert_eq!(explain(&status), (Code::Unavailable, "FLEET_NOT_READY".into(), vec![]));
                sleep(POLL).await;
            }
        })
        .await;
        replica
    }

    fn pools(&self) -> PoolServiceClient<Channel> {
        PoolServiceClient::new(self.channel.clone())
    }

    fn nodes_client(&self) -> NodeServiceClient<Channel> {
        NodeServiceClient::new(self.channel.clone())
    }

    async fn nodes_or_error(&self) -> Result<Vec<Node>, tonic::Status> {
        Ok(self.nodes_client().list_nodes(ListNodesRequest::default()).await?.into_inner().nodes)
    }

    async fn node(&self, name: &str) -> Option<Node> {
        self.nodes_or_error().await.unwrap().into_iter().find(|node| node.name == format!("nodes/{name}"))
    }

    /// Waits until the node is in this state, with so many READY peers.
    pub(crate) async fn until(&self, name: &str, state: NodeState, ready: u32, patience: Duration) -> Node {
        let end = Instant::now() + patience;
        loop {
            let node = self.node(name).await;
            match node {
                Some(node) if node.state() == state && node.ready_count == ready => return node,
                node => assert!(Instant::now() < end, "{name} is not {state:?} with {ready}: {node:?}"),
            }
            sleep(POLL).await;
        }
    }

    async fn watch_with(&self, request: WatchPeerStatusRequest) -> Watch {
        let mut client = PeerStatusServiceClient::new(self.channel.clone());
        Watch::new(client.watch_peer_status(request).await.unwrap().into_inner())
    }

    /// The status of each peer.
    pub(crate) async fn peers(&self) -> BTreeMap<String, PeerStatus> {
        let request = ListPeersRequest::default();
        let peers = self.pools().list_peers(request).await.unwrap().into_inner().peers;
        peers.into_iter().map(|peer| (peer.name.clone(), peer.status())).collect()
    }
}

/// A client that goes from replica to replica with what it knows.
#[derive(Clone, Default)]
pub(crate) struct Client {
    pub(crate) peers: BTreeMap<String, PeerStatus>,
    nodes: BTreeMap<String, NodeState>,
    cursor: Option<Cursor>,
    pub(crate) resets: Vec<ResetReason>,
    seen: Vec<u64>,
}

impl Client {
    fn keep(&mut self, peer: &Peer) {
        self.peers.insert(peer.name.clone(), peer.status());
    }

    /// Watches until it knows what `is_enough` asks for.
    pub(crate) async fn watch(&mut self, replica: &Replica, is_enough: impl Fn(&Self) -> bool) {
        let resume_after = self.cursor;
        let mut watch =
            replica.watch_with(WatchPeerStatusRequest { resume_after, ..Default::default() }).await;
        let mut is_synced = false;
        while !(is_synced && is_enough(self)) {
            let message = watch.next().await.unwrap().unwrap();
            match message.event.unwrap() {
                Event::Attached(attached) => {
                    assert_eq!(attached.resumed, resume_after.is_some(), "its cursor is honoured");
                }
                Event::Snapshot(part) => {
                    part.peers.iter().for_each(|peer| self.keep(peer));
                    self.nodes.extend(part.nodes.iter().map(|node| (node.name.clone(), node.state())));
                }
                Event::Change(change) => {
                    assert!(!self.seen.contains(&message.revision), "nothing comes twice");
                    self.seen.push(message.revision);
                    if let Some(change) = change.peer {
                        let peer = change.peer.clone().unwrap();
                        if change.kind() == opflex_peerstatus::api::pb::ChangeKind::Removed {
                            self.peers.remove(&peer.name);
                        } else {
                            self.keep(&peer);
                        }
                    }
                    if let Some(node) = change.node.and_then(|change| change.node) {
                        self.nodes.insert(node.name.clone(), node.state());
                    }
                }
                Event::Synced(synced) => {
                    is_synced = true;
                    self.cursor = synced.cursor;
                }
                Event::Reset(reset) => {
                    self.resets.push(reset.reason());
                    self.peers.clear();
                    self.nodes.clear();
                    self.seen.clear();
                    is_synced = false;
                }
                Event::Heartbeat(_) | Event::Draining(_) => {}
            }
            if is_synced {
                self.cursor = self
                    .cursor
                    .map(|cursor| Cursor { revision: cursor.revision.max(message.revision), ..cursor });
            }
        }
    }
}

/// Whether the peer can become READY.
pub(crate) fn set_working(peer: &SimPeer, is_working: bool) {
    peer.set_behaviour(if is_working { Behaviour::Normal } else { Behaviour::RejectIdentity });
    peer.drop_connections();
}

pub(crate) fn name(node: &str, peer: &SimPeer) -> String {
    format!("pools/{node}.default/peers/{}", peer.address())
}

#[tokio::test]
async fn a_client_goes_on_at_another_replica_and_misses_nothing() {
    let Some(nats) = NatsServer::start("").await else { return };
    let one = Replica::start(&nats).await;
    let other = Replica::start(&nats).await;
    let peers = [sim(), sim()];
    let nodes = [node(&nats, "n1", &[&peers[0]]), node(&nats, "n2", &[&peers[1]])];
    let mut client = Client::default();
    let names = [name("n1", &peers[0]), name("n2", &peers[1])];
    let all_ready = |client: &Client| {
        client.nodes.len() == 2 && names.iter().all(|name| client.peers.get(name) == Some(&PeerStatus::Ready))
    };
    client.watch(&one, all_ready).await;
    let mut one = Some(one);
    for round in 0..4 {
        // Something happens while the client is away, and in the end its replica is killed.
        let (peer, gone) = (&peers[round % 2], &names[round % 2]);
        set_working(peer, false);
        if round == 3 {
            one = None;
        }
        let replica = one.as_ref().filter(|_| round % 2 == 1).unwrap_or(&other);
        client.watch(replica, |client| client.peers[gone] != PeerStatus::Ready).await;
        set_working(peer, true);
        client.watch(replica, all_ready).await;
        assert_eq!(client.peers, replica.peers().await);
    }
    assert_eq!(Replica::start(&nats).await.peers().await, client.peers, "a new replica has the same state");
    assert_eq!(client.resets, []);
    assert!(client.seen.is_sorted(), "in the order of the stream");
    drop(nodes);
}

#[tokio::test]
async fn a_client_goes_on_at_a_replica_that_is_started_afterwards() {
    let Some(nats) = NatsServer::start("").await else { return };
    let witness = Replica::start(&nats).await;
    let peers = [sim(), sim()];
    let mut nodes = [node(&nats, "n1", &[&peers[0]]), node(&nats, "n2", &[&peers[1]])];
    let names = [name("n1", &peers[0]), name("n2", &peers[1])];
    let all_ready = |client: &Client| {
        client.nodes.len() == 2 && names.iter().all(|name| client.peers.get(name) == Some(&PeerStatus::Ready))
    };
    let mut client = Client::default();
    let mut replica = Replica::start(&nats).await;
    client.watch(&replica, all_ready).await;
    for round in 0..3 {
        // All this happens while no replica has the client.
        drop(replica);
        let mut other = client.clone();
        let peer = &peers[round % 2];
        set_working(peer, false);
        other.watch(&witness, |other| other.peers[&names[round % 2]] != PeerStatus::Ready).await;
        if round == 1 {
            nodes[0] = node(&nats, "n1", &[&peers[0]]);
        }
        set_working(peer, true);
        let before = other.seen.len();
        other.watch(&witness, |other| all_ready(other) && other.seen.len() > before).await;
        replica = Replica::start(&nats).await;
        let newest = other.seen.last().copied();
        client.watch(&replica, |client| client.seen.last().copied() >= newest).await;
        let until_then: Vec<_> = client.seen.iter().filter(|revision| Some(**revision) <= newest).collect();
        assert_eq!(until_then, other.seen.iter().collect::<Vec<_>>(), "nothing is lost in round {round}");
        client.watch(&replica, all_ready).await;
    }
    assert_eq!(client.resets, []);
    assert_eq!(client.peers, witness.peers().await);
}

#[tokio::test]
async fn a_node_that_is_killed_is_stale_and_comes_back() {
    let Some(nats) = NatsServer::start("").await else { return };
    let (replica, peer) = (Replica::start(&nats).await, sim());
    let running = node(&nats, "n1", &[&peer]);
    replica.until("n1", NodeState::Live, 1, Duration::from_secs(30)).await;
    drop(running);
    let stale = replica.until("n1", NodeState::Stale, 0, STALE_PATIENCE).await;
    assert!(stale.stale_since.is_some() && stale.peer_count == 1);
    let pools = replica.pools().list_pools(ListPoolsRequest::default()).await.unwrap().into_inner().pools;
    assert_eq!((pools[0].name.as_str(), pools[0].ready_count), ("pools/n1.default", 0));
    assert!(pools[0].stale_since.is_some());
    assert_eq!(
        replica.peers().await,
        BTreeMap::from([(name("n1", &peer), PeerStatus::Ready)]),
        "the last known state"
    );
    let another = Replica::start(&nats).await;
    another.until("n1", NodeState::Stale, 0, Duration::from_secs(5)).await;
    commands_say_unknown(&another.address).await;
    let _running = node(&nats, "n1", &[&peer]);
    let live = replica.until("n1", NodeState::Live, 1, Duration::from_secs(30)).await;
    assert!(live.stale_since.is_none() && !live.conflict, "{live:?}");
    assert_ne!(live.epoch, stale.epoch);
}

/// What people are told of a STALE node, whose only peer was READY.
async fn commands_say_unknown(server: &str) {
    for (args, code, told) in [
        ("peers list", 0, "0 of 1 READY, 1 unknown"),
        ("peers list", 0, "was READY; nothing is heard of node n1"),
        ("peers list --not-ready", 0, " UNKNOWN "),
        ("peers list -o json", 0, "\"PEER_STATUS_READY\""),
        ("pool list", 0, " UNKNOWN "),
        ("pool get --node n1", 0, ", was HEALTHY"),
        (
            "pool wait --node n1 --for degraded --timeout 0s",
            75,
            "is UNKNOWN: nothing is heard of its node since ",
        ),
        ("watch --until-synced", 0, "pool n1.default: UNKNOWN, node silent "),
        ("watch --until-synced", 0, "was READY; nothing is heard of node n1"),
        ("watch --until-synced --interest nodes", 0, "n1    STALE  silent "),
    ] {
        let output =
            peerstatus(&[&["--server", server], &args.split(' ').collect::<Vec<_>>()[..]].concat()).await;
        let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert_eq!(output.status.code(), Some(code), "{args}: {text}");
        assert!(text.contains(told), "{args}: {text}");
    }
}

#[tokio::test]
async fn a_node_whose_records_are_deleted_is_gone() {
    let Some(nats) = NatsServer::start("").await else { return };
    let (replica, peers) = (Replica::start(&nats).await, [sim(), sim(), sim()]);
    let nodes = [node(&nats, "n1", &[&peers[0]]), node(&nats, "n2", &[&peers[1]])];
    let _stays = node(&nats, "n3", &[&peers[2]]);
    for name in ["n1", "n2", "n3"] {
        replica.until(name, NodeState::Live, 1, Duration::from_secs(30)).await;
    }
    drop(nodes);
    let jetstream = nats.jetstream().await;
    let stream = jetstream.get_stream("OPFLEX").await.unwrap();
    // As the documentation says: at once, and in the order of the stream.
    stream.purge().filter("opflex.v1.lab.n1.>").await.unwrap();
    let mut headers = HeaderMap::new();
    headers.insert("Nats-Marker-Reason", "Purge");
    headers.insert("Nats-TTL", "1h");
    let commit = "opflex.v1.lab.n1.node";
    jetstream.publish_with_headers(commit, headers, "".into()).await.unwrap().await.unwrap();
    within("the marker", async {
        while replica.node("n1").await.is_some() {
            sleep(POLL).await;
        }
    })
    .await;
    let mut client = Client::default();
    client.watch(&replica, |client| client.peers.len() == 2).await;
    // Without a marker.
    stream.purge().filter("opflex.v1.lab.n2.>").await.unwrap();
    client.watch(&replica, |client| client.peers.len() == 1).await;
    assert_eq!(client.peers, BTreeMap::from([(name("n3", &peers[2]), PeerStatus::Ready)]));
    client.watch(&replica, |client| client.nodes["nodes/n2"] == NodeState::Gone).await;
    assert_eq!(client.resets, []);
    let names: Vec<_> = replica.nodes_or_error().await.unwrap().into_iter().map(|node| node.name).collect();
    assert_eq!(names, ["nodes/n3"]);
}

#[tokio::test]
async fn nobody_changes_anything_through_a_fleet() {
    let Some(nats) = NatsServer::start("").await else { return };
    let (replica, peer) = (Replica::start(&nats).await, sim());
    let _node = node(&nats, "n1", &[&peer]);
    replica.until("n1", NodeState::Live, 1, Duration::from_secs(30)).await;
    let request = AddPeerRequest { parent: "pools/n1.default".into(), host: "h".into(), port: 1 };
    let refused = replica.pools().add_peer(request).await.unwrap_err();
    assert_eq!(explain(&refused), (Code::FailedPrecondition, "READ_ONLY_FLEET".into(), vec![]));
    assert!(refused.message().contains("call the service of n1"), "{refused}");
    let request = RemovePeerRequest { name: name("n1", &peer) };
    let refused = replica.pools().remove_peer(request).await.unwrap_err();
    assert_eq!(explain(&refused).1, "READ_ONLY_FLEET");
    let missing =
        replica.nodes_client().get_node(GetNodeRequest { name: "nodes/n9".into() }).await.unwrap_err();
    assert_eq!(explain(&missing), (Code::NotFound, "NODE_NOT_FOUND".into(), vec![]));
    // A filter for nodes, here and at a service of a single node.
    let filter = |node: &str| Some(ListenerFilter { nodes: vec![node.into()], ..Default::default() });
    let request =
        |node| WatchPeerStatusRequest { filter: filter(node), stop_after_sync: true, ..Default::default() };
    assert_eq!(replica.watch_with(request("N*")).await.synced().await.len(), 1);
    assert_eq!(replica.watch_with(request("other")).await.synced().await.len(), 0);
    let single = Server::start(&[]).await;
    let refused = single.watch_with(request("n1")).await.map(drop).unwrap_err();
    assert_eq!(explain(&refused), (Code::InvalidArgument, "BAD_FILTER".into(), vec!["filter.nodes".into()]));
}

#[tokio::test]
async fn hostile_records_harm_nobody_else() {
    let Some(nats) = NatsServer::start("").await else { return };
    let (replica, peer) = (Replica::start(&nats).await, sim());
    let _node = node(&nats, "n1", &[&peer]);
    replica.until("n1", NodeState::Live, 1, Duration::from_secs(30)).await;
    let jetstream = nats.jetstream().await;
    let subjects =
        ["evil.up", "evil.node", "evil.default.health", "evil.default.peer.0", "evil.x.y.z", "EVIL.up"];
    for (index, subject) in subjects.into_iter().cycle().take(300).enumerate() {
        let mut headers = HeaderMap::new();
        headers.insert("Opflex-Epoch", "1");
        headers.insert("Opflex-Revision", index.to_string());
        let payload = vec![index as u8; [0, 100, 66_000][index % 3]];
        let subject = format!("opflex.v1.lab.{subject}");
        jetstream.publish_with_headers(subject, headers, payload.into()).await.unwrap().await.unwrap();
    }
    set_working(&peer, false);
    replica.until("n1", NodeState::Live, 0, Duration::from_secs(30)).await;
    assert_eq!(replica.nodes_or_error().await.unwrap().len(), 1);
    assert!(replica.process.resident() < 200 * 1024);
}

#[tokio::test]
async fn the_end_of_nats_or_of_its_stream_is_survived_and_told() {
    let Some(mut nats) = NatsServer::start("").await else { return };
    let (replica, peer) = (Replica::start(&nats).await, sim());
    let _node = node(&nats, "n1", &[&peer]);
    let ready = name("n1", &peer);
    let mut client = Client::default();
    client.watch(&replica, |client| client.peers.get(&ready) == Some(&PeerStatus::Ready)).await;
    nats.kill().await;
    set_working(&peer, false);
    sleep(Duration::from_secs(1)).await;
    nats.restart().await;
    client.watch(&replica, |client| client.peers[&ready] != PeerStatus::Ready).await;
    assert_eq!(client.resets, []);
    // Made anew by an operator: the node notices, and publishes its state.
    let jetstream = nats.jetstream().await;
    jetstream.delete_stream("OPFLEX").await.unwrap();
    client.watch(&replica, |client| client.resets == [ResetReason::EpochChanged]).await;
}

#[tokio::test]
async fn the_page_about_metrics_tells_of_those_of_a_fleet_and_they_of_a_lost_connection() {
    let Some(mut nats) = NatsServer::start("").await else { return };
    let overrides = Overrides {
        listen: Some("127.0.0.1:0".parse().unwrap()),
        admin: Some(Admin::At("127.0.0.1:0".parse().unwrap())),
        fleet_cluster: Some("lab".parse().unwrap()),
        fleet_nats: vec![nats.url()],
        role: Role::Fleet,
        ..Overrides::default()
    };
    let server = Server::start_with(Config::load(&overrides).unwrap()).await;
    within("readiness", async {
        while !page(server.admin(), "/readyz").await.head.contains("200 OK") {
            sleep(POLL).await;
        }
    })
    .await;
    let (_, told) =
        include_str!("../../docs/metrics.md").split_once("\n## The service of a fleet\n").unwrap();
    let told: Vec<_> =
        told.lines().filter_map(|line| line.strip_prefix("| `opflex_")?.split('`').next()).collect();
    let page = page(server.admin(), "/metrics").await;
    let exported = exported(&page.body);
    // Families without a series are left out.
    let names = exported.keys().filter_map(|name| name.strip_prefix("opflex_"));
    let names: Vec<_> = names.filter(|name| name.starts_with("fleet_")).collect();
    assert!(names.len() >= 6 && names.iter().all(|name| told.contains(name)), "{names:?}");
    assert!(!page.body.contains("opflex_peer_status{"));
    let until_reading = async |wanted: f64| {
        let started = Instant::now();
        while numbers(server.admin()).await["opflex_fleet_reading"] != wanted {
            assert!(started.elapsed() < Duration::from_secs(12), "it is not {wanted}");
            sleep(POLL).await;
        }
        started.elapsed()
    };
    until_reading(1.0).await;
    nats.kill().await;
    let lost = until_reading(0.0).await;
    // Without heartbeats it would be 10 s.
    assert!(lost < Duration::from_secs(5), "{lost:?}");
    nats.restart().await;
    until_reading(1.0).await;
    server.stop().await;
}
