//! The response stream of `WatchPeerStatus`.
//!
//! Of a change, what is the same for all listeners is encoded once and kept with the event. What differs, the listener's
//! place in the chain and its `user_data`, is appended: the fields of a message may come in any order.

use std::{
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll},
    time::{Duration, SystemTime},
};

use bytes::{BufMut, Bytes};
use prost::{
    Message as _,
    encoding::{bytes as bytes_field, uint64 as uint64_field},
};
use tokio_stream::Stream;
use tonic::{Code, Status};

use super::{codec::Encode, convert, pb};
use crate::{
    auth::{Refusal, Revocation},
    error_info,
    metrics::{Deliveries, Detach},
    status::{Delivery, End, Event, Message, Messages, Parts, Subscription, Wakers},
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
        /// `user_data`.
        user_data: Bytes,
    },
    /// With anything else.
    Other(Box<pb::WatchPeerStatusResponse>),
}

impl WatchMessage {
    fn new(message: Message, user_data: &Bytes) -> Self {
        let previous = message.previous;
        match message.delivery {
            Delivery::Change { event, parts } => {
                Self::Change { event, parts, previous, user_data: user_data.clone() }
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
                // Zero and empty are left out, as everywhere in proto3.
                let previous =
                    if *previous == 0 { 0 } else { uint64_field::encoded_len(PREVIOUS_REVISION, previous) };
                let user_data =
                    if user_data.is_empty() { 0 } else { bytes_field::encoded_len(USER_DATA, user_data) };
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
                    uint64_field::encode(PREVIOUS_REVISION, previous, buffer);
                }
                if !user_data.is_empty() {
                    bytes_field::encode(USER_DATA, user_data, buffer);
                }
            }
        }
    }
}

/// What is kept with an event: its encoded change with the peer, with the health, and with both.
#[derive(Default)]
struct EncodedChange([OnceLock<Box<[u8]>>; 3]);

/// The fields of a change that are the same for all listeners who are sent these parts of it.
fn encoded(event: &Event, parts: Parts) -> &[u8] {
    let encode = || {
        let change = Some(pb::watch_peer_status_response::Event::Change(convert::change(event, parts)));
        let message =
            pb::WatchPeerStatusResponse { revision: event.revision, event: change, ..Default::default() };
        message.encode_to_vec().into_boxed_slice()
    };
    let EncodedChange([peer, health, both]) = event.attachment();
    let cell = match parts {
        Parts { peer: true, health: true } => both,
        Parts { health: true, .. } => health,
        Parts { .. } => peer,
    };
    cell.get_or_init(encode)
}

/// The messages to one listener. Dropping it detaches the listener.
pub struct WatchStream {
    messages: Messages,
    user_data: Bytes,
    /// What the client was asked in `draining`; the status says the same.
    retry_after: Option<Duration>,
    deliveries: DeliveryTimer,
    /// The last message was. It is sent alone, because tonic's buffer never shrinks: a quiet watch would keep as much as
    /// is ever sent together.
    is_part_of_snapshot: bool,
    /// Ends the call when its caller is not authorized any more, outside of here.
    revocation: Option<Arc<Revocation>>,
}

impl WatchStream {
    pub(super) fn new(
        subscription: Subscription,
        wakers: &Arc<Wakers>,
        revocation: Option<Arc<Revocation>>,
        deliveries: Deliveries,
    ) -> Self {
        let user_data = subscription.user_data().clone();
        let messages = subscription.into_messages(wakers);
        let deliveries = DeliveryTimer { metrics: deliveries, is_live: false, changes: 0, oldest: None };
        Self { messages, user_data, retry_after: None, deliveries, is_part_of_snapshot: false, revocation }
    }

    fn status(&self, end: End) -> Status {
        match end {
            End::TakenOver => error_info::status(
                Code::Aborted,
                "LISTENER_TAKEN_OVER",
                "another stream took over the listener",
            ),
            End::Destroyed => {
                error_info::status(Code::Cancelled, "LISTENER_DESTROYED", "the listener was destroyed")
            }
            End::Draining => error_info::draining(self.retry_after),
            End::Overflow => error_info::status(
                Code::OutOfRange,
                "CURSOR_COMPACTED",
                "the stream was read so slowly that changes are not in the log any more",
            ),
        }
    }
}

impl Stream for WatchStream {
    type Item = Result<WatchMessage, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if std::mem::take(&mut this.is_part_of_snapshot) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        match Pin::new(&mut this.messages).poll_next(cx) {
            Poll::Ready(Some(Ok(message))) => {
                this.is_part_of_snapshot = matches!(message.delivery, Delivery::Snapshot { .. });
                this.deliveries.note(&message);
                if let Delivery::Draining { retry_after, .. } = message.delivery {
                    this.retry_after = Some(retry_after);
                }
                Poll::Ready(Some(Ok(WatchMessage::new(message, &this.user_data))))
            }
            Poll::Ready(Some(Err(end))) => Poll::Ready(Some(Err(this.status(end)))),
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => {
                this.deliveries.observe();
                Poll::Pending
            }
        }
    }
}

impl Drop for WatchStream {
    fn drop(&mut self) {
        self.deliveries.observe();
        match self.revocation.as_ref().and_then(|revocation| revocation.refusal()) {
            Some(Refusal::Expired) => self.messages.detach_as(Detach::Expired),
            Some(_) => self.messages.detach_as(Detach::Revoked),
            None => {}
        }
    }
}

/// Measures how old changes are when they are handed out, once for those that are handed out together.
struct DeliveryTimer {
    metrics: Deliveries,
    /// The client has been up to date since the stream began, or began anew: what it is sent is news.
    is_live: bool,
    changes: usize,
    /// When the first of them happened.
    oldest: Option<SystemTime>,
}

impl DeliveryTimer {
    fn note(&mut self, message: &Message) {
        match &message.delivery {
            Delivery::Change { event, .. } if self.is_live => {
                self.changes += 1;
                self.oldest.get_or_insert(event.time);
            }
            Delivery::Synced { .. } => self.is_live = true,
            Delivery::Attached { .. } | Delivery::Reset { .. } => self.is_live = false,
            _ => {}
        }
    }

    fn observe(&mut self) {
        if let Some(oldest) = self.oldest.take() {
            self.metrics.observe(oldest.elapsed().unwrap_or_default(), std::mem::take(&mut self.changes));
        }
    }
}

#[cfg(test)]
mod tests;
