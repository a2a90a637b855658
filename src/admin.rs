//! The port for operators: HTTP/1.1 with metrics, probes and the configuration. It reads, and changes nothing.
//!
//! It runs on the runtime of the pools, so what it does is bounded: connections, the time of each, bytes of a request,
//! and one page of metrics at a time, which is made on a thread for blocking work.

mod exposition;
mod pages;
mod process;
mod state;

pub use exposition::{Certificate, Exposition, Sources};
pub use pages::Pages;

use std::{collections::VecDeque, convert::Infallible, sync::Arc, time::Duration};

use http::Request;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    task::{AbortHandle, JoinSet},
    time::{sleep, timeout},
};
use tracing::{debug, warn};

/// Connections at a time: some scrapers, and probes. The oldest gives way to one more, so that a probe is answered
/// whoever else has connected and says nothing.
pub const MAX_CONNECTIONS: usize = 64;
/// From the connection to the end of the request's headers.
const HEADERS: Duration = Duration::from_secs(5);
/// A connection is for one request, and over after this: who reads a page of metrics more slowly has no use for it.
const LIFETIME: Duration = Duration::from_secs(30);
/// Bytes of a request, of which there is only the head. Less is not possible with hyper.
const MAX_REQUEST: usize = 8 * 1024;
/// How long to wait where a connection could not be taken in, mostly for lack of file descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// Serves the pages, until it is dropped.
pub async fn serve(listener: TcpListener, pages: Pages) {
    let pages = Arc::new(pages);
    let (mut connections, mut by_age) = (JoinSet::new(), VecDeque::<AbortHandle>::new());
    loop {
        while connections.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((stream, _)) => {
                by_age.retain(|connection| !connection.is_finished());
                if by_age.len() >= MAX_CONNECTIONS
                    && let Some(oldest) = by_age.pop_front()
                {
                    oldest.abort();
                }
                by_age.push_back(connections.spawn(connection(stream, Arc::clone(&pages))));
            }
            Err(error) => {
                warn!(%error, "a connection to the admin port could not be taken in");
                sleep(PAUSE).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, pages: Arc<Pages>) {
    let answer = service_fn(move |request: Request<Incoming>| {
        let pages = Arc::clone(&pages);
        async move { Ok::<_, Infallible>(pages.answer(request.method(), request.uri().path()).await) }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEADERS).max_buf_size(MAX_REQUEST).keep_alive(false);
    match timeout(LIFETIME, http.serve_connection(TokioIo::new(stream), answer)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => debug!(%error, "a connection to the admin port failed"),
        Err(_) => debug!("a connection to the admin port took longer than {LIFETIME:?}"),
    }
}
