//! A client that believes nothing: it keeps the state from what it is told, and holds every message against
//! what is true.

use opflex_peerstatus::{
    api::pb::{
        Change, ChangeKind, Cursor, GapPolicy, ListenerFilter, Pool, Reset, ResetReason,
        WatchPeerStatusResponse, watch_peer_status_response::Event,
    },
    peer::{PeerStatus, PoolHealth},
};

use super::model::{
    Happened, HealthMove, Healths, Known, Model, Peers, address, admits_origin, admits_status, passes, value,
};

/// How far a stream is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Nothing was said.
    New,
    /// A snapshot cut at this revision is being told; whether a part of it was.
    Snapshot { cut: u64, begun: bool },
    /// What was missed is being told.
    Replay,
    /// It is up to date, or soon is.
    Live,
    /// It was told to come back later.
    Drained,
}

#[derive(Clone)]
pub(super) struct Client {
    /// How many changes the service remembers.
    pub(super) history: u64,
    pub(super) filter: ListenerFilter,
    pub(super) user_data: Vec<u8>,
    /// What it asked for last.
    pub(super) asked: Option<Cursor>,
    pub(super) gap_policy: GapPolicy,
    /// Name of its listener.
    pub(super) listener: String,
    pub(super) phase: Phase,
    /// Where to resume.
    pub(super) cursor: Option<Cursor>,
    /// What its listener should have counted: changes, resets, revisions missed.
    pub(super) counts: (u64, u64, u64),
    epoch: u64,
    peers: Peers,
    healths: Healths,
    /// Revision of the last change or snapshot.
    chain: u64,
    /// Up to here it knows that it knows everything.
    reached: u64,
}

impl Client {
    pub(super) fn new(history: u64, filter: ListenerFilter, user_data: Vec<u8>) -> Self {
        Self {
            history,
            filter,
            user_data,
            asked: None,
            gap_policy: GapPolicy::Unspecified,
            listener: String::new(),
            phase: Phase::New,
            cursor: None,
            counts: (0, 0, 0),
            epoch: 0,
            peers: Peers::new(),
            healths: Healths::new(),
            chain: 0,
            reached: 0,
        }
    }

    /// Takes in a message. Returns the revision of a heartbeat.
    pub(super) fn hear(&mut self, message: &WatchPeerStatusResponse, model: &Model) -> Option<u64> {
        let event = message.event.as_ref().expect("every message says something");
        let tagged = matches!(event, Event::Attached(_) | Event::Change(_));
        let user_data: &[u8] = if tagged { &self.user_data } else { &[] };
        assert_eq!(message.user_data, user_data);
        assert_ne!(self.phase, Phase::Drained, "nothing comes after draining");
        let (revision, previous) = (message.revision, message.previous_revision);
        match event {
            Event::Attached(attached) => {
                assert_eq!(self.phase, Phase::New, "attached is the first message, and only that");
                let cursor = attached.cursor.expect("a cursor");
                assert_eq!((revision, previous), (cursor.revision, cursor.revision));
                self.listener.clone_from(&attached.listener.as_ref().expect("a listener").name);
                self.attached(cursor, attached.resumed);
            }
            Event::Snapshot(snapshot) => {
                let Phase::Snapshot { cut, begun } = self.phase else {
                    panic!("out of the blue: {message:?}")
                };
                assert_eq!((revision, previous), (cut, if begun { cut } else { self.chain }));
                assert!(!begun || snapshot.pools.is_empty(), "all pools are in the first part");
                (self.phase, self.chain) = (Phase::Snapshot { cut, begun: true }, cut);
                for peer in &snapshot.peers {
                    let known = self.peers.insert((peer.pool.clone(), peer.host.clone()), peer.into());
                    assert_eq!(known, None, "told twice in one snapshot");
                }
                self.healths.extend(snapshot.pools.iter().map(health));
            }
            Event::Synced(synced) => {
                let cursor = synced.cursor.expect("a cursor");
                match self.phase {
                    Phase::Snapshot { cut, begun } => assert_eq!((cursor.revision, begun), (cut, true)),
                    phase => assert_eq!(phase, Phase::Replay, "synced out of the blue"),
                }
                assert_eq!(previous, self.chain);
                assert_eq!(synced.peer_count as usize, self.peers.len());
                self.phase = Phase::Live;
                self.reach(cursor, revision, model);
            }
            Event::Change(change) => {
                assert_eq!(previous, self.chain, "a gap before {message:?}");
                self.change(change, revision, model);
            }
            Event::Reset(reset) => {
                assert_eq!(previous, self.chain);
                self.reset(reset, revision, model);
            }
            Event::Heartbeat(heartbeat) => {
                assert_eq!((self.phase, previous), (Phase::Live, self.chain));
                self.reach(heartbeat.cursor.expect("a cursor"), revision, model);
                return Some(revision);
            }
            Event::Draining(draining) => {
                assert!(draining.retry_after.is_some());
                assert_eq!((self.phase, previous), (Phase::Live, self.chain));
                self.reach(draining.cursor.expect("a cursor"), revision, model);
                self.phase = Phase::Drained;
            }
        }
        None
    }

    fn attached(&mut self, cursor: Cursor, resumed: bool) {
        if self.epoch != cursor.epoch {
            self.reached = 0;
        }
        (self.epoch, self.chain) = (cursor.epoch, cursor.revision);
        if resumed {
            assert_eq!(Some(cursor), self.asked, "it goes on where it was asked to");
            (self.phase, self.reached) = (Phase::Replay, cursor.revision);
        } else {
            self.forget(cursor.revision);
        }
    }

    /// A snapshot cut at this revision follows.
    fn forget(&mut self, cut: u64) {
        self.peers.clear();
        self.healths.clear();
        (self.phase, self.cursor) = (Phase::Snapshot { cut, begun: false }, None);
    }

    /// Everything up to there was told: so the state is the one of that revision.
    fn reach(&mut self, cursor: Cursor, revision: u64, model: &Model) {
        assert_eq!((cursor.epoch, cursor.revision), (self.epoch, revision));
        assert!(revision >= self.reached, "revisions only grow");
        assert!(revision <= model.head(), "it is told what is yet to happen");
        let untold = model.next_for(&self.filter, self.chain, revision);
        assert_eq!(untold, None, "not told, and now it is taken for told");
        (self.cursor, self.reached) = (Some(cursor), revision);
        self.compare(revision, model);
    }

    fn compare(&self, revision: u64, model: &Model) {
        let truth = model.state_for(&self.filter, revision);
        assert_eq!((&self.peers, &self.healths), (&truth.0, &truth.1), "at revision {revision}");
    }

    /// The stream has ended: everything until now had to be told before.
    pub(super) fn has_heard_all(&self, model: &Model) {
        assert!(matches!(self.phase, Phase::Live | Phase::Drained), "{:?}", self.phase);
        assert_eq!(model.next_for(&self.filter, self.chain, model.head()), None);
    }

    /// The peers that it knows.
    pub(super) fn peers(&self) -> &Peers {
        &self.peers
    }

    fn reset(&mut self, reset: &Reset, cut: u64, model: &Model) {
        let missed = reset.missed_count;
        match reset.reason() {
            ResetReason::Overflow => {
                assert!(matches!(self.phase, Phase::Live | Phase::Replay), "{:?}", self.phase);
                assert_ne!(self.gap_policy, GapPolicy::Fail);
                // It had read that far in the log, past what it was told of only where its filter held things back.
                let place = cut.checked_sub(missed).expect("not more than there were");
                assert!(place >= self.reached, "a revision counts as missed and was not");
                let untold = model.next_for(&self.filter, self.chain, place);
                assert_eq!(untold, None, "it was not told, and does not count as missed");
                assert!(missed > self.history, "{missed} changes were there to be read");
            }
            ResetReason::Compacted => {
                assert_eq!(self.phase, Phase::Snapshot { cut, begun: false });
                let asked = self.asked.expect("it did");
                assert_eq!((asked.epoch, asked.revision + missed), (self.epoch, cut));
                assert!(missed > self.history, "{missed} changes were there to be read");
            }
            ResetReason::EpochChanged => {
                assert_eq!(self.phase, Phase::Snapshot { cut, begun: false });
                assert_ne!(self.asked.expect("it did").epoch, self.epoch);
                assert_eq!(missed, 0);
            }
            ResetReason::Unspecified => panic!("a reset without a reason"),
        }
        self.counts.1 += 1;
        self.counts.2 += missed;
        self.forget(cut);
    }

    fn change(&mut self, change: &Change, revision: u64, model: &Model) {
        assert!(matches!(self.phase, Phase::Live | Phase::Replay), "{:?}", self.phase);
        assert!(revision > self.reached, "told twice, or after it was taken for told");
        let expected = model.next_for(&self.filter, self.chain, revision);
        assert_eq!(expected, Some(revision), "another one was due");
        let happened = model.happened(revision);
        let (peer, health) = passes(&self.filter, happened);
        assert_eq!((change.peer.is_some(), change.health.is_some()), (peer, health));
        self.peer_change(change, happened);
        self.health_change(change, happened);
        (self.chain, self.reached) = (revision, revision);
        self.cursor = Some(Cursor { epoch: self.epoch, revision });
        self.counts.0 += 1;
        self.compare(revision, model);
    }

    fn peer_change(&mut self, change: &Change, happened: &Happened) {
        let Some(change) = &change.peer else { return };
        let peer = change.peer.as_ref().expect("a peer");
        let known = Known::from(peer);
        assert_eq!((&peer.pool, &peer.host), (&happened.pool, &happened.host));
        assert_eq!((change.kind(), &known), (happened.kind, &happened.told));
        let previous =
            (change.previous_status != 0).then(|| PeerStatus::ALL[value(change.previous_status) + 1]);
        assert_eq!(previous, happened.before.as_ref().map(|peer| peer.status));
        // As any client has to: what is gone, or out of the filter's sight.
        let stays = admits_status(&self.filter, known.status) && admits_origin(&self.filter, known.origin);
        let key = (peer.pool.clone(), peer.host.clone());
        if stays && change.kind() != ChangeKind::Removed {
            self.peers.insert(key, known);
        } else {
            self.peers.remove(&key);
        }
    }

    fn health_change(&mut self, change: &Change, happened: &Happened) {
        let Some(change) = &change.health else { return };
        assert_eq!(change.pool, format!("pools/{}", happened.pool));
        assert_eq!(change.cause, format!("{}/peers/{}", change.pool, address(&happened.host)));
        let moved = HealthMove {
            previous: PoolHealth::ALL[value(change.previous) + 1],
            health: PoolHealth::ALL[value(change.health) + 1],
            ready: change.ready_count,
            wanted: change.peer_count,
        };
        assert_eq!(Some(&moved), happened.health.as_ref());
        let before = self.healths.insert(happened.pool.clone(), moved.health);
        assert_eq!(before, Some(moved.previous));
    }
}

fn health(pool: &Pool) -> (String, PoolHealth) {
    let name = pool.name.strip_prefix("pools/").expect("a pool's name").to_owned();
    (name, PoolHealth::ALL[value(pool.health) + 1])
}
