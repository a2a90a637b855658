//! The server: which services it offers, and the bounds it puts on clients.

use std::{collections::BTreeMap, future::Future, sync::Arc, time::Duration};

use tokio::{net::TcpListener, sync::watch};
use tonic::{
    Code, Status,
    body::Body,
    transport::{Server, server::TcpIncoming},
};
use tower::util::MapResponseLayer;

use super::{
    error,
    health::HealthService,
    pb::{self, peer_status_service_server::PeerStatusServiceServer, pool_service_server::PoolServiceServer},
};
use crate::{
    pool::PoolHandle,
    status::{Hub, Listeners},
};

/// Longest request: `user_data` and a full filter are below 50 KiB.
const MAX_REQUEST: usize = 64 * 1024;
/// Streams on one connection, since the default is no bound at all.
const MAX_CONCURRENT_STREAMS: u32 = 128;
/// Locally reset streams that a connection may run up (RUSTSEC-2024-0003). Set because tonic's default is to
/// switch hyper's guard off.
const MAX_LOCAL_RESETS: usize = 1024;
/// A client whose host vanished is noticed by the kernel, too.
const TCP_KEEPALIVE: Duration = Duration::from_secs(60);
/// Room for headers: tokens are a few KiB at most.
const MAX_HEADERS: u32 = 16 * 1024;

/// The transport failed.
#[derive(Debug, thiserror::Error)]
#[error("the gRPC server failed")]
pub struct ServeError(#[from] tonic::transport::Error);

/// How a client that vanished without a word, or never reads what it is sent, is noticed: within the sum of the two,
/// by the HTTP/2 ping that it does not answer.
#[derive(Clone, Copy, Debug)]
pub struct Keepalive {
    /// How long a connection may be silent before it is asked for a sign of life.
    pub interval: Duration,
    /// How long the answer may take.
    pub timeout: Duration,
}

impl Default for Keepalive {
    /// Half a minute: proxies on the way drop what is silent for longer than a minute.
    fn default() -> Self {
        Self { interval: Duration::from_secs(20), timeout: Duration::from_secs(10) }
    }
}

/// What the services work on.
#[derive(Clone)]
pub struct Api {
    /// The state that is told about.
    pub hub: Arc<Hub>,
    /// Who is told.
    pub listeners: Arc<Listeners>,
    /// The pools that can be changed, by name.
    pub pools: Arc<BTreeMap<Arc<str>, PoolHandle>>,
    /// Turns true when the service stops. Health checks are answered by it, and calls that wait end with it.
    pub draining: watch::Receiver<bool>,
}

impl Api {
    /// Refuses what would begin something, or change it, when the service is stopping.
    pub(super) fn check_open(&self) -> Result<(), Status> {
        if *self.draining.borrow() { Err(error::draining(None)) } else { Ok(()) }
    }
}

/// Serves the API until `stop`, and then until the last client has gone.
///
/// # Errors
/// The transport failed.
pub async fn serve(
    api: Api,
    keepalive: Keepalive,
    listener: TcpListener,
    stop: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    let draining = api.draining.clone();
    let status = PeerStatusServiceServer::new(api.clone()).max_decoding_message_size(MAX_REQUEST);
    let pool = PoolServiceServer::new(api).max_decoding_message_size(MAX_REQUEST);
    let health = tonic_health::pb::health_server::HealthServer::new(HealthService { draining });
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true)).with_keepalive(Some(TCP_KEEPALIVE));
    // No request timeout, no concurrency limit per connection, no connection age: see what each of them does
    // to long streams.
    Server::builder()
        .max_concurrent_streams(MAX_CONCURRENT_STREAMS)
        .http2_max_local_error_reset_streams(Some(MAX_LOCAL_RESETS))
        .http2_keepalive_interval(Some(keepalive.interval))
        .http2_keepalive_timeout(Some(keepalive.timeout))
        .http2_max_header_list_size(MAX_HEADERS)
        .layer(MapResponseLayer::new(explain_size))
        .add_service(status)
        .add_service(pool)
        .add_service(health.max_decoding_message_size(MAX_REQUEST))
        .add_optional_service(reflection().build_v1().ok())
        .add_optional_service(reflection().build_v1alpha().ok())
        .serve_with_incoming_shutdown(incoming, stop)
        .await?;
    Ok(())
}

/// tonic says OUT_OF_RANGE of a request over the limit, as we say it of cursors, and gives no details.
fn explain_size(response: http::Response<Body>) -> http::Response<Body> {
    let status = response.extensions().get::<Status>();
    // Ours have details.
    if status.is_some_and(|status| status.code() == Code::OutOfRange && status.details().is_empty()) {
        return error::request_too_large(MAX_REQUEST).into_http();
    }
    response
}

/// Reflection, so that grpcurl and its like need no proto files. Older ones ask for v1alpha.
fn reflection() -> tonic_reflection::server::Builder<'static> {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(pb::DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        // The details of errors, which clients would otherwise show as bytes.
        .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
}
