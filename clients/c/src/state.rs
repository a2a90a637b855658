//! What the caller was told, and what is to be called next. It knows no connection.

use std::{collections::BTreeMap, ffi::c_int};

use opflex_peerstatus::{
    client,
    pb::{self, ChangeKind, PeerChange, Reason},
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

/// The state of the service, as far as the caller was told.
#[derive(Debug, Default)]
pub(crate) struct State {
    /// The status of each peer.
    peers: BTreeMap<PeerKey, c_int>,
    /// The health of each pool.
    pools: BTreeMap<String, c_int>,
    /// The health that the caller was told last; `None`: it has to be told again.
    told: Option<c_int>,
    /// Whether the caller was told of the present outage.
    is_outage: bool,
}

impl State {
    /// Takes the whole state: all of it is told.
    pub(crate) fn replace(&mut self, all: &client::State) -> Vec<Call> {
        let peers = all.peers.iter().map(|peer| (key(peer), code(peer.status))).collect();
        let before = std::mem::replace(&mut self.peers, peers);
        self.pools = all.pools.iter().map(|pool| (short(&pool.name), code(pool.health))).collect();
        let gone = before.into_keys().filter(|key| !self.peers.contains_key(key));
        let mut calls: Vec<_> = gone.map(|key| key.call(OF_PEERSTATUS_DISCONNECTED, "", "")).collect();
        calls.extend(all.peers.iter().map(status));
        self.told = None;
        calls.extend(self.resume());
        calls
    }

    /// Takes a change: first of the peer, then of the health.
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

    /// The connection is back, and all changes were delivered: the health is told unless it was with one of them.
    pub(crate) fn resume(&mut self) -> Vec<Call> {
        self.is_outage = false;
        let pool = self.pools.keys().next().filter(|_| self.pools.len() == 1).cloned();
        self.health(&pool.unwrap_or_default(), "", "").into_iter().collect()
    }

    /// The state is not known, once per outage.
    pub(crate) fn outage(&mut self, cause: &str) -> Vec<Call> {
        if std::mem::replace(&mut self.is_outage, true) {
            return Vec::new();
        }
        self.told = None;
        let change = Change { detail: c_string(cause), ..Change::default() };
        vec![Call::Health { health: OF_POOLHEALTH_ERROR, change }]
    }

    /// The health of all pools, which is the worst of them, if it is not what the caller was told.
    fn health(&mut self, pool: &str, reason: &str, detail: &str) -> Option<Call> {
        let health = self.pools.values().min().copied().unwrap_or(OF_POOLHEALTH_DOWN);
        let change = Change { pool: c_string(pool), reason: c_string(reason), detail: c_string(detail) };
        (self.told.replace(health) != Some(health)).then_some(Call::Health { health, change })
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

fn reason(peer: &pb::Peer) -> &'static str {
    let name = Reason::try_from(peer.reason).map(|reason| reason.as_str_name()).unwrap_or_default();
    name.strip_prefix("REASON_").unwrap_or(name)
}

#[cfg(test)]
mod tests;
