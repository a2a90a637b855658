//! The gRPC API: it checks requests and converts between its messages and the service's types. It decides nothing.

mod codec;
pub(crate) mod convert;
mod errors;
mod health;
pub(crate) mod json;
mod json_gateway;
mod methods;
mod names;
mod node;
mod paging;
mod parse;
mod peer_status;
mod permissions;
mod pool;
mod transitions;
mod watch;

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    body::Body,
    middleware::{Next, from_fn},
};
use tokio::sync::watch as watch_channel;
use tonic::{Request, Response, Status, codec::CompressionEncoding, service::Routes};

use self::{
    health::HealthService,
    server_pb::{
        health::health_server::HealthServer, node_service_server::NodeServiceServer,
        peer_status_service_server::PeerStatusServiceServer, pool_service_server::PoolServiceServer,
    },
};
pub use self::{
    json_gateway::{
        EventsQuery, JsonError, JsonEvent, JsonGateway, JsonResult, PageQuery, PeersQuery, TransitionsQuery,
    },
    methods::methods,
    watch::{WatchMessage, WatchStream},
};
use crate::{
    auth::Caller,
    error_info,
    metrics::WatchMetrics,
    pool::PoolHandle,
    status::{Hub, Listeners, Owner, Quota},
};

/// Longest request: `user_data` and a full filter are below 50 KiB.
const MAX_REQUEST: usize = 64 * 1024;

/// Generated from `proto/grpc/health/v1`.
#[allow(clippy::all, unreachable_pub, missing_docs, rustdoc::bare_urls)] // not ours to lint
pub mod health_pb {
    tonic::include_proto!("grpc.health.v1");
}

/// Generated from `proto/opflex/peerstatus/v1`: messages and clients.
#[allow(clippy::all, unreachable_pub)] // not ours to lint
pub mod pb {
    tonic::include_proto!("opflex.peerstatus.v1");

    // The traits as tonic generates them, for scripted servers in tests.
    #[cfg(test)]
    include!(concat!(env!("OUT_DIR"), "/plain/opflex.peerstatus.v1.rs"));

    /// The descriptor set of everything that is generated: for server reflection and JSON output.
    pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
}

/// Generated from the same: the traits of the services. `WatchPeerStatus` returns [`WatchMessage`]s.
#[allow(clippy::all, unreachable_pub, missing_docs)] // not ours to lint
mod server_pb {
    include!(concat!(env!("OUT_DIR"), "/server/opflex.peerstatus.v1.rs"));

    pub(super) mod health {
        include!(concat!(env!("OUT_DIR"), "/server/grpc.health.v1.rs"));
    }
}

/// The result of a method.
type RpcResult<T> = Result<Response<T>, Status>;

/// The caller of a request, which owns what it creates. Only requests without a connection have no caller.
fn owner<T>(request: &Request<T>) -> Owner {
    let Some(caller) = request.extensions().get::<Caller>() else { return Owner::default() };
    let quota = if caller.is_local() { Quota::Exempt } else { Quota::Limited };
    Owner { name: Arc::clone(&caller.principal), quota }
}

/// The implementation of the services.
#[derive(Clone)]
pub struct Api {
    /// The state of pools and peers, and its changes.
    pub hub: Arc<Hub>,
    /// The listeners.
    pub listeners: Arc<Listeners>,
    /// The pools that can be changed, by name: all but those that are observed.
    pub pools: Arc<BTreeMap<Arc<str>, PoolHandle>>,
    /// Counts watches.
    pub metrics: WatchMetrics,
    /// True once the service is stopping.
    pub draining: watch_channel::Receiver<bool>,
}

impl Api {
    /// The services, ready to be served.
    #[must_use]
    pub fn routes(self) -> Routes {
        // The settings that all services share.
        macro_rules! service {
            ($service:expr) => {
                $service.max_decoding_message_size(MAX_REQUEST).accept_compressed(CompressionEncoding::Gzip)
            };
        }
        let mut routes = Routes::builder();
        routes
            .add_service(service!(PeerStatusServiceServer::new(self.clone())))
            .add_service(service!(HealthServer::new(HealthService(self.clone()))))
            .add_service(service!(PoolServiceServer::new(self.clone())));
        let hub = Arc::clone(&self.hub);
        if hub.is_fleet() {
            routes.add_service(service!(NodeServiceServer::new(self)));
        }
        methods::add_reflection(&mut routes);
        let routes = routes.routes();
        if !hub.is_fleet() {
            return routes;
        }
        let check = from_fn(move |request: http::Request<Body>, next: Next| {
            // Until then the hub is empty.
            let is_early = !hub.is_complete() && request.uri().path().starts_with("/opflex.");
            async move {
                if is_early { errors::fleet_not_ready().into_http::<Body>() } else { next.run(request).await }
            }
        });
        routes.into_axum_router().layer(check).into()
    }

    /// Rejects calls that change something, or wait, while the service is stopping.
    fn check_not_draining(&self) -> Result<(), Status> {
        if *self.draining.borrow() { Err(error_info::draining(None)) } else { Ok(()) }
    }
}
