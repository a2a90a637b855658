//! The threads that serve connections, each with a single-threaded runtime: a stream and its connection are tasks of
//! one thread, so that waking one needs no synchronisation.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    thread,
};

use prometheus_client::metrics::gauge::Gauge;
use tokio::{
    runtime::{Builder, LocalOptions},
    sync::{mpsc, oneshot},
};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{
    accept::AcceptedConn,
    worker::{Shared, ThreadNumber, Worker},
};

/// Queue of connections to a thread, which empties it at once unless it is busy.
const QUEUE: usize = 64;

/// A connection that was assigned to a thread.
pub(super) struct AssignedConn {
    pub(super) conn: AcceptedConn,
    pub(super) guard: ConnectionGuard,
}

/// Counts a connection, for its thread and in the gauge of all, until it is dropped.
pub(super) struct ConnectionGuard {
    thread: Arc<AtomicUsize>,
    all: Gauge,
}

impl ConnectionGuard {
    fn new(thread: &Arc<AtomicUsize>, all: &Gauge) -> Self {
        thread.fetch_add(1, Relaxed);
        all.inc();
        Self { thread: Arc::clone(thread), all: all.clone() }
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        self.thread.fetch_sub(1, Relaxed);
        self.all.dec();
    }
}

/// A thread ended although the server was not shutting down.
#[derive(Debug, thiserror::Error)]
#[error("a thread that serves connections has ended")]
pub struct ThreadEnded;

/// All threads. Dropping it stops them and closes every connection.
pub(super) struct Threads {
    threads: Vec<Thread>,
    connections: Gauge,
}

struct Thread {
    conn_tx: mpsc::Sender<AssignedConn>,
    connections: Arc<AtomicUsize>,
    _abort: DropGuard,
}

/// Resolves when threads have ended.
pub(super) struct Ended(Vec<oneshot::Receiver<()>>);

impl Ended {
    /// Waits for all threads. They end when the server shuts down, after their last connection.
    ///
    /// # Errors
    /// A thread was stopped, or panicked.
    pub(super) async fn all(&mut self) -> Result<(), ThreadEnded> {
        for ended in &mut self.0 {
            ended.await.map_err(|_| ThreadEnded)?;
        }
        self.0.clear();
        Ok(())
    }
}

impl Threads {
    /// Starts `count` threads.
    ///
    /// # Errors
    /// The system refuses a thread.
    pub(super) async fn start(count: usize, shared: &Shared) -> io::Result<(Self, Ended)> {
        let (mut threads, mut ended) = (Vec::new(), Vec::new());
        for number in 0..count {
            let (thread, end) = start(number, shared.clone()).await?;
            threads.push(thread);
            ended.push(end);
        }
        Ok((Self { threads, connections: shared.metrics.connections.clone() }, Ended(ended)))
    }

    /// Assigns a connection to the thread that has the fewest.
    ///
    /// # Errors
    /// That thread has ended.
    pub(super) async fn assign(&self, conn: AcceptedConn) -> Result<(), ThreadEnded> {
        let fewest = self.threads.iter().min_by_key(|thread| thread.connections.load(Relaxed));
        let thread = fewest.ok_or(ThreadEnded)?;
        let guard = ConnectionGuard::new(&thread.connections, &self.connections);
        thread.conn_tx.send(AssignedConn { conn, guard }).await.map_err(|_| ThreadEnded)
    }
}

async fn start(number: usize, shared: Shared) -> io::Result<(Thread, oneshot::Receiver<()>)> {
    let (conn_tx, conn_rx) = mpsc::channel(QUEUE);
    let (started_tx, started) = oneshot::channel();
    let (ended_tx, ended) = oneshot::channel();
    let abort = CancellationToken::new();
    let aborted = abort.clone().cancelled_owned();
    thread::Builder::new().name(format!("clients-{number}")).spawn(move || {
        // A local runtime has to be built on its thread.
        match Builder::new_current_thread().enable_io().enable_time().build_local(LocalOptions::default()) {
            Ok(runtime) => {
                let _ = started_tx.send(Ok(()));
                let work = Worker::new(shared, ThreadNumber(number)).run(conn_rx);
                runtime.block_on(async {
                    tokio::select! {
                        () = work => drop(ended_tx.send(())),
                        () = aborted => {}
                    }
                });
            }
            Err(error) => drop(started_tx.send(Err(error))),
        }
    })?;
    started.await.map_err(io::Error::other)??;
    Ok((Thread { conn_tx, connections: Arc::default(), _abort: abort.drop_guard() }, ended))
}
