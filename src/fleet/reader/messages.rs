//! The messages of a consumer, in order.

use std::time::Duration;

use async_nats::{
    HeaderMap,
    header::NATS_MESSAGE_TTL,
    jetstream::{
        Message,
        consumer::{Consumer, StreamError as PullError, pull},
        context::GetStreamError,
        message::StreamMessage,
        stream::{ConsumerError, DirectGetError, InfoError},
    },
};
use bytes::Bytes;
use futures_util::StreamExt as _;
use tokio::time::{Instant, timeout_at};

use super::{
    core::{FleetCore, Outcome, Position},
    history::Trace,
};
use crate::{fleet::StreamError, status::clock};

/// Messages that NATS sends ahead: a snapshot of many nodes is limited by this times the round trip.
const BATCH: usize = 1_000;
/// Their bytes.
const BATCH_BYTES: usize = 4 * 1024 * 1024;
/// While there is nothing to read, NATS says so this often; when it does not twice, the connection or the consumer is lost.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// How long a pull request lasts.
pub(super) const EXPIRES: Duration = Duration::from_secs(30);

/// What a record takes beside its texts, and each of its headers.
const RECORD: usize = 256;
const HEADER: usize = 96;

/// Why reading was interrupted.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadError {
    #[error(transparent)]
    Ensure(#[from] StreamError),
    #[error("cannot look at the stream")]
    Stream(#[from] GetStreamError),
    #[error("cannot look at the stream")]
    Info(#[from] InfoError),
    #[error("cannot read the stream")]
    Consumer(#[from] ConsumerError),
    #[error("cannot read the stream")]
    Pull(#[from] PullError),
    #[error("the stream stopped")]
    Messages(#[from] pull::MessagesError),
    #[error("cannot ask for a record of the stream")]
    Get(#[from] DirectGetError),
    #[error("the stream ended")]
    Ended,
    #[error("a server of NATS does not have all records yet")]
    Behind,
    #[error("the connection to NATS is lost")]
    Disconnected,
    #[error("a message has no position: {0}")]
    NoPosition(String),
    #[error("a message is missing: the consumer is at {found}, not {expected}")]
    Gap { expected: u64, found: u64 },
}

/// A message with its place.
pub(super) struct Read {
    pub(super) subject: async_nats::Subject,
    headers: HeaderMap,
    payload: Bytes,
    pub(super) position: Position,
    pub(super) trace: Trace,
    /// How many messages there are after it.
    pub(super) pending: u64,
}

impl Read {
    fn new(Message { message, .. }: Message, position: Position, trace: Trace, pending: u64) -> Self {
        let headers = message.headers.unwrap_or_default();
        Self { subject: message.subject, headers, payload: message.payload, position, trace, pending }
    }

    /// Whether the stream drops it other than by its limits.
    pub(super) fn expires(&self) -> bool {
        self.headers.get(NATS_MESSAGE_TTL).is_some()
    }

    /// What it takes in memory, about.
    pub(super) fn size(&self) -> usize {
        let headers = self.headers.iter().flat_map(|(name, values)| {
            values.iter().map(move |value| AsRef::<str>::as_ref(name).len() + value.as_str().len() + HEADER)
        });
        RECORD + self.subject.len() + self.payload.len() + headers.sum::<usize>()
    }

    pub(super) fn apply(&self, core: &mut FleetCore) -> Outcome {
        core.record(self.position, &self.subject, &self.headers, &self.payload)
    }
}

impl From<StreamMessage> for Read {
    fn from(message: StreamMessage) -> Self {
        let StreamMessage { subject, sequence, headers, payload, time } = message;
        let trace = Trace { sequence, stored: time.unix_timestamp_nanos() };
        let (time, received) = (clock::shift().from_system(time.into()), Instant::now().into_std());
        let position = Position { sequence, time, received };
        Self { subject, headers, payload, position, trace, pending: 0 }
    }
}

/// The messages of a consumer, none of which is missing.
pub(super) struct Messages {
    stream: pull::Stream,
    /// The number of the last one.
    last: u64,
}

impl Messages {
    pub(super) async fn new(consumer: &Consumer<pull::Config>) -> Result<Self, PullError> {
        let stream = consumer
            .stream()
            .max_messages_per_batch(BATCH)
            .max_bytes_per_batch(BATCH_BYTES)
            .heartbeat(HEARTBEAT)
            .expires(EXPIRES)
            .messages()
            .await?;
        Ok(Self { stream, last: 0 })
    }

    /// Waits for the next one. Cancel-safe.
    pub(super) async fn next(&mut self) -> Result<Read, ReadError> {
        let message = self.stream.next().await.ok_or(ReadError::Ended)??;
        let info = message.info().map_err(|error| ReadError::NoPosition(error.to_string()))?;
        let (found, expected) = (info.consumer_sequence, self.last + 1);
        if found != expected {
            return Err(ReadError::Gap { expected, found });
        }
        let position = Position {
            sequence: info.stream_sequence,
            time: clock::shift().from_system(info.published.into()),
            received: Instant::now().into_std(),
        };
        let pending = info.pending;
        let stored = info.published.unix_timestamp_nanos();
        let trace = Trace { sequence: position.sequence, stored };
        self.last = found;
        Ok(Read::new(message, position, trace, pending))
    }

    /// The next one, if it comes before `end`.
    pub(super) async fn next_before(&mut self, end: Instant) -> Result<Option<Read>, ReadError> {
        timeout_at(end, self.next()).await.ok().transpose()
    }
}
