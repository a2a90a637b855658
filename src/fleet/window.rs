//! The records that the stream has not acknowledged. Pure.
//!
//! They are sent in order, and again from the oldest on when one fails, with the same ids, so that the stream stores each
//! once. Acknowledgements carry positions in the stream; if those do not increase, the stream has the records in another
//! order, or has lost some.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use async_nats::jetstream::message::OutboundMessage;

use crate::peer::Backoff;

#[cfg(test)]
mod tests;

/// How many records may be unacknowledged.
pub(super) const MAX_UNACKNOWLEDGED: usize = 256;
/// Delays between attempts after failures.
const BACKOFF_BASE: Duration = Duration::from_millis(500);
const BACKOFF_CAP: Duration = Duration::from_secs(10);

/// The unacknowledged records, oldest first.
pub(super) struct Window {
    records: VecDeque<Unacknowledged>,
    /// How many of them are sent, in this attempt.
    sent: usize,
    /// Where the stream has the newest acknowledged one.
    sequence: u64,
    backoff: Backoff,
    /// Nothing is sent before.
    retry_at: Option<Instant>,
    /// Only the oldest is sent until it is acknowledged: a server that does not store them gets one message per attempt, and
    /// none overtakes another one that was lost with a connection.
    is_probing: bool,
}

/// One of them.
pub(super) struct Unacknowledged {
    /// The message, the same in each attempt.
    pub(super) message: OutboundMessage,
    /// The newest change that it includes.
    pub(super) revision: u64,
    /// For the label of a metric.
    pub(super) kind: &'static str,
}

/// Whether the stream has the records in the order in which they were published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    Kept,
    Broken,
}

impl Window {
    pub(super) fn new(seed: u64) -> Self {
        let backoff = Backoff::new(BACKOFF_BASE, BACKOFF_CAP, seed);
        Self { records: VecDeque::new(), sent: 0, sequence: 0, backoff, retry_at: None, is_probing: true }
    }

    pub(super) fn len(&self) -> usize {
        self.records.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    pub(super) fn is_full(&self) -> bool {
        self.records.len() >= MAX_UNACKNOWLEDGED
    }

    pub(super) fn push(&mut self, record: Unacknowledged) {
        self.records.push_back(record);
    }

    /// The next message to send, which counts as sent.
    pub(super) fn next_to_send(&mut self, now: Instant) -> Option<&OutboundMessage> {
        let is_early = self.retry_at.is_some_and(|at| at > now);
        if is_early || self.is_probing && self.sent > 0 {
            return None;
        }
        let record = self.records.get(self.sent)?;
        self.sent += 1;
        Some(&record.message)
    }

    /// When the next attempt may begin.
    pub(super) const fn retry_at(&self) -> Option<Instant> {
        self.retry_at
    }

    /// The oldest one is in the stream, at this position. Returns it.
    pub(super) fn acknowledge(&mut self, sequence: u64) -> Option<(Unacknowledged, Order)> {
        let order = if sequence > self.sequence { Order::Kept } else { Order::Broken };
        self.sequence = sequence;
        self.backoff.reset();
        (self.retry_at, self.is_probing) = (None, false);
        self.sent = self.sent.saturating_sub(1);
        Some((self.records.pop_front()?, order))
    }

    /// The stream does not take the oldest one, and will not: it is dropped.
    pub(super) fn refuse(&mut self) {
        (self.retry_at, self.is_probing) = (None, false);
        self.sent = self.sent.saturating_sub(1);
        self.records.pop_front();
    }

    /// The oldest one failed: all are sent again, after a pause.
    pub(super) fn fail(&mut self, now: Instant) {
        self.retry_at = Some(now + self.backoff.next());
        (self.sent, self.is_probing) = (0, true);
    }

    /// The connection was lost or is new: all are sent again, as soon as there is one.
    pub(super) const fn reconnect(&mut self) {
        self.retry_at = None;
        (self.sent, self.is_probing) = (0, true);
    }

    /// Whether only the oldest is sent, until it is acknowledged.
    pub(super) const fn is_probing(&self) -> bool {
        self.is_probing
    }
}
