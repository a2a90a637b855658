//! The connections of one thread.

use std::{
    cell::{Cell, OnceCell},
    convert::Infallible,
    future::{Future, poll_fn},
    pin::{Pin, pin},
    rc::Rc,
    sync::Arc,
    task::{Poll, ready},
    time::Duration,
};

use axum::{Router, body::Body};
use http::{Request, Response};
use hyper::{body::Incoming, rt::Executor, service::Service};
use hyper_util::{rt::TokioTimer, server::conn::auto};
use tokio::{
    sync::mpsc,
    task::{AbortHandle, spawn_local},
    task_local,
    time::{Instant, sleep},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt as _;

use super::{
    Access, ServerMetrics, ServerOptions,
    admission::{Admission, PeakStreams},
    connection,
    handshake_stack::HandshakeStack,
    limits::{ByteBudget, ConnectionMemory},
    threads::AssignedConn,
    unread::Unread,
};
use crate::{
    auth::ConnectionInfo,
    deadline::EndConditions,
    status::{Hub, Wakers},
};

/// Concurrent streams per connection. Clients queue further requests.
const MAX_STREAMS: u32 = 128;
/// Header list size of HTTP/2, with room for any token.
const MAX_HEADERS: u32 = 16 * 1024;
/// Read buffer of HTTP/1.1, which bounds its headers.
const MAX_HEADERS_HTTP1: usize = 32 * 1024;
/// Flow-control windows for requests: room for the longest request, and for several per connection.
const STREAM_WINDOW: u32 = 64 * 1024;
const CONNECTION_WINDOW: u32 = 256 * 1024;
/// Bytes of one response that h2 buffers for the socket.
const SEND_BUFFER: usize = 32 * 1024;
/// Requests that a client may reset before they are accepted (CVE-2023-44487). h2's default of 20 disconnects ordinary
/// clients: grpc-go reached 100 by cancelling a group of calls, and 65 with 64 callers of which a third cancel.
const MAX_PENDING_RESETS: usize = 1000;
/// Resets that a client may provoke (CVE-2025-8671). This is hyper's default; tonic turns it off.
const MAX_LOCAL_RESETS: usize = 1024;
/// From the connection, or the previous request, to the end of the headers (HTTP/1.1).
const HEADERS_TIMEOUT: Duration = Duration::from_secs(10);

/// The state that all workers share.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) hub: Arc<Hub>,
    /// The API, wrapped in the layers.
    pub(super) router: Router,
    pub(super) access: Arc<Access>,
    pub(super) settings: ServerOptions,
    pub(super) memory: Arc<ByteBudget>,
    pub(super) peak_streams: PeakStreams,
    pub(super) metrics: ServerMetrics,
    /// Cancelled when the server shuts down.
    pub(super) close: CancellationToken,
}

/// The number of a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ThreadNumber(pub(super) usize);

/// Serves the connections of one thread.
pub(super) struct Worker {
    pub(super) shared: Shared,
    thread: ThreadNumber,
    pub(super) http: auto::Builder<LocalExecutor>,
    pub(super) handshakes: Rc<HandshakeStack>,
    watches: Arc<Wakers>,
    /// Connections shut down once this is set, and are woken by `closing`.
    pub(super) is_closing: Cell<bool>,
    pub(super) closing: Arc<Wakers>,
}

/// A stream that has to end is reset when it has sent nothing for this long: its client grants no window for the status.
const END_GRACE: Duration = Duration::from_secs(5);

/// A task that serves a stream or a connection.
#[derive(Default)]
struct Task {
    abort: OnceCell<AbortHandle>,
    /// `None` for the task of a connection, which may serve many requests of HTTP/1.1.
    end_conditions: Option<EndConditions>,
}

task_local! {
    /// The current task.
    static TASK: Rc<Task>;
}

/// Aborts the current task, which resets its stream, or closes its connection (HTTP/1.1).
pub(super) fn abort_handle() -> Option<AbortHandle> {
    TASK.try_with(|task| task.abort.get().cloned()).ok().flatten()
}

/// Ends the stream of the current task even while hyper does not poll its response, for lack of send window.
pub(super) fn end_conditions() -> Option<EndConditions> {
    TASK.try_with(|task| task.end_conditions.clone()).ok().flatten()
}

/// Runs the streams of a connection on its thread.
#[derive(Clone, Copy, Debug)]
pub(super) struct LocalExecutor;

impl<F: Future + 'static> Executor<F> for LocalExecutor {
    fn execute(&self, stream: F) {
        let end_conditions = EndConditions::default();
        let task = Task { end_conditions: Some(end_conditions.clone()), ..Task::default() };
        spawn_in_task(Rc::new(task), run_until_stalled(stream, end_conditions));
    }
}

/// Runs a task that [`abort_handle`] ends.
fn spawn_in_task<F: Future + 'static>(task: Rc<Task>, future: F) {
    let handle = spawn_local(TASK.scope(Rc::clone(&task), future));
    let _ = task.abort.set(handle.abort_handle());
}

/// Runs a stream to its end, or until it has to end and has sent nothing for [`END_GRACE`]; a stream that still sends
/// goes on. HTTP/1.1 needs none of it: TCP_USER_TIMEOUT closes a connection that does not read.
async fn run_until_stalled<F: Future>(future: F, end_conditions: EndConditions) {
    let (mut future, mut grace) = (pin!(future), None);
    poll_fn(|cx| {
        if future.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        if grace.is_none() && end_conditions.any_met() {
            let _ = end_conditions.take_progress();
            grace = Some(Box::pin(sleep(END_GRACE)));
        }
        let Some(grace) = &mut grace else { return Poll::Pending };
        loop {
            ready!(grace.as_mut().poll(cx));
            if !end_conditions.take_progress() {
                return Poll::Ready(());
            }
            grace.as_mut().reset(Instant::now() + END_GRACE);
        }
    })
    .await;
}

impl Worker {
    pub(super) fn new(shared: Shared, thread: ThreadNumber) -> Rc<Self> {
        let mut http = auto::Builder::new(LocalExecutor);
        let keepalive = shared.settings.keepalive;
        http.http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(MAX_STREAMS)
            .max_header_list_size(MAX_HEADERS)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_send_buf_size(SEND_BUFFER)
            .max_pending_accept_reset_streams(MAX_PENDING_RESETS)
            .max_local_error_reset_streams(MAX_LOCAL_RESETS)
            .keep_alive_interval(keepalive.interval)
            .keep_alive_timeout(keepalive.timeout)
            .auto_date_header(false);
        http.http1()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADERS_TIMEOUT)
            .max_buf_size(MAX_HEADERS_HTTP1);
        let is_closing = Cell::new(false);
        Rc::new(Self {
            shared,
            thread,
            http,
            handshakes: Rc::default(),
            watches: Arc::default(),
            is_closing,
            closing: Arc::default(),
        })
    }

    /// Serves the assigned connections, until the server shuts down and the last one has ended.
    pub(super) async fn run(self: Rc<Self>, mut conn_rx: mpsc::Receiver<AssignedConn>) {
        let this = Rc::clone(&self);
        spawn_local(async move { this.watches.follow(&this.shared.hub, this.shared.settings.pacing).await });
        spawn_local(self.shared.metrics.loops.add().run());
        let connections = TaskTracker::new();
        loop {
            tokio::select! {
                biased;
                () = self.shared.close.cancelled() => break,
                conn = conn_rx.recv() => match conn {
                    Some(conn) => {
                        let connection = connection::serve(Rc::clone(&self), conn);
                        spawn_in_task(Rc::default(), connections.track_future(connection));
                    }
                    None => break,
                }
            }
        }
        // Closes the connections in the queue.
        drop(conn_rx);
        self.is_closing.set(true);
        self.closing.wake_all();
        connections.close();
        connections.wait().await;
    }

    /// The service for the requests of one connection.
    pub(super) fn service(&self, info: ConnectionInfo, admission: Arc<Admission>) -> ConnectionService {
        ConnectionService {
            router: self.shared.router.clone(),
            info: Arc::new(info),
            admission,
            thread: self.thread,
            watches: Arc::clone(&self.watches),
            memory: ConnectionMemory::new(Arc::clone(&self.shared.memory)),
        }
    }
}

/// Passes the requests of one connection to the router, with what the layers need in their extensions.
pub(super) struct ConnectionService {
    router: Router,
    info: Arc<ConnectionInfo>,
    admission: Arc<Admission>,
    thread: ThreadNumber,
    watches: Arc<Wakers>,
    memory: Arc<ConnectionMemory>,
}

impl Service<Request<Incoming>> for ConnectionService {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>>>>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        let call = Arc::new(self.admission.begin());
        let extensions = request.extensions_mut();
        extensions.insert(Arc::clone(&self.info));
        extensions.insert(Arc::clone(&call));
        extensions.insert(self.thread);
        extensions.insert(Arc::clone(&self.watches));
        extensions.insert(Arc::clone(&self.memory));
        let unread = Unread::default();
        let response = self.router.clone().oneshot(request.map(|body| unread.body(body)));
        Box::pin(async move {
            let response = response.await?;
            if call.connection().may_discard() {
                unread.discard().await;
            }
            Ok(response)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_stream_that_has_to_be_over_ends_when_it_has_sent_nothing_for_the_grace() {
        let end_conditions = EndConditions::default();
        let begin = Instant::now();
        let sending = async {
            for _ in 0..6 {
                sleep(Duration::from_secs(3)).await;
                end_conditions.record_progress();
            }
            pending::<()>().await;
        };
        end_conditions.add(|| true);
        run_until_stalled(sending, end_conditions.clone()).await;
        // It sent until 18 s, so it goes on at 20 s.
        assert_eq!(begin.elapsed().as_secs(), 25);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_that_may_go_on_is_not_ended() {
        let end_conditions = EndConditions::default();
        end_conditions.add(|| false);
        run_until_stalled(sleep(Duration::from_secs(60)), end_conditions).await;
    }
}
