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
use http::HeaderMap;
use http_body::Body as _;
use tokio::sync::Semaphore;
use tonic::{Code, Status};

use self::{request::RequestBody, response::ResponseBody};
use crate::{
    error_info,
    metrics::CallMetrics,
    server::{
        limits::{ConnectionMemory, MemoryExhausted},
        worker::end_conditions,
    },
};

/// Concurrent calls of all clients, watches included.
const MAX_CALLS: usize = 32 * 1024;
/// When to retry after a quota was hit: calls end all the time.
const QUOTA_RETRY: Duration = Duration::from_secs(5);

/// The state of the layer.
#[derive(Clone)]
pub(super) struct CallLimits {
    calls: Arc<CallMetrics>,
    all: Arc<Semaphore>,
}

impl CallLimits {
    pub(super) fn new(calls: &Arc<CallMetrics>) -> Self {
        Self { calls: Arc::clone(calls), all: Arc::new(Semaphore::new(MAX_CALLS)) }
    }
}

/// Counts a call, which ends with its last frame or when its client disconnects, and enforces the limits.
pub(super) async fn enforce(State(limits): State<CallLimits>, mut request: Request, next: Next) -> Response {
    let mut call = limits.calls.begin(request.uri().path());
    let memory = request.extensions().get::<Arc<ConnectionMemory>>().cloned();
    let (Ok(permit), Some(memory)) = (limits.all.try_acquire_owned(), memory) else {
        call.code(Code::ResourceExhausted as usize);
        return too_many_calls().into_http();
    };
    let end_conditions = end_conditions();
    if let Some(end_conditions) = &end_conditions {
        request.extensions_mut().insert(end_conditions.clone());
    }
    memory.ready().await;
    let (method, version) = (Arc::clone(call.method()), request.version());
    let request = request.map(|body| Body::new(RequestBody::new(body, version, memory.request(), method)));
    let response = next.run(request).await;
    if response.body().is_end_stream() {
        call.code(code(response.headers()));
        return response;
    }
    response.map(|body| Body::new(ResponseBody::new(body, call, end_conditions, memory, permit)))
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
