//! One request, to the services and back.

use std::{rc::Rc, sync::Arc};

use http::{HeaderMap, Response, StatusCode, header::AUTHORIZATION};
use http_body::Body as _;
use tonic::{Status, body::Body};
use tower::Service as _;

use super::{
    received::{Inbox, Received},
    rooms::Room,
    shard::Shard,
};
use crate::{
    auth::Caller,
    grpc::{access::Origin, error, server, watch::Handover},
    http2::Head,
    metrics::Call,
    status::Subscription,
};

/// What the services say to a request.
pub(super) struct Reply {
    pub(super) stream: u32,
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) rest: Rest,
    pub(super) call: Call,
}

/// What comes after the head.
pub(super) enum Rest {
    /// Nothing.
    Nothing,
    /// A body, which may wait here if nobody reads it.
    Body(Body, Room),
    /// A watch, to be told from now on.
    Watch(Subscription),
}

/// Has the services answer a request that has come on a stream.
pub(super) async fn run(
    stream: u32,
    head: Head,
    inbox: Inbox,
    origin: Origin,
    shard: Rc<Shard>,
    call: Call,
) -> Reply {
    let mut body = Received::new(head.path(), inbox, Arc::clone(call.method()));
    let (response, caller) = match admit(&head, &origin, &shard) {
        Err(status) => (status.into_http(), None),
        Ok(caller) => {
            if let Some(caller) = &caller {
                body.show(shard.access().pass(caller.clone()));
            }
            // What the services need for a request is far more than what it has come with, and taken when there is
            // use for it.
            body.ready().await;
            (Box::pin(serve(head, body, origin, caller.clone(), &shard)).await, caller)
        }
    };
    let (mut head, body) = server::explain(response).into_parts();
    let watch = head.extensions.remove::<Handover>().and_then(|handover| handover.take());
    let rest = match watch {
        None if body.is_end_stream() => Rest::Nothing,
        None => Rest::Body(body, shard.rooms().answers(caller.is_some()).clone()),
        Some(subscription) => {
            if let Some(caller) = caller {
                shard.access().hold(caller, &subscription);
            }
            Rest::Watch(subscription)
        }
    };
    Reply { stream, status: head.status, headers: head.headers, rest, call }
}

/// Who asks; refused if it may not.
fn admit(head: &Head, origin: &Origin, shard: &Shard) -> Result<Option<Caller>, Status> {
    let request = head.request().ok_or_else(error::malformed_request)?;
    shard.access().admit(request.uri().path(), request.headers(), origin)
}

async fn serve(
    head: Head,
    body: Received,
    origin: Origin,
    caller: Option<Caller>,
    shard: &Shard,
) -> Response<Body> {
    let Some(request) = head.request() else { return error::malformed_request().into_http() };
    drop(head);
    let mut request = request.map(|()| Body::new(body));
    // It has been looked at, and is nobody else's business.
    request.headers_mut().remove(AUTHORIZATION);
    request.extensions_mut().insert(origin);
    if let Some(caller) = caller {
        request.extensions_mut().insert(caller);
    }
    let Ok(response) = shard.routes().call(request).await;
    response
}

/// The number of the status that headers or trailers tell.
pub(super) fn code_of(headers: &HeaderMap) -> usize {
    let status = headers.get("grpc-status").and_then(|status| status.to_str().ok());
    status.and_then(|status| status.parse().ok()).unwrap_or(usize::MAX)
}
