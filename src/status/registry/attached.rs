//! What holds a place among the streams: a stream's hold on its listener, and a call that waits.

use std::sync::{Arc, Weak};

use tracing::debug;

use super::Listeners;
use crate::{
    metrics::{Detach, Reset},
    status::{End, Listener, ListenerView, ResetReason, listener::Attachment, stream_handle::StreamHandle},
};

/// A place among the streams. Dropping it makes room for another.
pub struct Place {
    pub(super) listeners: Weak<Listeners>,
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(listeners) = self.listeners.upgrade() {
            listeners.one_less(&mut listeners.registry.lock());
        }
    }
}

/// A stream's hold on its listener. Dropping it detaches.
pub(in crate::status) struct Attached {
    pub(super) listeners: Weak<Listeners>,
    pub(in crate::status) listener: Arc<Listener>,
    pub(in crate::status) handle: Arc<StreamHandle>,
    /// Why the stream ended, if it did by itself.
    pub(in crate::status) left: Option<Detach>,
}

impl Attached {
    /// Counts that the stream starts over.
    pub(in crate::status) fn count_reset(&self, why: ResetReason, missed: u64) {
        self.handle.reset(missed);
        let why = match why {
            ResetReason::Overflow => Reset::Overflow,
            ResetReason::Compacted => Reset::Compacted,
            ResetReason::EpochChanged => Reset::EpochChanged,
        };
        if let Some(listeners) = self.listeners.upgrade() {
            listeners.counts.reset(why, missed);
        }
    }

    fn why_it_left(&self) -> Detach {
        let called_away = self.handle.end().map(|(end, _)| detach(end));
        self.left.or(called_away).unwrap_or(Detach::ClientGone)
    }

    /// The listener as it is now; `None` if the service is gone.
    pub(in crate::status) fn view(&self) -> Option<ListenerView> {
        self.listeners.upgrade().map(|listeners| listeners.view(&self.listener))
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        let Some(listeners) = self.listeners.upgrade() else {
            return;
        };
        let why = self.why_it_left();
        listeners.counts.detached(why);
        debug!(listener = %self.listener.id, ?why, "listener detached");
        let mut registry = listeners.registry.lock();
        listeners.one_less(&mut registry);
        let mut state = self.listener.state.lock();
        // After a takeover the handle is somebody else's.
        if matches!(&state.attachment, Attachment::Attached { handle, .. } if Arc::ptr_eq(handle, &self.handle))
        {
            state.finished = state.progress();
            state.attachment = Attachment::detached(self.listener.spec.idle_ttl);
            let ephemeral = self.listener.spec.idle_ttl.is_none();
            let listed = registry.listeners.get(&self.listener.id);
            if ephemeral && listed.is_some_and(|listed| Arc::ptr_eq(listed, &self.listener)) {
                registry.remove(&self.listener.id);
            }
        }
    }
}

/// What the end of a stream counts as.
pub(in crate::status) const fn detach(end: End) -> Detach {
    match end {
        End::TakenOver => Detach::TakenOver,
        End::Destroyed => Detach::Destroyed,
        End::Draining => Detach::Draining,
        End::Overflow => Detach::Overflow,
    }
}
