//! A listener: its settings, its state, and the errors of creating and attaching to one.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use parking_lot::Mutex;
use tokio::time::Instant;

use super::{
    Cursor, Filter, clock,
    stream_handle::{Counters, StreamHandle},
};

/// Longest id: what a DNS label may have.
const MAX_ID: usize = 63;

/// Whether a text may be the id of a pool or of a listener: 1 to 63 characters of `[a-z0-9-]`.
#[must_use]
pub fn is_id(text: &str) -> bool {
    (1..=MAX_ID).contains(&text.len()) && text.chars().all(|c| matches!(c, 'a'..='z' | '0'..='9' | '-'))
}

/// The principal that created a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Its name.
    pub name: Arc<str>,
    /// Whether the number of its listeners is limited.
    pub quota: Quota,
}

/// Whether the limit of listeners per owner applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quota {
    /// It does.
    Limited,
    /// Only the limit of all listeners does.
    Exempt,
}

impl Default for Owner {
    /// No principal: for calls that came over no connection.
    fn default() -> Self {
        Self { name: Arc::from(""), quota: Quota::Exempt }
    }
}

/// The listeners that a caller may see and change. The others are not found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenerScope {
    /// All of them.
    All,
    /// Those of this owner.
    Own(Arc<str>),
}

impl ListenerScope {
    pub(super) fn includes(&self, listener: &Listener) -> bool {
        match self {
            Self::All => true,
            Self::Own(name) => *name == listener.spec.owner.name,
        }
    }
}

/// The settings of a listener.
#[derive(Debug, Default)]
pub struct ListenerSpec {
    /// The principal that creates it.
    pub owner: Owner,
    /// The changes that it gets.
    pub filter: Filter,
    /// Opaque; the creator gets it back with every change.
    pub user_data: Arc<[u8]>,
    /// How long it lives detached; `None`: it is ephemeral, and ends with its stream.
    pub idle_ttl: Option<Duration>,
}

/// How a stream attaches to a listener.
#[derive(Clone, Debug)]
pub struct AttachOptions {
    /// Resume after this cursor; `None`: begin with a snapshot.
    pub resume_after: Option<Cursor>,
    /// The reaction if changes after the cursor are not in the log.
    pub gap_policy: GapPolicy,
    /// End a stream that is attached, and replace it.
    pub takeover: bool,
    /// End after the client is up to date.
    pub stop_after_sync: bool,
    /// Send a heartbeat after this long without another message.
    pub heartbeat: Duration,
    /// The client's address, for display.
    pub client: String,
    /// The principal of the client, for the limit on its streams.
    pub caller: Owner,
    /// The listeners that the client may attach to.
    pub scope: ListenerScope,
}

/// The reaction if changes cannot be delivered one by one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GapPolicy {
    /// Send a reset, and start over from a snapshot.
    #[default]
    Resnapshot,
    /// End the stream.
    Fail,
}

/// How a stream was attached. The first that applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttachKind {
    /// It ended another stream.
    Takeover,
    /// It resumes after the client's cursor.
    Resumed,
    /// Its listener is ephemeral.
    Ephemeral,
    /// It begins with a snapshot.
    New,
}

/// There is no such listener.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("no such listener")]
pub struct ListenerError;

/// Why a listener could not be created.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum CreateError {
    /// The name is taken.
    #[error("a listener of that name already exists")]
    Exists,
    /// The limit of all listeners is reached.
    #[error("the limit of {0} listeners is reached")]
    ListenerQuota(usize),
    /// The owner's limit is reached.
    #[error("{owner} has reached the limit of {limit} listeners for one principal")]
    OwnerQuota {
        /// Its name.
        owner: Arc<str>,
        /// The limit.
        limit: usize,
    },
    /// The filters of the owner take too much memory.
    #[error(
        "the filters of the listeners of {owner} take {limit} bytes, which is the limit of one principal: use fewer or \
         shorter globs, or equal filters, which count once"
    )]
    FilterQuota {
        /// Its name.
        owner: Arc<str>,
        /// The limit.
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
    /// Another client is attached.
    #[error("{0} is attached to the listener; takeover would end that stream")]
    Attached(String),
    /// The limit of streams is reached.
    #[error("the limit of {0} streams is reached")]
    StreamQuota(usize),
    /// The limit of streams of one principal is reached.
    #[error("{owner} has {limit} streams and calls that wait, which is the limit of one principal")]
    OwnerStreams {
        /// Its name.
        owner: Arc<str>,
        /// The limit.
        limit: usize,
    },
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
    /// The changes after the cursor are no longer in the log, under [`GapPolicy::Fail`].
    #[error("the changes after the cursor are no longer in the log")]
    Compacted,
    /// The cursor is from another process, under [`GapPolicy::Fail`].
    #[error("the cursor is from another run of the service")]
    EpochMismatch,
}

/// A listener at one moment.
#[derive(Clone, Debug)]
pub struct ListenerView {
    /// Its fixed parts.
    pub listener: Arc<Listener>,
    /// The attached client.
    pub client: Option<String>,
    /// When it expires; `None` while attached.
    pub expires: Option<SystemTime>,
    /// How far it has been served.
    pub cursor: Cursor,
    /// Revisions after that.
    pub lag: u64,
    /// Changes handed to the transport.
    pub delivered: u64,
    /// How often it started over.
    pub resets: u64,
    /// Revisions that snapshots replaced then.
    pub missed: u64,
}

/// A subscription to changes. It has no queue: it is a cursor into the hub's log.
#[derive(Debug)]
pub struct Listener {
    /// Its name, without `listeners/`.
    pub id: Arc<str>,
    /// Its settings.
    pub spec: ListenerSpec,
    /// When it was created.
    pub created: SystemTime,
    pub(super) state: Mutex<ListenerState>,
}

#[derive(Debug)]
pub(super) struct ListenerState {
    /// Of streams that ended.
    pub(super) finished: Counters,
    pub(super) attachment: AttachState,
}

impl ListenerState {
    /// Of all streams.
    pub(super) fn counters(&self) -> Counters {
        let (before, AttachState::Attached { handle, .. }) = (self.finished, &self.attachment) else {
            return self.finished;
        };
        let stream = handle.counters();
        Counters {
            cursor: stream.cursor,
            delivered: before.delivered + stream.delivered,
            resets: before.resets + stream.resets,
            missed: before.missed + stream.missed,
        }
    }
}

#[derive(Debug)]
pub(super) enum AttachState {
    Attached {
        handle: Arc<StreamHandle>,
        client: Box<str>,
    },
    /// The same moment twice: for the timer, and for display.
    Detached {
        deadline: Instant,
        expires: SystemTime,
    },
}

impl AttachState {
    /// Detached from now on.
    pub(super) fn detached(idle_ttl: Option<Duration>) -> Self {
        let ttl = idle_ttl.unwrap_or_default();
        Self::Detached { deadline: Instant::now() + ttl, expires: clock::now() + ttl }
    }
}
