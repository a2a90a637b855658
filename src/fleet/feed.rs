//! What a node publishes next. Pure: it reads the hub, and gets the time passed.
//!
//! First the whole state, as of one revision, and a commit; then each change after it. If the log no longer has the next
//! change, the state again. Between changes, while there are no further ones: pools that differ from what was published,
//! signs of life, and the state once more, spread over the refresh period, so that the stream never drops the last
//! record of a peer.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    record::{Content, Header, Record},
    subject::{Name, Subject, Topic},
};
use crate::{
    api::{convert, pb},
    peer::PeerAddress,
    status::{Cursor, Event, Hub, Parts, PeerState, PoolState, Snapshot},
};

#[cfg(test)]
mod tests;

/// A third of the time after which a node is STALE: two signs may be lost.
const UP_INTERVAL: Duration = Duration::from_secs(15);
/// By how much that is shortened, differently for each process: nodes that start together must not go on to send their signs together.
const UP_SPREAD_MILLIS: u64 = 3_000;
/// How many changes are read from the log at once.
const BATCH: usize = 64;

/// Why the whole state is published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StateReason {
    /// The service started.
    Start,
    /// The log no longer has the next change.
    Overrun,
    /// The stream has records in another order than they were published in, or lost some.
    Order,
    /// Somebody else published on the node's subjects, in place of its records.
    Foreign,
    /// The stream does not have the newest commit any more.
    Lost,
}

/// The records of one node, in order.
pub(super) struct Feed {
    hub: Arc<Hub>,
    cluster: Name,
    node: Name,
    secret: String,
    phase: Phase,
    /// The newest change that the records so far include.
    cursor: u64,
    /// Read from the log, after the cursor.
    changes: VecDeque<Arc<Event>>,
    /// As they were published last.
    pools: BTreeMap<Arc<str>, Arc<PoolState>>,
    refresh: Refresh,
    /// When the next sign of life is due; `None` before the first commit.
    up_at: Option<Instant>,
    /// Tells records with the same revision apart.
    serial: u64,
    /// The reasons for which it began with the state, until they are taken.
    states: Vec<StateReason>,
}

enum Phase {
    /// The state is to be published from a new snapshot.
    Begin,
    /// The next of its pools, and of its peers.
    State {
        snapshot: Arc<Snapshot>,
        pool: usize,
        peer: usize,
    },
    Changes,
}

/// The state once more, one record at a time.
struct Refresh {
    period: Duration,
    /// Between two records.
    interval: Duration,
    next_at: Option<Instant>,
    /// The revision at which it began; `None`: the next record begins one.
    since: Option<u64>,
    /// The peer that was published last.
    after: Option<(Arc<str>, PeerAddress)>,
    /// The next of the pools, which come after the peers.
    pool: usize,
}

impl Feed {
    /// The records of this node. Each peer's state is published once more within each `refresh` period.
    ///
    /// `secret` begins the id of each record. Whoever could guess an id could publish another record with it first, and
    /// the stream would take this node's for a duplicate.
    pub(super) fn new(hub: Arc<Hub>, cluster: Name, node: Name, refresh: Duration, secret: String) -> Self {
        let refresh =
            Refresh { period: refresh, interval: refresh, next_at: None, since: None, after: None, pool: 0 };
        Self {
            hub,
            cluster,
            node,
            secret,
            phase: Phase::Begin,
            cursor: 0,
            changes: VecDeque::new(),
            pools: BTreeMap::new(),
            refresh,
            up_at: None,
            serial: 0,
            states: vec![StateReason::Start],
        }
    }

    /// Begins with the state again.
    pub(super) fn restart(&mut self, reason: StateReason) {
        self.phase = Phase::Begin;
        self.changes.clear();
        self.states.push(reason);
    }

    /// The reasons for which the state was published, since the last call.
    pub(super) fn take_states(&mut self) -> Vec<StateReason> {
        std::mem::take(&mut self.states)
    }

    /// The next sign of life is due now, if any is.
    pub(super) fn hasten_up(&mut self, now: Instant) {
        self.up_at = self.up_at.map(|_| now);
    }

    /// Whether every change up to this one is in the records so far, and a state has been published.
    pub(super) const fn includes(&self, revision: u64) -> bool {
        matches!(self.phase, Phase::Changes) && self.cursor >= revision
    }

    /// When there is something to publish, even if nothing changes.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        [self.up_at, self.refresh.next_at].into_iter().flatten().min()
    }

    /// The next record, if there is one now.
    pub(super) fn next(&mut self, now: Instant) -> Option<Record> {
        if self.up_at.is_some_and(|at| at <= now) {
            self.up_at = Some(now + up_interval(self.hub.epoch()));
            return Some(self.up());
        }
        if let Phase::Changes = self.phase
            && let Some(change) = self.next_change()
        {
            return Some(change);
        }
        match self.phase {
            Phase::Changes => self.next_pool().or_else(|| self.next_of_refresh(now)),
            Phase::Begin | Phase::State { .. } => self.next_of_state(now),
        }
    }

    fn next_of_state(&mut self, now: Instant) -> Option<Record> {
        if let Phase::Begin = self.phase {
            let snapshot = self.hub.snapshot();
            self.cursor = snapshot.cursor.revision;
            let pools = snapshot.pools.iter().map(|pool| (Arc::clone(&pool.name), Arc::clone(pool)));
            self.pools = pools.collect();
            self.phase = Phase::State { snapshot, pool: 0, peer: 0 };
        }
        if let Phase::State { snapshot, pool, peer } = &mut self.phase {
            if let Some(state) = snapshot.pools.get(*pool).cloned() {
                *pool += 1;
                return self.pool(&state);
            }
            if let Some(state) = snapshot.peers.get(*peer).cloned() {
                *peer += 1;
                return self.state(&state);
            }
        }
        self.phase = Phase::Changes;
        self.up_at = Some(now);
        self.begin_refresh(now);
        Some(self.commit(self.cursor))
    }

    fn next_change(&mut self) -> Option<Record> {
        if self.changes.is_empty() {
            let mut events = Vec::new();
            if self.hub.read_after(self.cursor, BATCH, &mut events).is_err() {
                self.restart(StateReason::Overrun);
                return None;
            }
            self.changes.extend(events);
        }
        let event = self.changes.pop_front()?;
        let previous = std::mem::replace(&mut self.cursor, event.revision);
        let change = convert::change(&event, Parts { peer: true, health: true, node: false });
        let peer = &event.peer.as_ref()?.peer;
        let topic = Topic::Peer { pool: name(&peer.pool)?, address: peer.address.clone() };
        let id = format!("{}:{}", self.secret, event.revision);
        Some(self.record_with_id(topic, id, Content::Change { change, previous }))
    }

    /// A pool that differs from what was published, if it is at the cursor.
    fn next_pool(&mut self) -> Option<Record> {
        let (pools, Cursor { revision, .. }) = self.hub.pools(None, usize::MAX);
        if revision != self.cursor {
            return None;
        }
        if self.pools.keys().any(|name| pools.iter().all(|pool| pool.name != *name)) {
            // A reload removed it: the commit of a whole state no longer lists it.
            self.restart(StateReason::Start);
            return None;
        }
        let differs = |pool: &&Arc<PoolState>| {
            self.pools.get(&pool.name).is_none_or(|before| {
                let before = PoolState { revision: pool.revision, ..PoolState::clone(before) };
                before != ***pool
            })
        };
        let pool = Arc::clone(pools.iter().find(differs)?);
        self.pools.insert(Arc::clone(&pool.name), Arc::clone(&pool));
        self.pool(&pool)
    }

    /// The next peer, and after the last one the pools and a commit.
    fn next_of_refresh(&mut self, now: Instant) -> Option<Record> {
        if self.refresh.next_at.is_none_or(|at| at > now) {
            return None;
        }
        let after = self.refresh.after.as_ref().map(|(pool, address)| (&**pool, address));
        let (peers, Cursor { revision, .. }) = self.hub.peers(None, after, 1).ok()?;
        let (pools, Cursor { revision: of_pools, .. }) = self.hub.pools(None, usize::MAX);
        if revision != self.cursor || of_pools != self.cursor {
            // Another change is to be published first.
            return None;
        }
        let since = *self.refresh.since.get_or_insert(revision);
        if let Some(peer) = peers.first() {
            self.refresh.next_at = Some(now + self.refresh.interval);
            self.refresh.after = Some((Arc::clone(&peer.pool), peer.address.clone()));
            return self.state(peer);
        }
        if let Some(pool) = pools.get(self.refresh.pool) {
            self.refresh.pool += 1;
            self.pools.insert(Arc::clone(&pool.name), Arc::clone(pool));
            return self.pool(pool);
        }
        self.begin_refresh(now);
        Some(self.commit(since))
    }

    fn begin_refresh(&mut self, now: Instant) {
        let peers = self.hub.peers(None, None, usize::MAX).map_or(0, |(peers, _)| peers.len());
        self.refresh.begin(now, peers);
    }

    /// Without counts, unless they are those at the cursor: readers compare them with what they have.
    fn up(&mut self) -> Record {
        let mut node = pb::Node { pools: Vec::new(), ..self.node_message() };
        let (pools, Cursor { revision, .. }) = self.hub.pools(None, usize::MAX);
        if matches!(self.phase, Phase::Changes) && revision == self.cursor {
            node.peer_count = pools.iter().map(|pool| pool.wanted).sum();
            node.ready_count = pools.iter().map(|pool| pool.ready).sum();
        } else {
            (node.pool_count, node.peer_count, node.ready_count) = (0, 0, 0);
        }
        self.record(Topic::Up, "up", Content::Up(node))
    }

    fn commit(&mut self, state: u64) -> Record {
        let node = self.node_message();
        self.record(Topic::Node, "node", Content::Commit { node, state })
    }

    fn pool(&mut self, pool: &PoolState) -> Option<Record> {
        let topic = Topic::Health { pool: name(&pool.name)? };
        Some(self.record(topic, "health", Content::Pool(convert::pool(pool))))
    }

    fn state(&mut self, peer: &PeerState) -> Option<Record> {
        let topic = Topic::Peer { pool: name(&peer.pool)?, address: peer.address.clone() };
        let state = pb::PeerChange { peer: Some(convert::peer(peer)), ..Default::default() };
        Some(self.record(
            topic,
            "state",
            Content::State(pb::Change { peer: Some(state), health: None, node: None }),
        ))
    }

    /// A record that is no change.
    fn record(&mut self, topic: Topic, kind: &str, content: Content) -> Record {
        self.serial += 1;
        let id = format!("{}:{}:{kind}:{}", self.secret, self.cursor, self.serial);
        self.record_with_id(topic, id, content)
    }

    fn record_with_id(&self, topic: Topic, id: String, content: Content) -> Record {
        let subject = Subject { cluster: self.cluster.clone(), node: self.node.clone(), topic };
        let header = Header { id, epoch: self.hub.epoch(), revision: self.cursor };
        Record { subject, header, content }
    }

    fn node_message(&self) -> pb::Node {
        let sum = |count: fn(&PoolState) -> u32| self.pools.values().map(|pool| count(pool)).sum();
        pb::Node {
            name: format!("nodes/{}", self.node),
            cluster: self.cluster.to_string(),
            state: pb::NodeState::Live.into(),
            epoch: self.hub.epoch(),
            revision: self.cursor,
            pools: self.pools.keys().map(ToString::to_string).collect(),
            pool_count: u32::try_from(self.pools.len()).unwrap_or(u32::MAX),
            peer_count: sum(|pool| pool.wanted),
            ready_count: sum(|pool| pool.ready),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..Default::default()
        }
    }
}

impl Refresh {
    /// The next one takes the whole period, for this many peers and the pools.
    fn begin(&mut self, now: Instant, peers: usize) {
        self.interval = self.period / u32::try_from(peers + 1).unwrap_or(u32::MAX);
        self.next_at = Some(now + self.interval);
        (self.since, self.after, self.pool) = (None, None, 0);
    }
}

/// The time between two signs of life of a process with this random id.
const fn up_interval(epoch: u64) -> Duration {
    UP_INTERVAL.saturating_sub(Duration::from_millis(epoch % UP_SPREAD_MILLIS))
}

/// The configuration allows no other names of pools.
fn name(pool: &str) -> Option<Name> {
    pool.parse().ok()
}
