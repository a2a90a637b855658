//! The newest changes of each peer that the log no longer has: a peer that keeps flapping does not push out the history of
//! the others.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
};

use super::{ChangeKind, Event, PeerChange};
use crate::peer::PeerAddress;

/// Changes that have left the log, by revision.
pub(super) struct Recent {
    /// Changes that are kept of each peer in a pool.
    kept: usize,
    /// Revisions of the newest changes of each peer, in the log or not.
    newest: HashMap<(Arc<str>, PeerAddress), VecDeque<u64>>,
    evicted: BTreeMap<u64, Arc<Event>>,
}

impl Recent {
    pub(super) fn new(kept: usize) -> Self {
        Self { kept, newest: HashMap::new(), evicted: BTreeMap::new() }
    }

    /// A change was appended to the log, which evicted another one, if it was full.
    pub(super) fn note(&mut self, event: &Event, evicted: Option<&Arc<Event>>) {
        let Some(change) = event.peer.as_ref().filter(|_| self.kept > 0) else { return };
        let key = key(change);
        if change.kind == ChangeKind::Removed {
            // What has left the pool stays in the log alone: names must not pile up.
            for revision in self.newest.remove(&key).into_iter().flatten() {
                self.evicted.remove(&revision);
            }
        } else {
            let newest = self.newest.entry(key).or_default();
            newest.push_back(event.revision);
            if newest.len() > self.kept
                && let Some(oldest) = newest.pop_front()
            {
                self.evicted.remove(&oldest);
            }
        }
        if let Some(event) = evicted
            && let Some(change) = &event.peer
            && self.newest.get(&self::key(change)).is_some_and(|newest| newest.contains(&event.revision))
        {
            self.evicted.insert(event.revision, Arc::clone(event));
        }
    }

    /// Appends up to `max` of the evicted events before `revision` to `into`, newest first.
    pub(super) fn read_before(&self, revision: u64, max: usize, into: &mut Vec<Arc<Event>>) {
        into.extend(self.evicted.range(..revision).rev().take(max).map(|(_, event)| Arc::clone(event)));
    }
}

fn key(PeerChange { peer, .. }: &PeerChange) -> (Arc<str>, PeerAddress) {
    (Arc::clone(&peer.pool), peer.address.clone())
}
