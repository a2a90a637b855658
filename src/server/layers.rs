//! The layers around the API, through which every request passes.

mod auth;
mod call;
mod content_type;
mod date;
mod deadline;
mod end;
mod errors;
mod head;

use std::sync::Arc;

use axum::{
    Router,
    middleware::{from_fn, from_fn_with_state, map_response},
    response::Response,
};
use http::HeaderValue;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic_web::GrpcWebLayer;
use tower::ServiceBuilder;
use tower_http::cors::CorsLayer;

use self::{auth::Authorization, call::CallLimits, date::set_date};
use super::{Access, Permission, ServerOptions, shares::Shares};
use crate::metrics::CallMetrics;

/// The description of the API that the layers use.
#[derive(Clone)]
pub struct Methods {
    /// The permission that the method of a path requires.
    pub permission: fn(&str) -> Permission,
    /// The kinds and the metrics of the methods.
    pub calls: Arc<CallMetrics>,
    /// Most bytes of a request message.
    pub max_request: usize,
}

/// Puts the layers around the API.
pub(super) fn wrap(
    api: Routes,
    methods: &Methods,
    access: &Arc<Access>,
    settings: &ServerOptions,
    close: &CancellationToken,
) -> Router {
    let threads = settings.threads.max(1);
    let shares = Shares::new(threads);
    let limits = CallLimits::new(methods, close);
    let authorization = Authorization::new(Arc::clone(access), methods.permission, Arc::new(shares), threads);
    let origins: Arc<[HeaderValue]> = settings.web.allowed_origins.iter().cloned().collect();
    let layers = ServiceBuilder::new()
        .layer(from_fn_with_state(limits, call::enforce))
        .layer(from_fn_with_state(methods.max_request, errors::explain))
        .layer(from_fn_with_state(authorization, auth::authorize))
        .layer(from_fn(deadline::enforce));
    let mut router = api.into_axum_router().layer(layers);
    if origins.is_empty() {
        router = router.layer(from_fn_with_state(origins, content_type::check));
    } else {
        router = router.layer(GrpcWebLayer::new());
        router = router.layer(from_fn_with_state(Arc::clone(&origins), content_type::check));
        router = router.layer(cors(&origins));
    }
    router.layer(map_response(async |response: Response| set_date(response)))
}

/// Lets scripts of these origins read responses. Their credentials decide what they may call.
fn cors(origins: &[HeaderValue]) -> CorsLayer {
    let exposed =
        ["grpc-status", "grpc-message", "grpc-status-details-bin"].map(http::HeaderName::from_static);
    CorsLayer::new()
        .allow_origin(origins.to_vec())
        .allow_methods([http::Method::POST])
        .allow_headers(tower_http::cors::AllowHeaders::mirror_request())
        .expose_headers(exposed)
}
