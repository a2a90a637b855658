//! The newest changes of each peer that the log no longer has: a peer that keeps flapping does not push out the history of
//! the others.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
};

use super::{ChangeKind, Event};
use crate::peer::PeerAddress;

/// Changes that are kept of each peer in a pool.
const KEPT: usize = 32;

/// Changes that have left the log, by revision.
#[derive(Default)]
pub(super) struct Recent {
    /// Revisions of the newest changes of each peer, in the log or not.
    newest: HashMap<(Arc<str>, PeerAddress), VecDeque<u64>>,
    evicted: BTreeMap<u64, Arc<Event>>,
}

impl Recent {
    /// A change was appended to the log, which evicted another one, if it was full.
    pub(super) fn note(&mut self, event: &Event, evicted: Option<&Arc<Event>>) {
        let key = key(event);
        if event.peer.kind == ChangeKind::Removed {
            // What has left the pool stays in the log alone: names must not pile up.
            for revision in self.newest.remove(&key).into_iter().flatten() {
                self.evicted.remove(&revision);
            }
        } else {
            let newest = self.newest.entry(key).or_default();
            newest.push_back(event.revision);
            if newest.len() > KEPT
                && let Some(oldest) = newest.pop_front()
            {
                self.evicted.remove(&oldest);
            }
        }
        if let Some(event) = evicted
            && self.newest.get(&self::key(event)).is_some_and(|newest| newest.contains(&event.revision))
        {
            self.evicted.insert(event.revision, Arc::clone(event));
        }
    }

    /// Appends up to `max` of the evicted events before `revision` to `into`, newest first.
    pub(super) fn read_before(&self, revision: u64, max: usize, into: &mut Vec<Arc<Event>>) {
        into.extend(self.evicted.range(..revision).rev().take(max).map(|(_, event)| Arc::clone(event)));
    }
}

fn key(event: &Event) -> (Arc<str>, PeerAddress) {
    let peer = &event.peer.peer;
    (Arc::clone(&peer.pool), peer.address.clone())
}
