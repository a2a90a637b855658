//! The admin port: the status page, the API as JSON, metrics, probes and the configuration over HTTP/1.1, for operators.
//! It changes nothing.
//!
//! It runs on the runtime of the pools, so its work is bounded: connections, their time, the bytes of a request, and one
//! page of metrics encoded at a time, on a blocking thread.

mod accept;
mod auth;
mod event_streams;
mod exposition;
mod fleet_metrics;
mod host_check;
mod json_api;
mod peer_metrics;
mod probes;
mod process_metrics;
mod router;
mod service_metrics;
mod status_page;

pub use accept::MAX_CONNECTIONS;
pub use auth::AdminAuth;
pub use exposition::{CertificateExpiry, Exposition, Sources};
pub use host_check::{AllowedHosts, InvalidHost};
pub use router::AdminState;

use tokio::net::TcpListener;

/// Serves the admin port until dropped, which closes its connections.
pub async fn serve(listener: TcpListener, state: AdminState) {
    accept::serve(listener, router::router(state)).await;
}
