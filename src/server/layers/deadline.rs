//! `grpc-timeout` bounds a call to its last message, streams included.

use axum::{extract::Request, middleware::Next, response::Response};
use tokio::time::{Instant, sleep_until};
use tonic::Code;

use super::end::end_with;
use crate::{
    deadline::{self, Deadline, EndConditions},
    error_info,
};

/// Ends a call with DEADLINE_EXCEEDED at its deadline, and adds the [`Deadline`] to the extensions of its request.
pub(super) async fn enforce(mut request: Request, next: Next) -> Response {
    let timeout = match deadline::timeout(request.headers()) {
        Ok(None) => return next.run(request).await,
        Ok(Some(timeout)) => timeout,
        Err(error) => {
            return error_info::invalid(deadline::HEADER, "BAD_DURATION", error.to_string()).into_http();
        }
    };
    // A deadline beyond what the clock can express is none.
    let Some(at) = Instant::now().checked_add(timeout) else { return next.run(request).await };
    request.extensions_mut().insert(Deadline(at));
    if let Some(end_conditions) = request.extensions().get::<EndConditions>() {
        end_conditions.add(move || Instant::now() >= at);
    }
    let exceeded = move || {
        let message = format!("the call took longer than its deadline, {timeout:?}");
        error_info::status(Code::DeadlineExceeded, "DEADLINE_EXCEEDED", message)
    };
    if timeout.is_zero() {
        return exceeded().into_http();
    }
    let end = async move {
        sleep_until(at).await;
        exceeded()
    };
    end_with(Box::pin(end), next.run(request)).await
}
