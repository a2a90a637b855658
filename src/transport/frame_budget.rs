//! Memory for frames of peers that are incomplete or wait to be answered: a process-wide budget, beyond a free share for
//! each connection.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

/// Bytes for all connections: lists of 1,024 peers from 1,024 peers at the same time, as when a large fabric is learned.
const BUDGET: usize = 128 * 1024 * 1024;
/// Bytes per connection that do not count, so that peers that send frames of usual length are never refused.
pub(super) const FREE: usize = 16 * 1024;

/// Bytes in use beyond the free shares; clones share them.
#[derive(Clone, Debug, Default)]
pub(super) struct FrameBudget(Arc<AtomicUsize>);

/// The bytes of one connection. Dropping it releases them.
#[derive(Debug)]
pub(super) struct FrameReservation {
    budget: FrameBudget,
    bytes: usize,
}

/// The budget is used up.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "no memory for its frame: the frames of all peers that are incomplete or unanswered have {BUDGET} bytes, the limit"
)]
pub(super) struct BudgetExhausted;

impl FrameBudget {
    pub(super) fn reservation(&self) -> FrameReservation {
        FrameReservation { budget: self.clone(), bytes: 0 }
    }
}

impl FrameReservation {
    /// Sets how many bytes the connection holds, its free share included.
    pub(super) fn resize(&mut self, held: usize) -> Result<(), BudgetExhausted> {
        let (bytes, used) = (held.saturating_sub(FREE), &self.budget.0);
        if bytes > self.bytes {
            let more = bytes - self.bytes;
            let add = |used: usize| used.checked_add(more).filter(|used| *used <= BUDGET);
            used.fetch_update(Relaxed, Relaxed, add).map_err(|_| BudgetExhausted)?;
        } else {
            used.fetch_sub(self.bytes - bytes, Relaxed);
        }
        self.bytes = bytes;
        Ok(())
    }
}

impl Drop for FrameReservation {
    fn drop(&mut self) {
        self.budget.0.fetch_sub(self.bytes, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_has_a_free_share_and_the_rest_is_shared_by_all() {
        let budget = FrameBudget::default();
        let [mut greedy, mut other] = [(); 2].map(|()| budget.reservation());
        assert_eq!(greedy.resize(FREE + BUDGET), Ok(()));
        assert_eq!((other.resize(FREE), other.resize(FREE + 1)), (Ok(()), Err(BudgetExhausted)));
        assert_eq!(greedy.resize(FREE + BUDGET - 1), Ok(()));
        assert_eq!((other.resize(FREE + 1), other.resize(FREE + 2)), (Ok(()), Err(BudgetExhausted)));
        drop(greedy);
        assert_eq!((other.resize(FREE + BUDGET), other.resize(0)), (Ok(()), Ok(())));
        assert_eq!(budget.0.load(Relaxed), 0);
    }
}
