//! The hub: current state and the log of changes, under one short lock.
//!
//! It owns both, computes the health of pools, gives out revisions, and wakes whoever waits for changes. It
//! runs no task, reads no clock and never waits for a listener.

use std::{
    collections::BTreeMap,
    ops::Bound,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::Waker,
    time::SystemTime,
};

use futures_util::task::AtomicWaker;
use parking_lot::Mutex;

use super::{
    ChangeKind, Cursor, Event, Gap, HealthChange, PeerChange, PeerState, PoolState, health::Tally, log::Log,
};
use crate::{
    opflex::{Identity, Proxies, Roles},
    peer::{PeerAddress, PeerOrigin, PeerStatus, PoolHealth, Reason},
};

/// The state of everything, and what happened to it.
pub struct Hub {
    epoch: u64,
    /// That of the log, to be read without its lock.
    head: AtomicU64,
    state: Mutex<State>,
    /// Who waits for changes. Apart from `state`, so that waking them holds up nobody.
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    wakers: BTreeMap<u64, Arc<AtomicWaker>>,
    last_key: u64,
}

struct State {
    log: Log,
    pools: BTreeMap<Arc<str>, Pool>,
}

struct Pool {
    state: Arc<PoolState>,
    tally: Tally,
    peers: BTreeMap<PeerAddress, Arc<PeerState>>,
}

/// Something happened to a peer.
#[derive(Clone, Debug)]
pub struct PeerUpdate {
    /// Its pool, which must have been added.
    pub pool: Arc<str>,
    /// Which peer.
    pub address: PeerAddress,
    /// When.
    pub at: SystemTime,
    /// What.
    pub what: Update,
}

/// What happened to a peer.
#[derive(Clone, Debug)]
pub enum Update {
    /// It is new in the pool.
    Added(PeerOrigin),
    /// It is in this status now, for this reason.
    Is {
        /// Its status.
        status: PeerStatus,
        /// Why.
        reason: Reason,
        /// For people.
        detail: Arc<str>,
        /// Failures in a row.
        failures: u32,
        /// What it said it is, if it said so now.
        roles: Option<Roles>,
    },
    /// It belongs to the pool for another reason than before.
    Origin(PeerOrigin),
    /// It has left the pool.
    Removed,
}

/// The state at one revision.
#[derive(Debug)]
pub struct Snapshot {
    /// The revision at which it was cut.
    pub cursor: Cursor,
    /// Every peer, ordered by pool and address.
    pub peers: Vec<Arc<PeerState>>,
    /// Every pool, ordered by name.
    pub pools: Vec<Arc<PoolState>>,
}

/// There is no pool of that name.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("no such pool")]
pub struct UnknownPool;

impl Hub {
    /// An empty hub that remembers the last `history` changes. `epoch` must differ between processes.
    #[must_use]
    pub fn new(epoch: u64, history: usize) -> Self {
        let state = State { log: Log::new(history), pools: BTreeMap::new() };
        Self { epoch, head: AtomicU64::new(0), state: Mutex::new(state), waiting: Mutex::default() }
    }

    /// Adds an empty pool, which is DOWN. Not a change.
    pub fn add_pool(&self, name: Arc<str>, identity: Arc<Identity>, at: SystemTime) {
        let state = PoolState {
            name: Arc::clone(&name),
            health: PoolHealth::Down,
            health_since: at,
            identity,
            proxies: None,
            wanted: 0,
            ready: 0,
            revision: 0,
        };
        let pool = Pool { state: Arc::new(state), tally: Tally::default(), peers: BTreeMap::new() };
        self.state.lock().pools.insert(name, pool);
    }

    /// Notes who a pool says it is now, and the forwarding proxies that it was told of. Not a change.
    pub fn set_identity(&self, pool: &str, identity: Arc<Identity>, proxies: Option<Proxies>) {
        if let Some(pool) = self.state.lock().pools.get_mut(pool) {
            let state = Arc::make_mut(&mut pool.state);
            (state.identity, state.proxies) = (identity, proxies);
        }
    }

    /// Takes in what happened to a peer, as [`Hub::take_in`]. Returns the revision if it was a change.
    pub fn publish(&self, update: PeerUpdate) -> Option<u64> {
        self.take_in(update).map(|event| event.revision)
    }

    /// Takes in what happened to a peer. Returns the event if it was a change: the status or the reason
    /// differ, or the peer is new or gone. Otherwise only the peer's counters and detail move.
    pub fn take_in(&self, update: PeerUpdate) -> Option<Arc<Event>> {
        let (event, _freed_unlocked) = {
            let mut state = self.state.lock();
            let revision = state.log.head() + 1;
            let event = Arc::new(state.pools.get_mut(&update.pool)?.apply(update, revision)?);
            let oldest = state.log.push(Arc::clone(&event));
            self.head.store(revision, Ordering::Release);
            (event, oldest)
        };
        self.wake_all();
        Some(event)
    }

    /// Where the log ends now.
    pub fn cursor(&self) -> Cursor {
        Cursor { epoch: self.epoch, revision: self.head.load(Ordering::Acquire) }
    }

    /// The random id of this run of the service.
    pub const fn epoch(&self) -> u64 {
        self.epoch
    }

    /// How many changes lie after `revision`, if all of them can still be read.
    ///
    /// # Errors
    /// They can't: some are gone, or `revision` has not been reached yet.
    pub fn distance(&self, revision: u64) -> Result<usize, Gap> {
        self.state.lock().log.distance(revision)
    }

    /// Appends up to `max` of the events after `revision` to `into`.
    ///
    /// # Errors
    /// As [`Hub::distance`].
    pub fn read_after(&self, revision: u64, max: usize, into: &mut Vec<Arc<Event>>) -> Result<(), Gap> {
        self.state.lock().log.read_after(revision, max, into)
    }

    /// Appends up to `max` of the events before `revision` to `into`, newest first. Where history ends, so do they.
    pub fn read_before(&self, revision: u64, max: usize, into: &mut Vec<Arc<Event>>) {
        self.state.lock().log.read_before(revision, max, into);
    }

    /// Everything, cut at one revision.
    pub fn snapshot(&self) -> Snapshot {
        let state = self.state.lock();
        Snapshot {
            cursor: Cursor { epoch: self.epoch, revision: state.log.head() },
            peers: state.pools.values().flat_map(|pool| pool.peers.values().cloned()).collect(),
            pools: state.pools.values().map(|pool| Arc::clone(&pool.state)).collect(),
        }
    }

    /// One pool, and when it was read.
    pub fn pool(&self, name: &str) -> Option<(Arc<PoolState>, Cursor)> {
        let state = self.state.lock();
        let cursor = Cursor { epoch: self.epoch, revision: state.log.head() };
        state.pools.get(name).map(|pool| (Arc::clone(&pool.state), cursor))
    }

    /// Up to `max` pools whose names come after `after`.
    pub fn pools(&self, after: Option<&str>, max: usize) -> (Vec<Arc<PoolState>>, Cursor) {
        let state = self.state.lock();
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let pools = state.pools.range::<str, _>((start, Bound::Unbounded)).take(max);
        let pools = pools.map(|(_, pool)| Arc::clone(&pool.state)).collect();
        (pools, Cursor { epoch: self.epoch, revision: state.log.head() })
    }

    /// One peer, and when it was read.
    pub fn peer(&self, pool: &str, address: &PeerAddress) -> Option<(Arc<PeerState>, Cursor)> {
        let state = self.state.lock();
        let cursor = Cursor { epoch: self.epoch, revision: state.log.head() };
        let peer = state.pools.get(pool)?.peers.get(address)?;
        Some((Arc::clone(peer), cursor))
    }

    /// Up to `max` peers of one pool, or of all, that come after `after` in the order of pool and address.
    ///
    /// # Errors
    /// There is no such pool.
    pub fn peers(
        &self,
        pool: Option<&str>,
        after: Option<(&str, &PeerAddress)>,
        max: usize,
    ) -> Result<(Vec<Arc<PeerState>>, Cursor), UnknownPool> {
        let state = self.state.lock();
        if pool.is_some_and(|name| !state.pools.contains_key(name)) {
            return Err(UnknownPool);
        }
        let first = pool.or(after.map(|(pool, _)| pool)).map_or(Bound::Unbounded, Bound::Included);
        let peers = state
            .pools
            .range::<str, _>((first, Bound::Unbounded))
            .take_while(|(name, _)| pool.is_none_or(|wanted| wanted == &***name))
            .flat_map(|(name, pool)| {
                let start = match after {
                    Some((after_pool, address)) if after_pool == &**name => Bound::Excluded(address),
                    _ => Bound::Unbounded,
                };
                pool.peers.range((start, Bound::Unbounded)).map(|(_, peer)| Arc::clone(peer))
            })
            .take(max)
            .collect();
        Ok((peers, Cursor { epoch: self.epoch, revision: state.log.head() }))
    }

    /// A place among those that are woken after every change from now on.
    pub fn wakeup(self: &Arc<Self>) -> Wakeup {
        let waker = Arc::new(AtomicWaker::new());
        let mut waiting = self.waiting.lock();
        waiting.last_key += 1;
        let key = waiting.last_key;
        waiting.wakers.insert(key, Arc::clone(&waker));
        Wakeup { hub: Arc::clone(self), key, waker }
    }

    /// How many are woken after a change.
    pub fn waiting(&self) -> usize {
        self.waiting.lock().wakers.len()
    }

    fn wake_all(&self) {
        for waker in self.waiting.lock().wakers.values() {
            waker.wake();
        }
    }
}

/// A place among those that are woken after a change. Dropping it gives it up.
pub struct Wakeup {
    hub: Arc<Hub>,
    key: u64,
    waker: Arc<AtomicWaker>,
}

impl Wakeup {
    /// Has `waker` woken, once, after the next change. Look for changes after this, not before: what happens in
    /// between wakes.
    pub fn register(&self, waker: &Waker) {
        self.waker.register(waker);
    }
}

impl Drop for Wakeup {
    fn drop(&mut self) {
        self.hub.waiting.lock().wakers.remove(&self.key);
    }
}

impl Pool {
    /// Applies an update to the state. Returns the event to publish, if it was a change.
    fn apply(&mut self, update: PeerUpdate, revision: u64) -> Option<Event> {
        let PeerUpdate { pool, address, at, what } = update;
        let before = self.peers.get(&address).cloned();
        let previous = before.as_ref().map(|peer| peer.status);
        let previous_origin = before.as_ref().map(|peer| peer.origin);
        let (peer, kind) = match (what, before) {
            (Update::Added(origin), None) => {
                (new_peer(pool, address, origin, at, revision), ChangeKind::Added)
            }
            (what @ Update::Is { .. }, Some(before)) => {
                let peer = moved_peer(&before, what, at, revision);
                let silent = peer.status == before.status && peer.reason == before.reason;
                if silent {
                    let revision = before.revision;
                    self.peers.insert(address, Arc::new(PeerState { revision, ..peer }));
                    return None;
                }
                (peer, ChangeKind::Status)
            }
            (Update::Origin(origin), Some(before)) => {
                if before.origin == origin {
                    return None;
                }
                (PeerState { origin, revision, ..PeerState::clone(&before) }, ChangeKind::Status)
            }
            (Update::Removed, Some(before)) => (removed_peer(&before, at, revision), ChangeKind::Removed),
            (Update::Added(_), Some(_)) | (Update::Is { .. } | Update::Origin(_) | Update::Removed, None) => {
                return None;
            }
        };
        let peer = Arc::new(peer);
        let after = if kind == ChangeKind::Removed {
            self.peers.remove(&peer.address);
            None
        } else {
            self.peers.insert(peer.address.clone(), Arc::clone(&peer));
            Some(peer.status)
        };
        self.tally.moved(previous, after);
        let health = self.recompute(at, revision);
        let peer = PeerChange { peer, kind, previous, previous_origin };
        Some(Event::new(revision, at, peer, health))
    }

    /// Brings the pool's own state up to date with its peers'.
    fn recompute(&mut self, at: SystemTime, revision: u64) -> Option<HealthChange> {
        let Tally { wanted, ready } = self.tally;
        let health = self.tally.health();
        let state = Arc::make_mut(&mut self.state);
        let previous = std::mem::replace(&mut state.health, health);
        state.wanted = wanted;
        state.ready = ready;
        state.revision = revision;
        if previous == health {
            return None;
        }
        state.health_since = at;
        Some(HealthChange { previous, health, ready, wanted })
    }
}

fn new_peer(
    pool: Arc<str>,
    address: PeerAddress,
    origin: PeerOrigin,
    at: SystemTime,
    revision: u64,
) -> PeerState {
    PeerState {
        pool,
        address,
        origin,
        status: PeerStatus::Connecting,
        reason: Reason::Added,
        detail: Arc::from(""),
        status_since: at,
        last_ready: None,
        consecutive_failures: 0,
        transitions: 0,
        flaps: 0,
        roles: Roles::default(),
        revision,
    }
}

fn moved_peer(before: &PeerState, update: Update, at: SystemTime, now: u64) -> PeerState {
    let mut peer = PeerState { revision: now, ..before.clone() };
    if let Update::Is { status, reason, detail, failures, roles } = update {
        peer.reason = reason;
        peer.detail = detail;
        peer.consecutive_failures = failures;
        peer.roles = roles.unwrap_or(before.roles);
        let lost = before.status == PeerStatus::Ready && status == PeerStatus::Connecting;
        peer.flaps += u64::from(lost && reason != Reason::Reset);
        enter(&mut peer, status, at);
    }
    peer
}

/// The last word about a peer: why it closed is known from before.
fn removed_peer(before: &PeerState, at: SystemTime, revision: u64) -> PeerState {
    let mut peer = PeerState { revision, ..before.clone() };
    enter(&mut peer, PeerStatus::Disconnected, at);
    peer
}

fn enter(peer: &mut PeerState, status: PeerStatus, at: SystemTime) {
    if peer.status == status {
        return;
    }
    // Until this moment it was READY; from this moment it is.
    if peer.status == PeerStatus::Ready || status == PeerStatus::Ready {
        peer.last_ready = Some(at);
    }
    peer.status = status;
    peer.status_since = at;
    peer.transitions += 1;
}
