//! Pools that are observed.

use std::{sync::Arc, time::SystemTime};

use super::Hub;
use crate::peer::PoolHealth;

impl Hub {
    /// Adds an empty pool that is observed. Its health is unknown until a peer was seen. Not a change.
    pub fn add_observed_pool(&self, name: Arc<str>, at: SystemTime) {
        self.insert_pool(name, None, PoolHealth::Unknown, at);
    }

    /// What cannot be seen of the agent. If that is everything, the pool is blind: without peers it is unknown until it has some. Not a
    /// change, since it is of no peer.
    pub fn set_sight(&self, pool: &str, is_blind: bool, detail: &str, at: SystemTime) {
        if let Some(pool) = self.state.write().pools_mut().get_mut(pool) {
            pool.set_sight(is_blind, detail, at);
        }
    }
}
