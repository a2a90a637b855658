//! The newest part of the stream, and the records that it replaced: with the newest record of each subject, they give the
//! state at the beginning of the part, and the changes since. So a replica that starts honours the cursors that others gave
//! out shortly before.

use std::{collections::BTreeSet, time::Duration};

use async_nats::{
    StatusCode,
    jetstream::{
        consumer::{Consumer, pull},
        message::{StreamMessage, StreamMessageError},
    },
};
use futures_util::StreamExt as _;
use serde::Serialize;
use tokio::time::{Instant, timeout};

use super::messages::{EXPIRES, Messages, Read, ReadError};
use crate::fleet::{ANSWER_TIMEOUT, Nats};

/// How long it is. The stream forgets signs of life, and then it does not say any more when a node became STALE. Of each node
/// that was LIVE at the beginning, a sign is still there.
pub(super) const PERIOD: Duration = Duration::from_secs(25);
/// What all records may take that are kept until the start.
const MAX_BYTES: usize = 96 << 20;
/// NATS answers for 1,024 at most, and the client keeps the answers until they are read.
const SUBJECTS_PER_REQUEST: usize = 128;
/// NATS has no record of these subjects up to there.
const NOT_FOUND: u16 = 404;
/// That was the last record.
const END: u16 = 204;

pub(super) struct Recent {
    /// The place in the stream before it.
    pub(super) start: u64,
    /// Of each subject in it, the last record up to `start`, in order.
    pub(super) before: Vec<Read>,
    pub(super) records: Vec<Read>,
    /// What follows.
    pub(super) messages: Messages,
}

/// Why it cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum RecentError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("the records of the stream of the last {PERIOD:?} take more than {MAX_BYTES} bytes")]
    TooLarge,
    #[error("cannot ask for records of the stream: {0}")]
    Request(String),
    #[error("NATS does not answer requests for records of the stream: is that allowed to this user?")]
    NoAnswer,
    #[error("NATS refuses a request for records of the stream: {0} {1}")]
    Refused(StatusCode, String),
    #[error("a record of the stream cannot be read")]
    Message(#[from] StreamMessageError),
}

#[derive(Serialize)]
struct Request<'a> {
    multi_last: &'a [&'a str],
    up_to_seq: u64,
}

impl Recent {
    /// Reads what the consumer had when it was created.
    pub(super) async fn read(
        nats: &Nats,
        stream: &str,
        consumer: &Consumer<pull::Config>,
    ) -> Result<Self, RecentError> {
        let info = consumer.cached_info();
        let (start, count) = (info.delivered.stream_sequence, info.num_pending);
        let mut budget = MAX_BYTES;
        let mut messages = Messages::new(consumer).await.map_err(ReadError::from)?;
        let (mut records, mut left) = (Vec::new(), count);
        while left > 0 {
            let read = messages.next_before(Instant::now() + EXPIRES).await?.ok_or(ReadError::Ended)?;
            left = read.pending.min(left - 1);
            take(&mut budget, &read)?;
            records.push(read);
        }
        let subjects: BTreeSet<&str> = records.iter().map(|read| read.subject.as_str()).collect();
        let subjects: Vec<_> = subjects.into_iter().collect();
        let mut before = Vec::new();
        // Place 0 means no limit.
        for subjects in subjects.chunks(SUBJECTS_PER_REQUEST).filter(|_| start > 0) {
            let wanted = Request { multi_last: subjects, up_to_seq: start };
            request(nats, stream, &wanted, &mut budget, &mut before).await?;
        }
        before.sort_unstable_by_key(|read| read.position.sequence);
        Ok(Self { start, before, records, messages })
    }
}

fn take(budget: &mut usize, read: &Read) -> Result<(), RecentError> {
    *budget = budget.checked_sub(read.size()).ok_or(RecentError::TooLarge)?;
    Ok(())
}

/// Asks for the last record of each subject up to a place in the stream. The client library has no function for that.
async fn request(
    nats: &Nats,
    stream: &str,
    request: &Request<'_>,
    budget: &mut usize,
    into: &mut Vec<Read>,
) -> Result<(), RecentError> {
    let failed = |error: &dyn std::fmt::Display| RecentError::Request(error.to_string());
    let payload = serde_json::to_vec(request).map_err(|error| failed(&error))?;
    let inbox = nats.client.new_inbox();
    let mut answers = nats.client.subscribe(inbox.clone()).await.map_err(|error| failed(&error))?;
    let subject = format!("$JS.API.DIRECT.GET.{stream}");
    let sent = nats.client.publish_with_reply(subject, inbox, payload.into()).await;
    sent.map_err(|error| failed(&error))?;
    loop {
        let answer = timeout(ANSWER_TIMEOUT, answers.next()).await;
        let answer = answer.ok().flatten().ok_or(RecentError::NoAnswer)?;
        match answer.status {
            None => {
                let read = StreamMessage::try_from(answer)?.into();
                take(budget, &read)?;
                into.push(read);
            }
            Some(status) if matches!(status.as_u16(), END | NOT_FOUND) => return Ok(()),
            Some(status) => return Err(RecentError::Refused(status, answer.description.unwrap_or_default())),
        }
    }
}
