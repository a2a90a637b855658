//! All listeners, and their rules: names, quotas, one stream at a time, and the expiry of detached ones.
//! It runs no task: the caller calls [`Listeners::expire`] regularly.

use std::{
    collections::BTreeMap,
    ops::Bound,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use parking_lot::Mutex;
use tokio::{sync::Notify, time::Instant};
use tracing::debug;

use super::{
    CreateError, Cursor, EndReason, Hub, Listener, ListenerError, ListenerScope, ListenerSpec, ListenerView,
    clock,
    listener::{AttachState, ListenerState},
    stream_handle::Counters,
};

mod attach;
mod owners;

pub(super) use attach::Attached;
pub use attach::StreamPermit;
use owners::Owners;

/// Limits of listeners and streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListenerLimits {
    /// Listeners in all, ephemeral ones included.
    pub listeners: usize,
    /// Listeners of one owner, unless it is exempt.
    pub per_owner: usize,
    /// Streams in all, and calls that wait.
    pub streams: usize,
    /// Those of one owner, unless it is exempt.
    pub streams_per_owner: usize,
}

/// Counts of listeners and streams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ListenerStats {
    /// Listeners with a stream.
    pub attached: usize,
    /// Listeners without one.
    pub detached: usize,
    /// Streams, and calls that wait.
    pub streams: usize,
    /// Revisions that the slowest stream is behind.
    pub lag: u64,
}

/// All listeners of the service.
pub struct Listeners {
    hub: Arc<Hub>,
    draining: AtomicBool,
    registry: Mutex<Registry>,
    /// Notified when the last stream has ended.
    idle: Notify,
}

struct Registry {
    listeners: BTreeMap<Arc<str>, Arc<Listener>>,
    owners: Owners,
    streams: usize,
    limits: ListenerLimits,
}

impl Registry {
    fn find(&self, id: &str, scope: &ListenerScope) -> Option<&Arc<Listener>> {
        self.listeners.get(id).filter(|listener| scope.includes(listener))
    }

    fn remove(&mut self, id: &str) -> Option<Arc<Listener>> {
        let listener = self.listeners.remove(id)?;
        self.owners.remove(&listener.spec);
        Some(listener)
    }
}

impl Listeners {
    /// No listeners yet, on this hub.
    #[must_use]
    pub fn new(hub: Arc<Hub>, limits: ListenerLimits) -> Arc<Self> {
        let (listeners, owners) = (BTreeMap::new(), Owners::default());
        let registry = Mutex::new(Registry { listeners, owners, streams: 0, limits });
        Arc::new(Self { hub, draining: AtomicBool::new(false), registry, idle: Notify::new() })
    }

    /// Creates a listener, with a generated id if none is given. A stream that resumes after its cursor misses
    /// nothing.
    ///
    /// # Errors
    /// The id is taken, a limit is reached, or the service is stopping.
    pub fn create(&self, id: Option<&str>, spec: ListenerSpec) -> Result<ListenerView, CreateError> {
        let listener = self.insert(&mut self.registry.lock(), id, spec)?;
        Ok(self.view(&listener))
    }

    /// One listener.
    ///
    /// # Errors
    /// There is none of that id.
    pub fn get(&self, id: &str, scope: &ListenerScope) -> Result<ListenerView, ListenerError> {
        let listener = self.registry.lock().find(id, scope).cloned().ok_or(ListenerError)?;
        Ok(self.view(&listener))
    }

    /// Up to `max` listeners whose ids come after `after`.
    #[must_use]
    pub fn list(&self, after: Option<&str>, max: usize, scope: &ListenerScope) -> Vec<ListenerView> {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let registry = self.registry.lock();
        let listeners = registry.listeners.range::<str, _>((start, Bound::Unbounded));
        let visible = listeners.map(|(_, listener)| listener).filter(|listener| scope.includes(listener));
        let page: Vec<_> = visible.take(max).cloned().collect();
        drop(registry);
        page.iter().map(|listener| self.view(listener)).collect()
    }

    /// Destroys a listener. Its stream delivers what was published until now, and ends.
    ///
    /// # Errors
    /// There is none of that id.
    pub fn destroy(&self, id: &str, scope: &ListenerScope) -> Result<(), ListenerError> {
        let mut registry = self.registry.lock();
        registry.find(id, scope).ok_or(ListenerError)?;
        let listener = registry.remove(id).ok_or(ListenerError)?;
        drop(registry);
        debug!(listener = id, "listener destroyed");
        self.terminate(&listener, EndReason::Destroyed);
        Ok(())
    }

    /// Ends every stream after what was published until now, and rejects new ones.
    pub fn drain(&self) {
        // Under the lock, so that no attachment is halfway through.
        let registry = self.registry.lock();
        self.draining.store(true, Ordering::SeqCst);
        registry.listeners.values().for_each(|listener| self.terminate(listener, EndReason::Draining));
    }

    fn terminate(&self, listener: &Listener, end: EndReason) {
        if let AttachState::Attached { handle, .. } = &listener.state.lock().attachment {
            handle.terminate(end, self.hub.cursor().revision);
        }
    }

    /// Waits until there is no stream, and no call that waits.
    pub async fn idle(&self) {
        let mut idle = pin!(self.idle.notified());
        loop {
            // Registered before the check, so that no notification is missed.
            idle.as_mut().enable();
            if self.registry.lock().streams == 0 {
                return;
            }
            idle.as_mut().await;
            idle.set(self.idle.notified());
        }
    }

    /// Destroys the listeners that were detached for their `idle_ttl`. Returns how many.
    pub fn expire(&self, now: Instant) -> usize {
        let mut registry = self.registry.lock();
        let is_expired = |listener: &Listener| matches!(listener.state.lock().attachment, AttachState::Detached { deadline, .. } if deadline <= now);
        let expired: Vec<_> = registry.listeners.extract_if(.., |_, listener| is_expired(listener)).collect();
        for (id, listener) in &expired {
            debug!(listener = %id, "listener expired");
            registry.owners.remove(&listener.spec);
        }
        expired.len()
    }

    /// The number of listeners, and that of streams and calls that wait.
    #[must_use]
    pub fn count(&self) -> (usize, usize) {
        let registry = self.registry.lock();
        (registry.listeners.len(), registry.streams)
    }

    /// Sets the limits. Listeners and streams beyond them stay.
    pub fn set_limits(&self, limits: ListenerLimits) {
        self.registry.lock().limits = limits;
    }

    /// Counts, which visits every listener.
    #[must_use]
    pub fn stats(&self) -> ListenerStats {
        let registry = self.registry.lock();
        let mut stats = ListenerStats { streams: registry.streams, ..ListenerStats::default() };
        // Cloned, so that attaching does not wait for the visit.
        let listeners: Vec<_> = registry.listeners.values().cloned().collect();
        drop(registry);
        let mut slowest = u64::MAX;
        for listener in listeners {
            match &listener.state.lock().attachment {
                AttachState::Detached { .. } => stats.detached += 1,
                AttachState::Attached { handle, .. } => {
                    stats.attached += 1;
                    slowest = slowest.min(handle.counters().cursor);
                }
            }
        }
        stats.lag = self.hub.lag(slowest);
        stats
    }

    fn insert(
        &self,
        registry: &mut Registry,
        id: Option<&str>,
        mut spec: ListenerSpec,
    ) -> Result<Arc<Listener>, CreateError> {
        self.check_not_draining()?;
        if id.is_some_and(|id| registry.listeners.contains_key(id)) {
            return Err(CreateError::Exists);
        }
        if registry.listeners.len() >= registry.limits.listeners {
            return Err(CreateError::ListenerQuota(registry.limits.listeners));
        }
        registry.owners.add(&mut spec, &registry.limits)?;
        let id = id.map_or_else(|| unused_id(registry), Arc::from);
        let finished = Counters { cursor: self.hub.cursor().revision, ..Counters::default() };
        let state = ListenerState { finished, attachment: AttachState::detached(spec.idle_ttl) };
        let (created, state) = (clock::now(), Mutex::new(state));
        let listener = Arc::new(Listener { id: Arc::clone(&id), created, state, spec });
        debug!(listener = %id, ephemeral = listener.spec.idle_ttl.is_none(), "listener created");
        registry.listeners.insert(id, Arc::clone(&listener));
        Ok(listener)
    }

    fn check_not_draining(&self) -> Result<(), CreateError> {
        if self.draining.load(Ordering::SeqCst) { Err(CreateError::Draining) } else { Ok(()) }
    }

    fn view(&self, listener: &Arc<Listener>) -> ListenerView {
        let state = listener.state.lock();
        let Counters { cursor, delivered, resets, missed } = state.counters();
        let (client, expires) = match &state.attachment {
            AttachState::Attached { client, .. } => (Some(client.to_string()), None),
            AttachState::Detached { expires, .. } => (None, Some(*expires)),
        };
        drop(state);
        let (epoch, lag) = (self.hub.epoch(), self.hub.lag(cursor));
        let (listener, cursor) = (Arc::clone(listener), Cursor { epoch, revision: cursor });
        ListenerView { listener, client, expires, cursor, lag, delivered, resets, missed }
    }
}

fn unused_id(registry: &Registry) -> Arc<str> {
    loop {
        let id = format!("{:016x}", fastrand::u64(..));
        if !registry.listeners.contains_key(id.as_str()) {
            return Arc::from(id);
        }
    }
}
