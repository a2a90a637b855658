//! Threads that carry the connections of clients, each with a runtime of its own: waking a connection is an entry in a
//! list of its thread, without synchronisation.

use std::{
    future::Future,
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use tokio::{
    runtime::{Builder, LocalOptions, LocalRuntime},
    sync::{mpsc, oneshot},
};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{
    acceptor::Visitor,
    shard::{Common, Shard},
};

/// Connections on their way to a thread. It takes them as fast as it can.
const WAITING: usize = 64;

/// A client that has connected, and its thread.
pub(super) struct Arrival {
    pub(super) visitor: Visitor,
    pub(super) load: Load,
}

/// One of the connections of a thread, until it is dropped.
pub(super) struct Load(Arc<AtomicUsize>);

impl Load {
    fn on(thread: &Arc<AtomicUsize>) -> Self {
        thread.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(thread))
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A thread ended before its time.
#[derive(Debug, thiserror::Error)]
#[error("a thread that carries clients has ended")]
pub struct ThreadEnded;

/// All threads. Dropping it ends them, and every connection.
pub(in crate::grpc) struct Threads {
    members: Vec<Member>,
}

struct Member {
    door: mpsc::Sender<Arrival>,
    load: Arc<AtomicUsize>,
    _abort: DropGuard,
}

/// The ends of all threads.
pub(in crate::grpc) struct Ends(Vec<oneshot::Receiver<()>>);

impl Ends {
    /// Waits until all have ended, as they do when they were told to close and the last client has gone.
    ///
    /// # Errors
    /// One did not end by itself.
    pub(in crate::grpc) async fn all(&mut self) -> Result<(), ThreadEnded> {
        for end in &mut self.0 {
            end.await.map_err(|_| ThreadEnded)?;
        }
        self.0.clear();
        Ok(())
    }
}

impl Threads {
    /// Starts so many.
    ///
    /// # Errors
    /// A thread could not be had.
    pub(in crate::grpc) async fn start(count: usize, common: &Common) -> io::Result<(Self, Ends)> {
        let (mut members, mut ends) = (Vec::new(), Vec::new());
        for number in 0..count {
            let (member, end) = start(number, common.clone()).await?;
            members.push(member);
            ends.push(end);
        }
        Ok((Self { members }, Ends(ends)))
    }

    /// Gives a client to the thread that has the fewest.
    ///
    /// # Errors
    /// That thread has ended.
    pub(super) async fn admit(&self, visitor: Visitor) -> Result<(), ThreadEnded> {
        let member = self.members.iter().min_by_key(|member| member.load.load(Ordering::Relaxed));
        let Some(Member { door, load, .. }) = member else { return Err(ThreadEnded) };
        door.send(Arrival { visitor, load: Load::on(load) }).await.map_err(|_| ThreadEnded)
    }
}

async fn start(number: usize, common: Common) -> io::Result<(Member, oneshot::Receiver<()>)> {
    let (door, arrivals) = mpsc::channel(WAITING);
    let (started, has_started) = oneshot::channel();
    let (end, ended) = oneshot::channel();
    let abort = CancellationToken::new();
    let aborted = abort.clone().cancelled_owned();
    thread::Builder::new().name(format!("clients-{number}")).spawn(move || {
        // It must be made where it runs.
        match Builder::new_current_thread().enable_io().enable_time().build_local(LocalOptions::default()) {
            Ok(runtime) => {
                let _ = started.send(Ok(()));
                carry(&runtime, Shard::new(common).run(arrivals), aborted, end);
            }
            Err(error) => drop(started.send(Err(error))),
        }
    })?;
    has_started.await.map_err(io::Error::other)??;
    Ok((Member { door, load: Arc::default(), _abort: abort.drop_guard() }, ended))
}

/// Runs until the end, or until it is not wanted any more.
fn carry(
    runtime: &LocalRuntime,
    work: impl Future<Output = ()>,
    aborted: impl Future<Output = ()>,
    end: oneshot::Sender<()>,
) {
    runtime.block_on(async {
        tokio::select! {
            () = work => drop(end.send(())),
            () = aborted => {}
        }
    });
}
