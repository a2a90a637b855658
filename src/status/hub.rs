//! The hub: current state and the log of changes, under one short lock.
//!
//! It owns both, computes the health of pools, assigns revisions, and wakes the readers of the log. It runs no task,
//! reads no clock and never waits for a listener.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use parking_lot::RwLock;

pub use self::mirror::{MirrorStart, Mirrored, MirroredRecord, NodeSummary};
use self::pool::Pool;
pub(crate) use self::pool::health_of;
use super::{
    Cursor, Event, Gap, NodeState, PeerState, PoolState, SocketFacts, Wakers, log::Log, recent::Recent,
};
use crate::{
    opflex::{Identity, Proxies},
    peer::{Evidence, PeerAddress, PeerOrigin, PoolHealth, Report},
};

mod lists;
pub(super) mod mirror;
mod observed;
pub(super) mod pool;

/// Changes that are kept of each peer in a pool, beyond the log. None of a fleet's, which may have hundreds of thousands.
const RECENT: usize = 32;
/// How far ahead of a fleet's log a cursor may be: another replica reads faster, but not by so many records.
const MAX_AHEAD: u64 = 1_000_000 << 16;

/// The state of all pools and peers, and the log of its changes.
pub struct Hub {
    epoch: AtomicU64,
    /// Whether the changes are those of a fleet.
    is_fleet: bool,
    /// The highest revision that a client waits for.
    awaited: AtomicU64,
    /// That of the log, readable without its lock.
    head: AtomicU64,
    state: RwLock<State>,
    /// Apart from `state`, so that waking does not block readers.
    wakers: Arc<Wakers>,
}

struct State {
    log: Log,
    recent: Recent,
    pools: BTreeMap<Arc<str>, Pool>,
    nodes: BTreeMap<Arc<str>, Arc<NodeState>>,
    /// The last snapshot, while it is in use and its state is that of now: clients that attach together share it.
    snapshot: Weak<Snapshot>,
}

impl State {
    /// The pools, to be changed, which outdates the snapshot.
    fn pools_mut(&mut self) -> &mut BTreeMap<Arc<str>, Pool> {
        self.snapshot = Weak::new();
        &mut self.pools
    }
}

/// An update of a peer.
#[derive(Clone, Debug)]
pub struct PeerUpdate {
    /// Its pool, which must have been added.
    pub pool: Arc<str>,
    /// The peer.
    pub address: PeerAddress,
    /// When it happened.
    pub at: SystemTime,
    /// What happened.
    pub what: Update,
}

/// What happened to a peer.
#[derive(Clone, Debug)]
pub enum Update {
    /// It is new in the pool; the list of that peer named it.
    Added(PeerOrigin, Option<PeerAddress>),
    /// Its status, reason, detail or failures changed.
    Status(Report),
    /// It was observed in this status, and may be new. The hub counts its failures.
    Observed(Report, Option<Evidence>),
    /// Its connection was seen again. Not a change.
    Socket(SocketFacts),
    /// It is configured now and was learned, or the other way round.
    Origin(PeerOrigin),
    /// The list of this peer named it. Not a change.
    Listed(PeerAddress),
    /// Its echo took this long. Not a change.
    Echo(Duration),
    /// It has left the pool.
    Removed,
}

impl Update {
    /// A peer is new in the pool, and no list named it.
    #[must_use]
    pub const fn added(origin: PeerOrigin) -> Self {
        Self::Added(origin, None)
    }
}

/// The state at one revision. Those between which nothing changed share what they have.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The revision at which it was cut.
    pub cursor: Cursor,
    /// Every peer, ordered by pool and address.
    pub peers: Arc<[Arc<PeerState>]>,
    /// Every pool, ordered by name.
    pub pools: Arc<[Arc<PoolState>]>,
    /// Every node, ordered by name.
    pub nodes: Arc<[NodeSummary]>,
}

/// There is no pool of that name.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("no such pool")]
pub struct UnknownPool;

impl Hub {
    /// An empty hub that remembers the last `history` changes. `epoch` must differ between processes.
    #[must_use]
    pub fn new(epoch: u64, history: usize) -> Self {
        Self::with(epoch, history, RECENT)
    }

    /// An empty hub for the changes of a fleet: see [`Hub::restart`] and [`Hub::mirror`].
    #[must_use]
    pub fn of_fleet(history: usize) -> Self {
        Self { is_fleet: true, ..Self::with(0, history, 0) }
    }

    fn with(epoch: u64, history: usize, recent: usize) -> Self {
        let state = State {
            log: Log::new(history),
            recent: Recent::new(recent),
            pools: BTreeMap::new(),
            nodes: BTreeMap::new(),
            snapshot: Weak::new(),
        };
        Self {
            epoch: AtomicU64::new(epoch),
            is_fleet: false,
            awaited: AtomicU64::new(0),
            head: AtomicU64::new(0),
            state: RwLock::new(state),
            wakers: Arc::default(),
        }
    }

    /// Whether the changes are those of a fleet, which nobody can make here.
    #[must_use]
    pub const fn is_fleet(&self) -> bool {
        self.is_fleet
    }

    /// Adds an empty pool, which is DOWN. Not a change.
    pub fn add_pool(&self, name: Arc<str>, identity: Arc<Identity>, at: SystemTime) {
        self.insert_pool(name, Some(identity), PoolHealth::Down, at);
    }

    /// Removes a pool, whose peers were removed before. Not a change.
    pub fn remove_pool(&self, name: &str) {
        self.state.write().pools_mut().remove(name);
    }

    /// Has all watches start over with a snapshot, because no change tells that a pool was added or removed.
    pub fn start_watches_over(&self) {
        {
            let mut state = self.state.write();
            state.log.interrupt();
            self.head.store(state.log.head(), Ordering::Release);
        }
        self.wakers.wake_all();
    }

    fn insert_pool(
        &self,
        name: Arc<str>,
        identity: Option<Arc<Identity>>,
        health: PoolHealth,
        at: SystemTime,
    ) {
        let state = PoolState {
            name: Arc::clone(&name),
            health,
            health_since: at,
            not_healthy_since: Some(at),
            identity,
            proxies: None,
            wanted: 0,
            ready: 0,
            unknown: 0,
            parked: 0,
            detail: Arc::from(""),
            stale_since: None,
            revision: 0,
        };
        self.state.write().pools_mut().insert(name, Pool::new(state));
    }

    /// Sets the identity that a pool announces, and the forwarding proxies that its peers announced. Not a change.
    pub fn set_identity(&self, pool: &str, identity: Arc<Identity>, proxies: Option<Proxies>) {
        if let Some(pool) = self.state.write().pools_mut().get_mut(pool) {
            let state = Arc::make_mut(&mut pool.state);
            (state.identity, state.proxies) = (Some(identity), proxies);
        }
    }

    /// As [`Hub::apply`], with one update. Returns its revision if it was a change.
    pub fn publish(&self, update: PeerUpdate) -> Option<u64> {
        let PeerUpdate { pool, address, at, what } = update;
        self.apply(&pool, at, [(address, what)]).first().map(|event| event.revision)
    }

    /// Applies updates of one pool in one step, of which no reader sees a part. Returns those that were changes: the
    /// status, the reason or the origin differ, or the peer is new or gone. The others change only a peer's counters,
    /// times and detail. The health of the pool changes at most once in a step.
    pub fn apply(
        &self,
        pool: &str,
        at: SystemTime,
        updates: impl IntoIterator<Item = (PeerAddress, Update)>,
    ) -> Vec<Arc<Event>> {
        let mut freed_unlocked = Vec::new();
        let events: Vec<_> = {
            let mut state = self.state.write();
            let revision = state.log.head() + 1;
            let Some(pool) = state.pools_mut().get_mut(pool) else { return Vec::new() };
            let events = pool.apply(updates, at, revision);
            for event in &events {
                let evicted = state.log.push(Arc::clone(event));
                state.recent.note(event, evicted.as_ref());
                freed_unlocked.extend(evicted);
            }
            self.head.store(state.log.head(), Ordering::Release);
            events
        };
        if !events.is_empty() {
            self.wakers.wake_all();
        }
        events
    }

    /// Whether there is a state: that of a fleet is read first.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        !self.is_fleet || self.epoch() != 0
    }

    /// Where the log ends now.
    pub fn cursor(&self) -> Cursor {
        loop {
            let (epoch, revision) = (self.epoch(), self.head.load(Ordering::Acquire));
            if epoch == self.epoch() {
                return Cursor { epoch, revision };
            }
        }
    }

    fn cursor_of(&self, state: &State) -> Cursor {
        Cursor { epoch: self.epoch(), revision: state.log.head() }
    }

    /// The random id of this process, or that of a fleet's stream.
    pub fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// How many changes after `revision` there were, as far as the log knows.
    pub fn lag(&self, revision: u64) -> u64 {
        self.state.read().log.lag(revision)
    }

    /// Whether the log was begun anew after this revision.
    pub(super) fn is_from_before(&self, revision: u64) -> bool {
        self.state.read().log.is_from_before(revision)
    }

    /// How many changes there were after one revision and up to another, as far as the log knows.
    pub(super) fn missed(&self, after: u64, to: u64) -> u64 {
        // Under one lock, since the log goes on.
        let state = self.state.read();
        state.log.lag(after).saturating_sub(state.log.lag(to))
    }

    /// Whether a client may wait for a revision that has not been reached: another replica of a fleet has.
    pub(super) fn may_await(&self, revision: u64) -> bool {
        let ahead = revision.saturating_sub(self.cursor().revision);
        let may = self.is_fleet && ahead <= MAX_AHEAD;
        if may {
            self.awaited.fetch_max(revision, Ordering::Relaxed);
        }
        may
    }

    /// Appends up to `max` of the events after `revision` to `into`. Returns the revision up to which it has all.
    ///
    /// # Errors
    /// Some of them are gone, or `revision` has not been reached yet.
    pub fn read_after(&self, revision: u64, max: usize, into: &mut Vec<Arc<Event>>) -> Result<u64, Gap> {
        self.state.read().log.read_after(revision, max, into)
    }

    /// Appends up to `max` of the events before `revision` to `into`, newest first, as far back as the log goes, and
    /// then the older ones among the newest of each peer.
    pub fn read_before(&self, revision: u64, max: usize, into: &mut Vec<Arc<Event>>) {
        let state = self.state.read();
        let before = into.len();
        state.log.read_before(revision, max, into);
        let left = max.saturating_sub(into.len() - before);
        let oldest = into.last().map_or(revision, |event| event.revision.min(revision));
        state.recent.read_before(oldest, left, into);
    }

    /// All pools and peers, at one revision.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        let mut state = self.state.write();
        let cursor = self.cursor_of(&state);
        let snapshot = match state.snapshot.upgrade() {
            Some(snapshot) if snapshot.cursor == cursor => return snapshot,
            // A fleet's log advances without a change.
            Some(before) => Snapshot { cursor, ..Snapshot::clone(&before) },
            None => Snapshot {
                cursor,
                peers: state.pools.values().flat_map(|pool| pool.peers.values().cloned()).collect(),
                pools: state.pools.values().map(|pool| Arc::clone(&pool.state)).collect(),
                nodes: state.nodes.values().map(|node| state.summary(node)).collect(),
            },
        };
        let snapshot = Arc::new(snapshot);
        state.snapshot = Arc::downgrade(&snapshot);
        snapshot
    }

    /// One pool, and when it was read.
    pub fn pool(&self, name: &str) -> Option<(Arc<PoolState>, Cursor)> {
        let state = self.state.read();
        state.pools.get(name).map(|pool| (Arc::clone(&pool.state), self.cursor_of(&state)))
    }

    /// They are woken after every change.
    pub const fn wakers(&self) -> &Arc<Wakers> {
        &self.wakers
    }
}
