//! Who calls, and what that may do.

use std::{future::poll_fn, sync::Arc};

use axum::{
    body::Body,
    extract::{Request, State},
    middleware::Next,
    response::Response,
};
use bytes::Bytes;
use http::header::AUTHORIZATION;
use http_body::Frame;
use http_body_util::BodyExt as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{
    call::no_place,
    end::{end_with, refuse},
};
use crate::{
    auth::{ConnectionInfo, Refusal},
    server::authorize::{Access, Permission, refused},
};

/// Calls that need no credentials. They have few places, so that they cannot take those of others.
const MAX_UNAUTHENTICATED_CALLS: usize = 1024;

/// The settings in effect, and what each method requires.
#[derive(Clone)]
pub(super) struct Authorization {
    access: Arc<Access>,
    permission: fn(&str) -> Permission,
    unauthenticated: Arc<Semaphore>,
}

impl Authorization {
    pub(super) fn new(access: Arc<Access>, permission: fn(&str) -> Permission) -> Self {
        let unauthenticated = Arc::new(Semaphore::new(MAX_UNAUTHENTICATED_CALLS));
        Self { access, permission, unauthenticated }
    }
}

/// Passes on what the caller may do, with the [`Caller`](crate::auth::Caller) in the extensions of the request. A call
/// ends with UNAUTHENTICATED when its caller is not authorized any more.
pub(super) async fn authorize(
    State(auth): State<Authorization>,
    mut request: Request,
    next: Next,
) -> Response {
    let Permission::Role(required) = (auth.permission)(request.uri().path()) else {
        let Ok(permit) = auth.unauthenticated.try_acquire_owned() else { return refuse(no_place()) };
        let response = next.run(request).await;
        return response.map(|body| Body::new(body.map_frame(move |frame| hold(&permit, frame))));
    };
    let Some(connection) = request.extensions().get::<Arc<ConnectionInfo>>() else {
        return refuse(refused(&Refusal::Missing));
    };
    let caller = match auth.access.authorize(required, request.headers(), connection) {
        Ok(caller) => caller,
        Err(refusal) => return refuse(refused(&refusal)),
    };
    // Nobody further in has any use for it.
    request.headers_mut().remove(AUTHORIZATION);
    request.extensions_mut().insert(caller.clone());
    if !caller.may_lapse() {
        return next.run(request).await;
    }
    let revocation = auth.access.track(caller);
    request.extensions_mut().insert(Arc::clone(&revocation));
    let revoked = async move { poll_fn(|cx| revocation.poll(cx).map(refused)).await };
    end_with(Box::pin(revoked), next.run(request)).await
}

/// Keeps a place for as long as there are frames.
fn hold(_: &OwnedSemaphorePermit, frame: Frame<Bytes>) -> Frame<Bytes> {
    frame
}
