//! Memory for frames of peers that are incomplete or wait to be answered: a budget for all of them, beyond a free share for
//! each connection and reserves for each pool.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use crate::peer::Reach;

/// Bytes for all connections: lists of 1,024 peers from 1,024 peers at the same time, as when a large fabric is learned.
const SHARED: usize = 128 * 1024 * 1024;
/// Bytes beside for the configured peers of each pool, and as many for its learned peers: one peer that lists many
/// addresses can use up what is shared, and the second of these in its own pool.
const RESERVE: usize = 4 * 1024 * 1024;
/// Bytes of a reserve for one connection: the longest frame before the peer is READY, in a buffer that grows by doubling.
const RESERVE_PER_CONNECTION: usize = 1024 * 1024;
/// Bytes per connection that do not count, so that peers that send frames of usual length are never refused.
pub(super) const FREE: usize = 16 * 1024;

/// What the pools share; clones are the same.
#[derive(Clone, Debug)]
pub(super) struct FrameBudget(Arc<Budget>);

/// What the peers of one pool may use.
#[derive(Debug)]
pub(super) struct PoolFrameBudget {
    shared: FrameBudget,
    configured: Arc<Budget>,
    learned: Arc<Budget>,
}

/// The bytes of one connection. Dropping it releases them.
#[derive(Debug)]
pub(super) struct FrameReservation {
    reserve: Arc<Budget>,
    shared: FrameBudget,
    from_reserve: usize,
    from_shared: usize,
}

/// The budget is used up.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "no memory for its frame: the frames of all peers that are incomplete or unanswered have {SHARED} bytes, the limit, \
     and those of its pool have the reserve of the pool"
)]
pub(super) struct BudgetExhausted;

#[derive(Debug)]
struct Budget {
    used: AtomicUsize,
    limit: usize,
}

impl Budget {
    fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { used: AtomicUsize::new(0), limit })
    }

    fn try_take(&self, bytes: usize) -> Result<(), BudgetExhausted> {
        let add = |used: usize| used.checked_add(bytes).filter(|used| *used <= self.limit);
        self.used.fetch_update(Relaxed, Relaxed, add).map(drop).map_err(|_| BudgetExhausted)
    }

    /// Takes as much as there is, and returns how much that was.
    fn take_up_to(&self, bytes: usize) -> usize {
        let part = |used: usize| bytes.min(self.limit.saturating_sub(used));
        let taken = self.used.fetch_update(Relaxed, Relaxed, |used| Some(used + part(used)));
        taken.map_or(0, part)
    }

    fn release(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Relaxed);
    }
}

impl Default for FrameBudget {
    fn default() -> Self {
        Self(Budget::new(SHARED))
    }
}

impl PoolFrameBudget {
    pub(super) fn new(shared: FrameBudget) -> Self {
        Self { shared, configured: Budget::new(RESERVE), learned: Budget::new(RESERVE) }
    }

    /// For a connection to a peer with this reach, which is unlimited for configured peers alone.
    pub(super) fn reservation(&self, reach: Reach) -> FrameReservation {
        let reserve = if reach == Reach::Any { &self.configured } else { &self.learned };
        FrameReservation {
            reserve: Arc::clone(reserve),
            shared: self.shared.clone(),
            from_reserve: 0,
            from_shared: 0,
        }
    }
}

impl FrameReservation {
    /// Sets how many bytes the connection holds, its free share included.
    pub(super) fn resize(&mut self, held: usize) -> Result<(), BudgetExhausted> {
        let (bytes, before) = (held.saturating_sub(FREE), self.from_reserve + self.from_shared);
        if let Some(more) = bytes.checked_sub(before) {
            let from_reserve = self.reserve.take_up_to(more.min(RESERVE_PER_CONNECTION - self.from_reserve));
            self.from_reserve += from_reserve;
            self.shared.0.try_take(more - from_reserve)?;
            self.from_shared += more - from_reserve;
        } else {
            let less = before - bytes;
            let to_shared = less.min(self.from_shared);
            self.shared.0.release(to_shared);
            self.reserve.release(less - to_shared);
            self.from_shared -= to_shared;
            self.from_reserve -= less - to_shared;
        }
        Ok(())
    }
}

impl Drop for FrameReservation {
    fn drop(&mut self) {
        self.shared.0.release(self.from_shared);
        self.reserve.release(self.from_reserve);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_has_a_free_share_and_a_part_of_a_reserve_and_the_rest_is_shared_by_all() {
        let shared = FrameBudget::default();
        let pool = PoolFrameBudget::new(shared.clone());
        let [mut greedy, mut other] = [(); 2].map(|()| pool.reservation(Reach::Any));
        let own = FREE + RESERVE_PER_CONNECTION;
        assert_eq!(greedy.resize(own + SHARED), Ok(()));
        assert_eq!((other.resize(own), other.resize(own + 1)), (Ok(()), Err(BudgetExhausted)));
        assert_eq!(greedy.resize(own + SHARED - 1), Ok(()));
        assert_eq!((other.resize(own + 1), other.resize(own + 2)), (Ok(()), Err(BudgetExhausted)));
        drop(greedy);
        assert_eq!((other.resize(own + SHARED), other.resize(0)), (Ok(()), Ok(())));
        let used = [&shared.0, &pool.configured].map(|budget| budget.used.load(Relaxed));
        assert_eq!(used, [0, 0]);
    }

    #[test]
    fn learned_peers_leave_room_for_configured_ones_and_for_those_of_other_pools() {
        let shared = FrameBudget::default();
        let [hostile, good] = [(); 2].map(|()| PoolFrameBudget::new(shared.clone()));
        let enough = FREE + RESERVE_PER_CONNECTION;
        let full = |_| {
            let mut learned = hostile.reservation(Reach::Remote);
            learned.resize(2 * enough).is_ok().then_some(learned)
        };
        let _learned: Vec<_> = (0..).map_while(full).collect();
        let mut rest = hostile.reservation(Reach::Remote);
        while rest.resize(FREE + rest.from_shared + rest.from_reserve + 1).is_ok() {}
        assert_eq!(hostile.reservation(Reach::Remote).resize(enough), Err(BudgetExhausted));
        // One configured peer can have no more than its part.
        let mut configured = hostile.reservation(Reach::Any);
        assert_eq!(configured.resize(2 * enough), Err(BudgetExhausted));
        for (pool, reach) in [(&hostile, Reach::Any), (&good, Reach::Any), (&good, Reach::Loopback)] {
            assert_eq!(pool.reservation(reach).resize(enough), Ok(()));
        }
    }
}
