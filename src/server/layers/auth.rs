//! Authenticates and authorizes the callers of methods.

use std::{future::poll_fn, sync::Arc};

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::Response,
};
use http::header::AUTHORIZATION;
use tokio_util::sync::CancellationToken;

use super::{call::too_many_calls, end::end_with};
use crate::{
    auth::{ConnectionInfo, Refusal},
    deadline::EndConditions,
    error_info,
    server::{
        authorize::{Access, Permission, refusal_status},
        eviction::EvictingLimit,
    },
};

/// Limit for calls of methods that need no credentials. Separate, so that they cannot exhaust the limit of all calls.
/// A further call evicts the oldest, so that stalled ones cannot block the others.
const MAX_UNAUTHENTICATED_CALLS: usize = 1024;

/// The state of the layer.
#[derive(Clone)]
pub(super) struct Authorization {
    access: Arc<Access>,
    permission: fn(&str) -> Permission,
    unauthenticated: Arc<EvictingLimit>,
    close: CancellationToken,
}

impl Authorization {
    /// Calls that need no credentials end when `close` is cancelled.
    pub(super) fn new(
        access: Arc<Access>,
        permission: fn(&str) -> Permission,
        close: CancellationToken,
    ) -> Self {
        let unauthenticated = EvictingLimit::new(MAX_UNAUTHENTICATED_CALLS);
        Self { access, permission, unauthenticated, close }
    }
}

/// Adds the [`Caller`](crate::auth::Caller) to the extensions of the request. A call ends when its caller is no longer
/// authorized.
pub(super) async fn authorize(
    State(auth): State<Authorization>,
    mut request: Request,
    next: Next,
) -> Response {
    let Permission::Role(required) = (auth.permission)(request.uri().path()) else {
        let (slot, close) = (auth.unauthenticated.begin(), auth.close);
        let end = async move {
            tokio::select! {
                () = slot.evicted().cancelled() => too_many_calls(),
                () = close.cancelled() => error_info::draining(None),
            }
        };
        return end_with(Box::pin(end), next.run(request)).await;
    };
    let Some(connection) = request.extensions().get::<Arc<ConnectionInfo>>() else {
        return refusal_status(&Refusal::Missing).into_http();
    };
    let caller = match auth.access.authorize(required, request.headers(), connection) {
        Ok(caller) => caller,
        Err(refusal) => return refusal_status(&refusal).into_http(),
    };
    // The handlers need the caller only.
    request.headers_mut().remove(AUTHORIZATION);
    request.extensions_mut().insert(caller.clone());
    if !caller.is_revocable() {
        return next.run(request).await;
    }
    let revocation = auth.access.track(caller);
    if let Some(end_conditions) = request.extensions().get::<EndConditions>() {
        let revocation = Arc::clone(&revocation);
        end_conditions.add(move || revocation.refusal().is_some());
    }
    request.extensions_mut().insert(Arc::clone(&revocation));
    let revoked = async move { poll_fn(|cx| revocation.poll(cx).map(refusal_status)).await };
    end_with(Box::pin(revoked), next.run(request)).await
}
