//! `/api/v1`: lists of the API as JSON, and its watch as server-sent events.

use std::{
    convert::Infallible,
    future::{pending, poll_fn},
    sync::Arc,
    time::Duration,
};

use axum::{
    Extension,
    extract::{FromRequestParts, Query, State, rejection::QueryRejection},
    response::{
        IntoResponse, Response,
        sse::{Event, Sse},
    },
};
use futures_util::StreamExt as _;
use http::{
    HeaderMap, HeaderName, HeaderValue, StatusCode,
    header::{CONTENT_TYPE, RETRY_AFTER},
    request::Parts,
};
use serde::de::DeserializeOwned;
use serde_json::json;

use super::{
    accept::ConnectionControl,
    event_streams::{EventStreams, NoPlace},
};
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
    pub(super) streams: EventStreams,
}

/// The query of a request. A bad one is answered with what is wrong with it.
pub(super) struct Checked<T>(T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Checked<T> {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Response> {
        let query = Query::from_request_parts(parts, state).await;
        query.map(|Query(query)| Self(query)).map_err(|rejection| reject(&rejection))
    }
}

pub(super) async fn pools(State(api): State<JsonApi>, Checked(query): Checked<PageQuery>) -> Response {
    respond(api.gateway.pools(query).await)
}

pub(super) async fn nodes(State(api): State<JsonApi>, Checked(query): Checked<PageQuery>) -> Response {
    respond(api.gateway.nodes(query).await)
}

pub(super) async fn peers(State(api): State<JsonApi>, Checked(query): Checked<PeersQuery>) -> Response {
    respond(api.gateway.peers(query).await)
}

pub(super) async fn transitions(
    State(api): State<JsonApi>,
    Checked(query): Checked<TransitionsQuery>,
) -> Response {
    respond(api.gateway.transitions(query).await)
}

pub(super) async fn listeners(
    State(api): State<JsonApi>,
    Extension(caller): Extension<Caller>,
    Checked(query): Checked<PageQuery>,
) -> Response {
    respond(api.gateway.listeners(query, caller).await)
}

/// `WatchPeerStatus`. The header `Last-Event-ID`, or `after` in the query, resumes it.
pub(super) async fn events(
    State(api): State<JsonApi>,
    Extension(caller): Extension<Caller>,
    Extension(connection): Extension<Arc<ConnectionInfo>>,
    Extension(control): Extension<ConnectionControl>,
    revocation: Option<Extension<Arc<Revocation>>>,
    headers: HeaderMap,
    Checked(mut query): Checked<EventsQuery>,
) -> Response {
    if let Some(last) = headers.get(LAST_EVENT_ID) {
        query.after = String::from_utf8_lossy(last.as_bytes()).into_owned();
    }
    let permit = match api.streams.take(&caller, control.source()) {
        Ok(permit) => permit,
        Err(why) => return too_many_streams(&why),
    };
    let events = match api.gateway.events(query, caller, connection).await {
        Ok(events) => events,
        Err(error) => return respond(Err(error)),
    };
    control.keep();
    let revoked = async move {
        match revocation {
            Some(Extension(revocation)) => poll_fn(|cx| revocation.poll(cx).map(drop)).await,
            None => pending().await,
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

fn too_many_streams(why: &NoPlace) -> Response {
    let status = match why {
        NoPlace::OfAll => StatusCode::SERVICE_UNAVAILABLE,
        NoPlace::OfClient { .. } => StatusCode::TOO_MANY_REQUESTS,
    };
    let body = json!({ "code": "RESOURCE_EXHAUSTED", "reason": "STREAM_QUOTA", "message": why.to_string() });
    let error = JsonError { status, body: body.to_string() };
    ([(RETRY_AFTER, "5")], respond(Err(error))).into_response()
}
