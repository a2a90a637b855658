//! The current state of every pool and peer, and one revisioned log of changes.
//!
//! [`Hub`] is the only place that changes state, [`Listeners`] is the registry of listeners, and a [`Subscription`] is
//! one listener's stream. A listener owns no queue: it is a cursor into the log, so that publishing never waits for
//! anyone and memory per listener is constant. Nothing here knows how messages are encoded, sent or counted.

mod delivery;
mod event;
mod failures;
mod filter;
mod hub;
mod initial_sync;
mod listener;
mod log;
mod messages;
mod node;
mod recent;
mod registry;
mod stream_handle;
mod subscription;
#[cfg(test)]
mod tests;
mod wait;
mod wakeup;

pub use crate::clock;
pub use delivery::{Delivery, EndReason, ListenerMessage, ResetReason};
pub(crate) use event::Attachment;
pub use event::{
    ChangeKind, Cursor, Event, Failure, HealthChange, NodeChange, ObservedPeer, PeerChange, PeerState,
    PoolState, SocketFacts,
};
pub use failures::FailureCounts;
pub use filter::{Filter, FilterError, FilterSpec, Interest, Parts};
pub(crate) use hub::health_of;
pub use hub::{
    Hub, MirrorStart, Mirrored, MirroredRecord, NodeSummary, PeerUpdate, Snapshot, UnknownPool, Update,
};
pub use initial_sync::{POOLS_CHUNK, SNAPSHOT_CHUNK};
pub use listener::{
    AttachError, AttachKind, AttachOptions, CreateError, GapPolicy, Listener, ListenerError, ListenerScope,
    ListenerSpec, ListenerView, Owner, Quota, is_id,
};
pub use log::Gap;
pub use messages::Messages;
pub use node::{Liveness, NodeState, fleet_pool, is_node_name, is_pool_name, node_of};
pub use registry::{ListenerLimits, ListenerStats, Listeners, StreamPermit};
pub use subscription::{Progress, Subscription};
pub use wait::HealthWait;
pub use wakeup::{Wakers, Wakeup};
