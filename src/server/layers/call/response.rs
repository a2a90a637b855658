//! The body of a response.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::body::Body;
use bytes::Bytes;
use http_body::Frame;
use tokio::{
    task::{AbortHandle, spawn_local},
    time::sleep,
};
use tokio_util::task::AbortOnDropHandle;

use super::{Reservations, code, memory_exhausted, messages::MessageCounter};
use crate::{
    deadline::EndConditions,
    metrics::{Call, MethodKind},
    server::{layers::end::trailers, limits::MemoryUse, worker::abort_handle},
};

/// How long a client may leave a response unread.
const STALL_TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes passed to hyper at a time. A status cannot replace data that hyper already has.
const MAX_PART: usize = 16 * 1024;

/// Counts messages, and reserves memory until they are sent.
pub(super) struct ResponseBody {
    body: Body,
    call: Call,
    messages: MessageCounter,
    reservations: Reservations,
    end_conditions: Option<EndConditions>,
    usage: MemoryUse,
    /// The data that hyper has not taken yet.
    rest: Bytes,
    /// Resets the call if it stalls. `None` for streams of messages, which may lag.
    abort: Option<AbortHandle>,
    stall: Option<AbortOnDropHandle<()>>,
    is_over: bool,
}

impl ResponseBody {
    pub(super) fn new(
        body: Body,
        call: Call,
        reservations: Reservations,
        end_conditions: Option<EndConditions>,
    ) -> Self {
        let (usage, abort) = match call.method().kind() {
            MethodKind::Unary | MethodKind::ClientStream => (MemoryUse::Response, abort_handle()),
            MethodKind::ServerStream | MethodKind::BidiStream => (MemoryUse::Stream, None),
        };
        let (messages, rest) = (MessageCounter::default(), Bytes::new());
        let (stall, is_over) = (None, false);
        Self { body, call, messages, reservations, end_conditions, usage, rest, abort, stall, is_over }
    }

    /// Starts at the first part.
    fn start_stall_timer(&mut self) {
        if let Some(abort) = self.abort.take() {
            let stalled = async move {
                sleep(STALL_TIMEOUT).await;
                abort.abort();
            };
            self.stall = Some(AbortOnDropHandle::new(spawn_local(stalled)));
        }
    }

    /// Puts data into `rest`. Returns other frames, and trailers if there is no memory for the data.
    fn take(&mut self, frame: Frame<Bytes>) -> Option<Frame<Bytes>> {
        let data = match frame.into_data() {
            Ok(data) => data,
            Err(other) => {
                other.trailers_ref().into_iter().for_each(|trailers| self.call.code(code(trailers)));
                return Some(other);
            }
        };
        let messages = self.messages.count(&data);
        let Ok(counted) = self.reservations.outgoing(self.usage, data) else {
            self.reservations.open.connection().close();
            self.is_over = true;
            let trailers = trailers(&memory_exhausted());
            self.call.code(code(&trailers));
            return Some(Frame::trailers(trailers));
        };
        self.call.method().sent(messages);
        self.rest = counted;
        self.start_stall_timer();
        None
    }
}

impl http_body::Body for ResponseBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = &mut *self;
        if this.is_over {
            return Poll::Ready(None);
        }
        if this.rest.is_empty() {
            // A response to one request is encoded here, as soon as there is one: hyper waits for no window before.
            let share = this.reservations.open.share().filter(|_| this.usage == MemoryUse::Response);
            let turn = share.and_then(|share| share.turn.as_ref());
            let body = Pin::new(&mut this.body);
            let polled = match turn {
                Some(turn) => turn.work(|| body.poll_frame(cx)),
                None => body.poll_frame(cx),
            };
            let frame = match ready!(polled) {
                Some(Ok(frame)) => frame,
                other => return Poll::Ready(other),
            };
            if let Some(other) = this.take(frame) {
                return Poll::Ready(Some(Ok(other)));
            }
        }
        if let Some(end_conditions) = &this.end_conditions {
            end_conditions.record_progress();
        }
        let part = this.rest.split_to(this.rest.len().min(MAX_PART));
        Poll::Ready(Some(Ok(Frame::data(part))))
    }

    fn is_end_stream(&self) -> bool {
        self.is_over || (self.rest.is_empty() && self.body.is_end_stream())
    }
}
