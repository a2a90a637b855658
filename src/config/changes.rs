//! Compares a reloaded configuration with the running one: changes that apply at runtime, and those that need a restart.
//! Pure.

use serde_json::Value;

use super::{Config, ConfigError, LimitsSection, PoolSection};
use crate::peer::PeerAddress;

/// The differences of two configurations.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Configured peers that came and went, by pool.
    pub peers: Vec<PeerChanges>,
    /// The new limits on listeners, streams and peers.
    pub limits: Option<LimitsSection>,
    /// Whether `[server.tls]` or `[server.auth]` differ.
    pub access: bool,
    /// The new log level.
    pub level: Option<String>,
    /// Keys that differ, and need a restart.
    pub fixed: Vec<String>,
}

/// The differences of one pool.
#[derive(Debug, PartialEq, Eq)]
pub struct PeerChanges {
    /// Its name.
    pub pool: String,
    /// Peers that are no longer configured.
    pub removed: Vec<PeerAddress>,
    /// Peers that are configured now.
    pub added: Vec<PeerAddress>,
}

impl Changes {
    /// Whether nothing takes effect without a restart.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        let Self { peers, limits, access, level, fixed: _ } = self;
        peers.is_empty() && limits.is_none() && !*access && level.is_none()
    }
}

/// What a reload must not take away, because an emptied or truncated file would open the service or stop it: TLS, all
/// credentials, or all peers.
///
/// # Errors
/// What `new` takes away.
pub fn check_kept(old: &Config, new: &Config) -> Result<(), ConfigError> {
    let has_peers = |config: &Config| config.pools.iter().any(|pool| !pool.peers.is_empty());
    let lost = [
        ("server.tls", old.server.tls.is_some() && new.server.tls.is_none()),
        ("server.auth", old.server.has_credentials() && !new.server.has_credentials()),
        ("pool.peers", has_peers(old) && !has_peers(new)),
    ];
    match lost.into_iter().find(|(_, is_lost)| *is_lost) {
        Some((key, _)) => {
            Err(ConfigError::new(key, "a reload does not remove all of it; to do so, restart the service"))
        }
        None => Ok(()),
    }
}

/// The differences of `new` from `old`. Peers that clients added are in neither, so they stay.
#[must_use]
pub fn diff(old: &Config, new: &Config) -> Changes {
    let applied = old.with_changes_of(new);
    let access = |config: &Config| (config.server.tls.clone(), config.server.auth.clone());
    Changes {
        peers: old.pools.iter().filter_map(|pool| peers_of(pool, new.pool(&pool.name)?)).collect(),
        limits: (old.limits != applied.limits).then(|| applied.limits.clone()),
        access: access(old) != access(new),
        level: (old.log.level != new.log.level).then(|| new.log.level.clone()),
        fixed: fixed(&applied, new),
    }
}

/// The keys that still differ once the live settings are applied.
fn fixed(applied: &Config, new: &Config) -> Vec<String> {
    let mut fixed = Vec::new();
    let sections = |config: &Config| to_json(&Config { pools: Vec::new(), ..config.clone() });
    let (old_sections, new_sections) = (sections(applied), sections(new));
    for (section, keys) in new_sections.as_object().into_iter().flatten() {
        let old = old_sections.get(section).unwrap_or(&Value::Null);
        fixed.extend(differing_keys(old, keys).map(|key| format!("{section}.{key}")));
    }
    for pool in &new.pools {
        let name = &pool.name;
        match applied.pool(name) {
            Some(old) => {
                let (old, new) = (to_json(old), to_json(pool));
                fixed.extend(differing_keys(&old, &new).map(|key| format!("pool {name:?}: {key}")));
            }
            None => fixed.push(format!("pool {name:?}, which is new")),
        }
    }
    let gone = applied.pools.iter().filter(|pool| new.pool(&pool.name).is_none());
    fixed.extend(gone.map(|pool| format!("pool {:?}, which was removed", pool.name)));
    fixed
}

/// As `/config` shows it.
fn to_json(value: &impl serde::Serialize) -> Value {
    serde_json::to_value(value).unwrap_or_default()
}

fn differing_keys<'a>(old: &'a Value, new: &'a Value) -> impl Iterator<Item = &'a str> {
    let keys = new.as_object().into_iter().flat_map(|table| table.keys());
    keys.map(String::as_str).filter(|key| old.get(key) != new.get(key))
}

fn peers_of(old: &PoolSection, new: &PoolSection) -> Option<PeerChanges> {
    let only = |these: &[PeerAddress], others: &[PeerAddress]| {
        these.iter().filter(|peer| !others.contains(peer)).cloned().collect::<Vec<_>>()
    };
    let (removed, added) = (only(&old.peers, &new.peers), only(&new.peers, &old.peers));
    let differs = !removed.is_empty() || !added.is_empty();
    differs.then(|| PeerChanges { pool: new.name.clone(), removed, added })
}

impl Config {
    fn pool(&self, name: &str) -> Option<&PoolSection> {
        self.pools.iter().find(|pool| pool.name == name)
    }

    /// The configuration in effect after a reload: the settings of `new` that need no restart, and the rest of `self`.
    #[must_use]
    pub fn with_changes_of(&self, new: &Self) -> Self {
        let mut applied = self.clone();
        applied.server.tls.clone_from(&new.server.tls);
        applied.server.auth.clone_from(&new.server.auth);
        applied.server.insecure = new.server.insecure;
        applied.limits = LimitsSection {
            max_connections: self.limits.max_connections,
            max_connections_per_source: self.limits.max_connections_per_source,
            max_handshakes: self.limits.max_handshakes,
            max_frame_bytes: self.limits.max_frame_bytes,
            ..new.limits
        };
        applied.log.level.clone_from(&new.log.level);
        for pool in &mut applied.pools {
            if let Some(new) = new.pool(&pool.name) {
                pool.peers.clone_from(&new.peers);
            }
        }
        applied
    }
}
