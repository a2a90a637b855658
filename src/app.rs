//! The composition root: from settings to a running service, and down again in order.

use std::{collections::BTreeMap, io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::{
    net::{TcpListener, UnixListener},
    sync::watch,
    task::{JoinError, JoinHandle, JoinSet},
    time::{Instant, interval, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{info, warn};

use crate::{
    config::Config,
    grpc::{self, Access, Api, Server, SocketError, SocketFile, SocketSettings},
    pool,
    status::{Hub, Listeners},
    transport::Slots,
};

/// How often listeners that nobody watches are looked through.
const EXPIRE_EVERY: Duration = Duration::from_secs(1);
/// How often the files that say who gets in are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Files that the service itself has open: sockets that it listens on, those of its threads, logs, and whatever a
/// resolver needs.
const OWN_FILES: usize = 64;
/// There is room for some clients, however few files there may be.
const FEWEST_CLIENTS: usize = 16;
/// How long connections to peers have to close after they were told to.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// The service could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address cannot be had.
    #[error("cannot serve on {address}")]
    Bind {
        /// Where it was to serve.
        address: SocketAddr,
        /// Why it can't.
        #[source]
        source: io::Error,
    },
    /// The socket cannot be had.
    #[error("cannot serve on unix:{}", path.display())]
    Socket {
        /// Where it was to be.
        path: PathBuf,
        /// Why it can't.
        #[source]
        source: SocketError,
    },
    /// It has nothing to run on.
    #[error("cannot start the threads that carry clients")]
    Threads(#[source] io::Error),
}

/// The service could not go on.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The server failed.
    #[error(transparent)]
    Server(#[from] grpc::ThreadEnded),
    /// A task that must not end did.
    #[error("a task that the service cannot do without has ended")]
    Task(#[from] JoinError),
    /// The same, without a panic.
    #[error("a task that the service cannot do without has ended by itself")]
    Ended,
}

/// A running service.
pub struct Service {
    address: SocketAddr,
    stop: CancellationToken,
    run: JoinHandle<Result<(), RunError>>,
}

impl Service {
    /// Binds, and starts serving and connecting.
    ///
    /// # Errors
    /// The address could not be bound, or there are no threads to be had.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        let failed = |source| StartError::Bind { address: config.listen, source };
        let listener = TcpListener::bind(config.listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let (socket, socket_file) = config.socket.as_ref().map(bind_socket).transpose()?.unzip();
        let hub = Arc::new(Hub::new(fastrand::u64(1..), config.history));
        let listeners = Listeners::new(Arc::clone(&hub), config.limits);
        let stop_pools = CancellationToken::new();
        let tasks = TaskTracker::new();
        let files = raise_file_limit();
        let slots = Slots::for_files(files);
        let clients = room_for_clients(files, slots.most_connections());
        let open =
            |pool| pool::open(pool, slots.clone(), Arc::clone(&hub), tasks.clone(), stop_pools.clone());
        let (mut pools, mut owners) = (BTreeMap::new(), JoinSet::new());
        for pool in config.pools {
            if pool.peers.is_empty() {
                warn!(pool = %pool.name, "the pool has no peers: name some with --peer or in the configuration file");
            }
            let name = Arc::clone(&pool.name);
            let (handle, owner) = open(pool);
            owners.spawn(owner);
            pools.insert(name, handle);
        }
        let access = Arc::new(Access::new(config.tls, config.auth));
        if !address.ip().is_loopback() && !access.knows_others() {
            warn!("nobody beyond this machine gets in: say in [server.auth] who may");
        }
        owners.spawn(keep_fresh(Arc::clone(&access), stop_pools.clone()));
        let (drain, draining) = watch::channel(false);
        let api = Api { hub, listeners: Arc::clone(&listeners), pools: Arc::new(pools), draining };
        let mut serving = config.serving;
        // Each way in has places of its own.
        let clients = if socket.is_some() { clients / 2 } else { clients };
        if clients < serving.connections {
            warn!(files, clients, "the limit on open files leaves room for this many clients");
            serving.connections = clients;
        }
        let mut server = Server::start(api, serving, access).await.map_err(StartError::Threads)?;
        if let Some(socket) = socket {
            server = server.also_on(socket);
        }
        let stop = CancellationToken::new();
        let drain_timeout = config.drain_timeout;
        let parts = Parts { listeners, drain, tasks, owners, stop_pools, socket_file, drain_timeout };
        let run = tokio::spawn(run(parts, server, listener, stop.clone()));
        Ok(Self { address, stop, run })
    }

    /// Where the API is served.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Cancelling this stops the service, in order: clients are sent away, peers are announced as closing and
    /// gone, and their connections are closed.
    #[must_use]
    pub fn stopper(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Waits until the service has stopped.
    ///
    /// # Errors
    /// It stopped because something failed.
    pub async fn join(self) -> Result<(), RunError> {
        self.run.await?
    }
}

/// What has to be ended in order.
struct Parts {
    listeners: Arc<Listeners>,
    /// Tells calls that the service is stopping.
    drain: watch::Sender<bool>,
    /// Connections to peers.
    tasks: TaskTracker,
    /// The owners of pools.
    owners: JoinSet<()>,
    stop_pools: CancellationToken,
    /// Removed when it is over.
    socket_file: Option<SocketFile>,
    drain_timeout: Duration,
}

fn bind_socket(settings: &SocketSettings) -> Result<(UnixListener, SocketFile), StartError> {
    let failed = |source| StartError::Socket { path: settings.path.clone(), source };
    SocketFile::bind(settings).map_err(failed)
}

async fn run(
    mut parts: Parts,
    server: Server,
    listener: TcpListener,
    stop: CancellationToken,
) -> Result<(), RunError> {
    parts.owners.spawn(expire(Arc::clone(&parts.listeners), parts.stop_pools.clone()));
    let close = CancellationToken::new();
    let mut server = tokio::spawn(server.serve(listener, close.clone().cancelled_owned()));
    let outcome = tokio::select! {
        biased;
        () = stop.cancelled() => Ok(()),
        ended = &mut server => ended?.map_err(RunError::from).and(Err(RunError::Ended)),
        Some(ended) = parts.owners.join_next() => ended.map_err(RunError::from).and(Err(RunError::Ended)),
    };
    info!("stopping");
    stop.cancel();
    parts.listeners.drain();
    parts.drain.send_replace(true);
    if outcome.is_ok() {
        // Until the last stream has ended, who asks is told that the service is stopping.
        let left = async {
            parts.listeners.idle().await;
            close.cancel();
            let _ = (&mut server).await;
        };
        if timeout(parts.drain_timeout, left).await.is_err() {
            let (_, streams) = parts.listeners.count();
            warn!(streams, "clients are still connected after {:?}: leaving them", parts.drain_timeout);
        }
    }
    server.abort();
    parts.stop_pools.cancel();
    parts.tasks.close();
    let closed = async {
        while parts.owners.join_next().await.is_some() {}
        parts.tasks.wait().await;
    };
    if timeout(CLOSE_TIMEOUT, closed).await.is_err() {
        warn!("connections to peers did not close within {CLOSE_TIMEOUT:?}");
    }
    drop(parts.socket_file);
    info!("stopped");
    outcome
}

/// Each peer and each client takes a file descriptor, and many systems start processes with few of those that they
/// may have. Returns how many it is now.
fn raise_file_limit() -> usize {
    let limit = getrlimit(Resource::Nofile);
    // It may not be allowed, and is no reason not to run.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    let current = getrlimit(Resource::Nofile).current;
    current.map_or(usize::MAX, |files| usize::try_from(files).unwrap_or(usize::MAX))
}

/// How many clients there may be: as many as there are files that neither peers nor the service itself may need.
fn room_for_clients(files: usize, peers: usize) -> usize {
    files.saturating_sub(peers).saturating_sub(OWN_FILES).max(FEWEST_CLIENTS)
}

/// Destroys listeners that nobody has watched for too long.
async fn expire(listeners: Arc<Listeners>, stop: CancellationToken) {
    let mut every = interval(EXPIRE_EVERY);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = every.tick() => {
                let expired = listeners.expire(Instant::now());
                if expired > 0 {
                    info!(expired, "listeners expired");
                }
            }
        }
    }
}

/// Looks at the files that say who gets in, so that bad ones are warned of before somebody comes.
async fn keep_fresh(access: Arc<Access>, stop: CancellationToken) {
    let mut every = interval(LOOK_EVERY);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = every.tick() => access.look(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_have_the_files_that_peers_leave_them() {
        for (files, clients) in [(0, 16), (256, 16), (1024, 192), (20_000, 4_936), (1_048_576, 262_080)] {
            let peers = Slots::for_files(files).most_connections();
            assert_eq!(room_for_clients(files, peers), clients, "{files}");
            assert!(files < 512 || peers + clients < files);
        }
    }
}
