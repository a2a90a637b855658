//! The routes of the admin port, and the middleware of all of them.

use std::sync::Arc;

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

use super::{AllowedHosts, Exposition, accept::limit_response_time, host_check::check_host, probes};
use crate::metrics::LoopMonitors;

const INDEX: &str = "\
/metrics  metrics in the OpenMetrics format
/livez    200 while the event loops run
/readyz   200 while the service accepts requests
/config   the configuration in effect
";

/// The state that the handlers read.
#[derive(Clone)]
pub struct AdminState {
    /// The host names that requests may use.
    pub allowed_hosts: AllowedHosts,
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
    let not_found = (StatusCode::NOT_FOUND, format!("no such page; there are:\n{INDEX}"));
    // Routes with long-lived responses go into a router of their own, merged with this one, without the time limit.
    let pages = Router::new()
        .route("/", get(INDEX))
        .route("/metrics", get(metrics))
        .route("/livez", get(probes::livez))
        .route("/readyz", get(probes::readyz))
        .route("/config", get(config))
        .method_not_allowed_fallback((StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are allowed\n"))
        .fallback(not_found)
        .layer(from_fn(limit_response_time));
    let check_host = from_fn_with_state(state.allowed_hosts.clone(), check_host);
    pages
        .with_state(state)
        .layer(check_host)
        .layer(map_response(async |response: Response| ([(CACHE_CONTROL, "no-store")], response)))
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
