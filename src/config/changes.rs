//! What is different in a configuration that was read anew, and what of that can be done while the service runs. Pure.

use std::sync::Arc;

use super::Config;
use crate::{peer::PeerAddress, pool::PoolConfig, status::Limits};

/// What is different.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Configured peers that came and went, by pool.
    pub peers: Vec<PeerChanges>,
    /// How many listeners and streams there may be now.
    pub limits: Option<Limits>,
    /// How many peers a pool may have now.
    pub peer_limit: Option<usize>,
    /// Whether others get in now, or otherwise.
    pub access: bool,
    /// What is logged now.
    pub level: Option<String>,
    /// Keys that differ, and take a restart.
    pub fixed: Vec<String>,
}

/// What is different in one pool.
#[derive(Debug, PartialEq, Eq)]
pub struct PeerChanges {
    /// Its name.
    pub pool: Arc<str>,
    /// Peers that are not configured any more.
    pub removed: Vec<PeerAddress>,
    /// Peers that are configured now.
    pub added: Vec<PeerAddress>,
}

impl Changes {
    /// Whether there is nothing that can be done now.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        let Self { peers, limits, peer_limit, access, level, fixed: _ } = self;
        peers.is_empty() && limits.is_none() && peer_limit.is_none() && !*access && level.is_none()
    }
}

/// What is different in `new`. Peers that others brought in are in neither, and so stay.
#[must_use]
pub fn diff(old: &Config, new: &Config) -> Changes {
    let mut fixed: Vec<_> = fixed(old, new).map(str::to_owned).collect();
    let (mut peers, mut kept) = (Vec::new(), 0);
    for pool in &new.pools {
        match old.pools.iter().find(|known| known.name == pool.name) {
            Some(known) => {
                kept += 1;
                fixed.extend(fixed_of_pool(known, pool).map(|key| format!("pool {:?}: {key}", &*pool.name)));
                peers.extend(peers_of(known, pool));
            }
            None => fixed.push(format!("pool {:?}, which is new", &*pool.name)),
        }
    }
    if kept < old.pools.len() {
        let is_gone = |pool: &&PoolConfig| new.pools.iter().all(|known| known.name != pool.name);
        fixed.extend(
            old.pools.iter().filter(is_gone).map(|pool| format!("pool {:?}, which is gone", &*pool.name)),
        );
    }
    let tls = |config: &Config| config.tls.as_ref().map(|tls| tls.settings().clone());
    let peer_limit = |config: &Config| config.pools.first().map(|pool| pool.peer_limit);
    Changes {
        peers,
        limits: (old.limits != new.limits).then_some(new.limits),
        peer_limit: peer_limit(new).filter(|limit| Some(*limit) != peer_limit(old)),
        access: tls(old) != tls(new) || old.auth.settings() != new.auth.settings(),
        level: (old.log.level != new.log.level).then(|| new.log.level.clone()),
        fixed,
    }
}

fn fixed(old: &Config, new: &Config) -> impl Iterator<Item = &'static str> {
    let frame_limit = |config: &Config| config.pools.first().map(|pool| pool.frame_limit);
    [
        ("server.listen", old.listen != new.listen),
        ("server.admin", old.admin != new.admin),
        ("server.admin_allowed_hosts", old.admin_allowed_hosts != new.admin_allowed_hosts),
        ("server.drain_timeout", old.drain_timeout != new.drain_timeout),
        ("server.socket", old.socket != new.socket),
        ("server.threads", old.serving.threads != new.serving.threads),
        ("server.web", old.serving.web != new.serving.web),
        ("server.pacing", old.serving.pacing != new.serving.pacing),
        ("limits.max_connections", old.serving.connections != new.serving.connections),
        ("limits.max_handshakes", old.serving.handshakes != new.serving.handshakes),
        ("limits.max_frame_bytes", frame_limit(old) != frame_limit(new)),
        ("history.changes", old.history != new.history),
        ("log.json", old.log.json != new.log.json),
    ]
    .into_iter()
    .filter_map(|(key, differs)| differs.then_some(key))
}

fn fixed_of_pool(old: &PoolConfig, new: &PoolConfig) -> impl Iterator<Item = &'static str> {
    let tls = |pool: &PoolConfig| pool.tls.as_ref().map(|tls| tls.settings().clone());
    [
        ("mode", old.mode != new.mode),
        ("identity", old.identity != new.identity),
        ("tls", tls(old) != tls(new)),
        ("timers", old.timers != new.timers),
    ]
    .into_iter()
    .filter_map(|(key, differs)| differs.then_some(key))
}

fn peers_of(old: &PoolConfig, new: &PoolConfig) -> Option<PeerChanges> {
    let only = |these: &[PeerAddress], others: &[PeerAddress]| {
        these.iter().filter(|peer| !others.contains(peer)).cloned().collect::<Vec<_>>()
    };
    let (removed, added) = (only(&old.peers, &new.peers), only(&new.peers, &old.peers));
    let differs = !removed.is_empty() || !added.is_empty();
    differs.then(|| PeerChanges { pool: Arc::clone(&new.name), removed, added })
}

impl Config {
    /// Notes what was done of what is different in `new`.
    pub fn apply(&mut self, changes: &Changes, new: &Self) {
        if changes.access {
            self.tls.clone_from(&new.tls);
            self.auth = Arc::clone(&new.auth);
        }
        for pool in &mut self.pools {
            pool.peer_limit = changes.peer_limit.unwrap_or(pool.peer_limit);
            if let Some(change) = changes.peers.iter().find(|change| change.pool == pool.name) {
                pool.peers.retain(|peer| !change.removed.contains(peer));
                pool.peers.extend_from_slice(&change.added);
            }
        }
        self.limits = changes.limits.unwrap_or(self.limits);
        if let Some(level) = &changes.level {
            self.log.level.clone_from(level);
        }
    }
}
