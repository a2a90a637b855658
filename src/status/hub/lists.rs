//! What lists of pools and peers read, a page at a time.

use std::{collections::BTreeSet, ops::Bound, sync::Arc};

use super::{Cursor, Hub, UnknownPool};
use crate::{
    peer::PeerAddress,
    status::{PeerState, PoolState},
};

impl Hub {
    /// Up to `max` pools whose names come after `after`.
    pub fn pools(&self, after: Option<&str>, max: usize) -> (Vec<Arc<PoolState>>, Cursor) {
        let state = self.state.read();
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let pools = state.pools.range::<str, _>((start, Bound::Unbounded)).take(max);
        (pools.map(|(_, pool)| Arc::clone(&pool.state)).collect(), self.cursor_of(&state))
    }

    /// One peer, and when it was read.
    pub fn peer(&self, pool: &str, address: &PeerAddress) -> Option<(Arc<PeerState>, Cursor)> {
        let state = self.state.read();
        let peer = state.pools.get(pool)?.peers.get(address)?;
        Some((Arc::clone(peer), self.cursor_of(&state)))
    }

    /// Up to `max` peers of one pool, or of all, that come after `after` in the order of pool and address.
    ///
    /// # Errors
    /// There is no such pool.
    pub fn peers(
        &self,
        pool: Option<&str>,
        after: Option<(&str, &PeerAddress)>,
        max: usize,
    ) -> Result<(Vec<Arc<PeerState>>, Cursor), UnknownPool> {
        self.peers_of(pool, None, after, max)
    }

    /// The names of all pools, in order.
    pub(crate) fn pool_names(&self) -> Vec<Arc<str>> {
        self.state.read().pools.keys().map(Arc::clone).collect()
    }

    /// The same as [`Hub::peers`], in these pools alone.
    pub(crate) fn peers_of(
        &self,
        pool: Option<&str>,
        pools: Option<&BTreeSet<Arc<str>>>,
        after: Option<(&str, &PeerAddress)>,
        max: usize,
    ) -> Result<(Vec<Arc<PeerState>>, Cursor), UnknownPool> {
        let state = self.state.read();
        if pool.is_some_and(|name| !state.pools.contains_key(name)) {
            return Err(UnknownPool);
        }
        let first = pool.or(after.map(|(pool, _)| pool)).map_or(Bound::Unbounded, Bound::Included);
        let pools_from = state.pools.range::<str, _>((first, Bound::Unbounded));
        let peers = pools_from
            .take_while(|(name, _)| pool.is_none_or(|wanted| wanted == &***name))
            .filter(|(name, _)| pools.is_none_or(|pools| pools.contains(&***name)))
            .flat_map(|(name, pool)| {
                let after = after.filter(|(of, _)| *of == &**name).map(|(_, address)| address);
                let start = after.map_or(Bound::Unbounded, Bound::Excluded);
                pool.peers.range((start, Bound::Unbounded)).map(|(_, peer)| Arc::clone(peer))
            })
            .take(max)
            .collect();
        Ok((peers, self.cursor_of(&state)))
    }
}
