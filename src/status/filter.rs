//! Which changes a listener gets.

use std::{
    hash::{Hash, Hasher},
    sync::Arc,
};

use wildmatch::WildMatch;

use super::{Event, Liveness, NodeChange, NodeState, PeerState, node_of};
use crate::peer::{PeerOrigin, PeerStatus};

/// Entries per list of a filter: enough for every leaf of a pod by name, and a bound on the work per change.
const MAX_ENTRIES: usize = 64;
/// Bytes per glob: a host name of 253 bytes with its port and some stars.
const MAX_GLOB: usize = 320;

/// Bytes of all globs of a filter: they are matched against every change and every peer of a snapshot.
const MAX_GLOBS: usize = 4096;
/// Bytes of globs that cost as much as the rest of the work on an event. At worst, a `*` before many equal letters and a
/// host of 253 of them, wildmatch takes half a microsecond per byte: 8 µs for these, and 2 ms for 4096.
const BYTES_PER_COST: usize = 16;
/// Bytes of a glob, as text and as characters of four bytes, and of the two allocations for it.
const BYTES_PER_GLOB_BYTE: usize = 5;
const BYTES_PER_GLOB: usize = 96;

/// A part of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Interest {
    /// The change of the peer.
    Peers,
    /// The change of its pool's health.
    Health,
    /// The change of a node of a fleet.
    Nodes,
}

/// A filter as its creator wrote it. An empty list lets everything pass.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct FilterSpec {
    /// Globs for the name of the node, in a fleet.
    pub nodes: Vec<String>,
    /// Globs for the pool's name; in a fleet for the name that it has on its node, or for `{node}.{pool}`.
    pub pools: Vec<String>,
    /// Globs for `host:port`, or the host alone.
    pub peers: Vec<String>,
    /// Origins.
    pub origins: Vec<PeerOrigin>,
    /// Statuses, entered or left.
    pub statuses: Vec<PeerStatus>,
    /// Parts of a change.
    pub interests: Vec<Interest>,
}

/// An invalid filter.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {message}")]
pub struct FilterError {
    /// The list.
    pub field: &'static str,
    /// The invalid value, and what is allowed.
    pub message: String,
}

/// A compiled filter; `None` lets everything pass.
#[derive(Debug, Default)]
pub struct Filter(Option<Arc<Compiled>>);

#[derive(Debug)]
pub(super) struct Compiled {
    spec: FilterSpec,
    nodes: Vec<WildMatch>,
    pools: Vec<WildMatch>,
    peers: Vec<WildMatch>,
    cost: usize,
    memory: usize,
}

impl PartialEq for Compiled {
    fn eq(&self, other: &Self) -> bool {
        self.spec == other.spec
    }
}

impl Eq for Compiled {}

impl Hash for Compiled {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.spec.hash(state);
    }
}

/// Which parts of an event pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parts {
    /// The peer change.
    pub peer: bool,
    /// The health change.
    pub health: bool,
    /// The change of a node.
    pub node: bool,
}

impl Parts {
    /// Whether nothing passes.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        !self.peer && !self.health && !self.node
    }
}

impl Filter {
    /// Checks and compiles a filter.
    ///
    /// # Errors
    /// A list has too many entries, or a glob is empty or too long.
    pub fn compile(spec: FilterSpec) -> Result<Self, FilterError> {
        if spec == FilterSpec::default() {
            return Ok(Self::everything());
        }
        let nodes = compile_globs("nodes", &spec.nodes)?;
        let pools = compile_globs("pools", &spec.pools)?;
        let peers = compile_globs("peers", &spec.peers)?;
        let glob_bytes: usize =
            spec.nodes.iter().chain(&spec.pools).chain(&spec.peers).map(String::len).sum();
        if glob_bytes > MAX_GLOBS {
            let message = format!(
                "globs of {glob_bytes} bytes, with those for nodes and pools; at most {MAX_GLOBS} are allowed"
            );
            return Err(FilterError { field: "peers", message });
        }
        check_count("origins", spec.origins.len())?;
        check_count("statuses", spec.statuses.len())?;
        check_count("interests", spec.interests.len())?;
        let (cost, globs) = (1 + glob_bytes / BYTES_PER_COST, nodes.len() + pools.len() + peers.len());
        let memory = size_of::<Compiled>() + globs * BYTES_PER_GLOB + glob_bytes * BYTES_PER_GLOB_BYTE;
        Ok(Self(Some(Arc::new(Compiled { spec, nodes, pools, peers, cost, memory }))))
    }

    pub(super) const fn shared(compiled: Arc<Compiled>) -> Self {
        Self(Some(compiled))
    }

    /// `None` lets everything pass.
    pub(super) const fn compiled(&self) -> Option<&Arc<Compiled>> {
        self.0.as_ref()
    }

    pub(super) const fn everything() -> Self {
        Self(None)
    }

    pub(crate) const fn is_everything(&self) -> bool {
        self.0.is_none()
    }

    /// As its creator wrote it.
    #[must_use]
    pub fn spec(&self) -> FilterSpec {
        self.0.as_ref().map_or_else(FilterSpec::default, |compiled| compiled.spec.clone())
    }

    /// The work for an event or a peer; 1 without globs.
    pub(super) fn cost(&self) -> usize {
        self.0.as_ref().map_or(1, |compiled| compiled.cost)
    }

    /// Which parts of an event pass.
    #[must_use]
    pub fn parts(&self, event: &Event) -> Parts {
        let all =
            Parts { peer: event.peer.is_some(), health: event.health.is_some(), node: event.node.is_some() };
        self.0.as_ref().map_or(all, |compiled| compiled.parts(event))
    }

    /// Whether a peer belongs in the snapshot.
    #[must_use]
    pub fn admits_peer(&self, peer: &PeerState) -> bool {
        self.0.as_ref().is_none_or(|compiled| compiled.admits_peer(peer))
    }

    /// Whether a node belongs in the snapshot.
    #[must_use]
    pub fn admits_node(&self, node: &NodeState) -> bool {
        self.0.as_ref().is_none_or(|compiled| compiled.admits_node(node))
    }

    /// Whether a pool's health belongs in the snapshot.
    #[must_use]
    pub fn admits_health_of(&self, pool: &str) -> bool {
        self.0.as_ref().is_none_or(|compiled| compiled.wants(Interest::Health) && compiled.admits_pool(pool))
    }
}

impl Compiled {
    /// Memory that it takes.
    pub(super) const fn memory(&self) -> usize {
        self.memory
    }

    fn parts(&self, event: &Event) -> Parts {
        let node = event.node.as_ref().is_some_and(|change| self.admits_node_change(change));
        let Some(change) = event.peer.as_ref().filter(|change| self.admits_pool(&change.peer.pool)) else {
            return Parts { peer: false, health: false, node };
        };
        Parts {
            node,
            peer: admits_either(&self.spec.statuses, change.peer.status, change.previous)
                && self.wants(Interest::Peers)
                && admits_either(&self.spec.origins, change.peer.origin, change.previous_origin)
                && self.admits_address(&change.peer),
            health: event.health.is_some() && self.wants(Interest::Health),
        }
    }

    fn admits_peer(&self, peer: &PeerState) -> bool {
        self.wants(Interest::Peers)
            && self.admits_pool(&peer.pool)
            && admits_either(&self.spec.statuses, peer.status, None)
            && admits_either(&self.spec.origins, peer.origin, None)
            && self.admits_address(peer)
    }

    fn admits_pool(&self, pool: &str) -> bool {
        let (node, name) = node_of(pool).unwrap_or(("", pool));
        (self.pools.is_empty() || self.pools.iter().any(|glob| glob.matches(pool) || glob.matches(name)))
            && self.admits_node_name(node)
    }

    fn admits_node_name(&self, node: &str) -> bool {
        self.nodes.is_empty() || self.nodes.iter().any(|glob| glob.matches(node))
    }

    /// Any of its pools will do. A node that is GONE has none any more, and clients must forget those that they know.
    fn admits_node(&self, node: &NodeState) -> bool {
        self.wants(Interest::Nodes)
            && self.admits_node_name(&node.name)
            && (self.pools.is_empty()
                || node.liveness == Liveness::Gone
                || node.pools.iter().any(|pool| self.admits_pool(pool)))
    }

    /// A client that knows a pool of the node must learn that the node no longer has it.
    fn admits_node_change(&self, change: &NodeChange) -> bool {
        self.admits_node(&change.node.node)
            || self.wants(Interest::Nodes) && change.previous_pools.iter().any(|pool| self.admits_pool(pool))
    }

    fn admits_address(&self, peer: &PeerState) -> bool {
        if self.peers.is_empty() {
            return true;
        }
        let address = peer.address.to_string();
        self.peers.iter().any(|glob| glob.matches(&address) || glob.matches(peer.address.host()))
    }

    fn wants(&self, interest: Interest) -> bool {
        admits_either(&self.spec.interests, interest, None)
    }
}

/// Whether a list names a value or the one before it. An empty list admits all.
fn admits_either<T: PartialEq>(list: &[T], now: T, before: Option<T>) -> bool {
    list.is_empty() || list.contains(&now) || before.is_some_and(|before| list.contains(&before))
}

fn compile_globs(field: &'static str, globs: &[String]) -> Result<Vec<WildMatch>, FilterError> {
    check_count(field, globs.len())?;
    if let Some(glob) = globs.iter().find(|glob| !(1..=MAX_GLOB).contains(&glob.len())) {
        let message = format!("a glob of {} bytes; 1 to {MAX_GLOB} are allowed", glob.len());
        return Err(FilterError { field, message });
    }
    // Pool names have no capitals, and parsing an address lowers those of the host. Cloned, because `new` keeps room for more.
    Ok(globs.iter().map(|glob| WildMatch::new(&glob.to_ascii_lowercase()).clone()).collect())
}

fn check_count(field: &'static str, count: usize) -> Result<(), FilterError> {
    if count > MAX_ENTRIES {
        let message = format!("{count} entries; at most {MAX_ENTRIES} are allowed");
        return Err(FilterError { field, message });
    }
    Ok(())
}
