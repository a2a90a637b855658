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
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::{Code, Status};

use self::{
    request::RequestBody,
    response::{ResponseBody, ResponseLimits},
};
use crate::{
    error_info,
    metrics::{CallMetrics, MethodKind},
    server::{
        admission::OpenCall,
        limits::{ConnectionMemory, MemoryExhausted},
        shares::{MAX_CALLS, Share, Shares},
        turn::Turn,
        worker::end_conditions,
    },
};

/// When to retry after a quota was hit: calls end all the time.
const QUOTA_RETRY: Duration = Duration::from_secs(5);

/// The state of the layer.
#[derive(Clone)]
pub(super) struct CallLimits {
    calls: Arc<CallMetrics>,
    all: Arc<Semaphore>,
    shares: Arc<Shares>,
}

impl CallLimits {
    pub(super) fn new(calls: &Arc<CallMetrics>, shares: &Arc<Shares>) -> Self {
        let all = Arc::new(Semaphore::new(MAX_CALLS));
        Self { calls: Arc::clone(calls), all, shares: Arc::clone(shares) }
    }
}

/// What a call has of the share of its principal, in the extensions of its response.
pub(super) struct CallShare {
    pub(super) share: Arc<Share>,
    /// `None` for calls without a principal.
    pub(super) turn: Option<Turn>,
    pub(super) _permit: Option<OwnedSemaphorePermit>,
}

/// Counts a call, which ends with its last frame or when its client disconnects, and enforces the limits.
pub(super) async fn enforce(State(limits): State<CallLimits>, mut request: Request, next: Next) -> Response {
    let mut call = limits.calls.begin(request.uri().path());
    let memory = request.extensions().get::<Arc<ConnectionMemory>>().cloned();
    let open = request.extensions().get::<Arc<OpenCall>>().cloned();
    let (Ok(permit), Some(memory), Some(open)) = (limits.all.try_acquire_owned(), memory, open) else {
        call.code(Code::ResourceExhausted as usize);
        return too_many_calls().into_http();
    };
    let end_conditions = end_conditions();
    if let Some(end_conditions) = &end_conditions {
        request.extensions_mut().insert(end_conditions.clone());
    }
    memory.ready().await;
    if call.method().kind() != MethodKind::Unary {
        open.set_stream();
    }
    let (method, version) = (Arc::clone(call.method()), request.version());
    let request = request.map(|body| Body::new(RequestBody::new(body, version, memory.request(), method)));
    let mut response = next.run(request).await;
    if response.body().is_end_stream() {
        call.code(code(response.headers()));
        return response;
    }
    let share = response.extensions_mut().remove::<Arc<CallShare>>().unwrap_or_else(|| {
        let share = Arc::clone(&limits.shares.unauthenticated);
        Arc::new(CallShare { share, turn: None, _permit: None })
    });
    let limits = ResponseLimits { end_conditions, memory, share, open, _permit: permit };
    response.map(|body| Body::new(ResponseBody::new(body, call, limits)))
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
