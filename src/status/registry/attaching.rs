//! How streams attach to listeners, and where they begin.

use std::sync::{Arc, Weak};

use tracing::debug;

use super::{Attached, Listeners, Place, Registry};
use crate::{
    metrics::Attach,
    status::{
        AttachError, AttachOptions, End, Gap, GapPolicy, Listener, ListenerSpec,
        listener::Attachment,
        stream_handle::StreamHandle,
        subscription::{Start, Subscription},
    },
};

impl Listeners {
    /// Attaches a stream to a listener.
    ///
    /// # Errors
    /// See [`AttachError`]. Nothing has changed then.
    pub fn attach(&self, id: &str, options: AttachOptions) -> Result<Subscription, AttachError> {
        let mut registry = self.registry.lock();
        let listener = registry.find(id, &options.reach).cloned().ok_or(AttachError::NotFound)?;
        let start = self.prepare(&options)?;
        let attached = self.take_seat(&mut registry, listener, &options, start)?;
        // A snapshot of many peers under a long filter takes a while; others are not to wait for it.
        drop(registry);
        Ok(Subscription::new(Arc::clone(&self.hub), attached, start, &options))
    }

    /// Creates an ephemeral listener and attaches a stream to it.
    ///
    /// # Errors
    /// See [`AttachError`]. Nothing has changed then.
    pub fn attach_ephemeral(
        &self,
        spec: ListenerSpec,
        options: AttachOptions,
    ) -> Result<Subscription, AttachError> {
        let start = self.prepare(&options)?;
        let mut registry = self.registry.lock();
        self.check_open()?;
        self.check_streams(&registry)?;
        let listener = self.insert(&mut registry, None, ListenerSpec { idle_ttl: None, ..spec })?;
        let attached = self.take_seat(&mut registry, listener, &options, start)?;
        // A snapshot of many peers under a long filter takes a while; others are not to wait for it.
        drop(registry);
        Ok(Subscription::new(Arc::clone(&self.hub), attached, start, &options))
    }

    /// A place among the streams for a call that waits.
    ///
    /// # Errors
    /// There are too many, or the service is stopping.
    pub fn place(&self) -> Result<Place, AttachError> {
        let mut registry = self.registry.lock();
        self.check_open()?;
        self.check_streams(&registry)?;
        registry.streams += 1;
        Ok(Place { listeners: Weak::clone(&self.this) })
    }

    /// Decides where a stream would start.
    fn prepare(&self, options: &AttachOptions) -> Result<Start, AttachError> {
        let Some(asked) = options.resume_after else {
            return Ok(Start::Snapshot);
        };
        let head = self.hub.cursor();
        if asked.epoch != head.epoch {
            return match options.gap_policy {
                GapPolicy::Fail => Err(AttachError::EpochMismatch),
                GapPolicy::Resnapshot => Ok(Start::EpochChanged),
            };
        }
        match (self.hub.distance(asked.revision), options.gap_policy) {
            (Ok(_), _) => Ok(Start::After(asked.revision)),
            (Err(Gap::Future), _) => {
                Err(AttachError::CursorInFuture { asked: asked.revision, head: head.revision })
            }
            (Err(Gap::Compacted), GapPolicy::Fail) => Err(AttachError::Compacted),
            (Err(Gap::Compacted), GapPolicy::Resnapshot) => Ok(Start::Compacted(asked.revision)),
        }
    }

    fn check_streams(&self, registry: &Registry) -> Result<(), AttachError> {
        if registry.streams >= registry.limits.streams {
            return Err(AttachError::StreamQuota(registry.limits.streams));
        }
        Ok(())
    }

    /// A stream that is taken over counts until its transport lets go of it, which takes a while if the client
    /// is gone. So every stream may be taken over at once, but there is an end to it.
    fn check_takeovers(&self, registry: &Registry) -> Result<(), AttachError> {
        if registry.streams >= registry.limits.streams.saturating_mul(2) {
            return Err(AttachError::StreamQuota(registry.limits.streams));
        }
        Ok(())
    }

    fn take_seat(
        &self,
        registry: &mut Registry,
        listener: Arc<Listener>,
        options: &AttachOptions,
        start: Start,
    ) -> Result<Attached, AttachError> {
        self.check_open()?;
        let mut state = listener.state.lock();
        let mut how = match (start, listener.spec.idle_ttl) {
            (Start::After(_), _) => Attach::Resumed,
            (_, None) => Attach::Ephemeral,
            (_, Some(_)) => Attach::New,
        };
        match &state.attachment {
            Attachment::Attached { handle, .. } if options.takeover => {
                self.check_takeovers(registry)?;
                handle.terminate(End::TakenOver, 0);
                how = Attach::Takeover;
            }
            Attachment::Attached { client, .. } => return Err(AttachError::Attached(client.to_string())),
            Attachment::Detached { .. } => self.check_streams(registry)?,
        }
        state.finished = state.progress();
        let handle = Arc::new(StreamHandle::at(state.finished.cursor));
        state.attachment =
            Attachment::Attached { handle: Arc::clone(&handle), client: options.client.as_str().into() };
        drop(state);
        registry.streams += 1;
        self.counts.attached(how);
        debug!(listener = %listener.id, client = options.client, ?how, "listener attached");
        Ok(Attached { listeners: Weak::clone(&self.this), listener, handle, left: None })
    }
}
