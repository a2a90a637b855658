//! The body of a request.

use std::{
    error::Error,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::body::Body;
use bytes::Bytes;
use http::Version;
use http_body::{Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep};
use tonic::{Code, Status};

use super::{memory_exhausted, messages::MessageCounter};
use crate::{
    error_info::{self, causes},
    metrics::{MethodKind, MethodMetrics},
    server::limits::RequestReservation,
};

/// From the headers of a request to the end of its body.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// Between two messages of a stream of requests, as of server reflection.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// Enforces the timeout, and reserves memory until the request is complete.
pub(super) struct RequestBody {
    body: Body,
    method: Arc<MethodMetrics>,
    messages: MessageCounter,
    /// Messages that have begun.
    begun: u64,
    /// `None` for streams, whose messages are handled one by one.
    bytes: Option<RequestReservation>,
    timer: Pin<Box<Sleep>>,
    timeout: Duration,
    version: Version,
    /// The client reset the stream, so no response is possible: hyper drops the call.
    is_reset: bool,
}

impl RequestBody {
    pub(super) fn new(
        body: Body,
        version: Version,
        bytes: RequestReservation,
        method: Arc<MethodMetrics>,
    ) -> Self {
        let (bytes, timeout) = match method.kind() {
            MethodKind::Unary | MethodKind::ServerStream => (Some(bytes), REQUEST_TIMEOUT),
            MethodKind::ClientStream | MethodKind::BidiStream => (None, IDLE_TIMEOUT),
        };
        let (messages, timer) = (MessageCounter::default(), Box::pin(sleep(timeout)));
        Self { body, method, messages, begun: 0, bytes, timer, timeout, version, is_reset: false }
    }

    fn count(&mut self, data: &[u8]) -> Result<(), Status> {
        let begun = self.messages.count(data);
        self.begun += begun;
        self.method.received(begun);
        match &mut self.bytes {
            Some(_) if self.begun > 1 => Err(error_info::status(
                Code::InvalidArgument,
                "MALFORMED_REQUEST",
                "there is more than one message in a request that has one",
            )),
            Some(bytes) => bytes.add(data.len()).map_err(|_| memory_exhausted()),
            None => {
                self.timer.as_mut().reset(Instant::now() + self.timeout);
                Ok(())
            }
        }
    }
}

/// Whether the connection failed, as opposed to decoding gRPC-Web.
fn is_hyper_error(error: &(dyn Error + 'static)) -> bool {
    causes(error).any(|error| error.is::<hyper::Error>())
}

impl http_body::Body for RequestBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        if !this.is_reset {
            match Pin::new(&mut this.body).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    let counted = this.count(frame.data_ref().map_or(&[], Bytes::as_ref));
                    return Poll::Ready(Some(counted.map(|()| frame)));
                }
                Poll::Ready(Some(Err(error)))
                    if this.version < Version::HTTP_2 || !is_hyper_error(&error) =>
                {
                    let message = "the request is not complete, or cannot be decoded";
                    let malformed = error_info::status(Code::InvalidArgument, "MALFORMED_REQUEST", message);
                    return Poll::Ready(Some(Err(malformed)));
                }
                Poll::Ready(Some(Err(_))) => this.is_reset = true,
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending => {}
            }
        }
        ready!(this.timer.as_mut().poll(cx));
        let message = format!("the request did not arrive within {} s", this.timeout.as_secs());
        let late = error_info::status(Code::DeadlineExceeded, "REQUEST_LATE", message);
        Poll::Ready(Some(Err(late)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
