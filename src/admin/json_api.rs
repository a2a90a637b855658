//! `/api/v1`: lists of the API as JSON, and its watch as server-sent events.

use std::{convert::Infallible, future::poll_fn, sync::Arc, time::Duration};

use axum::{
    Extension,
    extract::{Query, State, rejection::QueryRejection},
    response::{
        IntoResponse, Response,
        sse::{Event, Sse},
    },
};
use futures_util::{StreamExt as _, future::OptionFuture};
use http::{
    HeaderMap, HeaderName, HeaderValue, StatusCode,
    header::{CONTENT_TYPE, RETRY_AFTER},
};
use serde_json::json;
use tokio::sync::Semaphore;

use super::accept::ConnectionControl;
use crate::{
    api::{
        EventsQuery, JsonError, JsonEvent, JsonGateway, JsonResult, PageQuery, PeersQuery, TransitionsQuery,
    },
    auth::{Caller, ConnectionInfo, Revocation},
};

/// When a browser reconnects.
const RECONNECT: Duration = Duration::from_secs(1);
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// nginx would hold events back.
const UNBUFFERED: (HeaderName, HeaderValue) =
    (HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));

/// The state of the handlers.
#[derive(Clone)]
pub(super) struct JsonApi {
    pub(super) gateway: JsonGateway,
    /// A permit for each stream of events.
    pub(super) streams: Arc<Semaphore>,
}

/// A query, or what is wrong with it.
type Checked<T> = Result<Query<T>, QueryRejection>;

pub(super) async fn pools(State(api): State<JsonApi>, query: Checked<PageQuery>) -> Response {
    match query {
        Ok(Query(query)) => respond(api.gateway.pools(query).await),
        Err(rejection) => reject(&rejection),
    }
}

pub(super) async fn peers(State(api): State<JsonApi>, query: Checked<PeersQuery>) -> Response {
    match query {
        Ok(Query(query)) => respond(api.gateway.peers(query).await),
        Err(rejection) => reject(&rejection),
    }
}

pub(super) async fn transitions(State(api): State<JsonApi>, query: Checked<TransitionsQuery>) -> Response {
    match query {
        Ok(Query(query)) => respond(api.gateway.transitions(query).await),
        Err(rejection) => reject(&rejection),
    }
}

pub(super) async fn listeners(
    State(api): State<JsonApi>,
    Extension(caller): Extension<Caller>,
    query: Checked<PageQuery>,
) -> Response {
    match query {
        Ok(Query(query)) => respond(api.gateway.listeners(query, caller).await),
        Err(rejection) => reject(&rejection),
    }
}

/// `WatchPeerStatus`. The header `Last-Event-ID`, or `after` in the query, resumes it.
pub(super) async fn events(
    State(api): State<JsonApi>,
    Extension(caller): Extension<Caller>,
    Extension(connection): Extension<Arc<ConnectionInfo>>,
    Extension(control): Extension<ConnectionControl>,
    revocation: Option<Extension<Arc<Revocation>>>,
    headers: HeaderMap,
    query: Checked<EventsQuery>,
) -> Response {
    let mut query = match query {
        Ok(Query(query)) => query,
        Err(rejection) => return reject(&rejection),
    };
    if let Some(last) = headers.get(LAST_EVENT_ID) {
        query.after = String::from_utf8_lossy(last.as_bytes()).into_owned();
    }
    let Ok(permit) = Arc::clone(&api.streams).try_acquire_owned() else { return too_many_streams() };
    let events = match api.gateway.events(query, caller, connection).await {
        Ok(events) => events,
        Err(error) => return respond(Err(error)),
    };
    control.keep();
    let revoked = OptionFuture::from(revocation.map(|Extension(revocation)| async move {
        poll_fn(|cx| revocation.poll(cx).map(|_| ())).await;
    }));
    let revoked = async move {
        if revoked.await.is_none() {
            std::future::pending::<()>().await;
        }
    };
    let events = events.take_until(Box::pin(revoked)).map(move |event| {
        let _permit = &permit;
        Ok::<_, Infallible>(sent(event))
    });
    ([UNBUFFERED], Sse::new(events)).into_response()
}

fn sent(JsonEvent { name, id, data }: JsonEvent) -> Event {
    let event = Event::default().event(name).data(data);
    let event = if name == "attached" { event.retry(RECONNECT) } else { event };
    match id {
        Some(id) => event.id(id),
        None => event,
    }
}

fn respond(result: JsonResult) -> Response {
    let (status, body) = match result {
        Ok(body) => (StatusCode::OK, body),
        Err(JsonError { status, body }) => (status, body),
    };
    (status, [(CONTENT_TYPE, "application/json")], body + "\n").into_response()
}

fn reject(rejection: &QueryRejection) -> Response {
    let body = json!({ "code": "INVALID_ARGUMENT", "reason": "BAD_QUERY", "message": rejection.body_text() });
    respond(Err(JsonError { status: StatusCode::BAD_REQUEST, body: body.to_string() }))
}

fn too_many_streams() -> Response {
    let message =
        "all event streams of the admin port are in use; limits.max_event_streams sets how many there are";
    let body = json!({ "code": "RESOURCE_EXHAUSTED", "reason": "STREAM_QUOTA", "message": message });
    let error = JsonError { status: StatusCode::SERVICE_UNAVAILABLE, body: body.to_string() };
    ([(RETRY_AFTER, "5")], respond(Err(error))).into_response()
}
