//! Applies a reloaded configuration while the service runs: configured peers, limits, TLS and auth for clients, and the log
//! level. Other settings that changed are logged, and need a restart. [`crate::reload`] reloads certificates, keys and
//! tokens when their files change.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use tokio::sync::watch;
use tracing::{debug, error, info, warn};

use super::{
    loaded_config::{LoadedConfig, listener_limits, observed_pool},
    observed_pools::ObservedHandle,
};
use crate::{
    config::{Config, ConfigError, ObservedChanges, PeerChanges, check_reload, diff},
    metrics::{ReloadMetrics, ReloadResult},
    peer::PeerAddress,
    pool::{PoolError, PoolHandle},
    server::Access,
    status::Listeners,
    telemetry::Level,
};

/// Applies reloaded configurations.
pub struct Reloader {
    pub(super) running: Config,
    pub(super) listeners: Arc<Listeners>,
    pub(super) pools: Arc<BTreeMap<Arc<str>, PoolHandle>>,
    pub(super) observed: ObservedHandle,
    pub(super) access: Arc<Access>,
    pub(super) reloads: ReloadMetrics,
    /// The configuration in effect, for `/config`.
    pub(super) effective: watch::Sender<Arc<str>>,
    /// Configured peers that have no room in their pools yet.
    pub(super) refused: BTreeSet<(String, PeerAddress)>,
}

impl Reloader {
    /// Applies the changes. A configuration that is invalid, or that takes protection away, changes nothing.
    pub async fn reload(
        &mut self,
        read: Result<LoadedConfig, ConfigError>,
        level: Option<&Level>,
    ) -> ReloadResult {
        let checked = read.and_then(|new| {
            check_reload(&self.running, &new.config)?;
            let allowed = new.auth.may_replace(&self.access.auth());
            allowed.map_err(|error| ConfigError::new(format!("server.auth.{}", error.setting), error))?;
            Ok(new)
        });
        let result = match checked {
            Ok(new) => self.apply(new, level).await,
            Err(error) => {
                error!(%error, "the configuration is invalid: nothing was changed");
                ReloadResult::Refused
            }
        };
        self.reloads.count(result);
        result
    }

    async fn apply(&mut self, new: LoadedConfig, level: Option<&Level>) -> ReloadResult {
        let changes = diff(&self.running, &new.config);
        if !changes.fixed.is_empty() {
            let keys = changes.fixed.join(", ");
            warn!(keys, "these settings changed and need a restart to take effect");
        }
        if changes.is_empty() {
            info!("the configuration has no changes that can be applied without a restart");
            return ReloadResult::Unchanged;
        }
        if let Some(limits) = &changes.limits {
            self.listeners.set_limits(listener_limits(limits));
            for pool in self.pools.values() {
                // It fails if the pool has stopped.
                let _ = pool.set_limit(limits.max_peers).await;
            }
            self.observed.set_peer_limit(limits.max_peers);
        }
        if changes.access {
            self.access.replace(new.tls, new.auth);
        }
        let (mut added, mut removed) = (0, 0);
        for change in &changes.peers {
            removed += self.remove_peers(change).await;
            added += self.add_peers(&change.pool, &change.added).await;
        }
        let ObservedChanges { removed: unobserved, added: observed } = changes.observed;
        let observed: Vec<_> = observed.iter().filter_map(observed_pool).collect();
        let (observed_count, unobserved_count) = (observed.len(), unobserved.len());
        if observed_count + unobserved_count > 0 {
            self.observed.replace(unobserved, observed).await;
        }
        if let (Some(text), Some(level)) = (&changes.level, level) {
            level.set(text);
        }
        self.running = self.running.with_changes_of(&new.config);
        self.effective.send_replace(self.running.effective().into());
        if let Some((pool, peer)) = self.refused.first() {
            let refused = self.refused.len();
            warn!(pool, %peer, refused, "configured peers have no room and are added when there is: raise limits.max_peers");
        }
        let limits = changes.limits.as_ref();
        info!(
            added,
            removed,
            observed = Some(observed_count).filter(|count| *count > 0),
            unobserved = Some(unobserved_count).filter(|count| *count > 0),
            refused = (!self.refused.is_empty()).then_some(self.refused.len()),
            max_listeners = limits.map(|limits| limits.max_listeners),
            max_listeners_per_principal = limits.map(|limits| limits.max_listeners_per_principal),
            max_streams = limits.map(|limits| limits.max_streams),
            max_streams_per_principal = limits.map(|limits| limits.max_streams_per_principal),
            max_peers = limits.map(|limits| limits.max_peers),
            access = changes.access.then_some(true),
            level = changes.level,
            "configuration reloaded"
        );
        ReloadResult::Applied
    }

    /// Adds the configured peers that had no room, as far as there is room now.
    pub async fn retry_refused(&mut self) {
        for (pool, peer) in std::mem::take(&mut self.refused) {
            if self.add_peers(&pool, std::slice::from_ref(&peer)).await > 0 {
                info!(pool, %peer, "the pool has room again: the configured peer was added");
            }
        }
    }

    /// Comes before [`Self::add_peers`], because the added peers must stay within `max_peers`. Returns how many left.
    async fn remove_peers(&mut self, change: &PeerChanges) -> usize {
        let Some(pool) = self.pools.get(&*change.pool) else { return 0 };
        let mut removed = 0;
        for peer in &change.removed {
            self.refused.remove(&(change.pool.clone(), peer.clone()));
            match pool.remove(peer.clone()).await {
                Ok(()) => removed += 1,
                // A client has removed it already, or it is a learned peer now.
                Err(PoolError::PeerNotFound(_) | PoolError::PeerNotConfigured) => {}
                Err(error) => warn!(pool = %change.pool, %peer, %error, "the peer was not removed"),
            }
        }
        removed
    }

    /// Returns how many were added. Those without room are tried again later.
    async fn add_peers(&mut self, name: &str, peers: &[PeerAddress]) -> usize {
        let Some(pool) = self.pools.get(name) else { return 0 };
        let mut added = 0;
        for peer in peers {
            match pool.add(peer.clone()).await {
                Ok(()) => added += 1,
                Err(PoolError::PeerExists) => {}
                Err(PoolError::PeerQuota(limit)) => {
                    self.refused.insert((name.to_owned(), peer.clone()));
                    debug!(pool = name, %peer, limit, "the configured peer has no room");
                }
                Err(error) => warn!(pool = name, %peer, %error, "the peer was not added"),
            }
        }
        added
    }
}
