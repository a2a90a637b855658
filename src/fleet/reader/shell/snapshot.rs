//! Reads the state with which a replica begins, and the newest part of the stream.

use std::time::Duration;

use async_nats::jetstream::{
    consumer::{Consumer, DeliverPolicy, pull},
    stream::Stream,
};
use tokio::time::Instant;
use tracing::warn;

use super::{
    super::{
        core::{FleetCore, last_revision},
        history::History,
        messages::{EXPIRES, Messages, Read, ReadError},
        recent::{self, Recent, RecentError},
    },
    RECORDS_PER_TURN, Reader,
};
use crate::status::MirroredRecord;

/// How long a snapshot waits for nodes that are in the middle of publishing their state.
const STAGING_TIMEOUT: Duration = Duration::from_secs(10);

/// The records after the state that a replica begins with.
pub(super) struct Replay {
    /// The place of the state.
    pub(super) start: u64,
    pub(super) records: Vec<Read>,
    /// What follows.
    pub(super) messages: Messages,
}

impl Reader {
    /// Reads the newest record of each subject. Returns the place of the last one.
    pub(super) async fn read_newest(
        &mut self,
        core: &mut FleetCore,
        newest: &mut Messages,
        mut pending: u64,
    ) -> Result<Option<u64>, ReadError> {
        let mut last = None;
        while pending > 0 {
            let read = next(newest).await?;
            self.count(&read.apply(core));
            (pending, last) = (read.pending, Some(read.position.sequence));
        }
        Ok(last)
    }

    /// Reads the last record of each subject up to where the newest part of the stream begins: those up to there among the newest
    /// ones, which are so many, and those that have been replaced since.
    ///
    /// Another server of NATS may say which are the newest than the one that has the newest part, and either may be behind. What one
    /// has and the other has not would be missing.
    pub(super) async fn read_state(
        &mut self,
        core: &mut FleetCore,
        newest: &mut Messages,
        count: u64,
        recent: &mut Recent,
    ) -> Result<(), ReadError> {
        let mut replaced = std::mem::take(&mut recent.before).into_iter().peekable();
        let mut last = 0;
        for _ in 0..count {
            let read = next(newest).await?;
            last = read.position.sequence;
            if last <= recent.start {
                while let Some(earlier) = replaced.next_if(|earlier| earlier.position.sequence < last) {
                    self.count(&earlier.apply(core));
                }
                self.count(&read.apply(core));
            }
            // Some may have expired since they were counted.
            if read.pending == 0 {
                break;
            }
        }
        replaced.for_each(|earlier| self.count(&earlier.apply(core)));
        if (recent.start..=recent.end).contains(&last) { Ok(()) } else { Err(ReadError::Behind) }
    }

    /// Applies the records after the state. Waits for nodes that are in the middle of publishing theirs. Returns what the
    /// records did, and up to which revision that is not certain to be what other replicas send.
    pub(super) async fn replay(
        &mut self,
        core: &mut FleetCore,
        replay: Replay,
    ) -> Result<(Vec<MirroredRecord>, u64, Messages), ReadError> {
        let Replay { start, records, mut messages } = replay;
        let (mut mirrored, mut floor) = (Vec::new(), last_revision(start));
        self.position = start;
        self.history = History::default();
        let mut records = records.into_iter();
        let end = Instant::now() + STAGING_TIMEOUT;
        loop {
            let read = match records.next() {
                Some(read) => read,
                None if !core.is_staging() => break,
                None => match messages.next_before(end).await? {
                    Some(read) => read,
                    None => break,
                },
            };
            let outcome = read.apply(core);
            self.count(&outcome);
            if outcome.is_uncertain {
                floor = read.position.last_revision();
            }
            self.position = read.position.sequence;
            self.history.read(&read);
            mirrored.extend(outcome.stale.into_iter().chain([outcome.record]));
            if mirrored.len() % RECORDS_PER_TURN == 0 {
                tokio::task::yield_now().await;
            }
        }
        Ok((mirrored, floor, messages))
    }

    /// The newest part of the stream. `None` if there is none, or, with a message in the log, if NATS does not say what it replaced.
    pub(super) async fn recent(
        &self,
        stream: &Stream,
        newest: &Consumer<pull::Config>,
    ) -> Result<Option<Recent>, ReadError> {
        let start_time = newest.cached_info().created - recent::PERIOD;
        let consumer = self.consume(stream, DeliverPolicy::ByStartTime { start_time }).await?;
        let recent = Recent::read(&self.nats, &self.settings.stream.name, &consumer).await;
        match recent {
            Ok(recent) => Ok(recent),
            Err(RecentError::Read(error)) => Err(error),
            Err(error) => {
                warn!(%error, "cursors from before the start of this replica are not honoured");
                Ok(None)
            }
        }
    }
}

async fn next(newest: &mut Messages) -> Result<Read, ReadError> {
    newest.next_before(Instant::now() + EXPIRES).await?.ok_or(ReadError::Ended)
}
