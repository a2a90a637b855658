//! How many attempts to reach peers run at once, in the whole process.
//!
//! An attempt takes a file descriptor for as long as packets are lost, and a name a thread for as long as the
//! resolver is silent, so there is a bound on both. Peers that were never READY can't have all of it: one that was is
//! dialled at once, however many others are beyond reach. Connections that are up have a bound of their own, so that
//! peers leave clients their file descriptors.

use std::{ops::RangeInclusive, sync::Arc};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::connector::DialError;
use crate::peer::{DialPriority, Reason};

/// How many connections may be on their way, whatever the process may open. More than the most peers that a pool has
/// unless configured otherwise.
const DIALS: RangeInclusive<usize> = 64..=16_384;
/// Names that are looked up at once, each in a thread of its own. The runtime has 512 of them, for everything.
const LOOKUPS: usize = 256;

/// Room for attempts. Clones share it.
#[derive(Clone, Debug)]
pub struct DialLimits {
    pub(super) dials: PriorityLimit,
    pub(super) lookups: PriorityLimit,
    connections: Arc<Semaphore>,
    most_connections: usize,
}

/// A limited number of slots. A quarter is for peers that were READY before, half of them at most for those that keep failing.
#[derive(Clone, Debug)]
pub(super) struct PriorityLimit {
    all: Arc<Semaphore>,
    /// What must be had besides by those without good prospects.
    unproven: Arc<Semaphore>,
    /// And by those with poor ones.
    poor: Arc<Semaphore>,
}

/// A slot in use.
#[derive(Debug)]
pub(super) struct Slot {
    _permits: Vec<OwnedSemaphorePermit>,
}

impl DialLimits {
    /// Room for a process that may have this many files open: half of them can be connections on their way, and three
    /// quarters connections to peers in all.
    #[must_use]
    pub fn for_files(files: usize) -> Self {
        let dials = (files / 2).clamp(*DIALS.start(), *DIALS.end());
        let most_connections = (files - files / 4).clamp(*DIALS.start(), Semaphore::MAX_PERMITS);
        Self {
            dials: PriorityLimit::new(dials),
            lookups: PriorityLimit::new(LOOKUPS),
            connections: Arc::new(Semaphore::new(most_connections)),
            most_connections,
        }
    }

    /// How many file descriptors connections to peers may take.
    #[must_use]
    pub const fn most_connections(&self) -> usize {
        self.most_connections
    }

    /// A file descriptor for a connection.
    ///
    /// # Errors
    /// There are as many connections as there may be.
    pub(super) fn connection(&self) -> Result<OwnedSemaphorePermit, DialError> {
        Arc::clone(&self.connections).try_acquire_owned().map_err(|_| DialError {
            reason: Reason::ConnectFailed,
            detail: format!(
                "there are {} connections to peers, all that the limit on open files allows",
                self.most_connections
            ),
        })
    }
}

impl PriorityLimit {
    fn new(size: usize) -> Self {
        let [all, unproven, poor] =
            [size, size - size / 4, size / 2].map(|size| Arc::new(Semaphore::new(size)));
        Self { all, unproven, poor }
    }

    /// Waits for a slot.
    pub(super) async fn enter(&self, priority: DialPriority) -> Slot {
        let wanted: &[_] = match priority {
            DialPriority::High => &[&self.all],
            DialPriority::Normal => &[&self.unproven, &self.all],
            DialPriority::Low => &[&self.poor, &self.unproven, &self.all],
        };
        let mut permits = Vec::with_capacity(wanted.len());
        for semaphore in wanted {
            // They are never closed, so an error can't be; going on without a slot would be harmless.
            permits.extend(Arc::clone(semaphore).acquire_owned().await);
        }
        Slot { _permits: permits }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn however_many_poor_prospects_there_are_a_quarter_is_kept_for_the_others() {
        let limit = PriorityLimit::new(64);
        let fill =
            |priority| -> Vec<_> { std::iter::from_fn(|| limit.enter(priority).now_or_never()).collect() };
        let [poor, fair, good] = [DialPriority::Low, DialPriority::Normal, DialPriority::High].map(fill);
        assert_eq!([poor.len(), fair.len(), good.len()], [32, 16, 16]);
        drop((poor, fair));
        assert_eq!(fill(DialPriority::High).len(), 48, "and those that were READY may have all");
    }

    #[test]
    fn room_for_dials_follows_from_how_many_files_may_be_open() {
        let limits = DialLimits::for_files(100);
        let taken: Vec<_> = std::iter::from_fn(|| limits.connection().ok()).collect();
        assert_eq!(taken.len(), 75);
        assert!(limits.connection().unwrap_err().detail.starts_with("there are 75 connections"));
        for (files, dials) in [(0, 64), (1024, 512), (20_000, 10_000), (1_048_576, 16_384)] {
            assert_eq!(DialLimits::for_files(files).dials.all.available_permits(), dials);
        }
    }
}
