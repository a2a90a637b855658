//! Accepts connections within bounds and serves one request on each.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use axum::{Extension, Router, extract::Request, middleware::Next, response::Response};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Notify,
    time::sleep,
};
use tokio_util::task::AbortOnDropHandle;
use tower::ServiceExt as _;
use tracing::{debug, warn};

/// Enough for several scrapers and the probes. One more closes the oldest, so idle connections cannot keep a probe out.
pub const MAX_CONNECTIONS: usize = 64;
/// From accepting a connection to the end of the request head.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// From the request head to the end of the response. Scrapers give up sooner; Prometheus does after 10 s.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(30);
/// The smallest buffer that hyper allows. It bounds the request head; bodies are never read.
const MAX_HEADER_BYTES: usize = 8 * 1024;
/// Delay after a failed accept. The usual cause, too few file descriptors, lasts until something is closed.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(100);

/// The time limit of a response, sending included; its expiry closes the connection. The one request of a connection
/// carries it as an extension, and it does not run until [`limit_response_time`] starts it.
#[derive(Clone, Default)]
pub(super) struct ResponseTimer(Arc<Notify>);

/// Middleware for routes whose responses must be sent within [`RESPONSE_TIMEOUT`]: all but long-lived ones.
pub(super) async fn limit_response_time(
    Extension(timer): Extension<ResponseTimer>,
    request: Request,
    next: Next,
) -> Response {
    timer.0.notify_one();
    next.run(request).await
}

/// Serves `router` until dropped.
pub(super) async fn serve(listener: TcpListener, router: Router) {
    let mut connections = VecDeque::new();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                connections.retain(|connection: &AbortOnDropHandle<()>| !connection.is_finished());
                if connections.len() >= MAX_CONNECTIONS {
                    connections.pop_front();
                }
                let connection = tokio::spawn(serve_connection(stream, router.clone()));
                connections.push_back(AbortOnDropHandle::new(connection));
            }
            Err(error) => {
                warn!(%error, "cannot accept a connection to the admin port");
                sleep(ACCEPT_RETRY_DELAY).await;
            }
        }
    }
}

async fn serve_connection(stream: TcpStream, router: Router) {
    let timer = ResponseTimer::default();
    let expired = async {
        timer.0.notified().await;
        sleep(RESPONSE_TIMEOUT).await;
    };
    let service = service_fn(|mut request: http::Request<Incoming>| {
        request.extensions_mut().insert(timer.clone());
        router.clone().oneshot(request)
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT).max_buf_size(MAX_HEADER_BYTES);
    // One request per connection, so that the timer of the request is that of the connection.
    http.keep_alive(false);
    tokio::select! {
        served = http.serve_connection(TokioIo::new(stream), service) => if let Err(error) = served {
            debug!(%error, "a connection to the admin port failed");
        },
        () = expired => debug!("a response of the admin port took longer than {RESPONSE_TIMEOUT:?}"),
    }
}

#[cfg(test)]
mod tests;
