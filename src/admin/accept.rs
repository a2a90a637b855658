//! Accepts connections within bounds and serves one request on each.

use std::{
    collections::VecDeque,
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

use axum::{Extension, Router, extract::Request, middleware::Next, response::Response};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::SockRef;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::Notify,
    time::{sleep, timeout},
};
use tokio_util::task::AbortOnDropHandle;
use tower::ServiceExt as _;
use tracing::{debug, warn};

use crate::{auth::ConnectionInfo, server::Source, status::clock};

/// Connections beside the streams of events. Enough for several scrapers and the probes. One more closes the oldest that
/// is no stream, so idle connections cannot keep a probe out.
pub const MAX_CONNECTIONS: usize = 64;
/// From accepting a connection to the end of the request head.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// From the request head to the end of the response. Scrapers give up sooner; Prometheus does after 10 s.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(30);
/// The smallest buffer that hyper allows. It bounds the request head; bodies are never read.
const MAX_HEADER_BYTES: usize = 8 * 1024;
/// Without an acknowledgement for this long, a client is gone.
const UNACKNOWLEDGED_TIMEOUT: Duration = Duration::from_secs(30);
/// Delay after a failed accept. The usual cause, too few file descriptors, lasts until something is closed.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(100);

/// The control of a connection, an extension of its one request. The time limit of the response, sending included, closes
/// the connection. It does not run until [`limit_response_time`] starts it.
#[derive(Clone)]
pub(super) struct ConnectionControl {
    source: Source,
    timer: Arc<Notify>,
    is_kept: Arc<AtomicBool>,
}

impl ConnectionControl {
    fn new(client: SocketAddr) -> Self {
        Self { source: Source::of(client.ip()), timer: Arc::default(), is_kept: Arc::default() }
    }

    /// Where the connection comes from.
    pub(super) const fn source(&self) -> Source {
        self.source
    }

    /// Protects the connection from being closed for a newer one. The caller bounds how many are.
    pub(super) fn keep(&self) {
        self.is_kept.store(true, Ordering::Relaxed);
    }
}

/// Middleware for routes whose responses must be sent within [`RESPONSE_TIMEOUT`]: all but long-lived ones.
pub(super) async fn limit_response_time(
    Extension(control): Extension<ConnectionControl>,
    request: Request,
    next: Next,
) -> Response {
    control.timer.notify_one();
    next.run(request).await
}

struct Connection {
    task: AbortOnDropHandle<()>,
    control: ConnectionControl,
}

/// Serves `router` until dropped.
pub(super) async fn serve(listener: TcpListener, router: Router) {
    let mut connections = VecDeque::<Connection>::new();
    loop {
        match listener.accept().await {
            Ok((stream, client)) => {
                connections.retain(|connection| !connection.task.is_finished());
                make_room(&mut connections);
                let control = ConnectionControl::new(client);
                let task = tokio::spawn(serve_connection(stream, client, control.clone(), router.clone()));
                connections.push_back(Connection { task: AbortOnDropHandle::new(task), control });
            }
            Err(error) => {
                warn!(%error, "cannot accept a connection to the admin port");
                sleep(ACCEPT_RETRY_DELAY).await;
            }
        }
    }
}

/// Closes the oldest connection that is not kept, if there are too many of these.
fn make_room(connections: &mut VecDeque<Connection>) {
    let is_kept = |connection: &Connection| connection.control.is_kept.load(Ordering::Relaxed);
    let mut others = connections.iter().enumerate().filter(|(_, connection)| !is_kept(connection));
    let oldest = others.next().map(|(index, _)| index);
    if others.count() + 1 >= MAX_CONNECTIONS
        && let Some(oldest) = oldest
    {
        connections.remove(oldest);
    }
}

async fn serve_connection(stream: TcpStream, client: SocketAddr, control: ConnectionControl, router: Router) {
    if !clock::is_writable(SystemTime::now()) {
        // The date that hyper keeps for HTTP/1.1 would panic.
        let _ = timeout(HEADER_TIMEOUT, refuse_without_date(stream)).await;
        return;
    }
    let _ = SockRef::from(&stream).set_tcp_user_timeout(Some(UNACKNOWLEDGED_TIMEOUT));
    let connection = Arc::new(ConnectionInfo::tcp(client));
    let expired = async {
        control.timer.notified().await;
        sleep(RESPONSE_TIMEOUT).await;
    };
    let service = service_fn(|mut request: http::Request<Incoming>| {
        request.extensions_mut().insert(control.clone());
        request.extensions_mut().insert(Arc::clone(&connection));
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

/// Tells a client that the clock of this machine was never set.
async fn refuse_without_date(mut stream: TcpStream) -> io::Result<()> {
    // Closing it with unread input would reset the connection.
    let _ = stream.read(&mut [0; MAX_HEADER_BYTES]).await?;
    let reason = "the clock of this machine is before 1970 or after 9999: set it\n";
    let (head, length) = ("HTTP/1.1 503 Service Unavailable\r\nconnection: close", reason.len());
    let response = format!("{head}\r\ncontent-length: {length}\r\n\r\n{reason}");
    stream.write_all(response.as_bytes()).await
}

#[cfg(test)]
mod tests;
