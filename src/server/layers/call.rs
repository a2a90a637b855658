//! Metrics and limits of calls: their number, the time for a request to arrive, memory for request and response, and the
//! time for the response to be read.

mod messages;
mod request;
mod response;

use std::{sync::Arc, time::Duration};

use axum::{
    body::Body,
    extract::{Request, State},
    middleware::Next,
    response::Response,
};
use bytes::Bytes;
use http::HeaderMap;
use http_body::Body as _;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};

use self::{request::RequestBody, response::ResponseBody};
use crate::{
    error_info,
    metrics::{CallMetrics, MethodKind},
    server::{
        admission::OpenCall,
        layers::{Methods, end::end_with},
        limits::{ConnectionMemory, MemoryExhausted, MemoryUse, Reservation},
        shares::Share,
        worker::end_conditions,
    },
};

/// When to retry after a quota was hit: calls end all the time.
const QUOTA_RETRY: Duration = Duration::from_secs(5);

/// The state of the layer.
#[derive(Clone)]
pub(super) struct CallLimits {
    calls: Arc<CallMetrics>,
    max_request: usize,
    close: CancellationToken,
}

impl CallLimits {
    /// Calls whose clients have not said all that they have to say end when `close` is cancelled, if they are answered by
    /// streams.
    pub(super) fn new(methods: &Methods, close: &CancellationToken) -> Self {
        let Methods { calls, max_request, .. } = methods;
        Self { calls: Arc::clone(calls), max_request: *max_request, close: close.clone() }
    }
}

/// What a call reserves memory with.
#[derive(Clone)]
struct Reservations {
    memory: Arc<ConnectionMemory>,
    open: Arc<OpenCall>,
}

impl Reservations {
    fn reserve(&self, usage: MemoryUse, bytes: usize) -> Result<Reservation, MemoryExhausted> {
        self.memory.reserve(usage, bytes, self.share()?)
    }

    fn outgoing(&self, usage: MemoryUse, data: Bytes) -> Result<Bytes, MemoryExhausted> {
        self.memory.outgoing(usage, data, self.share()?)
    }

    /// Nothing is read or sent before the caller is known.
    fn share(&self) -> Result<&Arc<Share>, MemoryExhausted> {
        self.open.share().map(|call| &call.share).ok_or(MemoryExhausted)
    }
}

/// Counts a call, which ends with its last frame or when its client disconnects, and enforces the limits.
pub(super) async fn enforce(State(limits): State<CallLimits>, mut request: Request, next: Next) -> Response {
    let mut call = limits.calls.begin(request.uri().path());
    let memory = request.extensions().get::<Arc<ConnectionMemory>>().cloned();
    let open = request.extensions().get::<Arc<OpenCall>>().cloned();
    let (Some(memory), Some(open)) = (memory, open) else {
        call.code(Code::ResourceExhausted as usize);
        return too_many_calls().into_http();
    };
    let end_conditions = end_conditions();
    if let Some(end_conditions) = &end_conditions {
        request.extensions_mut().insert(end_conditions.clone());
    }
    memory.ready().await;
    let (method, version) = (Arc::clone(call.method()), request.version());
    let is_conversation = method.kind() == MethodKind::BidiStream;
    if method.kind() != MethodKind::Unary {
        open.set_stream(is_conversation);
    }
    let reservations = Reservations { memory, open };
    let request = request.map(|body| {
        Body::new(RequestBody::new(body, version, reservations.clone(), limits.max_request, method))
    });
    let response = if is_conversation {
        let end = async move {
            limits.close.cancelled().await;
            error_info::draining(None)
        };
        end_with(Box::pin(end), next.run(request)).await
    } else {
        next.run(request).await
    };
    if response.body().is_end_stream() {
        call.code(code(response.headers()));
        return response;
    }
    response.map(|body| Body::new(ResponseBody::new(body, call, reservations, end_conditions)))
}

/// The status beyond a limit on calls.
pub(super) fn too_many_calls() -> Status {
    let message = "too many concurrent calls: the limit is reached";
    error_info::retryable(Code::ResourceExhausted, "STREAM_QUOTA", message, QUOTA_RETRY)
}

/// The status beyond a limit on memory.
fn memory_exhausted() -> Status {
    let message = MemoryExhausted.to_string();
    error_info::retryable(Code::ResourceExhausted, "MEMORY_QUOTA", message, QUOTA_RETRY)
}

/// The status code in headers or trailers.
fn code(headers: &HeaderMap) -> usize {
    let status = headers.get(Status::GRPC_STATUS).and_then(|status| status.to_str().ok());
    status.and_then(|status| status.parse().ok()).unwrap_or(usize::MAX)
}
