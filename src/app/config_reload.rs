//! Applies a reloaded configuration while the service runs: configured peers, limits, TLS and auth for clients, and the log
//! level. Other settings that changed are logged, and need a restart. [`crate::reload`] reloads certificates, keys and
//! tokens when their files change.

use std::{collections::BTreeMap, sync::Arc};

use tokio::sync::watch;
use tracing::{error, info, warn};

use super::loaded_config::{LoadedConfig, listener_limits};
use crate::{
    config::{Config, ConfigError, PeerChanges, check_kept, diff},
    metrics::{ReloadMetrics, ReloadResult},
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
    pub(super) access: Arc<Access>,
    pub(super) reloads: ReloadMetrics,
    /// The configuration in effect, for `/config`.
    pub(super) effective: watch::Sender<Arc<str>>,
}

impl Reloader {
    /// Applies the changes. A configuration that is invalid, or that takes protection away, changes nothing.
    pub async fn reload(
        &mut self,
        read: Result<LoadedConfig, ConfigError>,
        level: Option<&Level>,
    ) -> ReloadResult {
        let checked = read.and_then(|new| check_kept(&self.running, &new.config).map(|()| new));
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
        }
        if changes.access {
            self.access.replace(new.tls, new.auth);
        }
        for change in &changes.peers {
            self.change_peers(change).await;
        }
        if let (Some(text), Some(level)) = (&changes.level, level) {
            level.set(text);
        }
        self.running = self.running.with_changes_of(&new.config);
        self.effective.send_replace(self.running.effective().into());
        let count = |number: fn(&PeerChanges) -> usize| changes.peers.iter().map(number).sum::<usize>();
        let (added, removed) = (count(|change| change.added.len()), count(|change| change.removed.len()));
        let limits = changes.limits.as_ref();
        info!(
            added,
            removed,
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

    /// Removes first, because the added peers must stay within `max_peers`.
    async fn change_peers(&self, change: &PeerChanges) {
        let Some(pool) = self.pools.get(&*change.pool) else { return };
        for peer in &change.removed {
            match pool.remove(peer.clone()).await {
                // A client has removed it already, or it is a learned peer now.
                Ok(()) | Err(PoolError::PeerNotFound(_) | PoolError::PeerNotConfigured) => {}
                Err(error) => warn!(pool = %change.pool, %peer, %error, "the peer was not removed"),
            }
        }
        for peer in &change.added {
            match pool.add(peer.clone()).await {
                Ok(()) | Err(PoolError::PeerExists) => {}
                Err(error) => warn!(pool = %change.pool, %peer, %error, "the peer was not added"),
            }
        }
    }
}
