//! The newest part of the stream, and the records that it replaced: with the newest record of each subject, they give the
//! state at the beginning of the part, and the changes since. So a replica that starts honours the cursors that others gave
//! out shortly before.

use std::{
    collections::{BTreeSet, VecDeque},
    time::Duration,
};

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
    /// The place of the record before it.
    pub(super) start: u64,
    /// Of each subject in it, the last record up to `start`, in order.
    pub(super) before: Vec<Read>,
    pub(super) records: Vec<Read>,
    /// The place of the last of these.
    pub(super) end: u64,
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
    /// Reads what the consumer had when it was created. `None`: nothing.
    pub(super) async fn read(
        nats: &Nats,
        stream: &str,
        consumer: &Consumer<pull::Config>,
    ) -> Result<Option<Self>, RecentError> {
        let mut left = consumer.cached_info().num_pending;
        let mut budget = MAX_BYTES;
        let mut messages = Messages::new(consumer).await.map_err(ReadError::from)?;
        let mut records = VecDeque::new();
        while left > 0 {
            let read = messages.next_before(Instant::now() + EXPIRES).await?.ok_or(ReadError::Ended)?;
            left = read.pending.min(left - 1);
            take(&mut budget, &read)?;
            records.push_back(read);
        }
        let Some(first) = records.pop_front() else { return Ok(None) };
        let records = Vec::from(records);
        let start = first.position.sequence;
        let end = records.last().map_or(start, |read| read.position.sequence);
        let subjects: BTreeSet<&str> = records.iter().map(|read| read.subject.as_str()).collect();
        let has_first = subjects.contains(first.subject.as_str());
        let subjects: Vec<_> =
            subjects.into_iter().filter(|subject| *subject != first.subject.as_str()).collect();
        let mut before = Vec::new();
        for subjects in subjects.chunks(SUBJECTS_PER_REQUEST - 1) {
            // Any server may answer, and some are behind: one that has the first record has all before it.
            let subjects: Vec<_> = subjects.iter().copied().chain([first.subject.as_str()]).collect();
            let wanted = Request { multi_last: &subjects, up_to_seq: start };
            let mut found = request(nats, stream, &wanted, &mut budget).await?;
            let asked = found.len();
            found.retain(|read| read.position.sequence != start);
            if found.len() == asked {
                return Err(ReadError::Behind.into());
            }
            before.append(&mut found);
        }
        before.extend(has_first.then_some(first));
        before.sort_unstable_by_key(|read| read.position.sequence);
        Ok(Some(Self { start, before, records, end, messages }))
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
) -> Result<Vec<Read>, RecentError> {
    let failed = |error: &dyn std::fmt::Display| RecentError::Request(error.to_string());
    let payload = serde_json::to_vec(request).map_err(|error| failed(&error))?;
    let inbox = nats.client.new_inbox();
    let mut answers = nats.client.subscribe(inbox.clone()).await.map_err(|error| failed(&error))?;
    let subject = format!("$JS.API.DIRECT.GET.{stream}");
    let sent = nats.client.publish_with_reply(subject, inbox, payload.into()).await;
    sent.map_err(|error| failed(&error))?;
    let mut found = Vec::new();
    loop {
        let answer = timeout(ANSWER_TIMEOUT, answers.next()).await;
        let answer = answer.ok().flatten().ok_or(RecentError::NoAnswer)?;
        match answer.status {
            None => {
                let read = StreamMessage::try_from(answer)?.into();
                take(budget, &read)?;
                found.push(read);
            }
            Some(status) if matches!(status.as_u16(), END | NOT_FOUND) => return Ok(found),
            Some(status) => return Err(RecentError::Refused(status, answer.description.unwrap_or_default())),
        }
    }
}
