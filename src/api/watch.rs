//! The response stream of `WatchPeerStatus`.
//!
//! The part of a change that is the same for all listeners is encoded once and kept with the event. The rest, the
//! revision before it and the listener's `user_data`, is appended: the fields of a message may come in any order.

use std::{
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll, ready},
    time::{Duration, SystemTime},
};

use bytes::BufMut;
use prost::{
    Message as _,
    encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len, uint64},
};
use tokio_stream::Stream;
use tonic::{Code, Status};
use tracing::debug;

use super::{codec::Encode, convert, pb};
use crate::{
    auth::{Refusal, Revocation},
    error_info,
    metrics::{DetachReason, WatchMetrics},
    server::{Turn, Waiting},
    status::{
        Attachment, Delivery, EndReason, Event, ListenerMessage, Messages, Parts, Subscription, Wakers, clock,
    },
};

/// Numbers of fields of `WatchPeerStatusResponse`.
const PREVIOUS_REVISION: u32 = 2;
const USER_DATA: u32 = 3;

/// A `WatchPeerStatusResponse`.
#[derive(Debug)]
pub enum WatchMessage {
    /// With a change.
    Change {
        /// The change.
        event: Arc<Event>,
        /// The parts of it that are sent.
        parts: Parts,
        /// `previous_revision`.
        previous: u64,
        /// `user_data`; `None`: empty.
        user_data: Option<Arc<[u8]>>,
    },
    /// With anything else.
    Other(Box<pb::WatchPeerStatusResponse>),
}

impl WatchMessage {
    fn new(message: ListenerMessage, user_data: Option<&Arc<[u8]>>) -> Self {
        let previous = message.previous;
        match message.delivery {
            Delivery::Change { event, parts } => {
                Self::Change { event, parts, previous, user_data: user_data.cloned() }
            }
            _ => Self::Other(Box::new(convert::message(&message, user_data))),
        }
    }
}

impl Encode for WatchMessage {
    fn length(&self) -> usize {
        match self {
            Self::Other(message) => message.encoded_len(),
            Self::Change { event, parts, previous, user_data } => {
                // Proto3 leaves out zero and empty.
                let previous =
                    if *previous == 0 { 0 } else { uint64::encoded_len(PREVIOUS_REVISION, previous) };
                let user_data = user_data.as_ref().map_or(0, |data| {
                    key_len(USER_DATA) + encoded_len_varint(data.len() as u64) + data.len()
                });
                encoded(event, *parts).len() + previous + user_data
            }
        }
    }

    fn encode_to(&self, buffer: &mut impl BufMut) {
        match self {
            Self::Other(message) => message.encode_raw(buffer),
            Self::Change { event, parts, previous, user_data } => {
                buffer.put_slice(encoded(event, *parts));
                if *previous != 0 {
                    uint64::encode(PREVIOUS_REVISION, previous, buffer);
                }
                if let Some(data) = user_data {
                    encode_key(USER_DATA, WireType::LengthDelimited, buffer);
                    encode_varint(data.len() as u64, buffer);
                    buffer.put_slice(data);
                }
            }
        }
    }
}

/// The encodings of a change: with the peer, with the health, and with both. Boxed, because most events of the log are
/// never sent.
#[derive(Debug, Default)]
pub(crate) struct EncodedChange(OnceLock<Box<[EncodedOnce; 3]>>);

/// Encoded by the first watch that sends it.
type EncodedOnce = OnceLock<Box<[u8]>>;

impl Attachment for Event {
    type Cell = EncodedChange;
}

/// The fields of a change that are the same for all listeners that get these parts of it.
fn encoded(event: &Event, parts: Parts) -> &[u8] {
    let [peer, health, both] = &**event.attachment.0.get_or_init(Box::default);
    let cell = match parts {
        Parts { peer: true, health: true, .. } => both,
        Parts { health: true, .. } => health,
        // A change of a node has no other part.
        Parts { .. } => peer,
    };
    cell.get_or_init(|| {
        let change = Some(pb::watch_peer_status_response::Event::Change(convert::change(event, parts)));
        let message =
            pb::WatchPeerStatusResponse { revision: event.revision, event: change, ..Default::default() };
        message.encode_to_vec().into_boxed_slice()
    })
}

/// The messages to one listener. Dropping it detaches the listener.
pub struct WatchStream {
    messages: Messages,
    /// `None`: empty, which is cheaper to clone for each change.
    user_data: Option<Arc<[u8]>>,
    /// From `draining`, for the status.
    retry_after: Option<Duration>,
    metrics: WatchMetrics,
    /// Whether the client is up to date since the stream began or started over: only then changes are timed.
    is_live: bool,
    is_timed: bool,
    /// The changes handed to the transport since it last took all there were, and when the first of them happened.
    changes: usize,
    oldest: Option<SystemTime>,
    /// Whether the last message was part of a snapshot. Each is sent alone, because tonic's buffer never shrinks: an idle
    /// watch would keep as much as was ever sent together.
    is_part_of_snapshot: bool,
    /// Set if the caller's credentials can be revoked.
    revocation: Option<Arc<Revocation>>,
    /// Where a snapshot or a replay waits for its turn. Changes do not, but under a costly filter.
    turn: Option<Turn>,
    is_costly: bool,
    /// Whether the last poll returned nothing. A stream waits only then: messages are encoded together until it does, and
    /// a buffer that begins with a long one stays long.
    has_paused: bool,
    waiting: Waiting,
}

impl WatchStream {
    pub(super) fn new(
        subscription: Subscription,
        wakers: &Arc<Wakers>,
        revocation: Option<Arc<Revocation>>,
        turn: Option<Turn>,
        metrics: WatchMetrics,
    ) -> Self {
        metrics.attached(subscription.kind());
        let is_costly = subscription.is_costly();
        Self {
            user_data: Some(Arc::clone(subscription.user_data())).filter(|data| !data.is_empty()),
            messages: subscription.into_messages(wakers),
            retry_after: None,
            metrics,
            is_live: false,
            is_timed: true,
            changes: 0,
            oldest: None,
            is_part_of_snapshot: false,
            revocation,
            turn,
            is_costly,
            has_paused: true,
            waiting: Waiting::default(),
        }
    }

    /// Without measuring how old changes are: of a client that reads them late on purpose.
    pub(super) fn untimed(mut self) -> Self {
        self.is_timed = false;
        self
    }

    /// The next message. While the client is brought up to date, this takes turns with other work of its principal.
    fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<Option<<Messages as Stream>::Item>> {
        let is_work = self.is_costly || self.messages.subscription().has_to_scan();
        let messages = Pin::new(&mut self.messages);
        let Some(turn) = self.turn.as_ref().filter(|_| is_work) else {
            return messages.poll_next(cx);
        };
        if self.has_paused {
            ready!(turn.poll_wait(&mut self.waiting, cx));
        }
        let polled = turn.work(|| messages.poll_next(cx));
        self.has_paused = polled.is_pending();
        polled
    }

    /// Notes what the status and the metrics need of a message.
    fn note(&mut self, delivery: &Delivery) {
        self.is_part_of_snapshot = matches!(delivery, Delivery::Snapshot { .. });
        match delivery {
            Delivery::Change { event, .. } if self.is_live => {
                self.changes += 1;
                self.oldest.get_or_insert(event.time);
            }
            Delivery::Synced { .. } => self.is_live = self.is_timed,
            Delivery::Attached { .. } => self.is_live = false,
            Delivery::Reset { reason, missed } => {
                self.is_live = false;
                self.metrics.reset(*reason, *missed);
            }
            Delivery::Draining { retry_after, .. } => self.retry_after = Some(*retry_after),
            _ => {}
        }
    }

    /// Measures how old the changes were that were handed over together.
    fn observe_delivery(&mut self) {
        if let Some(oldest) = self.oldest.take() {
            self.metrics.delivered(
                clock::now().duration_since(oldest).unwrap_or_default(),
                std::mem::take(&mut self.changes),
            );
        }
    }

    fn status(&self, end: EndReason) -> Status {
        let (code, reason, message) = match end {
            EndReason::TakenOver => {
                (Code::Aborted, "LISTENER_TAKEN_OVER", "another stream took over the listener")
            }
            EndReason::Destroyed => (Code::Cancelled, "LISTENER_DESTROYED", "the listener was destroyed"),
            EndReason::Draining => return error_info::draining(self.retry_after),
            EndReason::EpochChanged => {
                (Code::OutOfRange, "EPOCH_MISMATCH", "the stream that the fleet publishes to was made anew")
            }
            EndReason::Overflow => (
                Code::OutOfRange,
                "CURSOR_COMPACTED",
                "changes after the cursor of the stream are no longer in the log",
            ),
        };
        error_info::status(code, reason, message)
    }
}

impl Stream for WatchStream {
    type Item = Result<WatchMessage, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if std::mem::take(&mut this.is_part_of_snapshot) {
            this.has_paused = true;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        match this.poll_message(cx) {
            Poll::Ready(Some(Ok(message))) => {
                this.note(&message.delivery);
                Poll::Ready(Some(Ok(WatchMessage::new(message, this.user_data.as_ref()))))
            }
            Poll::Ready(Some(Err(end))) => Poll::Ready(Some(Err(this.status(end)))),
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => {
                this.observe_delivery();
                Poll::Pending
            }
        }
    }
}

impl Drop for WatchStream {
    fn drop(&mut self) {
        self.observe_delivery();
        let refusal = self.revocation.as_ref().and_then(|revocation| revocation.refusal());
        let subscription = self.messages.subscription();
        let reason = match (refusal, subscription.outcome()) {
            (Some(Refusal::Expired), _) => DetachReason::Expired,
            (Some(_), _) => DetachReason::Revoked,
            (None, Some(Some(end))) => DetachReason::Ended(end),
            (None, Some(None)) => DetachReason::Synced,
            (None, None) => DetachReason::ClientGone,
        };
        self.metrics.detached(reason);
        debug!(listener = %subscription.id(), ?reason, "listener detached");
    }
}

#[cfg(test)]
mod tests;
