//! Every listener, and its rules: names, quotas, one stream at a time, and what happens to those
//! that nobody watches. Runs no task: somebody calls [`Listeners::expire`] now and then.

use std::{
    collections::BTreeMap,
    ops::Bound,
    pin::pin,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::SystemTime,
};

use parking_lot::Mutex;
use tokio::{sync::Notify, time::Instant};
use tracing::debug;

use super::{
    CreateError, Cursor, End, Hub, Listener, ListenerError, ListenerSpec, ListenerView, Reach,
    listener::{Attachment, ListenerState},
    stream_handle::Progress,
};
use crate::metrics::ListenerMetrics;

mod attached;
mod attaching;
mod owners;

pub use attached::Place;
pub(super) use attached::{Attached, detach};
use owners::Owners;

/// How many listeners and streams there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Listeners in all, ephemeral ones included.
    pub listeners: usize,
    /// Listeners of one owner, unless it is exempt.
    pub per_owner: usize,
    /// Streams in all, and calls that wait.
    pub streams: usize,
}

/// How many there are, by whether they are watched, and how far the slowest stream is behind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ListenerStats {
    /// Listeners that are watched.
    pub attached: usize,
    /// Listeners that nobody watches.
    pub detached: usize,
    /// Streams, and calls that wait.
    pub streams: usize,
    /// Revisions that the slowest watched one is behind.
    pub lag: u64,
}

/// Every listener of the service.
pub struct Listeners {
    hub: Arc<Hub>,
    counts: ListenerMetrics,
    draining: AtomicBool,
    registry: Mutex<Registry>,
    /// The last stream has ended.
    emptied: Notify,
    /// Handed to subscriptions, which must not keep the service alive.
    this: Weak<Self>,
}

struct Registry {
    listeners: BTreeMap<Arc<str>, Arc<Listener>>,
    owners: Owners,
    streams: usize,
    limits: Limits,
}

impl Registry {
    /// The listener of this name, for somebody who may know of it.
    fn find(&self, id: &str, reach: &Reach) -> Option<&Arc<Listener>> {
        self.listeners.get(id).filter(|listener| reach.includes(listener))
    }

    fn remove(&mut self, id: &str) -> Option<Arc<Listener>> {
        let listener = self.listeners.remove(id)?;
        self.owners.one_less(&listener.spec.owner);
        Some(listener)
    }
}

impl Listeners {
    /// No listeners yet, on this hub.
    #[must_use]
    pub fn new(hub: Arc<Hub>, limits: Limits) -> Arc<Self> {
        Arc::new_cyclic(|this| Self {
            hub,
            counts: ListenerMetrics::default(),
            draining: AtomicBool::new(false),
            registry: Mutex::new(Registry {
                listeners: BTreeMap::new(),
                owners: Owners::default(),
                streams: 0,
                limits,
            }),
            emptied: Notify::new(),
            this: Weak::clone(this),
        })
    }

    /// Creates a listener. Without an `id` one is made up. The cursor is now: a stream that resumes after it
    /// misses nothing.
    ///
    /// # Errors
    /// The name is taken, there are too many, or the service is stopping.
    pub fn create(&self, id: Option<&str>, spec: ListenerSpec) -> Result<ListenerView, CreateError> {
        let listener = self.insert(&mut self.registry.lock(), id, spec)?;
        Ok(self.view(&listener))
    }

    /// One listener.
    ///
    /// # Errors
    /// There is none of that name.
    pub fn get(&self, id: &str, reach: &Reach) -> Result<ListenerView, ListenerError> {
        let listener = self.registry.lock().find(id, reach).cloned().ok_or(ListenerError)?;
        Ok(self.view(&listener))
    }

    /// Up to `max` listeners whose names come after `after`.
    #[must_use]
    pub fn list(&self, after: Option<&str>, max: usize, reach: &Reach) -> Vec<ListenerView> {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let registry = self.registry.lock();
        let page =
            registry.listeners.range::<str, _>((start, Bound::Unbounded)).map(|(_, listener)| listener);
        let page: Vec<_> = page.filter(|listener| reach.includes(listener)).take(max).cloned().collect();
        drop(registry);
        page.iter().map(|listener| self.view(listener)).collect()
    }

    /// Destroys a listener. Its stream is told what was published until now, and then ends.
    ///
    /// # Errors
    /// There is none of that name.
    pub fn destroy(&self, id: &str, reach: &Reach) -> Result<(), ListenerError> {
        let mut registry = self.registry.lock();
        registry.find(id, reach).ok_or(ListenerError)?;
        let listener = registry.remove(id).ok_or(ListenerError)?;
        drop(registry);
        debug!(listener = id, "listener destroyed");
        let state = listener.state.lock();
        if let Attachment::Attached { handle, .. } = &state.attachment {
            handle.terminate(End::Destroyed, self.hub.cursor().revision);
        }
        Ok(())
    }

    /// Ends every stream, after it has been told what was published until now, and lets none begin.
    pub fn drain(&self) {
        // Within the lock, so that nobody is halfway through an attachment.
        let registry = self.registry.lock();
        self.draining.store(true, Ordering::SeqCst);
        for listener in registry.listeners.values() {
            if let Attachment::Attached { handle, .. } = &listener.state.lock().attachment {
                handle.terminate(End::Draining, self.hub.cursor().revision);
            }
        }
    }

    /// Waits until no stream is left, and no call that waits.
    pub async fn idle(&self) {
        let mut emptied = pin!(self.emptied.notified());
        loop {
            // First the place among those who are told, then the look.
            emptied.as_mut().enable();
            if self.registry.lock().streams == 0 {
                return;
            }
            emptied.as_mut().await;
            emptied.set(self.emptied.notified());
        }
    }

    /// Destroys the listeners that nobody has watched for too long. Returns how many.
    pub fn expire(&self, now: Instant) -> usize {
        let mut registry = self.registry.lock();
        let is_over = |listener: &Listener| match &listener.state.lock().attachment {
            Attachment::Attached { .. } => false,
            Attachment::Detached { deadline, .. } => *deadline <= now,
        };
        let over: Vec<_> = registry.listeners.extract_if(.., |_, listener| is_over(listener)).collect();
        for (id, listener) in &over {
            debug!(listener = %id, "listener expired");
            registry.owners.one_less(&listener.spec.owner);
        }
        over.len()
    }

    /// How many listeners there are, and how many streams and calls that wait.
    #[must_use]
    pub fn count(&self) -> (usize, usize) {
        let registry = self.registry.lock();
        (registry.listeners.len(), registry.streams)
    }

    /// How many there may be from now on. If there are more, they stay, and no more come.
    pub fn set_limits(&self, limits: Limits) {
        self.registry.lock().limits = limits;
    }

    /// What is counted of them.
    #[must_use]
    pub const fn counts(&self) -> &ListenerMetrics {
        &self.counts
    }

    /// Goes through all of them.
    #[must_use]
    pub fn stats(&self) -> ListenerStats {
        let registry = self.registry.lock();
        let streams = registry.streams;
        // Streams come and go meanwhile; they are not to wait.
        let listeners: Vec<_> = registry.listeners.values().cloned().collect();
        drop(registry);
        let head = self.hub.cursor().revision;
        let count = |stats: ListenerStats, listener: &Arc<Listener>| match &listener.state.lock().attachment {
            Attachment::Detached { .. } => ListenerStats { detached: stats.detached + 1, ..stats },
            Attachment::Attached { handle, .. } => {
                let lag = stats.lag.max(head.saturating_sub(handle.progress().cursor));
                ListenerStats { attached: stats.attached + 1, lag, ..stats }
            }
        };
        listeners.iter().fold(ListenerStats { streams, ..ListenerStats::default() }, count)
    }

    fn insert(
        &self,
        registry: &mut Registry,
        id: Option<&str>,
        mut spec: ListenerSpec,
    ) -> Result<Arc<Listener>, CreateError> {
        self.check_open()?;
        if id.is_some_and(|id| registry.listeners.contains_key(id)) {
            return Err(CreateError::Exists);
        }
        if registry.listeners.len() >= registry.limits.listeners {
            return Err(CreateError::ListenerQuota(registry.limits.listeners));
        }
        let limit = registry.limits.per_owner;
        registry.owners.one_more(&mut spec.owner, limit)?;
        let id = id.map_or_else(|| unused_id(registry), Arc::from);
        let listener = Arc::new(Listener {
            id: Arc::clone(&id),
            created: SystemTime::now(),
            state: Mutex::new(ListenerState {
                finished: Progress { cursor: self.hub.cursor().revision, ..Progress::default() },
                attachment: Attachment::detached(spec.idle_ttl),
            }),
            spec,
        });
        debug!(listener = %id, ephemeral = listener.spec.idle_ttl.is_none(), "listener created");
        registry.listeners.insert(id, Arc::clone(&listener));
        Ok(listener)
    }

    fn check_open(&self) -> Result<(), CreateError> {
        if self.draining.load(Ordering::SeqCst) { Err(CreateError::Draining) } else { Ok(()) }
    }

    /// A stream has ended, or a call that waited.
    fn one_less(&self, registry: &mut Registry) {
        registry.streams = registry.streams.saturating_sub(1);
        if registry.streams == 0 {
            self.emptied.notify_waiters();
        }
    }

    /// The listener as it is now.
    pub(super) fn view(&self, listener: &Arc<Listener>) -> ListenerView {
        let state = listener.state.lock();
        let progress = state.progress();
        let (client, expires) = match &state.attachment {
            Attachment::Attached { client, .. } => (Some(client.to_string()), None),
            Attachment::Detached { expires, .. } => (None, Some(*expires)),
        };
        drop(state);
        let Cursor { epoch, revision: head } = self.hub.cursor();
        ListenerView {
            listener: Arc::clone(listener),
            client,
            expires,
            cursor: Cursor { epoch, revision: progress.cursor },
            lag: head.saturating_sub(progress.cursor),
            delivered: progress.delivered,
            resets: progress.resets,
            missed: progress.missed,
        }
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
