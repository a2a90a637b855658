//! A listener: what it is made of, what is known of it, and why there may be none.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::{
    Cursor, Filter,
    stream_handle::{Progress, StreamHandle},
};

/// Who made a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Its name.
    pub name: Arc<str>,
    /// Whether it may have only so many.
    pub quota: Quota,
}

/// Whether somebody may have only so many listeners.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quota {
    /// As many as there may be for one.
    Limited,
    /// As many as there may be in all.
    Exempt,
}

impl Default for Owner {
    /// Nobody in particular.
    fn default() -> Self {
        Self { name: Arc::from(""), quota: Quota::Exempt }
    }
}

/// Whose listeners somebody gets to see, and may do something to. For all others it is as if they were not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Everybody's.
    All,
    /// Those of this owner.
    Own(Arc<str>),
}

impl Reach {
    pub(super) fn includes(&self, listener: &Listener) -> bool {
        match self {
            Self::All => true,
            Self::Own(name) => *name == listener.spec.owner.name,
        }
    }
}

/// What a listener is made of.
#[derive(Debug, Default)]
pub struct ListenerSpec {
    /// Who makes it.
    pub owner: Owner,
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
    /// To whose listeners it may.
    pub reach: Reach,
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
    /// The owner has as many as it may have.
    #[error("{owner} has {limit} listeners, which is the limit for one principal")]
    OwnerQuota {
        /// Who.
        owner: Arc<str>,
        /// How many that is.
        limit: usize,
    },
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
    pub(super) state: Mutex<ListenerState>,
}

/// What changes about a listener.
#[derive(Debug)]
pub(super) struct ListenerState {
    /// What streams did that are not attached any more.
    pub(super) finished: Progress,
    pub(super) attachment: Attachment,
}

impl ListenerState {
    /// What all streams did.
    pub(super) fn progress(&self) -> Progress {
        match &self.attachment {
            Attachment::Attached { handle, .. } => self.finished.and(handle.progress()),
            Attachment::Detached { .. } => self.finished,
        }
    }
}

/// Whether a stream is attached to a listener.
#[derive(Debug)]
pub(super) enum Attachment {
    Attached {
        handle: Arc<StreamHandle>,
        client: Box<str>,
    },
    /// The deadlines are the same moment, for the timer and for people.
    Detached {
        deadline: Instant,
        expires: SystemTime,
    },
}

impl Attachment {
    /// Nobody, from now on.
    pub(super) fn detached(idle_ttl: Option<Duration>) -> Self {
        let ttl = idle_ttl.unwrap_or_default();
        Self::Detached { deadline: Instant::now() + ttl, expires: SystemTime::now() + ttl }
    }
}
