//! A fleet: the nodes of clusters publish what happens to their peers to one stream of NATS JetStream, and the fleet
//! service reads it.
//!
//! [`Subject`] and [`Record`] are what both sides agree on, as values.

mod record;
mod subject;

pub use record::{Content, Entry, Header, MAX_RECORD, MarkerReason, REMOVED_TTL, Record, RecordError, UP_TTL};
pub use subject::{Name, NameError, Subject, SubjectError, Topic};
