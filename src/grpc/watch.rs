//! A watch, from its handler to whoever carries it.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use parking_lot::Mutex;
use tokio_stream::Stream;
use tonic::{Code, Status};

use super::{convert, error, pb};
use crate::{
    auth::Refusal,
    status::{Delivery, End, Message, Messages, Subscription},
};

/// The subscription behind a response. Our own connections take it, and tell it in their own way; any other transport
/// reads the [`WatchStream`].
#[derive(Clone)]
pub(super) struct Handover(Arc<Mutex<Option<Subscription>>>);

impl Handover {
    pub(super) fn take(&self) -> Option<Subscription> {
        self.0.lock().take()
    }
}

/// The response stream of `WatchPeerStatus`. Dropping it detaches the listener.
pub struct WatchStream {
    handover: Handover,
    messages: Option<Messages>,
    user_data: Bytes,
    said: Said,
}

impl WatchStream {
    pub(super) fn new(subscription: Subscription) -> (Self, Handover) {
        let user_data = subscription.user_data().clone();
        let handover = Handover(Arc::new(Mutex::new(Some(subscription))));
        let stream = Self { handover: handover.clone(), messages: None, user_data, said: Said::default() };
        (stream, handover)
    }
}

impl Stream for WatchStream {
    type Item = Result<pb::WatchPeerStatusResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if this.messages.is_none() {
            this.messages = this.handover.take().map(Subscription::into_messages);
        }
        // Somebody else carries it.
        let Some(messages) = &mut this.messages else { return Poll::Ready(None) };
        let next = ready!(Pin::new(messages).poll_next(cx));
        Poll::Ready(next.map(|item| match item {
            Ok(message) => {
                this.said.note(&message);
                Ok(convert::message(&message, &this.user_data))
            }
            Err(end) => Err(this.said.status(end)),
        }))
    }
}

/// What a client was told before the end, so that the status says the same.
#[derive(Default)]
pub(super) struct Said {
    retry_after: Option<Duration>,
}

impl Said {
    pub(super) fn note(&mut self, message: &Message) {
        if let Delivery::Draining { retry_after, .. } = message.delivery {
            self.retry_after = Some(retry_after);
        }
    }

    /// How a stream ends.
    fn status(&self, end: End) -> Status {
        match end {
            End::TakenOver => {
                error::status(Code::Aborted, "LISTENER_TAKEN_OVER", "another stream took over the listener")
            }
            End::Destroyed => {
                error::status(Code::Cancelled, "LISTENER_DESTROYED", "the listener was destroyed")
            }
            End::Draining => error::draining(self.retry_after),
            End::Expired => error::refused(&Refusal::Expired),
            End::Revoked => error::refused(&Refusal::Invalid("the credentials are not accepted any more")),
            End::Overflow => error::status(
                Code::OutOfRange,
                "CURSOR_COMPACTED",
                "the stream was read so slowly that changes are not in the log any more",
            ),
        }
    }

    /// The same as the last thing on an HTTP/2 stream.
    pub(super) fn trailers(&self, end: Option<End>) -> HeaderMap {
        let mut trailers = HeaderMap::new();
        let status = end.map_or_else(|| Status::new(Code::Ok, ""), |end| self.status(end));
        if status.add_header(&mut trailers).is_err() {
            trailers.insert("grpc-status", HeaderValue::from_static("13"));
        }
        trailers
    }
}
