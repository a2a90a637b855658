//! The composition root: starts the service from its configuration.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::SocketAddr,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::watch,
    task::{JoinError, JoinHandle, JoinSet},
    time::interval,
};
use tokio_util::{
    sync::CancellationToken,
    task::{AbortOnDropHandle, TaskTracker},
};
use tracing::warn;

use crate::{
    admin::{self, AdminState, CertificateExpiry, Exposition, Sources},
    api::{self, Api, JsonGateway},
    config::Role,
    fleet::{self, Nats, Reader},
    metrics::{
        FleetMetrics, ForwarderMetrics, LoopMonitors, ObserverMetrics, PeerMetrics, ReloadMetrics,
        WatchMetrics,
    },
    pool::{self, LogBudget, ObservedContext, PoolHandle},
    server::{self, Access, Server, ServerMetrics, SocketError},
    status::{Hub, Listeners},
    transport::DialLimits,
};

mod bound_sockets;
mod config_reload;
mod drain;
mod fd_limit;
mod forwarding;
mod listener_expiry;
mod loaded_config;
mod observed_pools;

use bound_sockets::BoundSockets;
pub use config_reload::Reloader;
use forwarding::Forwarding;
pub use loaded_config::LoadedConfig;
use loaded_config::listener_limits;
use observed_pools::{ObservedHandle, ObservedPools};

/// How often certificates, keys and tokens are checked for changes.
const REFRESH_INTERVAL: Duration = Duration::from_secs(1);

/// The service could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address of the API cannot be bound.
    #[error("cannot serve on {address}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The address of the admin port cannot be bound.
    #[error("cannot bind the admin port on {address}")]
    BindAdmin {
        /// The address.
        address: SocketAddr,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The Unix socket cannot be created.
    #[error("cannot serve on unix:{}", path.display())]
    Socket {
        /// Its file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: SocketError,
    },
    /// The client of NATS could not be made.
    #[error("cannot connect to the fleet")]
    Fleet(#[source] fleet::ConnectError),
    /// The system refused a thread.
    #[error("cannot start the threads that serve connections")]
    Threads(#[source] io::Error),
}

/// The service stopped because of a failure.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The server failed.
    #[error(transparent)]
    Server(#[from] server::ThreadEnded),
    /// A critical task panicked.
    #[error("a critical task failed")]
    Task(#[from] JoinError),
    /// A critical task ended.
    #[error("a critical task ended unexpectedly")]
    Ended,
}

/// A running service.
pub struct Service {
    address: SocketAddr,
    admin: Option<SocketAddr>,
    reloader: Option<Reloader>,
    loops: LoopMonitors,
    stop: CancellationToken,
    run: JoinHandle<Result<(), RunError>>,
}

impl Service {
    /// Binds, and starts serving and connecting.
    ///
    /// # Errors
    /// An address could not be bound, or a thread could not be started.
    pub async fn start(loaded: LoadedConfig) -> Result<Self, StartError> {
        let config = &loaded.config;
        let BoundSockets { listener, address, admin, socket } = BoundSockets::open(&config.server)?;
        let admin_address = admin.as_ref().and_then(|admin| admin.local_addr().ok());
        let (socket, socket_file) = socket.unzip();
        let hub = Arc::new(match config.role {
            Role::Node => Hub::new(fastrand::u64(1..), config.history.changes),
            Role::Fleet => Hub::of_fleet(config.history.changes),
        });
        let listeners = Listeners::new(Arc::clone(&hub), listener_limits(&config.limits));
        let peers = PeerMetrics::default();
        let files = fd_limit::raise_limit();
        let own: Vec<_> = [Some(address), admin_address].into_iter().flatten().collect();
        let limits = DialLimits::for_files(files).with_own_addresses(&own);
        let observer = ObserverMetrics::default();
        let mut pools = open_pools(&loaded, &limits, &hub, &peers, observer.clone());
        let handles = Arc::new(pools.handles);
        let access = Arc::new(Access::new(loaded.tls.clone(), Arc::clone(&loaded.auth)));
        if !address.ip().is_loopback() && !access.accepts_remote() {
            warn!("remote clients will be rejected: no credentials are configured in [server.auth]");
        }
        pools.owners.spawn(refresh_access(Arc::clone(&access), pools.stop.clone()));
        pools.owners.spawn(listener_expiry::expire(Arc::clone(&listeners), pools.stop.clone()));
        let forwarder = match config.role {
            Role::Node => loaded.fleet.as_ref().map(|_| ForwarderMetrics::default()),
            Role::Fleet => None,
        };
        let forwarding = loaded.fleet.clone().zip(forwarder.clone());
        let forwarding = forwarding.map(|(fleet, metrics)| Forwarding::start(fleet, &hub, metrics));
        let fleet = match (config.role, loaded.fleet.clone()) {
            (Role::Fleet, Some(fleet)) => {
                let (metrics, settings) = (FleetMetrics::default(), fleet.reader());
                let nats = Nats::connect(fleet.nats).await.map_err(StartError::Fleet)?;
                let reader = Reader::new(settings, Arc::clone(&hub), nats, metrics.clone());
                pools.owners.spawn(reader.run(pools.stop.clone()));
                Some(metrics)
            }
            _ => None,
        };
        let (drain, draining) = watch::channel(false);
        let (watches, metrics, methods) = (WatchMetrics::default(), ServerMetrics::default(), api::methods());
        let api = Api {
            hub: Arc::clone(&hub),
            listeners: Arc::clone(&listeners),
            pools: Arc::clone(&handles),
            metrics: watches.clone(),
            draining: draining.clone(),
        };
        let mut serving = loaded.server_options();
        let socket_count = 1 + usize::from(socket.is_some());
        serving.connections =
            fd_limit::limit_connections(serving.connections, files, limits.max_connections(), socket_count);
        let server = Server::start(
            api.clone().routes(),
            &methods,
            Arc::clone(&hub),
            serving,
            Arc::clone(&access),
            metrics.clone(),
        );
        let mut server = server.await.map_err(StartError::Threads)?;
        if let Some(socket) = socket {
            server = server.with_socket(socket);
        }
        let ServerMetrics { connections, loops } = metrics;
        let reloads = ReloadMetrics::default();
        let (effective, config_in_effect) = watch::channel(config.effective().into());
        let sources = Sources {
            hub: Arc::clone(&hub),
            listeners: Arc::clone(&listeners),
            peers,
            observer,
            calls: methods.calls,
            connections,
            watches,
            loops: loops.clone(),
            forwarder,
            fleet,
            reloads: reloads.clone(),
            certificates: Box::new(certificates(&loaded, Arc::clone(&access))),
        };
        let admin_state = AdminState {
            address: admin_address.unwrap_or(address),
            auth: config.server.admin_auth,
            access: Arc::clone(&access),
            hub: Arc::clone(&hub),
            // Status pages are paced more slowly than watches, and not counted as such.
            gateway: JsonGateway::new(Api { metrics: WatchMetrics::default(), ..api }),
            event_streams: config.limits.max_event_streams,
            allowed_hosts: config.server.admin_allowed_hosts.clone(),
            exposition: Exposition::new(sources),
            loops: loops.clone(),
            draining,
            config: config_in_effect,
        };
        let stop = CancellationToken::new();
        let parts = drain::DrainParts {
            listeners: Arc::clone(&listeners),
            drain,
            loops: loops.clone(),
            tasks: pools.tasks,
            owners: pools.owners,
            forwarding,
            stop_pools: pools.stop,
            socket_file,
            drain_timeout: config.server.drain_timeout,
        };
        // It ends last, so that metrics and probes work during the shutdown.
        let admin =
            admin.map(|listener| AbortOnDropHandle::new(tokio::spawn(admin::serve(listener, admin_state))));
        let service = drain::run(parts, server, listener, stop.clone());
        let run = tokio::spawn(async move {
            let _admin = admin;
            service.await
        });
        let reloader = Some(Reloader {
            running: loaded.config,
            listeners,
            pools: handles,
            observed: pools.observed,
            access,
            reloads,
            effective,
            refused: BTreeSet::new(),
        });
        Ok(Self { address, admin: admin_address, reloader, loops, stop, run })
    }

    /// The task that applies reloaded configurations. Only the first call returns it.
    pub const fn take_reloader(&mut self) -> Option<Reloader> {
        self.reloader.take()
    }

    /// Whether its event loops run.
    #[must_use]
    pub const fn loops(&self) -> &LoopMonitors {
        &self.loops
    }

    /// The address of the admin port, if it is on.
    #[must_use]
    pub const fn admin_address(&self) -> Option<SocketAddr> {
        self.admin
    }

    /// The address of the API.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Cancelling this stops the service in order: clients are drained, peers are announced as closing and removed, and
    /// their connections are closed.
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

/// The running pools.
struct Pools {
    /// Of those that connect.
    handles: BTreeMap<Arc<str>, PoolHandle>,
    observed: ObservedHandle,
    owners: JoinSet<()>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

fn open_pools(
    loaded: &LoadedConfig,
    limits: &DialLimits,
    hub: &Arc<Hub>,
    peers: &PeerMetrics,
    metrics: ObserverMetrics,
) -> Pools {
    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
    let (mut handles, mut owners, log) = (BTreeMap::new(), JoinSet::new(), LogBudget::default());
    for pool in loaded.pools() {
        if pool.peers.is_empty() {
            warn!(pool = %pool.name, "the pool has no peers: name some with --peer or in the configuration file");
        }
        let (limits, tasks, log) = (limits.clone(), tasks.clone(), log.clone());
        let name = Arc::clone(&pool.name);
        let (handle, owner) = pool::open(pool, limits, Arc::clone(hub), peers, log, tasks, stop.clone());
        owners.spawn(owner);
        handles.insert(name, handle);
    }
    let (hub, peers) = (Arc::clone(hub), peers.clone());
    let context = ObservedContext { hub, peers, metrics, log, tasks: tasks.clone() };
    let (all, observed) =
        ObservedPools::start(loaded.observed(), context, loaded.config.limits.max_peers, stop.clone());
    owners.spawn(all.run());
    Pools { handles, observed, owners, tasks, stop }
}

/// Lists the certificates in use, with the end of their validity.
fn certificates(
    loaded: &LoadedConfig,
    access: Arc<Access>,
) -> impl Fn() -> Vec<CertificateExpiry> + Send + Sync + use<> {
    let pools: Vec<_> = loaded.pools().filter_map(|pool| Some((pool.name, pool.tls?))).collect();
    move || {
        let tls = access.tls();
        let of_server = [
            ("server", tls.as_ref().and_then(|tls| tls.certificate_expires())),
            ("client_ca", tls.as_ref().and_then(|tls| tls.client_ca_expires())),
        ];
        let of_server = of_server.map(|(usage, expires)| (usage, Arc::from(""), expires));
        let of_pools = pools.iter().map(|(name, tls)| ("pool", Arc::clone(name), tls.certificate_expires()));
        let all = of_server.into_iter().chain(of_pools);
        all.filter_map(|(usage, pool, expires)| Some(CertificateExpiry { usage, pool, expires: expires? }))
            .collect()
    }
}

/// Reloads certificates, keys and tokens, so that invalid files are logged before a client connects.
async fn refresh_access(access: Arc<Access>, stop: CancellationToken) {
    let mut every = interval(REFRESH_INTERVAL);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = every.tick() => access.refresh(),
        }
    }
}
