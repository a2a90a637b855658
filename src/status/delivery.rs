//! The messages of a stream, and how it ends.

use std::{sync::Arc, time::Duration};

use super::{Cursor, Event, ListenerView, NodeSummary, Parts, PeerState, PoolState};

/// One message to a listener.
#[derive(Debug)]
pub struct ListenerMessage {
    /// The revision of the client after this message.
    pub revision: u64,
    /// Revision of the last change or snapshot before it on this stream.
    pub previous: u64,
    /// Its content.
    pub delivery: Delivery,
}

/// The content of a message.
#[derive(Debug)]
pub enum Delivery {
    /// The stream is attached.
    Attached {
        /// The listener as it is now.
        listener: Box<ListenerView>,
        /// Where the stream begins.
        cursor: Cursor,
        /// Whether it resumes after the client's cursor.
        resumed: bool,
    },
    /// A part of the state. The nodes and pools are in the first parts.
    Snapshot {
        /// At most [`SNAPSHOT_CHUNK`](super::SNAPSHOT_CHUNK) peers.
        peers: Vec<Arc<PeerState>>,
        /// At most [`POOLS_CHUNK`](super::POOLS_CHUNK) pools.
        pools: Vec<Arc<PoolState>>,
        /// As many nodes of a fleet.
        nodes: Vec<NodeSummary>,
    },
    /// The client is up to date.
    Synced {
        /// Where it is.
        cursor: Cursor,
        /// How many peers it should have.
        peers: usize,
    },
    /// A change.
    Change {
        /// The entry of the log.
        event: Arc<Event>,
        /// The parts that pass the filter.
        parts: Parts,
    },
    /// Changes were skipped, a snapshot follows.
    Reset {
        /// Why.
        reason: ResetReason,
        /// Revisions replaced by the snapshot; 0: unknown.
        missed: u64,
    },
    /// Everything up to here has been delivered.
    Heartbeat(Cursor),
    /// The service is stopping.
    Draining {
        /// Everything up to here has been delivered.
        cursor: Cursor,
        /// How long to wait before reconnecting.
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
    /// Its cursor was from another process, or from another stream of the fleet.
    EpochChanged,
}

/// How a stream ends, other than by `stop_after_sync`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndReason {
    /// Another stream took over the listener. This one ends at once, with messages unsent.
    TakenOver,
    /// The listener was destroyed.
    Destroyed,
    /// The service is stopping.
    Draining,
    /// It fell behind the log under [`GapPolicy::Fail`](super::GapPolicy::Fail).
    Overflow,
    /// The stream that the fleet publishes to was made anew, under the same.
    EpochChanged,
}
