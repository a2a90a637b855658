//! Compares a reloaded configuration with the running one: changes that apply at runtime, and those that need a restart.
//! Pure.

use serde_json::Value;

use super::{Config, ConfigError, LimitsSection, PoolSection, Protection};
use crate::{
    auth::{AccessRole, AuthSettings},
    peer::PeerAddress,
    tls::ClientAuth,
};

/// The differences of two configurations.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Configured peers that came and went, by pool.
    pub peers: Vec<PeerChanges>,
    /// Observed pools that came and went.
    pub observed: ObservedChanges,
    /// The new limits on listeners, streams and peers.
    pub limits: Option<LimitsSection>,
    /// Whether `[server.tls]` or `[server.auth]` differ.
    pub access: bool,
    /// The new log level.
    pub level: Option<String>,
    /// Keys that differ, and need a restart.
    pub fixed: Vec<String>,
}

/// Observed pools that came and went. One that changed did both.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct ObservedChanges {
    /// Names of those that are gone.
    pub removed: Vec<String>,
    /// Those that are new.
    pub added: Vec<PoolSection>,
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
        let Self { peers, observed: ObservedChanges { removed, added }, limits, access, level, fixed: _ } =
            self;
        let is_same = peers.is_empty() && removed.is_empty() && added.is_empty();
        is_same && limits.is_none() && !*access && level.is_none()
    }
}

/// Checks that a reload may be applied: together with the settings that it cannot change, such as the addresses that are
/// bound, it must be valid. And since an emptied file or one that lacks lines would open the service or stop it, the
/// file must say so if it takes away protection or all peers of a pool.
///
/// # Errors
/// What is invalid, or what `new` takes away.
pub fn check_reload(old: &Config, new: &Config) -> Result<(), ConfigError> {
    if new.is_empty && !old.is_empty {
        return Err(ConfigError::new("configuration file", "is empty"));
    }
    let lost = lost(old, new)
        .into_iter()
        .find(|(_, kind, is_lost)| *is_lost && !new.reload.may_remove.contains(kind));
    if let Some((key, kind, _)) = lost {
        let kind = to_json(&kind);
        let reason = format!(
            "a reload does not weaken or empty it, unless the file has [reload] may_remove = [{kind}]"
        );
        return Err(ConfigError::new(key, reason));
    }
    let mut effective = old.with_changes_of(new);
    effective.validate()
}

/// Everything that a reload must not take away by omission: the setting, what it protects, and whether `new` lacks it.
fn lost(old: &Config, new: &Config) -> Vec<(String, Protection, bool)> {
    let requires = |config: &Config| {
        config.server.tls.as_ref().is_some_and(|tls| tls.client_auth == Some(ClientAuth::Required))
    };
    let has_ca = |config: &Config| config.server.tls.as_ref().is_some_and(|tls| tls.client_ca.is_some());
    let (from, to) = (&old.server.auth, &new.server.auth);
    // By default, callers without credentials or a grant may have more than what was configured.
    let default = AuthSettings::default();
    let rises = |from: Option<AccessRole>, to: Option<AccessRole>, default| to > from && to == default;
    let server = [
        ("tls", Protection::Tls, old.server.tls.is_some() && new.server.tls.is_none()),
        ("auth", Protection::Auth, old.server.has_credentials() && !new.server.has_credentials()),
        ("tls.client_ca", Protection::Auth, has_ca(old) && !has_ca(new)),
        ("tls.client_auth", Protection::Auth, requires(old) && !requires(new)),
        ("auth.local", Protection::Auth, rises(from.local, to.local, default.local)),
        (
            "auth.authenticated",
            Protection::Auth,
            rises(from.authenticated, to.authenticated, default.authenticated),
        ),
        ("auth.grant", Protection::Auth, lacks_restriction(from, to)),
    ];
    let server = server.into_iter().map(|(key, kind, is_lost)| (format!("server.{key}"), kind, is_lost));
    let peers = old.pools.iter().filter_map(|pool| {
        let is_lost = !pool.peers.is_empty() && new.pool(&pool.name)?.peers.is_empty();
        Some((format!("pool {:?}: peers", pool.name), Protection::Peers, is_lost))
    });
    server.chain(peers).collect()
}

/// Whether callers that a grant gave less than other callers are in none any more.
fn lacks_restriction(from: &AuthSettings, to: &AuthSettings) -> bool {
    let restricting = from.grants.iter().filter(|grant| grant.role < to.authenticated);
    let mut principals = restricting.flat_map(|grant| &grant.principals);
    principals.any(|pattern| !to.grants.iter().any(|grant| grant.principals.contains(pattern)))
}

/// The differences of `new` from `old`. Peers that clients added are in neither, so they stay.
#[must_use]
pub fn diff(old: &Config, new: &Config) -> Changes {
    let applied = old.with_changes_of(new);
    let access = |config: &Config| (config.server.tls.clone(), config.server.auth.clone());
    Changes {
        peers: old.pools.iter().filter_map(|pool| peers_of(pool, new.pool(&pool.name)?)).collect(),
        observed: observed(old, &applied),
        limits: (old.limits != applied.limits).then(|| applied.limits.clone()),
        access: access(old) != access(new),
        level: (old.log.level != new.log.level).then(|| new.log.level.clone()),
        fixed: fixed(&applied, new),
    }
}

fn observed(old: &Config, new: &Config) -> ObservedChanges {
    let differing = |these: &Config, others: &Config| {
        let differs = |pool: &&PoolSection| pool.is_observed() && others.pool(&pool.name) != Some(pool);
        these.pools.iter().filter(differs).cloned().collect::<Vec<_>>()
    };
    let removed = differing(old, new).into_iter().map(|pool| pool.name).collect();
    ObservedChanges { removed, added: differing(new, old) }
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
        applied.reload.clone_from(&new.reload);
        applied.is_empty = new.is_empty;
        // Observed pools come and go. Those that connect stay, and none turns into the other kind.
        applied.pools.retain(|pool| !pool.is_observed() || new.pool(&pool.name).is_some());
        for pool in &mut applied.pools {
            match new.pool(&pool.name).filter(|new| new.source == pool.source) {
                Some(new) if pool.is_observed() => pool.clone_from(new),
                Some(new) => pool.peers.clone_from(&new.peers),
                None => {}
            }
        }
        let is_new = |pool: &&PoolSection| pool.is_observed() && applied.pool(&pool.name).is_none();
        let added: Vec<_> = new.pools.iter().filter(is_new).cloned().collect();
        applied.pools.extend(added);
        applied
    }
}
