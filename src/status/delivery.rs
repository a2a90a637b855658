//! What a listener is told: the messages of a stream, and how it ends.

use std::{sync::Arc, time::Duration};

use super::{Cursor, Event, ListenerView, Parts, PeerState, PoolState};

/// One message to a listener.
#[derive(Debug)]
pub struct Message {
    /// Where it brings the client to.
    pub revision: u64,
    /// Revision of the last change or snapshot before it on this stream.
    pub previous: u64,
    /// What it says.
    pub delivery: Delivery,
}

/// What a message says.
#[derive(Debug)]
pub enum Delivery {
    /// The stream is attached.
    Attached {
        /// The listener as it is now.
        listener: Box<ListenerView>,
        /// Where the stream begins.
        cursor: Cursor,
        /// Whether it goes on after the client's cursor.
        resumed: bool,
    },
    /// A part of the state.
    Snapshot {
        /// At most [`SNAPSHOT_CHUNK`](super::SNAPSHOT_CHUNK) peers.
        peers: Vec<Arc<PeerState>>,
        /// The pools, in the first part.
        pools: Vec<Arc<PoolState>>,
    },
    /// The client is up to date.
    Synced {
        /// Where it is.
        cursor: Cursor,
        /// How many peers it should have.
        peers: usize,
    },
    /// Something changed.
    Change {
        /// What.
        event: Arc<Event>,
        /// The parts that the filter lets pass.
        parts: Parts,
    },
    /// Changes were skipped, a snapshot follows.
    Reset {
        /// Why.
        reason: ResetReason,
        /// Revisions replaced by the snapshot; 0: unknown.
        missed: u64,
    },
    /// All is well and everything has been delivered.
    Heartbeat(Cursor),
    /// The service is stopping.
    Draining {
        /// Everything up to here has been delivered.
        cursor: Cursor,
        /// How long to stay away.
        retry_after: Duration,
    },
}

/// Why a stream starts over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResetReason {
    /// It fell behind the log.
    Overflow,
    /// Its cursor was older than the log.
    Compacted,
    /// Its cursor was from another process.
    EpochChanged,
}

/// How a stream ends, unless it was to end once the client is up to date: then it just ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Another stream took its place.
    TakenOver,
    /// The listener was destroyed.
    Destroyed,
    /// The service is stopping.
    Draining,
    /// It fell behind the log and wanted to be told so.
    Overflow,
}

impl End {
    /// Whether nothing is told before it that has not been told yet.
    pub(super) const fn is_immediate(self) -> bool {
        matches!(self, Self::TakenOver)
    }
}
