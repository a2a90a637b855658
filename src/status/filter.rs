//! What a listener wants to hear of.

use std::fmt;

use wildmatch::WildMatch;

use super::{Event, PeerState};
use crate::peer::{PeerOrigin, PeerStatus};

/// Entries per list of a filter: enough for every leaf of a pod by name, and a bound on the work per change.
const MAX_ENTRIES: usize = 64;
/// Bytes per glob: a host name of 253 bytes with its port and some stars.
const MAX_GLOB: usize = 320;

/// Bytes of all globs of a filter: they are matched against every change and every peer of a snapshot, and kept for
/// as long as the listener.
const MAX_GLOBS: usize = 4096;

/// Bytes of globs that count as much as everything else that is done with an event. At worst, a `*` before many equal
/// letters and a host of 253 of them, wildmatch takes half a microsecond per byte: 8 µs for these, and 2 ms for 4096.
const BYTES_PER_EFFORT: usize = 16;

/// What part of a change is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    /// Changes of peers.
    Peers,
    /// Changes of health.
    Health,
}

/// A filter as its creator wrote it. Empty lists let everything pass.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FilterSpec {
    /// Globs for the pool's name.
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

/// What is wrong with a filter.
#[derive(Debug, PartialEq, Eq)]
pub struct FilterError {
    /// Which list.
    pub field: &'static str,
    /// What is wrong, and what is allowed.
    pub message: String,
}

impl fmt::Display for FilterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.message)
    }
}

/// A filter made ready to use. Most let everything pass, and have nothing to keep.
#[derive(Debug, Default)]
pub struct Filter(Option<Box<Compiled>>);

#[derive(Debug)]
struct Compiled {
    spec: FilterSpec,
    pools: Vec<WildMatch>,
    peers: Vec<WildMatch>,
    glob_bytes: usize,
}

/// What one without restrictions was made of.
static EVERYTHING: FilterSpec = FilterSpec {
    pools: Vec::new(),
    peers: Vec::new(),
    origins: Vec::new(),
    statuses: Vec::new(),
    interests: Vec::new(),
};

/// Which parts of an event pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parts {
    /// The peer change.
    pub peer: bool,
    /// The health change.
    pub health: bool,
}

impl Parts {
    /// Whether nothing passes.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        !self.peer && !self.health
    }
}

impl Filter {
    /// Checks a filter and makes it ready.
    ///
    /// # Errors
    /// A list has too many entries, or a glob is empty or too long.
    pub fn compile(spec: FilterSpec) -> Result<Self, FilterError> {
        if spec == EVERYTHING {
            return Ok(Self::everything());
        }
        let pools = compile_globs("pools", &spec.pools)?;
        let peers = compile_globs("peers", &spec.peers)?;
        let glob_bytes: usize = spec.pools.iter().chain(&spec.peers).map(String::len).sum();
        if glob_bytes > MAX_GLOBS {
            let message =
                format!("globs of {glob_bytes} bytes, with those for pools; at most {MAX_GLOBS} are allowed");
            return Err(FilterError { field: "peers", message });
        }
        check_count("origins", spec.origins.len())?;
        check_count("statuses", spec.statuses.len())?;
        check_count("interests", spec.interests.len())?;
        Ok(Self(Some(Box::new(Compiled { spec, pools, peers, glob_bytes }))))
    }

    /// One that lets everything pass.
    pub(super) const fn everything() -> Self {
        Self(None)
    }

    /// Whether it lets everything pass.
    pub(super) const fn is_everything(&self) -> bool {
        self.0.is_none()
    }

    /// As its creator wrote it.
    #[must_use]
    pub fn spec(&self) -> &FilterSpec {
        self.0.as_ref().map_or(&EVERYTHING, |compiled| &compiled.spec)
    }

    /// How much work it is to hold something against it, in that of a filter without globs.
    pub(super) fn effort(&self) -> usize {
        1 + self.0.as_ref().map_or(0, |compiled| compiled.glob_bytes / BYTES_PER_EFFORT)
    }

    /// Which parts of an event pass.
    #[must_use]
    pub fn parts(&self, event: &Event) -> Parts {
        let all = Parts { peer: true, health: event.health.is_some() };
        self.0.as_ref().map_or(all, |compiled| compiled.parts(event))
    }

    /// Whether a peer belongs into this listener's snapshot.
    #[must_use]
    pub fn admits_peer(&self, peer: &PeerState) -> bool {
        self.0.as_ref().is_none_or(|compiled| compiled.admits_peer(peer))
    }

    /// Whether a pool's health belongs into this listener's snapshot.
    #[must_use]
    pub fn admits_health_of(&self, pool: &str) -> bool {
        self.0.as_ref().is_none_or(|compiled| compiled.wants(Interest::Health) && compiled.admits_pool(pool))
    }
}

impl Compiled {
    fn parts(&self, event: &Event) -> Parts {
        let change = &event.peer;
        if !self.admits_pool(&change.peer.pool) {
            return Parts { peer: false, health: false };
        }
        let touches = |status: PeerStatus| self.spec.statuses.contains(&status);
        let status = self.spec.statuses.is_empty()
            || touches(change.peer.status)
            || change.previous.is_some_and(touches);
        Parts {
            peer: status
                && self.wants(Interest::Peers)
                && (self.admits_origin(change.peer.origin)
                    || change.previous_origin.is_some_and(|was| self.admits_origin(was)))
                && self.admits_address(&change.peer),
            health: event.health.is_some() && self.wants(Interest::Health),
        }
    }

    fn admits_peer(&self, peer: &PeerState) -> bool {
        self.wants(Interest::Peers)
            && self.admits_pool(&peer.pool)
            && (self.spec.statuses.is_empty() || self.spec.statuses.contains(&peer.status))
            && self.admits_origin(peer.origin)
            && self.admits_address(peer)
    }

    fn admits_pool(&self, pool: &str) -> bool {
        self.pools.is_empty() || self.pools.iter().any(|glob| glob.matches(pool))
    }

    fn admits_origin(&self, origin: PeerOrigin) -> bool {
        self.spec.origins.is_empty() || self.spec.origins.contains(&origin)
    }

    fn admits_address(&self, peer: &PeerState) -> bool {
        if self.peers.is_empty() {
            return true;
        }
        let address = peer.address.to_string();
        self.peers.iter().any(|glob| glob.matches(&address) || glob.matches(peer.address.host()))
    }

    fn wants(&self, interest: Interest) -> bool {
        self.spec.interests.is_empty() || self.spec.interests.contains(&interest)
    }
}

fn compile_globs(field: &'static str, globs: &[String]) -> Result<Vec<WildMatch>, FilterError> {
    check_count(field, globs.len())?;
    let bad = globs.iter().find(|glob| glob.is_empty() || glob.len() > MAX_GLOB);
    if let Some(glob) = bad {
        let message = format!("a glob of {} bytes; 1 to {MAX_GLOB} are allowed", glob.len());
        return Err(FilterError { field, message });
    }
    // Pool names have no capitals, and those of host names are lowered where they are parsed.
    Ok(globs.iter().map(|glob| WildMatch::new(&glob.to_ascii_lowercase())).collect())
}

fn check_count(field: &'static str, count: usize) -> Result<(), FilterError> {
    if count > MAX_ENTRIES {
        return Err(FilterError {
            field,
            message: format!("{count} entries; at most {MAX_ENTRIES} are allowed"),
        });
    }
    Ok(())
}
