//! Published states, and their changes.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use super::{FailureCounts, Liveness, NodeSummary, clock};
use crate::{
    opflex::{Identity, Proxies, Roles},
    peer::{Evidence, NewestFlaps, PeerAddress, PeerOrigin, PeerStatus, PoolHealth, Reason},
};

/// A point in the stream of changes of one process, or of a fleet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// Random id of the process; of a fleet, that of the stream that its nodes publish to.
    pub epoch: u64,
    /// Number of changes published since it started; of a fleet, a position in the stream.
    pub revision: u64,
}

/// One peer, as it is at one revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerState {
    /// Its pool's name.
    pub pool: Arc<str>,
    /// Where it is.
    pub address: PeerAddress,
    /// How it came to be in the pool.
    pub origin: PeerOrigin,
    /// Its state.
    pub status: PeerStatus,
    /// Why it is in that state.
    pub reason: Reason,
    /// The reason in words; at most 512 bytes.
    pub detail: Arc<str>,
    /// When `status` took its value.
    pub status_since: SystemTime,
    /// When it last was READY; `None` if never. While it is READY, the moment it became so.
    pub last_ready: Option<SystemTime>,
    /// Since when it has not been READY; `None` while it is. A parked peer that is dialled again starts anew.
    pub not_ready_since: Option<SystemTime>,
    /// Failures in a row since it was last READY.
    pub consecutive_failures: u32,
    /// Attempts and connections that failed since it was added.
    pub failures: FailureCounts,
    /// The newest of them.
    pub last_failure: Option<Failure>,
    /// How often `status` changed since it was added.
    pub transitions: u64,
    /// How often it was READY and lost, without having been asked to close.
    pub flaps: u64,
    /// When it was, the newest first.
    pub newest_flaps: NewestFlaps,
    /// The roles that it announced.
    pub roles: Roles,
    /// Of a learned peer: the other peer whose list named it last.
    pub learned_from: Option<PeerAddress>,
    /// Round trip of its last echo.
    pub echo_rtt: Option<Duration>,
    /// Of an observed peer. Apart, because the log keeps a state with each change.
    pub observed: Option<Box<ObservedPeer>>,
    /// Revision of its last change.
    pub revision: u64,
}

impl PeerState {
    /// Whether it is wanted, and READY comes and goes.
    #[must_use]
    pub fn is_flapping(&self) -> bool {
        let until = self.newest_flaps.flapping_until();
        self.status.is_wanted() && until.is_some_and(|until| until > clock::now())
    }
}

/// What is known of an observed peer beyond its status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ObservedPeer {
    /// From what the status is known; `None` while it is unknown.
    pub evidence: Option<Evidence>,
    /// When the newest evidence was seen.
    pub time: SystemTime,
    /// What the kernel knows of its connection.
    pub socket: SocketFacts,
}

/// What the kernel knows of a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SocketFacts {
    /// Smoothed round trip.
    pub rtt: Option<Duration>,
    /// When data came in last.
    pub last_received: Option<SystemTime>,
}

/// A failed attempt, or the loss of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The reason.
    pub reason: Reason,
    /// The reason in words.
    pub detail: Arc<str>,
    /// When it failed.
    pub time: SystemTime,
}

/// One pool, as it is at one revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolState {
    /// Its name.
    pub name: Arc<str>,
    /// Its health.
    pub health: PoolHealth,
    /// When `health` took its value.
    pub health_since: SystemTime,
    /// Since when it has not been HEALTHY; `None` while it is.
    pub not_healthy_since: Option<SystemTime>,
    /// The identity that it announces to peers; `None`: the pool is observed, and announces nothing.
    pub identity: Option<Arc<Identity>>,
    /// The forwarding proxies that a peer announced, in transport mode.
    pub proxies: Option<Proxies>,
    /// Peers that count in its health.
    pub wanted: u32,
    /// How many of those are READY.
    pub ready: u32,
    /// Of how many of those it is not known whether they are READY.
    pub unknown: u32,
    /// Peers that are parked.
    pub parked: u32,
    /// Of an observed pool: what cannot be seen of the agent, and why. Empty otherwise.
    pub detail: Arc<str>,
    /// Of a node's pool: since when nothing has been heard of the node. The state is the last known one.
    pub stale_since: Option<SystemTime>,
    /// Revision of the last change in it.
    pub revision: u64,
}

impl PoolState {
    /// How many peers are known to be READY: those of a node of which nothing is heard are not.
    #[must_use]
    pub const fn known_ready(&self) -> u32 {
        if self.stale_since.is_some() { 0 } else { self.ready }
    }
}

/// What kind of peer change it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// New in the pool.
    Added,
    /// Its status or reason changed.
    Status,
    /// It left the pool.
    Removed,
    /// Only its origin changed.
    Origin,
}

/// What happened to a peer.
#[derive(Clone, Debug)]
pub struct PeerChange {
    /// The peer after the change.
    pub peer: Arc<PeerState>,
    /// What changed.
    pub kind: ChangeKind,
    /// Its status before; `None` for a new one.
    pub previous: Option<PeerStatus>,
    /// How it belonged to the pool before; `None` for a new one.
    pub previous_origin: Option<PeerOrigin>,
}

/// What a peer change did to its pool's health.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HealthChange {
    /// Health before.
    pub previous: PoolHealth,
    /// Health now.
    pub health: PoolHealth,
    /// READY peers now.
    pub ready: u32,
    /// Peers that count now.
    pub wanted: u32,
}

/// What a node changed to.
#[derive(Clone, Debug)]
pub struct NodeChange {
    /// The node after the change.
    pub node: NodeSummary,
    /// Its liveness before; `None` for a new one.
    pub previous: Option<Liveness>,
    /// Its pools before. Clients that know one of them must learn that it is gone.
    pub previous_pools: Arc<[Arc<str>]>,
}

/// What the API keeps with each event, so that it is encoded once for all watches. The API implements this for
/// [`Event`], which keeps the module free of the type.
pub(crate) trait Attachment {
    /// Empty at first.
    type Cell: fmt::Debug + Default + Send + Sync;
}

/// One entry of the log: the change of a peer, and that of its pool's health that it caused; or the change of a node.
#[derive(Debug)]
pub struct Event {
    /// Its number.
    pub revision: u64,
    /// When it happened.
    pub time: SystemTime,
    /// The change of the peer.
    pub peer: Option<PeerChange>,
    /// The change of its pool's health, if any.
    pub health: Option<HealthChange>,
    /// The change of a node.
    pub node: Option<NodeChange>,
    /// See [`Attachment`].
    pub(crate) attachment: <Self as Attachment>::Cell,
}
