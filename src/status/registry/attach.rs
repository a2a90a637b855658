//! How streams attach to listeners, and detach when they are dropped.

use std::sync::{Arc, Weak};

use parking_lot::MutexGuard;
use tracing::debug;

use super::{Listeners, Registry};
use crate::status::{
    AttachError, AttachKind, AttachOptions, EndReason, Gap, GapPolicy, Listener, ListenerSpec, ListenerView,
    Owner, ResetReason,
    listener::AttachState,
    stream_handle::StreamHandle,
    subscription::{Start, Subscription},
};

/// One of the streams that [`ListenerLimits`](super::ListenerLimits) allows, until it is dropped.
pub struct StreamPermit {
    /// Weak: streams do not keep the service alive.
    listeners: Weak<Listeners>,
    owner: Owner,
}

impl Drop for StreamPermit {
    fn drop(&mut self) {
        let Some(listeners) = self.listeners.upgrade() else { return };
        let mut registry = listeners.registry.lock();
        registry.streams = registry.streams.saturating_sub(1);
        registry.owners.remove_stream(&self.owner);
        if registry.streams == 0 {
            listeners.idle.notify_waiters();
        }
    }
}

/// The attachment of a stream to its listener. Dropping it detaches.
pub(in crate::status) struct Attached {
    permit: StreamPermit,
    pub(in crate::status) listener: Arc<Listener>,
    pub(in crate::status) handle: Arc<StreamHandle>,
    pub(in crate::status) kind: AttachKind,
}

impl Attached {
    /// The listener as it is now; `None` if the service is gone.
    pub(in crate::status) fn view(&self) -> Option<ListenerView> {
        self.permit.listeners.upgrade().map(|listeners| listeners.view(&self.listener))
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        let Some(listeners) = self.permit.listeners.upgrade() else { return };
        let mut registry = listeners.registry.lock();
        let mut state = self.listener.state.lock();
        // After a takeover the handle is its successor's.
        if matches!(&state.attachment, AttachState::Attached { handle, .. } if Arc::ptr_eq(handle, &self.handle))
        {
            state.finished = state.counters();
            state.attachment = AttachState::detached(self.listener.spec.idle_ttl);
            let registered = registry.listeners.get(&self.listener.id);
            if self.listener.spec.idle_ttl.is_none()
                && registered.is_some_and(|registered| Arc::ptr_eq(registered, &self.listener))
            {
                registry.remove(&self.listener.id);
            }
        }
    }
}

impl Listeners {
    /// Attaches a stream to a listener.
    ///
    /// # Errors
    /// See [`AttachError`]. Nothing has changed then.
    pub fn attach(self: &Arc<Self>, id: &str, options: AttachOptions) -> Result<Subscription, AttachError> {
        let registry = self.registry.lock();
        let listener = registry.find(id, &options.scope).cloned().ok_or(AttachError::NotFound)?;
        let start = self.start(&options)?;
        self.attach_stream(registry, listener, &options, start)
    }

    /// Creates an ephemeral listener and attaches a stream to it.
    ///
    /// # Errors
    /// See [`AttachError`]. Nothing has changed then.
    pub fn attach_ephemeral(
        self: &Arc<Self>,
        spec: ListenerSpec,
        options: AttachOptions,
    ) -> Result<Subscription, AttachError> {
        let start = self.start(&options)?;
        let mut registry = self.registry.lock();
        self.check_not_draining()?;
        check_streams(&registry, &options.caller, 1)?;
        let listener = self.insert(&mut registry, None, ListenerSpec { idle_ttl: None, ..spec })?;
        self.attach_stream(registry, listener, &options, start)
    }

    /// Counts a call that waits as a stream.
    ///
    /// # Errors
    /// The limit of streams is reached, or the service is stopping.
    pub fn stream_permit(self: &Arc<Self>, caller: &Owner) -> Result<StreamPermit, AttachError> {
        let mut registry = self.registry.lock();
        self.check_not_draining()?;
        check_streams(&registry, caller, 1)?;
        Ok(self.count_stream(&mut registry, caller))
    }

    fn count_stream(self: &Arc<Self>, registry: &mut Registry, caller: &Owner) -> StreamPermit {
        registry.streams += 1;
        registry.owners.add_stream(caller);
        StreamPermit { listeners: Arc::downgrade(self), owner: caller.clone() }
    }

    /// Decides where a stream would start.
    fn start(&self, options: &AttachOptions) -> Result<Start, AttachError> {
        let Some(asked) = options.resume_after else {
            return Ok(Start::Snapshot(None));
        };
        let head = self.hub.cursor();
        let (error, reset) = if asked.epoch != head.epoch {
            (AttachError::EpochMismatch, (ResetReason::EpochChanged, None))
        } else {
            match self.hub.read_after(asked.revision, 0, &mut Vec::new()) {
                Ok(_) => return Ok(Start::After(asked)),
                // Another replica of the fleet has reached it already.
                Err(Gap::Future) if self.hub.may_await(asked.revision) => return Ok(Start::After(asked)),
                Err(Gap::Future) => {
                    return Err(AttachError::CursorInFuture { asked: asked.revision, head: head.revision });
                }
                Err(Gap::Compacted) => {
                    (AttachError::Compacted, (ResetReason::Compacted, Some(asked.revision)))
                }
            }
        };
        match options.gap_policy {
            GapPolicy::Fail => Err(error),
            GapPolicy::Resnapshot => Ok(Start::Snapshot(Some(reset))),
        }
    }

    fn attach_stream(
        self: &Arc<Self>,
        mut registry: MutexGuard<'_, Registry>,
        listener: Arc<Listener>,
        options: &AttachOptions,
        start: Start,
    ) -> Result<Subscription, AttachError> {
        self.check_not_draining()?;
        let mut state = listener.state.lock();
        let mut kind = match (start, listener.spec.idle_ttl) {
            (Start::After(_), _) => AttachKind::Resumed,
            (_, None) => AttachKind::Ephemeral,
            (_, Some(_)) => AttachKind::New,
        };
        match &state.attachment {
            AttachState::Attached { handle, .. } if options.takeover => {
                // The older stream counts until its transport drops it, which takes a while if the client is gone. So
                // every stream may be taken over at once, but not again and again.
                check_streams(&registry, &options.caller, 2)?;
                handle.terminate(EndReason::TakenOver, 0);
                kind = AttachKind::Takeover;
            }
            AttachState::Attached { client, .. } => return Err(AttachError::Attached(client.to_string())),
            AttachState::Detached { .. } => check_streams(&registry, &options.caller, 1)?,
        }
        state.finished = state.counters();
        let handle = Arc::new(StreamHandle::at(state.finished.cursor));
        state.attachment =
            AttachState::Attached { handle: Arc::clone(&handle), client: options.client.as_str().into() };
        drop(state);
        let permit = self.count_stream(&mut registry, &options.caller);
        // Unlocked, because going through the peers of a snapshot takes a while.
        drop(registry);
        debug!(listener = %listener.id, client = options.client, ?kind, "listener attached");
        let attached = Attached { permit, listener, handle, kind };
        Ok(Subscription::new(Arc::clone(&self.hub), attached, start, options))
    }
}

/// Checks the limits of streams, times `factor`.
fn check_streams(registry: &Registry, caller: &Owner, factor: usize) -> Result<(), AttachError> {
    let limit = registry.limits.streams;
    if registry.streams >= limit.saturating_mul(factor) {
        return Err(AttachError::StreamQuota(limit));
    }
    registry.owners.check_streams(caller, &registry.limits, factor)
}
