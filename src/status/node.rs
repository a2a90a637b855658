//! The nodes of a fleet, and which pools are theirs.

use std::{sync::Arc, time::SystemTime};

use super::is_id;

/// One node, as it is at one revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeState {
    /// Its name.
    pub name: Arc<str>,
    /// The cluster that it is in.
    pub cluster: Arc<str>,
    /// Whether it is there.
    pub liveness: Liveness,
    /// Since when it has not been LIVE.
    pub stale_since: Option<SystemTime>,
    /// When it last published something.
    pub last_seen: SystemTime,
    /// Random id of its process.
    pub epoch: u64,
    /// The newest revision of its own that it is known to have published.
    pub own_revision: u64,
    /// Its pools, by their names in the fleet.
    pub pools: Arc<[Arc<str>]>,
    /// The version of its service.
    pub version: Arc<str>,
    /// How often changes of it were missing, so that its state was taken anew.
    pub chain_breaks: u64,
    /// Whether two processes publish under its name.
    pub has_conflict: bool,
    /// Whether a part of its state may be missing or out of date.
    pub is_incomplete: bool,
    /// Revision of its last change.
    pub revision: u64,
}

/// Whether a node is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Liveness {
    /// It gives signs of life.
    Live,
    /// It gives none: its pools keep their last state.
    Stale,
    /// Nothing is left of it.
    Gone,
}

/// Longest name of a node.
const MAX_NAME: usize = 63;

/// Whether a text may be the name of a node: 1 to 63 characters of `[a-z0-9_-]`.
#[must_use]
pub fn is_node_name(text: &str) -> bool {
    let fits = |c: char| matches!(c, 'a'..='z' | '0'..='9' | '-' | '_');
    (1..=MAX_NAME).contains(&text.len()) && text.chars().all(fits)
}

/// Whether a text may be the name of a pool, of this service or in a fleet.
#[must_use]
pub fn is_pool_name(text: &str) -> bool {
    node_of(text).map_or_else(|| is_id(text), |(node, pool)| is_node_name(node) && is_id(pool))
}

/// The name of a node's pool in the fleet.
#[must_use]
pub fn fleet_pool(node: &str, pool: &str) -> String {
    format!("{node}.{pool}")
}

/// The node that a pool is of, and the name that it has there. Names of nodes and pools have no dots.
#[must_use]
pub fn node_of(pool: &str) -> Option<(&str, &str)> {
    pool.split_once('.')
}
