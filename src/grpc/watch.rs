//! A watch as a stream of responses.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use tokio_stream::Stream;
use tonic::{Code, Status};

use super::{convert, error, pb};
use crate::status::{Delivery, End, Messages, Subscription};

/// The response stream of `WatchPeerStatus`. Dropping it detaches the listener.
pub struct WatchStream {
    messages: Messages,
    user_data: Bytes,
    /// What the client was told before the end, so that the status says the same.
    retry_after: Option<std::time::Duration>,
}

impl WatchStream {
    pub(super) fn new(subscription: Subscription) -> Self {
        let user_data = subscription.user_data().clone();
        Self { messages: subscription.into_messages(), user_data, retry_after: None }
    }

    fn end(&self, end: End) -> Status {
        match end {
            End::TakenOver => {
                error::status(Code::Aborted, "LISTENER_TAKEN_OVER", "another stream took over the listener")
            }
            End::Destroyed => {
                error::status(Code::Cancelled, "LISTENER_DESTROYED", "the listener was destroyed")
            }
            End::Draining => error::draining(self.retry_after),
            End::Overflow => error::status(
                Code::OutOfRange,
                "CURSOR_COMPACTED",
                "the stream was read so slowly that changes are not in the log any more",
            ),
        }
    }
}

impl Stream for WatchStream {
    type Item = Result<pb::WatchPeerStatusResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = ready!(Pin::new(&mut self.messages).poll_next(cx));
        Poll::Ready(next.map(|item| match item {
            Ok(message) => {
                if let Delivery::Draining { retry_after, .. } = message.delivery {
                    self.retry_after = Some(retry_after);
                }
                Ok(convert::message(&message, &self.user_data))
            }
            Err(end) => Err(self.end(end)),
        }))
    }
}
