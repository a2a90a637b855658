//! The fold of the records, held against what the nodes of a world are truly in.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, LazyLock},
    time::{Duration, Instant, SystemTime},
};

use async_nats::{HeaderMap, jetstream::message::OutboundMessage};
use proptest::prelude::*;

use super::{FleetCore, FleetLimits, NodeLimits, Outcome, Position, core::last_revision};
use crate::{
    api::pb,
    fleet::{Content, Header, Record, Subject, Topic},
    peer::PoolHealth,
    status::{Event as LogEvent, Hub, Liveness, MirrorStart, Mirrored, NodeState, Snapshot},
};

const LIMITS: FleetLimits = FleetLimits { nodes: 3, node: NodeLimits { peers: 8, bytes: 64 * 1024 } };
const HOSTS: [&str; 4] = ["leaf-1", "leaf-2", "leaf-3", "leaf-4"];

fn at(second: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000 + second)
}

/// Our own clock, which says the same.
fn received(second: u64) -> Instant {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    *START + Duration::from_secs(second)
}

fn time() -> Option<prost_types::Timestamp> {
    Some(prost_types::Timestamp { seconds: 5, nanos: 0 })
}

fn peer(host: &str, status: pb::PeerStatus) -> pb::Peer {
    pb::Peer {
        name: format!("pools/default/peers/{host}:8009"),
        pool: "default".into(),
        host: host.into(),
        port: 8009,
        origin: pb::PeerOrigin::Configured.into(),
        status: status.into(),
        reason: pb::Reason::Dialing.into(),
        status_since: time(),
        ..pb::Peer::default()
    }
}

/// A message of the stream.
#[derive(Clone, Debug)]
struct Message {
    subject: String,
    headers: HeaderMap,
    payload: Vec<u8>,
}

/// A node that publishes as the forwarder does.
#[derive(Clone, Debug)]
struct Publisher {
    name: &'static str,
    epoch: u64,
    revision: u64,
    /// The truth.
    peers: BTreeMap<&'static str, pb::PeerStatus>,
    /// Since the last whole state.
    is_published: bool,
}

impl Publisher {
    fn new(name: &'static str, epoch: u64) -> Self {
        Self { name, epoch, revision: 0, peers: BTreeMap::new(), is_published: false }
    }

    fn record(&self, topic: Topic, content: Content) -> Message {
        let subject = Subject { cluster: "lab".parse().unwrap(), node: self.name.parse().unwrap(), topic };
        let header = Header { id: String::new(), epoch: self.epoch, revision: self.revision };
        let OutboundMessage { subject, headers, payload } = Record { subject, header, content }.encode();
        Message { subject: subject.to_string(), headers: headers.unwrap(), payload: payload.to_vec() }
    }

    fn topic(host: &str) -> Topic {
        Topic::Peer { pool: "default".parse().unwrap(), address: format!("{host}:8009").parse().unwrap() }
    }

    fn health(&self) -> pb::PoolHealth {
        let is_wanted = |status: &&pb::PeerStatus| {
            !matches!(status, pb::PeerStatus::Closing | pb::PeerStatus::Disconnected)
        };
        let wanted = self.peers.values().filter(is_wanted).count();
        let ready = self.peers.values().filter(|status| **status == pb::PeerStatus::Ready).count();
        match ready {
            0 => pb::PoolHealth::Down,
            ready if ready < wanted => pb::PoolHealth::Degraded,
            _ => pb::PoolHealth::Healthy,
        }
    }

    fn pool(&self) -> Message {
        let pool = pb::Pool {
            name: "pools/default".into(),
            health: self.health().into(),
            health_since: time(),
            identity: Some(pb::Identity { name: "n".into(), domain: "d".into(), location: String::new() }),
            ..pb::Pool::default()
        };
        self.record(Topic::Health { pool: "default".parse().unwrap() }, Content::Pool(pool))
    }

    fn state(&self, host: &str) -> Message {
        let moved = pb::PeerChange { peer: Some(peer(host, self.peers[host])), ..Default::default() };
        let change = pb::Change { peer: Some(moved), ..Default::default() };
        self.record(Self::topic(host), Content::State(change))
    }

    fn node(&self) -> pb::Node {
        pb::Node {
            name: format!("nodes/{}", self.name),
            cluster: "lab".into(),
            pools: vec!["default".into()],
            pool_count: 1,
            peer_count: self.peers.len() as u32,
            ..Default::default()
        }
    }

    fn commit(&self, state: u64) -> Message {
        self.record(Topic::Node, Content::Commit { node: self.node(), state })
    }

    fn up(&self) -> Message {
        self.record(Topic::Up, Content::Up(self.node()))
    }

    /// The whole state and a commit.
    fn whole(&mut self) -> Vec<Message> {
        self.is_published = true;
        let mut records = vec![self.pool()];
        records.extend(self.peers.keys().map(|host| self.state(host)));
        records.extend([self.commit(self.revision), self.up()]);
        records
    }

    /// A peer enters a status, or leaves.
    fn change(&mut self, host: &'static str, status: Option<pb::PeerStatus>) -> Vec<Message> {
        let before = self.peers.get(host).copied();
        let health = self.health();
        match status {
            Some(status) => drop(self.peers.insert(host, status)),
            None if before.is_none() => return Vec::new(),
            None => drop(self.peers.remove(host)),
        }
        let previous = self.revision;
        self.revision += 1;
        let kind = match (before, status) {
            (_, None) => pb::ChangeKind::Removed,
            (None, _) => pb::ChangeKind::Added,
            _ => pb::ChangeKind::Status,
        };
        let moved = pb::PeerChange {
            peer: Some(peer(host, status.unwrap_or(pb::PeerStatus::Disconnected))),
            kind: kind.into(),
            previous_status: before.unwrap_or(pb::PeerStatus::Unspecified).into(),
            time: time(),
        };
        let changed = (health != self.health()).then(|| pb::HealthChange {
            pool: "pools/default".into(),
            previous: health.into(),
            health: self.health().into(),
            cause: format!("pools/default/peers/{host}:8009"),
            time: time(),
            ..Default::default()
        });
        let has_changed = changed.is_some();
        let change = pb::Change { peer: Some(moved), health: changed, ..Default::default() };
        let mut records = vec![self.record(Self::topic(host), Content::Change { change, previous })];
        if has_changed {
            records.push(self.pool());
        }
        records
    }
}

/// What may happen to a node.
#[derive(Clone, Debug)]
enum Act {
    Change(usize, Option<pb::PeerStatus>),
    /// So fast that the pool is published only once.
    Burst(Vec<(usize, Option<pb::PeerStatus>)>),
    /// The log overran: changes are not published, and then the state is.
    Overrun(Vec<(usize, Option<pb::PeerStatus>)>),
    Refresh,
    Up,
    Restart(Vec<usize>),
}

fn act(node: &mut Publisher, act: Act) -> Vec<Message> {
    match act {
        Act::Change(host, status) => node.change(HOSTS[host], status),
        Act::Burst(changes) => {
            let changes = changes.into_iter().flat_map(|(host, status)| node.change(HOSTS[host], status));
            let (pools, mut records): (Vec<_>, Vec<_>) =
                changes.partition(|message| message.subject.ends_with(".health"));
            records.extend(pools.last().map(|_| node.pool()));
            records
        }
        Act::Overrun(changes) => {
            for (host, status) in changes {
                node.change(HOSTS[host], status);
            }
            node.whole()
        }
        Act::Refresh => {
            let mut records: Vec<_> = node.peers.keys().map(|host| node.state(host)).collect();
            records.extend([node.pool(), node.commit(node.revision)]);
            records
        }
        Act::Up => vec![node.up()],
        Act::Restart(hosts) => {
            node.epoch += 1_000;
            node.revision = 0;
            node.peers = hosts.into_iter().map(|host| (HOSTS[host], pb::PeerStatus::Connecting)).collect();
            node.whole()
        }
    }
}

fn acts() -> impl Strategy<Value = Act> {
    let status = || {
        let statuses = [pb::PeerStatus::Connecting, pb::PeerStatus::Ready, pb::PeerStatus::Closing];
        prop_oneof![4 => prop::sample::select(statuses.to_vec()).prop_map(Some), 1 => Just(None)]
    };
    let change = || (0..HOSTS.len(), status());
    prop_oneof![
        12 => change().prop_map(|(host, status)| Act::Change(host, status)),
        2 => prop::collection::vec(change(), 0..5).prop_map(Act::Burst),
        1 => prop::collection::vec(change(), 0..5).prop_map(Act::Overrun),
        1 => Just(Act::Refresh),
        1 => Just(Act::Up),
        1 => prop::sample::subsequence((0..HOSTS.len()).collect::<Vec<_>>(), 0..4).prop_map(Act::Restart),
    ]
}

/// What is no record. A node that publishes it on its own subjects hides its own records from replicas that start then.
fn garbage(node: &'static str) -> impl Strategy<Value = Message> {
    let subject = prop_oneof![
        Just(format!("opflex.v1.lab.{node}.up")),
        Just(format!("opflex.v1.lab.{node}.node")),
        Just(format!("opflex.v1.lab.{node}.default.health")),
        Just("opflex.v1.other.n1.up".to_owned()),
        Just(format!("opflex.v1.lab.{node}.default.peer.dhimcpjd64o322hoc0s0i")),
        "[a-z.]{0,30}",
    ];
    (subject, prop::collection::vec(any::<u8>(), 0..100), any::<bool>()).prop_map(
        |(subject, payload, is_numbered)| {
            let mut headers = HeaderMap::new();
            if is_numbered {
                // Of a process that has never been.
                headers.insert("Opflex-Epoch", "77");
                headers.insert("Opflex-Revision", "99");
                headers.insert("Opflex-State-Revision", "99");
            }
            Message { subject, headers, payload }
        },
    )
}

/// A reader of the stream.
struct Replica {
    core: FleetCore,
    hub: Hub,
    /// What it began with.
    first: Arc<Snapshot>,
}

/// The state of a node in the fleet: its liveness, and the status of each peer.
type Seen = BTreeMap<String, (Liveness, BTreeMap<String, &'static str>)>;

impl Replica {
    /// One that begins with the newest record of each subject among those before `start`.
    fn starting(stream: &[Message], start: usize) -> Self {
        let mut newest = BTreeMap::new();
        for (index, message) in stream.iter().enumerate().take(start) {
            newest.insert(message.subject.clone(), index);
        }
        let mut order: Vec<_> = newest.into_values().collect();
        order.sort_unstable();
        let mut core = FleetCore::new("lab".parse().unwrap(), LIMITS);
        for index in order {
            assert!(apply(&mut core, index, &stream[index]).record.effects.is_empty());
        }
        let hub = Hub::of_fleet(100_000);
        let (revision, state) = (last_revision(start as u64), core.finish_snapshot(received(start as u64)));
        let records = vec![core.serve(start as u64)];
        hub.restart(MirrorStart { epoch: 1, revision, state, records, floor: 0 });
        let first = hub.snapshot();
        let mut replica = Self { core, hub, first };
        for (index, message) in stream.iter().enumerate().skip(start) {
            replica.read(index, message);
        }
        replica
    }

    /// One that reads all from `start` on before anybody sees it. The signs of life before `forgotten` have expired, which are much too old.
    fn replaying(stream: &[Message], start: usize, forgotten: usize) -> Self {
        let forgotten = forgotten.min(start.saturating_sub(50));
        let mut newest = BTreeMap::new();
        for (index, message) in stream.iter().enumerate().take(start) {
            if index < forgotten && message.subject.ends_with(".up") {
                newest.remove(&message.subject);
                continue;
            }
            newest.insert(&message.subject, index);
        }
        let mut order: Vec<_> = newest.into_values().collect();
        order.sort_unstable();
        let mut core = FleetCore::new("lab".parse().unwrap(), LIMITS);
        for index in order {
            apply(&mut core, index, &stream[index]);
        }
        let (revision, state) = (last_revision(start as u64), core.finish_snapshot(received(start as u64)));
        let (mut records, mut floor) = (Vec::new(), 0);
        for (index, message) in stream.iter().enumerate().skip(start) {
            let outcome = apply(&mut core, index, message);
            if outcome.is_uncertain {
                floor = position(index).last_revision();
            }
            records.extend(outcome.stale.into_iter().chain([outcome.record]));
        }
        let hub = Hub::of_fleet(100_000);
        records.push(core.serve(stream.len() as u64));
        hub.restart(MirrorStart { epoch: 1, revision, state, records, floor });
        let first = hub.snapshot();
        Self { core, hub, first }
    }

    /// The health of the pools that it began with, as it is, and as a client has it that began with the first snapshot.
    fn healths(&self) -> [BTreeMap<Arc<str>, PoolHealth>; 2] {
        let healths = |snapshot: &Snapshot| {
            snapshot
                .pools
                .iter()
                .map(|pool| (Arc::clone(&pool.name), pool.health))
                .collect::<BTreeMap<_, _>>()
        };
        let (mut client, mut events) = (healths(&self.first), Vec::new());
        self.hub.read_after(self.first.cursor.revision, usize::MAX, &mut events).unwrap();
        for event in events {
            if let (Some(change), Some(health)) = (&event.peer, event.health) {
                client.insert(Arc::clone(&change.peer.pool), health.health);
            }
        }
        let held = healths(&self.hub.snapshot());
        client.retain(|pool, _| held.contains_key(pool));
        [held.into_iter().filter(|(pool, _)| client.contains_key(pool)).collect(), client]
    }

    /// The events after this revision, if it has them.
    fn events(&self, floor: u64) -> Option<Vec<String>> {
        let mut events = Vec::new();
        self.hub.read_after(floor, usize::MAX, &mut events).ok()?;
        let text = |event: &Arc<LogEvent>| {
            let LogEvent { revision, time, peer, health, node, .. } = &**event;
            let node = node.as_ref().map(|change| {
                let node = &change.node.node;
                (&node.name, node.liveness, change.previous, node.epoch, &node.pools)
            });
            let peer = peer.as_ref().map(|change| {
                let peer = &*change.peer;
                (&peer.pool, peer.address.host(), peer.status, peer.revision, change.kind, change.previous)
            });
            format!("{revision:x} {} {peer:?} {health:?} {node:?}", seconds(*time))
        };
        Some(events.iter().map(text).collect())
    }

    fn read(&mut self, index: usize, message: &Message) {
        let outcome = apply(&mut self.core, index, message);
        let emitted = outcome.record.effects.iter().filter(|effect| {
            matches!(effect, Mirrored::Peer { .. } | Mirrored::PeerRemoved { .. } | Mirrored::Node { .. })
        });
        let emitted = emitted.count() as u64;
        for stale in outcome.stale {
            assert_eq!(self.hub.mirror(stale), 1, "a node that is LIVE becomes STALE");
        }
        let applied = self.hub.mirror(outcome.record);
        assert_eq!(applied, emitted, "each emitted effect is of a pool that the hub has");
    }

    /// As [`Self::read`], of a record that may be refused.
    fn read_any(&mut self, index: usize, message: &Message) {
        self.hub.mirror(apply(&mut self.core, index, message).record);
    }

    fn seen(&self) -> Seen {
        let snapshot = self.hub.snapshot();
        let nodes = snapshot.nodes.iter().map(|summary| {
            let peers = snapshot.peers.iter().filter(|peer| summary.node.pools.contains(&peer.pool));
            let peers = peers.map(|peer| (peer.address.host().to_owned(), peer.status.as_str()));
            (summary.node.name.to_string(), (summary.node.liveness, peers.collect()))
        });
        nodes.collect()
    }
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()
}

fn position(index: usize) -> Position {
    Position { sequence: index as u64 + 1, time: at(index as u64), received: received(index as u64) }
}

fn apply(core: &mut FleetCore, index: usize, message: &Message) -> Outcome {
    core.record(position(index), &message.subject, &message.headers, &message.payload)
}

/// What a client knows that begins with nothing and follows the log.
fn folded(hub: &Hub, floor: u64) -> BTreeMap<String, &'static str> {
    let mut events = Vec::new();
    hub.read_after(floor, usize::MAX, &mut events).unwrap();
    let mut peers = BTreeMap::new();
    for change in events.iter().filter_map(|event| event.peer.as_ref()) {
        let name = format!("{}/{}", change.peer.pool, change.peer.address);
        match change.kind {
            crate::status::ChangeKind::Removed => drop(peers.remove(&name)),
            _ => drop(peers.insert(name, change.peer.status.as_str())),
        }
    }
    peers
}

fn truth(node: &Publisher) -> BTreeMap<String, &'static str> {
    let name = |status: &pb::PeerStatus| status.as_str_name().trim_start_matches("PEER_STATUS_");
    node.peers.iter().map(|(host, status)| ((*host).to_owned(), name(status))).collect()
}

#[derive(Clone, Debug)]
enum Event {
    Node(usize, Act),
    Garbage(Message),
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        6 => (0..2_usize, acts()).prop_map(|(node, act)| Event::Node(node, act)),
        1 => garbage("n3").prop_map(Event::Garbage),
    ];
    prop::collection::vec(event, 1..40)
}

/// The stream of two nodes, and their truth at its end.
fn stream(events: Vec<Event>) -> (Vec<Message>, [Publisher; 2]) {
    let mut nodes = [Publisher::new("n1", 1), Publisher::new("n2", 2)];
    let mut queues: [Vec<Message>; 2] = [nodes[0].whole(), nodes[1].whole()];
    let mut stream = Vec::new();
    for event in events {
        match event {
            Event::Garbage(message) => stream.push(message),
            Event::Node(index, what) => queues[index].extend(act(&mut nodes[index], what)),
        }
        // One record of each in turn, so that they interleave.
        for queue in &mut queues {
            if !queue.is_empty() {
                stream.push(queue.remove(0));
            }
        }
    }
    queues.into_iter().for_each(|queue| stream.extend(queue));
    stream.extend(nodes.iter().map(Publisher::up));
    (stream, nodes)
}

proptest! {
    #[test]
    fn every_replica_ends_with_the_truth_wherever_it_starts(events in events(), start in any::<prop::sample::Index>()) {
        let (stream, nodes) = stream(events);
        let live = Replica::starting(&stream, 0);
        for node in &nodes {
            let (liveness, peers) = &live.seen()[node.name];
            prop_assert_eq!((*liveness, peers), (Liveness::Live, &truth(node)));
        }
        let mut sent: Vec<_> = folded(&live.hub, last_revision(0)).into_iter().collect();
        sent.sort();
        let held = live.hub.snapshot();
        let held = held.peers.iter().map(|peer| (format!("{}/{}", peer.pool, peer.address), peer.status.as_str()));
        let mut held: Vec<_> = held.collect();
        held.sort();
        prop_assert_eq!(sent, held, "clients are sent everything");
        let start = start.index(stream.len() + 1);
        let later = Replica::starting(&stream, start);
        prop_assert_eq!(later.seen(), live.seen(), "from {}", start);
        let [held, told] = later.healths();
        prop_assert_eq!(told, held, "clients are told of each health, from {}", start);
        let chain_breaks = |replica: &Replica, name: &str| replica.hub.node(name).unwrap().0.node.chain_breaks;
        for node in &nodes {
            prop_assert!(chain_breaks(&live, node.name) <= stream.len() as u64);
        }
    }

    #[test]
    fn a_replica_that_starts_later_tells_the_same_as_one_from_the_start(
        events in events(),
        start in any::<prop::sample::Index>(),
        forgotten in any::<prop::sample::Index>(),
    ) {
        let (stream, _) = stream(events);
        let live = Replica::starting(&stream, 0);
        let start = start.index(stream.len() + 1);
        let later = Replica::replaying(&stream, start, forgotten.index(start + 1));
        let floor = (0..=stream.len() as u64).map(last_revision).find(|floor| later.events(*floor).is_some());
        let floor = floor.unwrap();
        prop_assert_eq!(later.events(floor), live.events(floor), "from {} on, {:x}", start, floor);
        let peers = |replica: &Replica| replica.seen().into_values().map(|(_, peers)| peers).collect::<Vec<_>>();
        prop_assert_eq!(peers(&later), peers(&live));
    }

    #[test]
    fn a_hostile_node_changes_nothing_of_another(
        events in events(),
        hostile in prop::collection::vec(garbage("n1"), 0..40),
    ) {
        let (honest, nodes) = stream(events);
        // All of it is published by n1, on subjects of its own.
        let mut mixed = Vec::new();
        let mut hostile = hostile.into_iter().filter(|message| !message.subject.contains(".n2."));
        for message in honest {
            mixed.extend(hostile.next());
            mixed.push(message);
        }
        let replica = Replica::starting(&mixed, 0);
        prop_assert_eq!(&replica.seen()["n2"].1, &truth(&nodes[1]));
    }
}

fn replica(stream: &[Message]) -> Replica {
    Replica::starting(stream, 0)
}

#[test]
fn a_restart_is_told_at_its_commit_in_one_step() {
    let mut node = Publisher::new("n1", 1);
    let mut stream = node.whole();
    stream.extend(node.change("leaf-1", Some(pb::PeerStatus::Ready)));
    stream.extend(node.change("leaf-2", Some(pb::PeerStatus::Ready)));
    let before = stream.len();
    let restart = act(&mut node, Act::Restart(vec![1]));
    let commit = before + restart.len() - 2;
    stream.extend(restart);
    for end in before..commit {
        let seen = replica(&stream[..end]).seen();
        assert_eq!(seen["n1"].1.len(), 2, "nothing of the new process before its commit");
    }
    let seen = replica(&stream[..=commit]).seen();
    assert_eq!(seen["n1"].1, truth(&node));
}

#[test]
fn missing_changes_are_a_break_and_the_next_state_heals_it() {
    let mut node = Publisher::new("n1", 1);
    let mut stream = node.whole();
    stream.extend(node.change("leaf-1", Some(pb::PeerStatus::Ready)));
    node.change("leaf-2", Some(pb::PeerStatus::Ready));
    stream.extend(node.change("leaf-3", Some(pb::PeerStatus::Ready)));
    let reader = replica(&stream);
    assert_eq!(reader.hub.node("n1").unwrap().0.node.chain_breaks, 1);
    assert_eq!(reader.seen()["n1"].1.len(), 2, "it cannot know of the other");
    stream.extend(act(&mut node, Act::Overrun(vec![])));
    assert_eq!(replica(&stream).seen()["n1"].1, truth(&node));
}

#[test]
fn a_state_in_place_of_missing_changes_is_a_break_before_its_first_change() {
    let mut node = Publisher::new("n1", 1);
    let mut stream = node.whole();
    stream.extend(node.change("leaf-1", Some(pb::PeerStatus::Ready)));
    let whole = stream.len();
    // Its log overran.
    for host in ["leaf-2", "leaf-3"] {
        node.change(host, Some(pb::PeerStatus::Connecting));
    }
    node.change("leaf-1", Some(pb::PeerStatus::Connecting));
    stream.extend(node.whole());
    let reader = replica(&stream);
    let mut events = Vec::new();
    reader.hub.read_after(last_revision(whole as u64), 99, &mut events).unwrap();
    let first = events.first().and_then(|event| event.node.as_ref());
    assert_eq!(first.map(|change| change.node.node.chain_breaks), Some(1));
    let breaks = events.iter().filter_map(|event| event.node.as_ref());
    assert_eq!(breaks.map(|change| change.node.node.chain_breaks).max(), Some(1), "it is counted once");
    assert_eq!(reader.seen()["n1"].1, truth(&node));
    // The pool comes before the peers: a snapshot there has the health that the change of a peer follows on.
    let pool = |end: usize| replica(&stream[..end]).hub.snapshot().pools[0].health;
    assert_eq!((pool(whole), pool(whole + 1)), (PoolHealth::Healthy, PoolHealth::Healthy));
    assert_eq!(pool(stream.len()), PoolHealth::Down);
}

#[test]
fn a_pool_that_a_running_process_adds_is_there_with_the_commit_that_lists_it() {
    let mut node = Publisher::new("n1", 1);
    let mut stream = node.whole();
    stream.extend(node.change("leaf-1", Some(pb::PeerStatus::Ready)));
    let before = stream.len();
    let pool = pb::Pool {
        name: "pools/other".into(),
        health: pb::PoolHealth::Healthy.into(),
        health_since: time(),
        ..pb::Pool::default()
    };
    let (pool_name, full) = ("other".to_owned(), "pools/other/peers/leaf-9:8009".to_owned());
    let state = pb::Peer { pool: pool_name, name: full, ..peer("leaf-9", pb::PeerStatus::Ready) };
    let moved = pb::PeerChange { peer: Some(state), ..Default::default() };
    let change = pb::Change { peer: Some(moved), ..Default::default() };
    let name = || "other".parse().unwrap();
    stream.push(node.record(Topic::Health { pool: name() }, Content::Pool(pool)));
    let topic = Topic::Peer { pool: name(), address: "leaf-9:8009".parse().unwrap() };
    stream.push(node.record(topic, Content::State(change)));
    stream.extend([node.pool(), node.state("leaf-1")]);
    let pools = vec!["default".into(), "other".into()];
    let listed = pb::Node { pools, pool_count: 2, peer_count: 2, ..node.node() };
    stream.push(node.record(Topic::Node, Content::Commit { node: listed, state: node.revision }));
    let live = replica(&stream);
    let peers = &live.seen()["n1"].1;
    assert_eq!(peers.get("leaf-9"), Some(&"READY"), "{peers:?}");
    for start in 0..=stream.len() {
        let later = Replica::starting(&stream, start);
        assert_eq!(later.seen(), live.seen(), "from {start}");
        assert!(!later.hub.node("n1").unwrap().0.node.is_incomplete, "from {start}");
    }
    let mut events = Vec::new();
    live.hub.read_after(last_revision(before as u64), 99, &mut events).unwrap();
    let told: Vec<_> = events.iter().filter_map(|event| event.peer.as_ref().zip(event.health)).collect();
    let [(added, health)] = &told[..] else { panic!("{events:?}") };
    assert_eq!((&*added.peer.pool, health.health), ("n1.other", PoolHealth::Healthy));
}

/// Its pool came before the newest changes of its peers, which did not change the health.
#[test]
fn the_health_of_a_state_after_a_break_is_told_to_clients_of_a_replica_that_has_just_started() {
    let mut node = Publisher::new("n1", 1);
    let mut stream = node.whole();
    stream.extend(node.change("leaf-1", Some(pb::PeerStatus::Connecting)));
    stream.extend(node.change("leaf-1", Some(pb::PeerStatus::Connected)));
    let start = stream.len();
    node.change("leaf-1", Some(pb::PeerStatus::Ready));
    stream.extend(node.whole());
    let [held, told] = Replica::starting(&stream, start).healths();
    assert_eq!(held["n1.default"], PoolHealth::Healthy);
    assert_eq!(told, held);
}

#[test]
fn records_that_were_stored_behind_later_ones_take_nothing_back() {
    let mut node = Publisher::new("n1", 1);
    let mut stream = node.whole();
    stream.extend(node.change("leaf-1", Some(pb::PeerStatus::Ready)));
    stream.extend(node.change("leaf-2", Some(pb::PeerStatus::Ready)));
    let late = [node.pool(), node.state("leaf-1"), node.commit(node.revision)];
    for host in ["leaf-1", "leaf-2"] {
        stream.extend(node.change(host, None));
    }
    stream.push(node.pool());
    let before = replica(&stream);
    stream.extend(late);
    let after = replica(&stream);
    assert_eq!(after.seen(), before.seen());
    assert_eq!(after.hub.snapshot().pools[0].health, PoolHealth::Down);
}

/// Two processes with one name, of which the second has published its whole state last.
fn namesakes() -> (Publisher, Publisher, Vec<Message>) {
    let (mut one, mut other) = (Publisher::new("n1", 1), Publisher::new("n1", 2));
    one.peers.insert("leaf-1", pb::PeerStatus::Ready);
    other.peers.insert("leaf-2", pb::PeerStatus::Ready);
    let stream = [one.whole(), other.whole()].concat();
    (one, other, stream)
}

fn state_of_n1(replica: &Replica) -> NodeState {
    (*replica.hub.node("n1").unwrap().0.node).clone()
}

#[test]
fn two_processes_with_one_name_are_a_conflict_and_not_merged() {
    let (mut one, other, mut stream) = namesakes();
    let node = |stream: &[Message]| state_of_n1(&replica(stream));
    assert!(!node(&stream).has_conflict, "a restart is none");
    stream.extend(one.change("leaf-3", Some(pb::PeerStatus::Ready)));
    stream.extend(one.whole());
    let conflicting = node(&stream);
    assert!(conflicting.has_conflict && conflicting.epoch == 2);
    assert_eq!(replica(&stream).seen()["n1"].1, truth(&other));
    for _ in 0..200 {
        stream.push(other.up());
    }
    assert!(!node(&stream).has_conflict, "the other one gives no sign of life");
}

#[test]
fn a_node_is_stale_when_the_process_that_published_last_is_gone_and_another_one_goes_on() {
    let (one, other, mut stream) = namesakes();
    let liveness = |stream: &[Message]| state_of_n1(&replica(stream)).liveness;
    stream.push(one.up());
    assert_eq!(liveness(&stream), Liveness::Live);
    // More than 45 s of signs of life, each some time after the one before.
    stream.extend((0..100).map(|_| one.up()));
    let stale = state_of_n1(&replica(&stream));
    assert!(stale.liveness == Liveness::Stale && stale.has_conflict && stale.stale_since.is_some());
    stream.push(other.up());
    assert_eq!(liveness(&stream), Liveness::Live, "it is not gone");
    // The other one publishes its whole state only after a restart.
    let mut restarted = Publisher::new("n1", 3);
    restarted.peers.insert("leaf-1", pb::PeerStatus::Ready);
    stream.extend((0..100).map(|_| restarted.up()));
    assert_eq!(liveness(&stream), Liveness::Stale, "a process that has not committed is no sign of life");
    stream.extend(restarted.whole());
    assert_eq!(liveness(&stream), Liveness::Live);
}

#[test]
fn a_replica_that_starts_beside_two_processes_with_one_name_waits_for_the_one_that_is_shown() {
    let (one, other, mut stream) = namesakes();
    for _ in 0..100 {
        stream.extend([other.up(), one.up()]);
    }
    // Its snapshot has the sign of life of the other process alone.
    let start = stream.len();
    stream.push(one.up());
    let events = |replica: &Replica| {
        let mut events = Vec::new();
        replica.hub.read_after(last_revision(start as u64), 99, &mut events).unwrap();
        events.len()
    };
    let both = Replica::starting(&[&stream[..], &[other.up()]].concat(), start);
    assert_eq!((state_of_n1(&both).liveness, events(&both)), (Liveness::Live, 0));
    stream.extend((0..100).map(|_| one.up()));
    let gone = Replica::starting(&stream, start);
    assert_eq!((state_of_n1(&gone).liveness, events(&gone)), (Liveness::Stale, 1));
    assert_eq!(state_of_n1(&replica(&stream)).liveness, Liveness::Stale);
}

#[test]
fn problems_of_nodes_are_counted_as_they_come_and_go() {
    let (mut one, other, mut stream) = namesakes();
    stream.extend(one.change("leaf-3", Some(pb::PeerStatus::Ready)));
    let mut replica = replica(&stream);
    let problems = |replica: &mut Replica| {
        let known = replica.core.take_problems();
        let known = known.map(|known| known.iter().map(|(_, problem)| *problem).collect::<Vec<_>>());
        (replica.core.count(Liveness::Live), replica.core.count(Liveness::Stale), known)
    };
    assert_eq!(problems(&mut replica), (1, 0, Some(vec!["conflict"])));
    assert_eq!(problems(&mut replica), (1, 0, None), "nothing is new");
    let later = stream.len() + 60;
    replica.read(later, &Publisher::new("n2", 9).up());
    assert_eq!(problems(&mut replica), (0, 1, Some(vec!["conflict", "stale"])));
    replica.read(later + 1, &other.up());
    assert_eq!(problems(&mut replica), (1, 0, Some(vec!["conflict"])));
    replica.read(later + 2, &marker(other.commit(0)));
    assert_eq!(problems(&mut replica), (0, 0, Some(vec![])));
}

#[test]
fn a_node_that_was_purged_is_gone_with_the_next_record_of_another_one() {
    let (mut node, mut other) = (Publisher::new("n1", 1), Publisher::new("n2", 2));
    node.change("leaf-1", Some(pb::PeerStatus::Ready));
    let mut stream = [node.whole(), other.whole()].concat();
    let mut replica = replica(&stream);
    replica.core.purge("n1".into());
    let up = node.up();
    replica.read(stream.len(), &up);
    assert_eq!(state_of_n1(&replica).liveness, Liveness::Live, "it is there");
    replica.core.purge("n1".into());
    stream.push(up);
    replica.read(stream.len(), &other.up());
    assert!(replica.hub.node("n1").is_none() && replica.hub.snapshot().peers.is_empty());
    let mut events = Vec::new();
    replica.hub.read_after(0xffff, 99, &mut events).unwrap();
    let last = events.last().unwrap().node.as_ref().unwrap();
    assert_eq!((last.node.node.liveness, last.previous), (Liveness::Gone, Some(Liveness::Live)));
    assert_eq!((replica.core.count(Liveness::Live), replica.core.count(Liveness::Stale)), (1, 0));
}

/// The end of the last message of a subject, as operators publish it.
fn marker(message: Message) -> Message {
    let mut headers = HeaderMap::new();
    headers.insert("Nats-Marker-Reason", "Purge");
    Message { headers, payload: Vec::new(), ..message }
}

#[test]
fn a_node_whose_records_were_pushed_out_of_the_stream_is_incomplete_by_the_number_of_its_peers() {
    let mut node = Publisher::new("n1", 1);
    for host in ["leaf-1", "leaf-2", "leaf-3"] {
        node.change(host, Some(pb::PeerStatus::Ready));
    }
    let mut stream = node.whole();
    // The oldest ones: its pool, or that and a peer.
    for gone in [1, 2] {
        let late = Replica::starting(&stream[gone..], stream.len() - gone);
        assert!(state_of_n1(&late).is_incomplete, "{gone}");
    }
    stream.remove(1);
    let mut late = Replica::starting(&stream, stream.len());
    assert_eq!((state_of_n1(&late).is_incomplete, late.hub.snapshot().peers.len()), (true, 2));
    let mut next = stream.len();
    let mut read = |late: &mut Replica, message: &Message| {
        late.read(next, message);
        next += 1;
    };
    read(&mut late, &node.up());
    assert!(state_of_n1(&late).is_incomplete, "as long as it is missing");
    read(&mut late, &node.state("leaf-1"));
    read(&mut late, &node.up());
    assert!(!state_of_n1(&late).is_incomplete);
    // More than the fleet may have are not there, and the node says how many it has.
    let hosts = ["h1", "h2", "h3", "h4", "h5", "h6"];
    for host in hosts {
        for message in node.change(host, Some(pb::PeerStatus::Connecting)) {
            late.read_any(next, &message);
            next += 1;
        }
    }
    late.read(next, &node.up());
    assert!(state_of_n1(&late).is_incomplete);
}

/// An acknowledgement of JetStream in place of this message.
fn acknowledgement(message: &Message) -> Message {
    let payload = br#"{"stream":"OPFLEX", "seq":7}"#.to_vec();
    Message { subject: message.subject.clone(), headers: HeaderMap::new(), payload }
}

#[test]
fn a_replica_that_starts_without_a_record_says_that_its_node_is_incomplete_until_the_next_commit() {
    let mut node = Publisher::new("n1", 1);
    node.change("leaf-1", Some(pb::PeerStatus::Ready));
    node.change("leaf-2", Some(pb::PeerStatus::Ready));
    let mut stream = node.whole();
    stream.push(acknowledgement(&node.state("leaf-2")));
    let running = Replica::starting(&stream, 0);
    assert!(!state_of_n1(&running).is_incomplete, "it has the record from before");
    let mut late = Replica::starting(&stream, stream.len());
    assert!(state_of_n1(&late).is_incomplete);
    assert_eq!(late.hub.snapshot().peers.len(), 1);
    let whole = node.whole();
    for (index, message) in whole.iter().enumerate() {
        late.read(stream.len() + index, message);
    }
    assert!(!state_of_n1(&late).is_incomplete);
    stream.extend(whole);
    let again = Replica::starting(&stream, stream.len());
    assert_eq!((state_of_n1(&again).is_incomplete, again.hub.snapshot().peers.len()), (false, 2));
}

#[test]
fn a_late_record_of_the_process_before_makes_a_node_incomplete_until_its_next_commit() {
    let mut old = Publisher::new("n1", 1);
    old.change("leaf-1", Some(pb::PeerStatus::Ready));
    let mut stream = old.whole();
    let mut new = Publisher::new("n1", 2);
    new.change("leaf-1", Some(pb::PeerStatus::Ready));
    stream.extend(new.whole());
    stream.extend(old.change("leaf-1", Some(pb::PeerStatus::Connecting)));
    let late = Replica::starting(&stream, stream.len());
    assert!(state_of_n1(&late).is_incomplete);
    assert_eq!(late.hub.snapshot().peers.len(), 0, "its record is gone");
    stream.extend(new.whole());
    let again = Replica::starting(&stream, stream.len());
    assert_eq!((state_of_n1(&again).is_incomplete, again.hub.snapshot().peers.len()), (false, 1));
}

#[test]
fn a_node_without_signs_of_life_is_stale_and_one_without_records_is_gone() {
    let mut node = Publisher::new("n1", 1);
    node.peers.insert("leaf-1", pb::PeerStatus::Ready);
    let mut stream = node.whole();
    stream.extend((0..100).map(|_| Publisher::new("n2", 9).up()));
    let stale = replica(&stream);
    let (summary, _) = stale.hub.node("n1").unwrap();
    assert_eq!((summary.node.liveness, summary.wanted, summary.ready), (Liveness::Stale, 1, 0));
    stream.push(marker(node.commit(0)));
    let gone = replica(&stream);
    assert!(gone.hub.node("n1").is_none() && gone.hub.snapshot().pools.is_empty());
    let mut events = Vec::new();
    gone.hub.read_after(0xffff, 99, &mut events).unwrap();
    let last = events.last().unwrap().node.as_ref().unwrap();
    assert_eq!((last.node.node.liveness, last.previous), (Liveness::Gone, Some(Liveness::Stale)));
}

#[test]
fn a_node_has_only_so_many_peers_and_the_fleet_so_many_nodes() {
    let mut core = FleetCore::new("lab".parse().unwrap(), LIMITS);
    core.finish_snapshot(received(0));
    let mut node = Publisher::new("n1", 1);
    let mut index = 0;
    let mut read = |core: &mut FleetCore, message: &Message| {
        index += 1;
        apply(core, index, message).skipped
    };
    for message in node.whole() {
        assert_eq!(read(&mut core, &message), None);
    }
    let hosts: Vec<&'static str> = (0..9).map(|host| &*format!("h{host}").leak()).collect();
    let skipped: Vec<_> = hosts
        .iter()
        .map(|host| {
            node.change(host, Some(pb::PeerStatus::Connecting))
                .iter()
                .find_map(|message| read(&mut core, message))
        })
        .collect();
    assert_eq!(skipped.iter().flatten().collect::<Vec<_>>(), [&"too_many_peers"]);
    for name in ["n2", "n3"] {
        assert_eq!(read(&mut core, &Publisher::new(name, 7).up()), None);
    }
    assert_eq!(read(&mut core, &Publisher::new("n4", 7).up()), Some("too_many_nodes"));
    let long = Message { payload: vec![0; 70_000], ..node.up() };
    assert_eq!(read(&mut core, &long), Some("too_large"));
    let _ = Arc::new(core);
}

#[test]
fn nodes_that_only_give_signs_of_life_or_are_gone_give_way_to_those_that_publish_a_state() {
    let mut core = FleetCore::new("lab".parse().unwrap(), LIMITS);
    core.finish_snapshot(received(0));
    let mut index = 0;
    let mut read = |core: &mut FleetCore, messages: &[Message]| {
        let skipped = messages.iter().filter_map(|message| {
            index += 1;
            apply(core, index, message).skipped
        });
        skipped.collect::<Vec<_>>()
    };
    let whole = |name| Publisher::new(name, 7).whole();
    let up = |name| [Publisher::new(name, 7).up()];
    assert!(read(&mut core, &whole("n1")).is_empty());
    for name in ["n2", "n3"] {
        assert!(read(&mut core, &up(name)).is_empty());
    }
    assert_eq!(read(&mut core, &up("n4")), ["too_many_nodes"], "it has no more to say");
    for name in ["n4", "n5"] {
        assert!(read(&mut core, &whole(name)).is_empty(), "{name} has the place of one without a state");
    }
    for name in ["n2", "n6"] {
        let skipped = read(&mut core, &whole(name));
        assert!(!skipped.is_empty() && skipped.iter().all(|skipped| *skipped == "too_many_nodes"), "{name}");
    }
    let committed: BTreeSet<_> = core.committed().map(|name| &**name).collect();
    assert_eq!(committed, BTreeSet::from(["n1", "n4", "n5"]));
    core.purge("n4".into());
    assert!(read(&mut core, &up("n1")).is_empty());
    assert!(read(&mut core, &whole("n6")).is_empty(), "n4 is gone");
}

/// The liveness of the nodes that the events after this revision tell of, with their revisions.
fn told(replica: &Replica, after: u64) -> Vec<(u64, String, Liveness)> {
    let mut events = Vec::new();
    replica.hub.read_after(after, 99, &mut events).unwrap();
    let nodes = events.iter().filter_map(|event| Some((event.revision, event.node.as_ref()?)));
    nodes.map(|(at, change)| (at, change.node.node.name.to_string(), change.node.node.liveness)).collect()
}

impl Replica {
    /// No record comes until then.
    fn wait(&mut self, next: usize, until: Instant) -> usize {
        let records = self.core.pass_by_clock(next as u64 + 1, until);
        records.into_iter().map(|record| self.hub.mirror(record) as usize).sum()
    }
}

#[test]
fn a_node_without_signs_of_life_is_stale_at_the_same_place_whether_a_record_or_our_own_clock_says_so() {
    let nodes = ["n1", "n2", "n3"].map(|name| Publisher::new(name, 1));
    let mut stream: Vec<_> = nodes.iter().flat_map(|node| node.clone().whole()).collect();
    let end = stream.len();
    let (mut by_clock, mut by_record, mut both) = (replica(&stream), replica(&stream), replica(&stream));
    let before = last_revision(end as u64);
    assert_eq!(by_clock.wait(end, received(2 + 49)), 0, "records may still be on their way");
    assert_eq!(by_clock.wait(end, received(end as u64 + 60)), 3);
    assert_eq!(both.wait(end, received(2 + 50)), 1);
    let stale = told(&by_clock, before);
    let names: Vec<_> = stale.iter().map(|(_, name, liveness)| (&**name, *liveness)).collect();
    assert_eq!(names, ["n1", "n2", "n3"].map(|name| (name, Liveness::Stale)));
    // The first one comes back after an hour, with a record at this place.
    stream.push(nodes[0].up());
    let back = |replica: &mut Replica| {
        let at = Position { time: at(3_600), received: received(3_600), ..position(end) };
        let outcome =
            replica.core.record(at, &stream[end].subject, &stream[end].headers, &stream[end].payload);
        for record in outcome.stale.into_iter().chain([outcome.record]) {
            replica.hub.mirror(record);
        }
        told(replica, before)
    };
    let told = back(&mut by_clock);
    assert_eq!((&told[..3], told.len(), told[3].2), (&stale[..], 4, Liveness::Live));
    assert_eq!((back(&mut by_record), back(&mut both)), (told.clone(), told));
    let since = by_record.hub.node("n2").unwrap().0.node.stale_since;
    assert_eq!(since, Some(at(2 * end as u64 / 3 - 1) + Duration::from_secs(45)));
}

#[test]
fn our_own_clock_stands_still_while_nothing_is_read() {
    let stream = Publisher::new("n1", 1).whole();
    let (mut replica, end) = (replica(&stream), stream.len());
    replica.core.resume(received(1_000));
    assert_eq!(replica.wait(end, received(1_049)), 0);
    assert_eq!(replica.wait(end, received(1_051)), 1);
}

#[test]
fn when_all_nodes_are_stale_a_client_of_another_replica_need_not_wait_for_the_next_record() {
    let stream = Publisher::new("n1", 1).whole();
    let (mut one, end) = (replica(&stream), stream.len());
    one.wait(end, received(100));
    let cursor = one.hub.cursor().revision;
    // Its first record is a sign of life that never expires, of a node that has been gone for long.
    let mut late = Replica::starting(&stream, end);
    let passed = late.core.pass(end as u64 + 1, at(200));
    assert_eq!(passed.len(), 1);
    for record in passed {
        late.hub.mirror(record);
    }
    assert_eq!(state_of_n1(&late).liveness, Liveness::Stale);
    assert_eq!(late.wait(end, received(0)), 0);
    assert!(late.hub.cursor().revision >= cursor, "it has what the other one has");
    let back = Publisher::new("n1", 1).up();
    late.read(end, &back);
    assert_eq!(state_of_n1(&late).liveness, Liveness::Live);
}

#[test]
fn a_pool_without_peers_whose_agent_cannot_be_seen_any_more_is_unknown_and_says_why() {
    let mut node = Publisher::new("n1", 1);
    let mut stream = node.whole();
    stream.extend(node.change("leaf-1", Some(pb::PeerStatus::Connecting)));
    stream.extend(node.change("leaf-1", None));
    let shown = |stream: &[Message]| {
        let pool = replica(stream).hub.pool("n1.default").unwrap().0;
        (pool.health, pool.detail.to_string())
    };
    assert_eq!(shown(&stream), (PoolHealth::Down, String::new()));
    let unknown = pb::Pool {
        name: "pools/default".into(),
        health: pb::PoolHealth::Unspecified.into(),
        health_since: time(),
        detail: "no log".into(),
        ..pb::Pool::default()
    };
    stream.push(node.record(Topic::Health { pool: "default".parse().unwrap() }, Content::Pool(unknown)));
    assert_eq!(shown(&stream), (PoolHealth::Unknown, "no log".to_owned()));
}
