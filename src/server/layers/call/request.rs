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

use super::{Reservations, memory_exhausted, messages::MessageCounter};
use crate::{
    error_info::{self, causes},
    metrics::{MethodKind, MethodMetrics},
    server::limits::{MIN_COUNTED, MemoryUse, Reservation},
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
    /// Once it is long. Messages of streams are handled one by one, and not counted.
    bytes: Option<Reservation>,
    read: usize,
    reservations: Reservations,
    max_request: usize,
    is_stream: bool,
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
        reservations: Reservations,
        max_request: usize,
        method: Arc<MethodMetrics>,
    ) -> Self {
        let (is_stream, timeout) = match method.kind() {
            MethodKind::Unary | MethodKind::ServerStream => (false, REQUEST_TIMEOUT),
            MethodKind::ClientStream | MethodKind::BidiStream => (true, IDLE_TIMEOUT),
        };
        let (messages, timer, is_reset) = (MessageCounter::default(), Box::pin(sleep(timeout)), false);
        Self {
            body,
            method,
            messages,
            begun: 0,
            bytes: None,
            read: 0,
            reservations,
            max_request,
            is_stream,
            timer,
            timeout,
            version,
            is_reset,
        }
    }

    fn count(&mut self, data: &[u8]) -> Result<(), Status> {
        let begun = self.messages.count(data);
        self.begun += begun;
        self.method.received(begun);
        if self.is_stream {
            self.timer.as_mut().reset(Instant::now() + self.timeout);
            return Ok(());
        }
        if self.begun > 1 {
            let message = "there is more than one message in a request that has one";
            return Err(error_info::status(Code::InvalidArgument, "MALFORMED_REQUEST", message));
        }
        // tonic allocates what the header of a message says, unless it is too much, whatever of it arrives.
        self.read += data.len();
        let needed = self.read + self.messages.missing().min(self.max_request);
        let counted = match &mut self.bytes {
            Some(bytes) => bytes.add(needed.saturating_sub(bytes.bytes())),
            None if needed < MIN_COUNTED => Ok(()),
            None => {
                let reserved = self.reservations.reserve(MemoryUse::Request, needed);
                reserved.map(|bytes| self.bytes = Some(bytes))
            }
        };
        counted.map_err(|_| memory_exhausted())
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
