//! `grpc.health.v1`: whether the service and its APIs take requests, and of each pool, `pools/{name}`, whether it has a
//! READY peer.

use std::{
    collections::HashMap,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use tokio_stream::Stream;
use tonic::{Request, Response, Status};

use super::{
    Api, RpcResult, errors,
    health_pb::{
        HealthCheckRequest, HealthCheckResponse, HealthListRequest, HealthListResponse,
        health_check_response::ServingStatus,
    },
    names, owner,
    server_pb::{self, health::health_server::Health},
};
use crate::{
    error_info,
    status::{Hub, StreamPermit, Wakeup},
};

/// The services that can be checked by name; only a fleet has the last one.
const SERVICES: [&str; 3] = [
    server_pb::peer_status_service_server::SERVICE_NAME,
    server_pb::pool_service_server::SERVICE_NAME,
    server_pb::node_service_server::SERVICE_NAME,
];
const POOLS: &str = "pools/";

/// `grpc.health.v1.Health`.
pub(super) struct HealthService(pub(super) Api);

#[tonic::async_trait]
impl Health for HealthService {
    async fn check(&self, request: Request<HealthCheckRequest>) -> RpcResult<HealthCheckResponse> {
        let service = request.into_inner().service;
        match (self.status(&service), service.strip_prefix(POOLS)) {
            (ServingStatus::ServiceUnknown, Some(pool)) => {
                let refusal = errors::pool_not_found(pool, &self.0.hub.pools(None, usize::MAX).0);
                Err(Status::not_found(refusal.message())) // as all errors of this API without details
            }
            (ServingStatus::ServiceUnknown, None) => {
                let services = services(&self.0.hub).join(", ");
                Err(Status::not_found(format!(
                    "no such service; there are {services}, {POOLS} and the name of a pool, and \"\" for all of them"
                )))
            }
            (status, _) => Ok(Response::new(response(status))),
        }
    }

    async fn list(&self, _: Request<HealthListRequest>) -> RpcResult<HealthListResponse> {
        let (pools, _) = self.0.hub.pools(None, usize::MAX);
        let services = std::iter::once(&"").chain(services(&self.0.hub)).map(|name| (*name).to_owned());
        let names = services.chain(pools.iter().map(|pool| names::pool(&pool.name)));
        let statuses = names.map(|name| {
            let status = response(self.status(&name));
            (name, status)
        });
        Ok(Response::new(HealthListResponse { statuses: statuses.collect::<HashMap<_, _>>() }))
    }

    type WatchStream = HealthWatch;

    async fn watch(&self, request: Request<HealthCheckRequest>) -> RpcResult<HealthWatch> {
        let caller = owner(&request);
        let service = request.into_inner().service;
        let (changes, permit) = if service.starts_with(POOLS) {
            // It is woken after every change, as a stream of changes is, and counts as one.
            let permit =
                self.0.listeners.stream_permit(&caller).map_err(|error| errors::attach("", &error))?;
            (Some(self.0.hub.wakers().add()), Some(permit))
        } else {
            (None, None)
        };
        let mut draining = self.0.draining.clone();
        let stopping = async move {
            // An error means that the sender was dropped: the service is stopping, too.
            let _ = draining.wait_for(|draining| *draining).await;
        };
        Ok(Response::new(HealthWatch {
            hub: Arc::clone(&self.0.hub),
            service,
            changes,
            stopping: Some(Box::pin(stopping)),
            sent: None,
            is_over: false,
            _permit: permit,
        }))
    }
}

impl HealthService {
    fn status(&self, service: &str) -> ServingStatus {
        status(&self.0.hub, service, *self.0.draining.borrow())
    }
}

fn services(hub: &Hub) -> &'static [&'static str] {
    if hub.is_fleet() { &SERVICES } else { SERVICES.split_last().map_or(&[], |(_, others)| others) }
}

fn status(hub: &Hub, service: &str, is_stopping: bool) -> ServingStatus {
    let is_serving = match service.strip_prefix(POOLS) {
        Some(pool) => hub.pool(pool).map(|(pool, _)| pool.known_ready() > 0),
        None => (service.is_empty() || services(hub).contains(&service)).then(|| hub.is_complete()),
    };
    match is_serving {
        None => ServingStatus::ServiceUnknown,
        Some(is_serving) if is_serving && !is_stopping => ServingStatus::Serving,
        Some(_) => ServingStatus::NotServing,
    }
}

/// Sends the status of a service at first and whenever it changes. When the service stops, NOT_SERVING and an error.
pub(super) struct HealthWatch {
    hub: Arc<Hub>,
    service: String,
    /// Of a pool, whose status follows its peers.
    changes: Option<Wakeup>,
    /// Resolves when the service stops; `None`: it does.
    stopping: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    sent: Option<ServingStatus>,
    is_over: bool,
    _permit: Option<StreamPermit>,
}

impl Stream for HealthWatch {
    type Item = Result<HealthCheckResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if this.is_over {
            return Poll::Ready(None);
        }
        // Registered before the check, so that no change is missed.
        if let Some(changes) = &mut this.changes {
            changes.register(cx.waker());
        }
        if this.stopping.as_mut().is_some_and(|stopping| stopping.as_mut().poll(cx).is_ready()) {
            this.stopping = None;
        }
        let status = status(&this.hub, &this.service, this.stopping.is_none());
        if this.sent != Some(status) {
            this.sent = Some(status);
            return Poll::Ready(Some(Ok(response(status))));
        }
        if this.stopping.is_none() {
            this.is_over = true;
            return Poll::Ready(Some(Err(error_info::draining(None))));
        }
        Poll::Pending
    }
}

fn response(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: status.into() }
}
