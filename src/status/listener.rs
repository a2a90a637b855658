//! Listeners: who wants to hear of changes.
//!
//! [`Listeners`] owns every listener and the rules of their life: names, quotas, one stream at a time, and
//! what happens to those that nobody watches. It runs no task: somebody calls [`Listeners::expire`] now and
//! then.

use std::{
    collections::BTreeMap,
    ops::Bound,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::{
    Cursor, End, Filter, Gap, Hub,
    subscription::{Progress, Seat, Start, Subscription},
};

/// How many listeners and streams there may be.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Listeners in all, ephemeral ones included.
    pub listeners: usize,
    /// Streams in all.
    pub streams: usize,
}

/// What a listener is made of.
#[derive(Debug, Default)]
pub struct ListenerSpec {
    /// What it hears.
    pub filter: Filter,
    /// What its creator wants back with every change.
    pub user_data: Bytes,
    /// How long it lives unwatched; `None`: it goes with its stream.
    pub idle_ttl: Option<Duration>,
}

/// How a stream attaches to a listener.
#[derive(Clone, Debug)]
pub struct AttachOptions {
    /// Go on after this cursor; `None`: begin with a snapshot.
    pub resume_after: Option<Cursor>,
    /// What to do when that can't be done.
    pub gap_policy: GapPolicy,
    /// Take the place of a stream that is attached.
    pub takeover: bool,
    /// End after the client is up to date.
    pub stop_after_sync: bool,
    /// Say that all is well after this long without another message.
    pub heartbeat: Duration,
    /// Who attaches, for people.
    pub client: String,
}

/// What to do when changes can't be delivered one by one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GapPolicy {
    /// Say so, and start over from a snapshot.
    #[default]
    Resnapshot,
    /// End the stream.
    Fail,
}

/// There is no such listener.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("no such listener")]
pub struct ListenerError;

/// Why a listener could not be created.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum CreateError {
    /// The name is taken.
    #[error("there is a listener of that name already")]
    Exists,
    /// There are as many as there may be.
    #[error("there are {0} listeners, which is the limit")]
    ListenerQuota(usize),
    /// The service is stopping.
    #[error("the service is stopping")]
    Draining,
}

/// Why a stream could not attach.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum AttachError {
    /// There is no such listener.
    #[error("no such listener")]
    NotFound,
    /// Somebody else is attached.
    #[error("{0} is attached to the listener; takeover would end that stream")]
    Attached(String),
    /// There are as many streams as there may be.
    #[error("there are {0} streams, which is the limit")]
    StreamQuota(usize),
    /// An ephemeral listener could not be created.
    #[error(transparent)]
    Create(#[from] CreateError),
    /// The cursor is ahead of the service.
    #[error("the cursor is at revision {asked}, the service is at {head}")]
    CursorInFuture {
        /// Revision asked for.
        asked: u64,
        /// Revision of the service.
        head: u64,
    },
    /// The changes after the cursor are gone, and the client wanted to be told so.
    #[error("the changes after the cursor are not in the log any more")]
    Compacted,
    /// The cursor is from another process, and the client wanted to be told so.
    #[error("the cursor is from another run of the service")]
    EpochMismatch,
}

/// A listener as it is seen from outside.
#[derive(Clone, Debug)]
pub struct ListenerView {
    /// The listener's fixed parts.
    pub listener: Arc<Listener>,
    /// Who is attached; `None`: nobody.
    pub client: Option<String>,
    /// When it will be destroyed; `None` while attached.
    pub expires: Option<SystemTime>,
    /// How far it has been served.
    pub cursor: Cursor,
    /// Revisions that lie after that.
    pub lag: u64,
    /// Changes handed out.
    pub delivered: u64,
    /// Times that it had to start over.
    pub resets: u64,
    /// Revisions replaced by snapshots then.
    pub missed: u64,
}

/// A subscription to changes. It has no queue: it is a cursor into the hub's log.
#[derive(Debug)]
pub struct Listener {
    /// Its name, without `listeners/`.
    pub id: Arc<str>,
    /// What it was made of.
    pub spec: ListenerSpec,
    /// When it was created.
    pub created: SystemTime,
    pub(super) progress: Progress,
    attachment: Mutex<Attachment>,
}

#[derive(Debug)]
enum Attachment {
    Attached {
        seat: Arc<Seat>,
        client: String,
    },
    /// The deadlines are the same moment, for the timer and for people.
    Detached {
        deadline: Instant,
        expires: SystemTime,
    },
}

/// Every listener of the service.
pub struct Listeners {
    hub: Arc<Hub>,
    limits: Limits,
    draining: AtomicBool,
    registry: Mutex<Registry>,
    /// Handed to subscriptions, which must not keep the service alive.
    this: Weak<Self>,
}

#[derive(Default)]
struct Registry {
    listeners: BTreeMap<Arc<str>, Arc<Listener>>,
    streams: usize,
}

impl Listeners {
    /// No listeners yet, on this hub.
    #[must_use]
    pub fn new(hub: Arc<Hub>, limits: Limits) -> Arc<Self> {
        Arc::new_cyclic(|this| Self {
            hub,
            limits,
            draining: AtomicBool::new(false),
            registry: Mutex::default(),
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
    pub fn get(&self, id: &str) -> Result<ListenerView, ListenerError> {
        let listener = self.registry.lock().listeners.get(id).cloned().ok_or(ListenerError)?;
        Ok(self.view(&listener))
    }

    /// Up to `max` listeners whose names come after `after`.
    #[must_use]
    pub fn list(&self, after: Option<&str>, max: usize) -> Vec<ListenerView> {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let registry = self.registry.lock();
        let page = registry.listeners.range::<str, _>((start, Bound::Unbounded)).take(max);
        let page: Vec<_> = page.map(|(_, listener)| Arc::clone(listener)).collect();
        drop(registry);
        page.iter().map(|listener| self.view(listener)).collect()
    }

    /// Destroys a listener. Its stream is told what was published until now, and then ends.
    ///
    /// # Errors
    /// There is none of that name.
    pub fn destroy(&self, id: &str) -> Result<(), ListenerError> {
        let listener = self.registry.lock().listeners.remove(id).ok_or(ListenerError)?;
        let attachment = listener.attachment.lock();
        if let Attachment::Attached { seat, .. } = &*attachment {
            seat.end(End::Destroyed, self.hub.cursor().revision);
        }
        Ok(())
    }

    /// Attaches a stream to a listener.
    ///
    /// # Errors
    /// See [`AttachError`]. Nothing has changed then.
    pub fn attach(&self, id: &str, options: AttachOptions) -> Result<Subscription, AttachError> {
        let mut registry = self.registry.lock();
        let listener = registry.listeners.get(id).cloned().ok_or(AttachError::NotFound)?;
        let start = self.prepare(&options)?;
        self.take_seat(&mut registry, listener, start, options)
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
        self.take_seat(&mut registry, listener, start, options)
    }

    /// Ends every stream, after it has been told what was published until now, and lets none begin.
    pub fn drain(&self) {
        // Within the lock, so that nobody is halfway through an attachment.
        let registry = self.registry.lock();
        self.draining.store(true, Ordering::SeqCst);
        for listener in registry.listeners.values() {
            if let Attachment::Attached { seat, .. } = &*listener.attachment.lock() {
                seat.end(End::Draining, self.hub.cursor().revision);
            }
        }
    }

    /// Destroys the listeners that nobody has watched for too long. Returns how many.
    pub fn expire(&self, now: Instant) -> usize {
        let mut registry = self.registry.lock();
        let before = registry.listeners.len();
        registry.listeners.retain(|_, listener| match &*listener.attachment.lock() {
            Attachment::Attached { .. } => true,
            Attachment::Detached { deadline, .. } => *deadline > now,
        });
        before - registry.listeners.len()
    }

    /// How many listeners and streams there are.
    #[must_use]
    pub fn count(&self) -> (usize, usize) {
        let registry = self.registry.lock();
        (registry.listeners.len(), registry.streams)
    }

    fn insert(
        &self,
        registry: &mut Registry,
        id: Option<&str>,
        spec: ListenerSpec,
    ) -> Result<Arc<Listener>, CreateError> {
        self.check_open()?;
        if id.is_some_and(|id| registry.listeners.contains_key(id)) {
            return Err(CreateError::Exists);
        }
        if registry.listeners.len() >= self.limits.listeners {
            return Err(CreateError::ListenerQuota(self.limits.listeners));
        }
        let id = id.map_or_else(|| unused_id(registry), Arc::from);
        let listener = Arc::new(Listener {
            id: Arc::clone(&id),
            created: SystemTime::now(),
            progress: Progress::starting_at(self.hub.cursor().revision),
            attachment: Mutex::new(detached(spec.idle_ttl)),
            spec,
        });
        registry.listeners.insert(id, Arc::clone(&listener));
        Ok(listener)
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

    fn check_open(&self) -> Result<(), CreateError> {
        if self.draining.load(Ordering::SeqCst) { Err(CreateError::Draining) } else { Ok(()) }
    }

    fn check_streams(&self, registry: &Registry) -> Result<(), AttachError> {
        if registry.streams >= self.limits.streams {
            return Err(AttachError::StreamQuota(self.limits.streams));
        }
        Ok(())
    }

    /// A stream that is taken over counts until its transport lets go of it, which takes a while if the client
    /// is gone. So every stream may be taken over at once, but there is an end to it.
    fn check_takeovers(&self, registry: &Registry) -> Result<(), AttachError> {
        if registry.streams >= self.limits.streams.saturating_mul(2) {
            return Err(AttachError::StreamQuota(self.limits.streams));
        }
        Ok(())
    }

    fn take_seat(
        &self,
        registry: &mut Registry,
        listener: Arc<Listener>,
        start: Start,
        options: AttachOptions,
    ) -> Result<Subscription, AttachError> {
        self.check_open()?;
        let mut attachment = listener.attachment.lock();
        match &*attachment {
            Attachment::Attached { seat, .. } if options.takeover => {
                self.check_takeovers(registry)?;
                seat.end(End::TakenOver, 0);
            }
            Attachment::Attached { client, .. } => return Err(AttachError::Attached(client.clone())),
            Attachment::Detached { .. } => self.check_streams(registry)?,
        }
        let seat = Arc::new(Seat::default());
        *attachment = Attachment::Attached { seat: Arc::clone(&seat), client: options.client.clone() };
        drop(attachment);
        registry.streams += 1;
        let guard = Attached { listeners: Weak::clone(&self.this), listener, seat };
        Ok(Subscription::new(Arc::clone(&self.hub), guard, start, options))
    }

    /// The listener as it is now.
    pub(super) fn view(&self, listener: &Arc<Listener>) -> ListenerView {
        let (client, expires) = match &*listener.attachment.lock() {
            Attachment::Attached { client, .. } => (Some(client.clone()), None),
            Attachment::Detached { expires, .. } => (None, Some(*expires)),
        };
        let head = self.hub.cursor();
        let progress = &listener.progress;
        let revision = progress.cursor.load(Ordering::Relaxed);
        ListenerView {
            listener: Arc::clone(listener),
            client,
            expires,
            cursor: Cursor { epoch: head.epoch, revision },
            lag: head.revision.saturating_sub(revision),
            delivered: progress.delivered.load(Ordering::Relaxed),
            resets: progress.resets.load(Ordering::Relaxed),
            missed: progress.missed.load(Ordering::Relaxed),
        }
    }
}

/// A stream's hold on its listener. Dropping it detaches.
pub(super) struct Attached {
    listeners: Weak<Listeners>,
    pub(super) listener: Arc<Listener>,
    pub(super) seat: Arc<Seat>,
}

impl Attached {
    /// The listener as it is now; `None` if the service is gone.
    pub(super) fn view(&self) -> Option<ListenerView> {
        self.listeners.upgrade().map(|listeners| listeners.view(&self.listener))
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        let Some(listeners) = self.listeners.upgrade() else {
            return;
        };
        let mut registry = listeners.registry.lock();
        registry.streams = registry.streams.saturating_sub(1);
        let mut attachment = self.listener.attachment.lock();
        // After a takeover the seat is somebody else's.
        if matches!(&*attachment, Attachment::Attached { seat, .. } if Arc::ptr_eq(seat, &self.seat)) {
            *attachment = detached(self.listener.spec.idle_ttl);
            let ephemeral = self.listener.spec.idle_ttl.is_none();
            let listed = registry.listeners.get(&self.listener.id);
            if ephemeral && listed.is_some_and(|listed| Arc::ptr_eq(listed, &self.listener)) {
                registry.listeners.remove(&self.listener.id);
            }
        }
    }
}

fn detached(idle_ttl: Option<Duration>) -> Attachment {
    let ttl = idle_ttl.unwrap_or_default();
    Attachment::Detached { deadline: Instant::now() + ttl, expires: SystemTime::now() + ttl }
}

fn unused_id(registry: &Registry) -> Arc<str> {
    loop {
        let id = format!("{:016x}", fastrand::u64(..));
        if !registry.listeners.contains_key(id.as_str()) {
            return Arc::from(id);
        }
    }
}
