//! `grpc.health.v1`: whether the service and its two APIs take requests. Says nothing about peers.

use std::pin::Pin;

use tokio::sync::watch;
use tokio_stream::{Stream, StreamExt as _, wrappers::WatchStream};
use tonic::{Request, Response, Status};
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus, health_server::Health,
};

use super::pb;

/// What can be asked for by name.
const SERVICES: [&str; 2] =
    [pb::peer_status_service_server::SERVICE_NAME, pb::pool_service_server::SERVICE_NAME];

/// Answers health checks.
pub(super) struct HealthService {
    /// Turns true when the service stops; its sender goes soon after, which ends the streams.
    pub(super) draining: watch::Receiver<bool>,
}

#[tonic::async_trait]
impl Health for HealthService {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        let service = request.into_inner().service;
        if !is_known(&service) {
            let services = SERVICES.join(", ");
            let message = format!("no such service; there are {services}, and \"\" for all of them");
            return Err(Status::not_found(message));
        }
        Ok(Response::new(answer(serving(*self.draining.borrow()))))
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let known = is_known(&request.into_inner().service);
        let statuses = WatchStream::new(self.draining.clone()).map(move |draining| match known {
            true => serving(draining),
            false => ServingStatus::ServiceUnknown,
        });
        Ok(Response::new(Box::pin(statuses.map(|status| Ok(answer(status))))))
    }
}

fn is_known(service: &str) -> bool {
    service.is_empty() || SERVICES.contains(&service)
}

const fn serving(draining: bool) -> ServingStatus {
    if draining { ServingStatus::NotServing } else { ServingStatus::Serving }
}

fn answer(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: status.into() }
}
