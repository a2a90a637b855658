//! The routes of the admin port, and the middleware of all of them.

use std::{net::SocketAddr, sync::Arc};

use axum::{
    Router,
    extract::State,
    middleware::{from_fn, from_fn_with_state, map_response},
    response::{IntoResponse, Response},
    routing::get,
};
use http::{
    StatusCode,
    header::{CACHE_CONTROL, CONTENT_TYPE},
};
use tokio::sync::watch;

use super::{
    AdminAuth, AllowedHosts, Exposition,
    accept::limit_response_time,
    auth::{Requirement, authorize},
    event_streams::EventStreams,
    host_check::check_host,
    json_api::{self, JsonApi},
    probes, status_page,
};
use crate::{api::JsonGateway, auth::AccessRole, metrics::LoopMonitors, server::Access, status::Hub};

pub(super) const INDEX: &str = "\
/                    the status page, for browsers
/api/v1/pools        pools as JSON; also /nodes, /peers, /transitions and /listeners
/api/v1/events       changes as server-sent events
/metrics             metrics in the OpenMetrics format
/livez               200 while the event loops run
/readyz              200 while the service accepts requests
/config              the configuration in effect
";

/// Settings of the admin port, and the state that the handlers read.
#[derive(Clone)]
pub struct AdminState {
    /// The address of the port.
    pub address: SocketAddr,
    /// The host names that requests may use.
    pub allowed_hosts: AllowedHosts,
    /// Which paths require credentials.
    pub auth: AdminAuth,
    /// Authenticates callers.
    pub access: Arc<Access>,
    /// The state of pools and peers.
    pub hub: Arc<Hub>,
    /// The API.
    pub gateway: JsonGateway,
    /// Most streams of events.
    pub event_streams: usize,
    /// The metrics.
    pub exposition: Exposition,
    /// Whether the event loops run.
    pub loops: LoopMonitors,
    /// Whether the service is stopping.
    pub draining: watch::Receiver<bool>,
    /// The configuration in effect, as JSON.
    pub config: watch::Receiver<Arc<str>>,
}

pub(super) fn router(state: AdminState) -> Router {
    let requirement = |role| Requirement {
        access: Arc::clone(&state.access),
        is_strict: state.auth == AdminAuth::All,
        is_loopback: state.address.ip().is_loopback(),
        role,
    };
    let viewer = from_fn_with_state(requirement(AccessRole::Viewer), authorize);
    // It names files and principals.
    let operator = from_fn_with_state(requirement(AccessRole::Operator), authorize);
    let mut open = Router::new()
        .route("/metrics", get(metrics))
        .route("/livez", get(probes::livez))
        .route("/readyz", get(probes::readyz));
    if state.auth == AdminAuth::All {
        open = open.layer(viewer.clone());
    }
    let config = Router::new().route("/config", get(config)).layer(operator);
    let api = JsonApi { gateway: state.gateway.clone(), streams: EventStreams::new(state.event_streams) };
    let hub = Arc::clone(&state.hub);
    let check_host = from_fn_with_state(state.allowed_hosts.clone(), check_host);
    let not_found = (StatusCode::NOT_FOUND, format!("no such page; there are:\n{INDEX}"));
    let pages = open
        .merge(config)
        .with_state(state)
        .merge(pages(hub, api.clone()).layer(viewer.clone()))
        .fallback(not_found)
        .layer(from_fn(limit_response_time));
    let streams = Router::new().route("/api/v1/events", get(json_api::events)).with_state(api).layer(viewer);
    pages
        .merge(streams)
        .method_not_allowed_fallback((StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are allowed\n"))
        .layer(check_host)
        .layer(map_response(async |response: Response| ([(CACHE_CONTROL, "no-store")], response)))
}

/// The status page and the lists of the API.
fn pages(hub: Arc<Hub>, api: JsonApi) -> Router {
    Router::new()
        .route("/", get(status_page::page).with_state(hub))
        .route("/page.css", get(status_page::style))
        .route("/page.js", get(status_page::script))
        .route("/api/v1/pools", get(json_api::pools))
        .route("/api/v1/nodes", get(json_api::nodes))
        .route("/api/v1/peers", get(json_api::peers))
        .route("/api/v1/transitions", get(json_api::transitions))
        .route("/api/v1/listeners", get(json_api::listeners))
        .with_state(api)
}

async fn metrics(State(state): State<AdminState>) -> Response {
    match state.exposition.encode().await {
        Some(page) => ([(CONTENT_TYPE, Exposition::CONTENT_TYPE)], page).into_response(),
        None => (StatusCode::INTERNAL_SERVER_ERROR, "the metrics could not be encoded\n").into_response(),
    }
}

async fn config(State(state): State<AdminState>) -> impl IntoResponse {
    ([(CONTENT_TYPE, "application/json")], state.config.borrow().to_string())
}
