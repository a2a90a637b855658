use std::time::SystemTime;

use proptest::prelude::*;

use super::*;
use crate::{
    fleet::record::Entry,
    opflex::{Identity, Roles},
    peer::{PeerOrigin, PeerStatus, Reason, Report},
    status::{PeerUpdate, Update},
};

const REFRESH: Duration = Duration::from_secs(600);

fn hub(history: usize) -> Arc<Hub> {
    let (name, domain, mac) = ("agent".into(), "domain".into(), "00:11:22:33:44:55".into());
    let identity = Identity { name, domain, location: None, mac, roles: Roles::default() };
    let hub = Hub::new(7, history);
    hub.add_pool("p".into(), Arc::new(identity), SystemTime::UNIX_EPOCH);
    Arc::new(hub)
}

fn feed(hub: &Arc<Hub>) -> Feed {
    Feed::new(Arc::clone(hub), "lab".parse().unwrap(), "n".parse().unwrap(), REFRESH, "secret".to_owned())
}

fn publish(hub: &Hub, peer: u8, what: Update) {
    let address = PeerAddress::new(&format!("leaf-{peer}"), 8009).unwrap();
    hub.publish(PeerUpdate { pool: "p".into(), address, at: SystemTime::UNIX_EPOCH, what });
}

fn add(hub: &Hub, peer: u8) {
    publish(hub, peer, Update::added(PeerOrigin::Configured));
}

fn is(status: PeerStatus) -> Update {
    let reason = if status == PeerStatus::Ready { Reason::HandshakeComplete } else { Reason::RemoteClosed };
    Update::Status(Report::new(status, reason))
}

/// A reader of the stream that keeps the contract.
#[derive(Default)]
struct Reader {
    /// The newest record of each peer: its revision, and the peer.
    peers: BTreeMap<String, (u64, pb::Peer)>,
    pool: Option<pb::Pool>,
    node: Option<pb::Node>,
    newest: u64,
    chain: Option<u64>,
    breaks: u64,
    commits: u64,
    ups: u64,
}

impl Reader {
    fn read(&mut self, record: &Record) {
        let message = record.encode();
        let entry = Entry::decode(&message.subject, message.headers.as_ref().unwrap(), &message.payload);
        assert_eq!(entry, Ok(Entry::Record(Box::new(record.clone()))), "it arrives as it was sent");
        let revision = record.header.revision;
        assert!(revision >= self.newest, "records never go backwards");
        self.newest = revision;
        match &record.content {
            Content::State(change) => self.keep(change, revision),
            Content::Change { change, previous } => {
                assert_eq!(Some(*previous), self.chain, "the chain is whole");
                self.chain = Some(revision);
                self.keep(change, revision);
            }
            Content::Pool(pool) => self.pool = Some(pool.clone()),
            Content::Commit { node, state } => {
                self.peers.retain(|_, (revision, _)| *revision >= *state);
                self.breaks += u64::from(self.chain.is_some_and(|chain| chain != revision));
                self.chain = Some(revision);
                self.node = Some(node.clone());
                self.commits += 1;
            }
            Content::Up(node) => {
                assert_eq!(node.revision, revision);
                self.ups += 1;
            }
        }
    }

    fn keep(&mut self, change: &pb::Change, revision: u64) {
        let moved = change.peer.as_ref().unwrap();
        let peer = moved.peer.clone().unwrap();
        if moved.kind() == pb::ChangeKind::Removed {
            self.peers.remove(&peer.name);
        } else {
            self.peers.insert(peer.name.clone(), (revision, peer));
        }
    }

    /// Reads all that there is now.
    fn read_all(&mut self, feed: &mut Feed, now: Instant) -> Vec<Record> {
        let records: Vec<_> = std::iter::from_fn(|| feed.next(now)).collect();
        records.iter().for_each(|record| self.read(record));
        records
    }

    fn assert_equals(&self, hub: &Hub) {
        let snapshot = hub.snapshot();
        let key = |peer: &pb::Peer| (peer.name.clone(), peer.status, peer.reason, peer.revision);
        let mut known: Vec<_> = self.peers.values().map(|(_, peer)| key(peer)).collect();
        let mut truth: Vec<_> = snapshot.peers.iter().map(|peer| key(&convert::peer(peer))).collect();
        known.sort();
        truth.sort();
        assert_eq!(known, truth);
        let pool = self.pool.clone().unwrap();
        let of_hub = convert::pool(&snapshot.pools[0]);
        assert_eq!(pb::Pool { revision: of_hub.revision, ..pool }, of_hub);
    }
}

fn topics(records: &[Record]) -> Vec<String> {
    let topic = |record: &Record| {
        let topic = match &record.content {
            Content::Change { .. } => "change",
            Content::State(_) => "state",
            Content::Pool(_) => "pool",
            Content::Commit { .. } => "commit",
            Content::Up(_) => "up",
        };
        format!("{topic} {}", record.header.revision)
    };
    records.iter().map(topic).collect()
}

#[test]
fn the_state_comes_first_then_a_commit_a_sign_of_life_and_the_changes() {
    let (hub, now) = (hub(64), Instant::now());
    let mut feed = feed(&hub);
    add(&hub, 1);
    let mut reader = Reader::default();
    let start = reader.read_all(&mut feed, now);
    assert_eq!(topics(&start), ["pool 1", "state 1", "commit 1", "up 1"]);
    assert_eq!((feed.take_states(), feed.take_states()), (vec![StateReason::Start], Vec::new()));
    publish(&hub, 1, is(PeerStatus::Ready));
    assert!(!feed.includes(2));
    let changes = reader.read_all(&mut feed, now);
    assert_eq!(topics(&changes), ["change 2", "pool 2"]);
    assert!(feed.includes(2));
    assert_eq!(changes[0].header.id, "secret:2");
    // The counts of the pool are the same after this one.
    add(&hub, 2);
    publish(&hub, 2, is(PeerStatus::Connecting));
    assert_eq!(topics(&reader.read_all(&mut feed, now)), ["change 3", "change 4", "pool 4"]);
    publish(&hub, 2, is(PeerStatus::Connected));
    assert_eq!(topics(&reader.read_all(&mut feed, now)), ["change 5"]);
    reader.assert_equals(&hub);
    let node = reader.node.unwrap();
    assert_eq!((node.pools, node.peer_count, node.ready_count), (vec!["p".to_owned()], 1, 0));
}

#[test]
fn every_message_has_an_id_of_its_own() {
    let (hub, mut now) = (hub(64), Instant::now());
    let mut feed = feed(&hub);
    (1..10).for_each(|peer| add(&hub, peer));
    let mut ids: Vec<_> = Vec::new();
    for _ in 0..200 {
        now += UP_INTERVAL;
        ids.extend(std::iter::from_fn(|| feed.next(now)).map(|record| record.header.id));
    }
    let all = ids.len();
    ids.sort();
    ids.dedup();
    assert_eq!((all, all > 200), (ids.len(), true));
}

#[test]
fn a_sign_of_life_comes_within_15_seconds_with_the_newest_published_revision() {
    let (hub, mut now) = (hub(64), Instant::now());
    let interval = up_interval(hub.epoch());
    assert!(interval <= UP_INTERVAL && interval != up_interval(hub.epoch() + 1), "each process has its own");
    let mut feed = feed(&hub);
    let mut reader = Reader::default();
    reader.read_all(&mut feed, now);
    assert_eq!(feed.next_deadline(), Some(now + interval));
    for expected in 2..10 {
        now += interval;
        reader.read_all(&mut feed, now - Duration::from_millis(1));
        assert_eq!(reader.ups, expected - 1);
        reader.read_all(&mut feed, now);
        assert_eq!(reader.ups, expected);
    }
}

#[test]
fn within_a_refresh_period_every_peer_is_published_once_more() {
    let (hub, mut now) = (hub(64), Instant::now());
    let mut feed = feed(&hub);
    let mut reader = Reader::default();
    (1..=9).for_each(|peer| add(&hub, peer));
    reader.read_all(&mut feed, now);
    // What a reader holds that does not exist is gone at the end of it.
    reader.peers.insert("lost".to_owned(), (3, pb::Peer::default()));
    let mut states = 0;
    for _ in 0..600 {
        now += Duration::from_secs(1);
        let records = reader.read_all(&mut feed, now);
        let kinds = topics(&records);
        states += kinds.iter().filter(|kind| kind.starts_with("state")).count();
        assert!(kinds.iter().filter(|kind| kind.starts_with("state")).count() <= 1, "they are spread");
    }
    assert_eq!((states, reader.commits, reader.breaks), (9, 2, 0));
    reader.assert_equals(&hub);
    assert_eq!(feed.take_states(), [StateReason::Start]);
}

#[test]
fn what_the_log_lost_comes_as_state_and_a_removal_in_the_gap_is_told_by_the_commit() {
    let (hub, now) = (hub(16), Instant::now());
    let mut feed = feed(&hub);
    let mut reader = Reader::default();
    (1..=3).for_each(|peer| add(&hub, peer));
    reader.read_all(&mut feed, now);
    publish(&hub, 1, Update::Removed);
    (0..20).for_each(|_| {
        publish(&hub, 2, is(PeerStatus::Ready));
        publish(&hub, 2, is(PeerStatus::Connecting));
    });
    reader.read_all(&mut feed, now);
    assert_eq!((reader.commits, reader.breaks), (2, 1));
    reader.assert_equals(&hub);
    assert_eq!(feed.take_states(), [StateReason::Start, StateReason::Overrun]);
}

#[derive(Clone, Debug)]
enum Step {
    Add(u8),
    Ready(u8),
    Lost(u8),
    Remove(u8),
    /// So many records are read.
    Read(u8),
    /// So many seconds pass.
    Wait(u8),
    Restart,
}

proptest! {
    #[test]
    fn a_reader_has_the_state_of_the_hub_whatever_happens(steps in prop::collection::vec(prop_oneof![
        3 => (0..6_u8).prop_map(Step::Add), 4 => (0..6_u8).prop_map(Step::Ready), 4 => (0..6_u8).prop_map(Step::Lost),
        2 => (0..6_u8).prop_map(Step::Remove), 6 => (0..30_u8).prop_map(Step::Read), 3 => any::<u8>().prop_map(Step::Wait),
        1 => Just(Step::Restart),
    ], 0..150)) {
        let (hub, mut now) = (hub(16), Instant::now());
        let (mut feed, mut reader) = (feed(&hub), Reader::default());
        for step in steps {
            match step {
                Step::Add(peer) => add(&hub, peer),
                Step::Ready(peer) => publish(&hub, peer, is(PeerStatus::Ready)),
                Step::Lost(peer) => publish(&hub, peer, is(PeerStatus::Connecting)),
                Step::Remove(peer) => publish(&hub, peer, Update::Removed),
                Step::Wait(seconds) => now += Duration::from_secs(seconds.into()),
                Step::Restart => feed.restart(StateReason::Order),
                Step::Read(count) => {
                    for record in std::iter::from_fn(|| feed.next(now)).take(count.into()) {
                        reader.read(&record);
                    }
                }
            }
        }
        reader.read_all(&mut feed, now);
        prop_assert!(feed.includes(hub.cursor().revision));
        prop_assert!(feed.next_deadline().is_some_and(|at| at > now));
        reader.assert_equals(&hub);
    }
}

#[test]
fn a_pool_that_a_reload_removed_is_in_the_next_state_no_more() {
    let hub = hub(64);
    hub.add_observed_pool("q".into(), SystemTime::UNIX_EPOCH);
    let (mut feed, now) = (feed(&hub), Instant::now());
    let pools_of_commits = |feed: &mut Feed| {
        let mut commits = Vec::new();
        // A restart ends one round of records.
        for _ in 0..2 {
            while let Some(record) = feed.next(now) {
                if let Content::Commit { node, .. } = record.content {
                    commits.push(node.pools);
                }
            }
        }
        commits
    };
    assert_eq!(pools_of_commits(&mut feed), [["p", "q"]]);
    hub.remove_pool("q");
    assert_eq!(pools_of_commits(&mut feed), [["p"]]);
}
