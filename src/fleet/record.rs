//! Records: messages of the stream ⇄ typed values, whose contents agree with their subjects.

use std::time::Duration;

use async_nats::{
    HeaderMap,
    header::{NATS_MARKER_REASON, NATS_MESSAGE_ID, NATS_MESSAGE_TTL},
    jetstream::message::OutboundMessage,
};
use prost::Message as _;

use super::subject::{Name, Subject, SubjectError, Topic};
use crate::{api::pb, peer::PeerAddress};

#[cfg(test)]
mod tests;

/// Longest record. A change has up to 2 KiB, and a commit with thousands of pools less than this.
pub const MAX_RECORD: usize = 64 * 1024;
/// How long a node counts as LIVE after a sign of life.
pub const UP_TTL: Duration = Duration::from_secs(45);
/// How long the stream keeps it. A replica that starts learns from it when a node became STALE, if that is not long ago.
const UP_STORED: Duration = Duration::from_secs(120);
/// How long the last record of a removed peer stays: readers that were away for longer start from a state.
pub const REMOVED_TTL: Duration = Duration::from_secs(3600);

const EPOCH: &str = "Opflex-Epoch";
const REVISION: &str = "Opflex-Revision";
const PREVIOUS: &str = "Opflex-Previous-Revision";
const STATE: &str = "Opflex-State-Revision";

/// One message that a node publishes.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// Where it belongs.
    pub subject: Subject,
    /// Its id and its place in the node's changes.
    pub header: Header,
    /// What it says.
    pub content: Content,
}

/// The id of a record, and its place in the changes of its node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The stream stores only the first message with an id, for as long as its duplicate window. Readers do not need it.
    pub id: String,
    /// Random id of the node's process.
    pub epoch: u64,
    /// The change itself, or the newest one that the record includes.
    pub revision: u64,
}

/// What a record says. The subject decides which.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    /// One change, the next after `previous`.
    Change {
        /// The change: of a peer always, and of its pool's health if it changed that.
        change: pb::Change,
        /// The revision before it of the same node.
        previous: u64,
    },
    /// The state of a peer at the revision, as a change whose kind is UNSPECIFIED.
    State(pb::Change),
    /// The state of a pool at the revision.
    Pool(pb::Pool),
    /// The node's whole state has been published.
    Commit {
        /// The node, with its pools.
        node: pb::Node,
        /// What the stream has of the node is gone, if it is from another epoch, from a revision before this one, or in
        /// a pool that is not listed.
        state: u64,
    },
    /// A sign of life.
    Up(pb::Node),
}

/// A message, as a reader finds it.
#[derive(Clone, Debug, PartialEq)]
pub enum Entry {
    /// A node published it.
    Record(Box<Record>),
    /// The server wrote it: the last message of this subject is gone.
    Marker(Subject, MarkerReason),
}

/// Why the last message of a subject is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MarkerReason {
    /// It was older than its time to live, or than the stream keeps messages.
    Expired,
    /// An operator deleted it.
    Deleted,
}

/// The message is no record of its subject. Readers count it and skip it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// The subject is invalid.
    #[error(transparent)]
    Subject(#[from] SubjectError),
    /// It is longer than [`MAX_RECORD`].
    #[error("the record has {0} bytes; at most {MAX_RECORD} are allowed")]
    TooLarge(usize),
    /// A header is missing, or no number.
    #[error("the header {0} is missing or no number")]
    Header(&'static str),
    /// The payload cannot be decoded.
    #[error("the payload cannot be decoded as a {0}")]
    Payload(&'static str),
    /// The payload is about something else than the subject.
    #[error("the payload does not agree with the subject: {0}")]
    Mismatch(&'static str),
}

impl RecordError {
    /// A word for the label of a metric.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Subject(_) => "subject",
            Self::TooLarge(_) => "too_large",
            Self::Header(_) => "header",
            Self::Payload(_) => "payload",
            Self::Mismatch(_) => "mismatch",
        }
    }
}

impl Record {
    /// The message to publish.
    #[must_use]
    pub fn encode(&self) -> OutboundMessage {
        let Header { id, epoch, revision } = &self.header;
        let mut headers = HeaderMap::new();
        headers.insert(NATS_MESSAGE_ID, id.as_str());
        headers.insert(EPOCH, epoch.to_string());
        headers.insert(REVISION, revision.to_string());
        let payload = match &self.content {
            Content::Change { change, previous } => {
                headers.insert(PREVIOUS, previous.to_string());
                change.encode_to_vec()
            }
            Content::State(change) => change.encode_to_vec(),
            Content::Pool(pool) => pool.encode_to_vec(),
            Content::Commit { node, state } => {
                headers.insert(STATE, state.to_string());
                node.encode_to_vec()
            }
            Content::Up(node) => node.encode_to_vec(),
        };
        if let Some(ttl) = self.time_to_live() {
            headers.insert(NATS_MESSAGE_TTL, format!("{}s", ttl.as_secs()));
        }
        OutboundMessage::new(self.subject.to_string().into(), payload.into(), Some(headers))
    }

    /// After which the stream drops it, other than by its limits.
    fn time_to_live(&self) -> Option<Duration> {
        match &self.content {
            Content::Up(_) => Some(UP_STORED),
            Content::Change { change, .. } => {
                let peer = change.peer.as_ref();
                peer.is_some_and(|peer| peer.kind() == pb::ChangeKind::Removed).then_some(REMOVED_TTL)
            }
            _ => None,
        }
    }
}

impl Entry {
    /// Parses a message of the stream.
    ///
    /// # Errors
    /// It is not one that a node or the server publishes.
    pub fn decode(subject: &str, headers: &HeaderMap, payload: &[u8]) -> Result<Self, RecordError> {
        let subject: Subject = subject.parse()?;
        if let Some(reason) = headers.get(NATS_MARKER_REASON) {
            let is_expired = reason.as_str() == "MaxAge";
            let reason = if is_expired { MarkerReason::Expired } else { MarkerReason::Deleted };
            return Ok(Self::Marker(subject, reason));
        }
        if payload.len() > MAX_RECORD {
            return Err(RecordError::TooLarge(payload.len()));
        }
        let content = match &subject.topic {
            Topic::Peer { pool, address } => decode_change(headers, payload, pool, address)?,
            Topic::Health { pool } => Content::Pool(decode_pool(payload, pool)?),
            Topic::Node => {
                let node = decode_node(payload, &subject)?;
                Content::Commit { node, state: number(headers, STATE)? }
            }
            Topic::Up => Content::Up(decode_node(payload, &subject)?),
        };
        let id = headers.get(NATS_MESSAGE_ID).map_or("", |id| id.as_str()).to_owned();
        let header = Header { id, epoch: number(headers, EPOCH)?, revision: number(headers, REVISION)? };
        Ok(Self::Record(Box::new(Record { subject, header, content })))
    }
}

fn number(headers: &HeaderMap, name: &'static str) -> Result<u64, RecordError> {
    let value = headers.get(name).and_then(|value| value.as_str().parse().ok());
    value.ok_or(RecordError::Header(name))
}

fn decode_change(
    headers: &HeaderMap,
    payload: &[u8],
    pool: &Name,
    address: &PeerAddress,
) -> Result<Content, RecordError> {
    let change = pb::Change::decode(payload).map_err(|_| RecordError::Payload("Change"))?;
    let moved = change.peer.as_ref().ok_or(RecordError::Mismatch("it has no peer"))?;
    let peer = moved.peer.as_ref().ok_or(RecordError::Mismatch("it has no peer"))?;
    let name = format!("pools/{pool}/peers/{address}");
    let is_same = peer.name == name
        && peer.pool == pool.as_str()
        && peer.host == address.host()
        && peer.port == u32::from(address.port());
    if !is_same {
        return Err(RecordError::Mismatch("it is about another peer"));
    }
    let health = change.health.as_ref();
    if health.is_some_and(|health| health.pool != pool_name(pool) || health.cause != name) {
        return Err(RecordError::Mismatch("it is about the health of another pool"));
    }
    if moved.kind() == pb::ChangeKind::Unspecified {
        return Ok(Content::State(change));
    }
    Ok(Content::Change { previous: number(headers, PREVIOUS)?, change })
}

fn decode_pool(payload: &[u8], name: &Name) -> Result<pb::Pool, RecordError> {
    let pool = pb::Pool::decode(payload).map_err(|_| RecordError::Payload("Pool"))?;
    if pool.name == pool_name(name) {
        Ok(pool)
    } else {
        Err(RecordError::Mismatch("it is about another pool"))
    }
}

fn decode_node(payload: &[u8], subject: &Subject) -> Result<pb::Node, RecordError> {
    let node = pb::Node::decode(payload).map_err(|_| RecordError::Payload("Node"))?;
    let is_same = node.name == format!("nodes/{}", subject.node) && node.cluster == subject.cluster.as_str();
    if !is_same {
        return Err(RecordError::Mismatch("it is about another node"));
    }
    if node.pools.iter().any(|pool| pool.parse::<Name>().is_err()) {
        return Err(RecordError::Mismatch("a name of a pool is invalid"));
    }
    Ok(node)
}

fn pool_name(pool: &Name) -> String {
    format!("pools/{pool}")
}
