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
    Api, errors,
    health_pb::{
        HealthCheckRequest, HealthCheckResponse, HealthListRequest, HealthListResponse,
        health_check_response::ServingStatus,
    },
    names,
    server_pb::{self, health::health_server::Health},
};
use crate::error_info;
use crate::status::{Hub, Place, Wakeup};

/// What can be asked for by name, besides pools.
const SERVICES: [&str; 2] =
    [server_pb::peer_status_service_server::SERVICE_NAME, server_pb::pool_service_server::SERVICE_NAME];
const POOLS: &str = "pools/";

/// Answers health checks.
pub(super) struct HealthService(pub(super) Api);

#[tonic::async_trait]
impl Health for HealthService {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        match self.status(&request.into_inner().service) {
            ServingStatus::ServiceUnknown => {
                let services = SERVICES.join(", ");
                Err(Status::not_found(format!(
                    "no such service; there are {services}, {POOLS} and the name of a pool, and \"\" for all of them"
                )))
            }
            status => Ok(Response::new(answer(status))),
        }
    }

    async fn list(&self, _: Request<HealthListRequest>) -> Result<Response<HealthListResponse>, Status> {
        let (pools, _) = self.0.hub.pools(None, usize::MAX);
        let services = std::iter::once("").chain(SERVICES).map(str::to_owned);
        let names = services.chain(pools.iter().map(|pool| names::pool(&pool.name)));
        let statuses = names.map(|name| {
            let status = answer(self.status(&name));
            (name, status)
        });
        Ok(Response::new(HealthListResponse { statuses: statuses.collect::<HashMap<_, _>>() }))
    }

    type WatchStream = Watching;

    async fn watch(&self, request: Request<HealthCheckRequest>) -> Result<Response<Watching>, Status> {
        let service = request.into_inner().service;
        let pool = service.strip_prefix(POOLS);
        let (changes, place) = match pool {
            // It is woken after every change, as a stream of changes is, and counts as one.
            Some(_) => {
                let place = self.0.listeners.place().map_err(|error| errors::attach("", &error))?;
                (Some(self.0.hub.wakers().add()), Some(place))
            }
            None => (None, None),
        };
        let mut draining = self.0.draining.clone();
        let stopping = async move {
            // Whoever would say it may be gone, too.
            let _ = draining.wait_for(|draining| *draining).await;
        };
        Ok(Response::new(Watching {
            known: known(&self.0.hub, &service),
            hub: Arc::clone(&self.0.hub),
            service,
            changes,
            stopping: Some(Box::pin(stopping)),
            told: None,
            over: false,
            _place: place,
        }))
    }
}

impl HealthService {
    fn status(&self, service: &str) -> ServingStatus {
        match known(&self.0.hub, service) {
            ServingStatus::Serving if *self.0.draining.borrow() => ServingStatus::NotServing,
            status => status,
        }
    }
}

/// The status of what is asked for, while the service is not stopping.
fn known(hub: &Hub, service: &str) -> ServingStatus {
    let Some(pool) = service.strip_prefix(POOLS) else {
        let is_known = service.is_empty() || SERVICES.contains(&service);
        return if is_known { ServingStatus::Serving } else { ServingStatus::ServiceUnknown };
    };
    match hub.pool(pool) {
        None => ServingStatus::ServiceUnknown,
        Some((pool, _)) if pool.ready > 0 => ServingStatus::Serving,
        Some(_) => ServingStatus::NotServing,
    }
}

/// The status of one thing, at first and whenever it is another one. At the end of the service NOT_SERVING, and an
/// error that says so.
pub(super) struct Watching {
    hub: Arc<Hub>,
    service: String,
    /// Woken after changes, if they matter.
    changes: Option<Wakeup>,
    /// Resolves when the service stops; `None`: it does.
    stopping: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    known: ServingStatus,
    told: Option<ServingStatus>,
    over: bool,
    _place: Option<Place>,
}

impl Watching {
    fn status(&mut self) -> ServingStatus {
        if self.changes.is_some() {
            self.known = known(&self.hub, &self.service);
        }
        match self.known {
            ServingStatus::Serving if self.stopping.is_none() => ServingStatus::NotServing,
            status => status,
        }
    }
}

impl Stream for Watching {
    type Item = Result<HealthCheckResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if this.over {
            return Poll::Ready(None);
        }
        // First the waker, then the look: what happens in between wakes.
        if let Some(changes) = &mut this.changes {
            changes.register(cx.waker());
        }
        if this.stopping.as_mut().is_some_and(|stopping| stopping.as_mut().poll(cx).is_ready()) {
            this.stopping = None;
        }
        let status = this.status();
        if this.told != Some(status) {
            this.told = Some(status);
            return Poll::Ready(Some(Ok(answer(status))));
        }
        if this.stopping.is_none() {
            this.over = true;
            return Poll::Ready(Some(Err(error_info::draining(None))));
        }
        Poll::Pending
    }
}

fn answer(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: status.into() }
}
