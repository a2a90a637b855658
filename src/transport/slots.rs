//! How many attempts to reach peers run at once, in the whole process.
//!
//! An attempt takes a file descriptor for as long as packets are lost, and a name a thread for as long as the
//! resolver is silent, so there is a bound on both. Peers that have failed for a while can't have all of it: one that
//! was just lost is dialled at once, however many others are beyond reach.

use std::{ops::RangeInclusive, sync::Arc};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::peer::Prospect;

/// How many connections may be on their way, whatever the process may open. More than the most peers that a pool has
/// unless configured otherwise.
const DIALS: RangeInclusive<usize> = 64..=16_384;
/// Names that are looked up at once, each in a thread of its own. The runtime has 512 of them, for everything.
const LOOKUPS: usize = 256;

/// Room for attempts. Clones share it.
#[derive(Clone, Debug)]
pub struct Slots {
    pub(super) dials: Lane,
    pub(super) lookups: Lane,
}

/// A number of slots, of which three quarters are for everybody.
#[derive(Clone, Debug)]
pub(super) struct Lane {
    all: Arc<Semaphore>,
    /// What must be had besides by those with poor prospects.
    poor: Arc<Semaphore>,
}

/// A slot in use.
#[derive(Debug)]
pub(super) struct Slot {
    _all: Option<OwnedSemaphorePermit>,
    _poor: Option<OwnedSemaphorePermit>,
}

impl Slots {
    /// Room for a process that may have this many files open: half of them can be connections on their way.
    #[must_use]
    pub fn for_files(files: usize) -> Self {
        let dials = (files / 2).clamp(*DIALS.start(), *DIALS.end());
        Self { dials: Lane::new(dials), lookups: Lane::new(LOOKUPS) }
    }
}

impl Lane {
    fn new(size: usize) -> Self {
        Self { all: Arc::new(Semaphore::new(size)), poor: Arc::new(Semaphore::new(size - size / 4)) }
    }

    /// Waits for a slot.
    pub(super) async fn enter(&self, prospect: Prospect) -> Slot {
        // The semaphores are never closed, so an error can't be; going on without a slot would be harmless.
        let poor = match prospect {
            Prospect::Fair => None,
            Prospect::Poor => Arc::clone(&self.poor).acquire_owned().await.ok(),
        };
        Slot { _all: Arc::clone(&self.all).acquire_owned().await.ok(), _poor: poor }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn however_many_poor_prospects_there_are_a_quarter_is_kept_for_the_others() {
        let lane = Lane::new(64);
        let enter = |prospect| lane.enter(prospect).now_or_never();
        let poor: Vec<_> = std::iter::from_fn(|| enter(Prospect::Poor)).collect();
        assert_eq!(poor.len(), 48);
        let fair: Vec<_> = std::iter::from_fn(|| enter(Prospect::Fair)).collect();
        assert_eq!(fair.len(), 16);
        drop(poor);
        let more: Vec<_> = std::iter::from_fn(|| enter(Prospect::Fair)).collect();
        assert_eq!(more.len() + fair.len(), 64, "and they may have all");
    }

    #[test]
    fn room_for_dials_follows_from_how_many_files_may_be_open() {
        for (files, dials) in [(0, 64), (1024, 512), (20_000, 10_000), (1_048_576, 16_384)] {
            assert_eq!(Slots::for_files(files).dials.all.available_permits(), dials);
        }
    }
}
