//! A fleet: the nodes of clusters publish what happens to their peers to one stream of NATS JetStream, and the fleet
//! service reads it.
//!
//! [`Subject`] and [`Record`] are what both sides agree on, as values. [`StreamSettings`] is the stream, [`Nats`] the
//! connection to it, the [`Forwarder`] publishes what happens on this node, and the [`Reader`] reads what all nodes
//! publish.

mod auth;
mod connection;
mod feed;
mod foreign;
mod forwarder;
mod reader;
mod record;
mod stored;
mod stream;
mod subject;
mod window;

pub use auth::{AuthSource, MalformedAuth, NatsAuth};
pub use connection::{ANSWER_TIMEOUT, ConnectError, ConnectionState, Nats, NatsSettings};
pub use feed::StateReason;
pub use forwarder::{Forwarder, ForwarderSettings};
pub use reader::{FleetCore, FleetLimits, NodeLimits, Outcome, Position, Reader, ReaderSettings};
pub use record::{
    Content, Entry, Header, MAX_RECORD, MarkerReason, REMOVED_TTL, Record, RecordError, UP_TTL,
};
pub use stream::{StreamError, StreamSettings, differences};
pub use subject::{Name, NameError, Subject, SubjectError, Topic};
