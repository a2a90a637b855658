//! The state that was called back, and the calls that a change of it needs. It knows no connection.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::c_int,
};

use opflex_peerstatus::{
    client,
    pb::{self, ChangeKind, NodeState, PeerChange, Reason},
};

use crate::{
    OF_PEERSTATUS_DISCONNECTED, OF_POOLHEALTH_DOWN, OF_POOLHEALTH_ERROR, c_string, calls::Call,
    context::Change,
};

/// A peer of a pool.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct PeerKey {
    pool: String,
    host: String,
    port: u32,
}

/// The state of the service, as it was called back.
#[derive(Debug, Default)]
pub(crate) struct State {
    /// The status of each peer.
    peers: BTreeMap<PeerKey, c_int>,
    /// The health of each pool.
    pools: BTreeMap<String, c_int>,
    /// The pools of each node of a fleet.
    nodes: BTreeMap<String, Vec<String>>,
    /// The nodes of which nothing is heard.
    stale: BTreeSet<String>,
    /// The health of the last call; `None`: it has to be called again.
    last_health: Option<c_int>,
    /// Whether the present outage was called back.
    is_outage: bool,
}

impl State {
    /// Replaces the whole state. All of it is called back.
    pub(crate) fn replace(&mut self, all: &client::State) -> Vec<Call> {
        let peers = all.peers.iter().map(|peer| (key(peer), code(peer.status))).collect();
        let before = std::mem::replace(&mut self.peers, peers);
        self.pools = all.pools.iter().map(|pool| (short(&pool.name), code(pool.health))).collect();
        self.nodes = all.nodes.iter().map(|node| (node.name.clone(), pools_of(node))).collect();
        let stale = all.nodes.iter().filter(|node| node.state() == NodeState::Stale);
        self.stale = stale.map(|node| node.name.clone()).collect();
        let gone = before.into_keys().filter(|key| !self.peers.contains_key(key));
        let mut calls: Vec<_> = gone.map(|key| key.call(OF_PEERSTATUS_DISCONNECTED, "", "")).collect();
        calls.extend(all.peers.iter().map(status));
        self.last_health = None;
        calls.extend(self.resume());
        calls
    }

    /// Applies a change: first of the peer, then of the health. That of a node comes alone.
    pub(crate) fn apply(&mut self, change: &pb::Change) -> Vec<Call> {
        let mut calls: Vec<_> = change.peer.iter().filter_map(|change| self.apply_peer(change)).collect();
        if let Some(health) = &change.health {
            self.pools.insert(short(&health.pool), code(health.health));
            let (reason, detail) = match change.peer.as_ref().and_then(|change| change.peer.as_ref()) {
                Some(peer) => (reason(peer), peer.detail.as_str()),
                None => ("", ""),
            };
            calls.extend(self.health(&short(&health.pool), reason, detail));
        }
        if let Some(node) = change.node.as_ref().and_then(|change| change.node.as_ref()) {
            calls.extend(self.apply_node(node));
        }
        calls
    }

    /// Pools that the node no longer has are gone, all of them if the node is. The service removes their peers by changes of their
    /// own, but no change removes the health.
    fn apply_node(&mut self, node: &pb::Node) -> Vec<Call> {
        let now = pools_of(node);
        let before = match node.state() {
            NodeState::Gone => self.nodes.remove(&node.name),
            _ => self.nodes.insert(node.name.clone(), now.clone()),
        };
        match node.state() {
            NodeState::Stale => self.stale.insert(node.name.clone()),
            _ => self.stale.remove(&node.name),
        };
        let mut calls = Vec::new();
        for pool in before.unwrap_or_default().iter().filter(|pool| !now.contains(pool)) {
            self.pools.remove(pool);
            let peers = self.peers.extract_if(.., |key, _| key.pool == *pool);
            calls.extend(peers.map(|(key, _)| key.call(OF_PEERSTATUS_DISCONNECTED, "", "")));
        }
        let name = node.name.strip_prefix("nodes/").unwrap_or(&node.name);
        let detail = match node.state() {
            NodeState::Stale => format!("nothing is heard of node {name}"),
            _ => String::new(),
        };
        calls.extend(self.health("", "", &detail));
        calls
    }

    fn apply_peer(&mut self, change: &PeerChange) -> Option<Call> {
        let peer = change.peer.as_ref()?;
        let (key, now) = (key(peer), code(peer.status));
        let before = match change.kind() {
            ChangeKind::Removed => self.peers.remove(&key),
            _ => self.peers.insert(key, now),
        };
        (before != Some(now)).then(|| status(peer)) // or only its reason is new
    }

    /// The connection is back, and all changes were delivered: the health is called back unless it was with one of them.
    pub(crate) fn resume(&mut self) -> Vec<Call> {
        self.is_outage = false;
        let pool = self.pools.keys().next().filter(|_| self.pools.len() == 1).cloned();
        self.health(&pool.unwrap_or_default(), "", "").into_iter().collect()
    }

    /// The state is not known. This is called back once per outage.
    pub(crate) fn outage(&mut self, cause: &str) -> Vec<Call> {
        if std::mem::replace(&mut self.is_outage, true) {
            return Vec::new();
        }
        self.last_health = None;
        let change = Change { detail: c_string(cause), ..Change::default() };
        vec![Call::Health { health: OF_POOLHEALTH_ERROR, change }]
    }

    /// Calls back the health of all pools, which is the worst of them, if it is not that of the last call.
    fn health(&mut self, pool: &str, reason: &str, detail: &str) -> Option<Call> {
        // Of a STALE node it is not known.
        let is_unknown = |pool: &String| {
            let mut stale = self.stale.iter().filter_map(|node| self.nodes.get(node));
            stale.any(|pools| pools.contains(pool))
        };
        let known = self
            .pools
            .iter()
            .map(|(pool, health)| if is_unknown(pool) { OF_POOLHEALTH_ERROR } else { *health });
        let health = known.min().unwrap_or(OF_POOLHEALTH_DOWN);
        let change = Change { pool: c_string(pool), reason: c_string(reason), detail: c_string(detail) };
        (self.last_health.replace(health) != Some(health)).then_some(Call::Health { health, change })
    }
}

impl PeerKey {
    fn call(&self, status: c_int, reason: &str, detail: &str) -> Call {
        Call::Peer {
            host: c_string(&self.host),
            port: c_int::try_from(self.port).unwrap_or_default(),
            status,
            change: Change { pool: c_string(&self.pool), reason: c_string(reason), detail: c_string(detail) },
        }
    }
}

fn key(peer: &pb::Peer) -> PeerKey {
    PeerKey { pool: short(&peer.pool), host: peer.host.clone(), port: peer.port }
}

fn status(peer: &pb::Peer) -> Call {
    key(peer).call(code(peer.status), reason(peer), &peer.detail)
}

/// The C API's code: that of the service, minus 1.
const fn code(value: i32) -> c_int {
    value.saturating_sub(1)
}

fn short(pool: &str) -> String {
    pool.strip_prefix("pools/").unwrap_or(pool).to_owned()
}

fn pools_of(node: &pb::Node) -> Vec<String> {
    node.pools.iter().map(|pool| short(pool)).collect()
}

fn reason(peer: &pb::Peer) -> &'static str {
    let name = Reason::try_from(peer.reason).map(|reason| reason.as_str_name()).unwrap_or_default();
    name.strip_prefix("REASON_").unwrap_or(name)
}

#[cfg(test)]
mod tests;
