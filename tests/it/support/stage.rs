//! The API on a hub that the test itself publishes to: what would take a pool minutes happens at once.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use opflex_peerstatus::{
    api::{self, Api},
    metrics::WatchMetrics,
    opflex::Identity,
    peer::{PeerAddress, PeerOrigin, PeerStatus, Reason, Report},
    server::{Access, Keepalive, Server, ServerMetrics, ServerOptions, ThreadEnded},
    status::{Hub, ListenerLimits, Listeners, PeerUpdate, Update},
};
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::within;

/// A client that is gone is noticed within the sum of the two; one that is there answers in time, also where tests
/// crowd the machine.
pub(crate) const QUICK: Keepalive =
    Keepalive { interval: Duration::from_millis(300), timeout: Duration::from_secs(2) };

pub(crate) struct Stage {
    pub(crate) hub: Arc<Hub>,
    pub(crate) listeners: Arc<Listeners>,
    pub(crate) api: Api,
    _drain: watch::Sender<bool>,
}

impl Stage {
    /// With empty pools of these names.
    pub(crate) fn new(epoch: u64, history: usize, pools: &[&str]) -> Self {
        let hub = Arc::new(Hub::new(epoch, history));
        for pool in pools {
            let identity = Identity::new("test".to_owned(), "default".to_owned());
            hub.add_pool((*pool).into(), Arc::new(identity), SystemTime::now());
        }
        let limits = ListenerLimits {
            listeners: 20_000,
            per_owner: 20_000,
            streams: 20_000,
            streams_per_owner: 20_000,
        };
        let listeners = Listeners::new(Arc::clone(&hub), limits);
        let (drain, draining) = watch::channel(false);
        let api = Api {
            hub: Arc::clone(&hub),
            listeners: Arc::clone(&listeners),
            pools: Arc::default(),
            metrics: WatchMetrics::default(),
            draining,
        };
        Self { hub, listeners, api, _drain: drain }
    }

    /// Something happens to a peer on port 8009.
    pub(crate) fn publish(&self, pool: &str, host: &str, what: Update) -> Option<u64> {
        let address = PeerAddress::new(host, 8009).expect("an address");
        self.hub.publish(PeerUpdate { pool: pool.into(), address, at: SystemTime::now(), what })
    }

    /// One peer in the pool `default`, for [`Stage::flap`].
    pub(crate) fn add(&self, host: &str) {
        self.publish("default", host, Update::added(PeerOrigin::Configured)).expect("a change");
    }

    /// So many changes of that peer, each a revision.
    pub(crate) fn flap(&self, host: &str, changes: usize) {
        for _ in 0..changes {
            let reason = Reason::ALL[usize::try_from(self.hub.cursor().revision % 2).expect("0 or 1")];
            let detail = "x".repeat(400).into();
            let status = PeerStatus::Connecting;
            let what = Update::Status(Report { status, reason, detail, failures: 1, roles: None });
            self.publish("default", host, what).expect("a change");
        }
    }

    /// Serves it on a port that the system chooses, until what is returned is dropped.
    pub(crate) async fn serve(&self, keepalive: Keepalive) -> Served {
        self.serve_with(ServerOptions { keepalive, ..ServerOptions::default() }).await
    }

    /// The same, in another way than usual.
    pub(crate) async fn serve_with(&self, settings: ServerOptions) -> Served {
        self.serve_for(settings, Access::default()).await
    }

    /// The same for those who get in.
    pub(crate) async fn serve_for(&self, settings: ServerOptions, access: Access) -> Served {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let stop = CancellationToken::new();
        let stopped = stop.clone().cancelled_owned();
        let (routes, methods, hub) = (self.api.clone().routes(), api::methods(), Arc::clone(&self.hub));
        let (access, metrics) = (Arc::new(access), ServerMetrics::default());
        let server = Server::start(routes, &methods, hub, settings, access, metrics).await.expect("threads");
        let task = tokio::spawn(server.serve(listener, stopped));
        Served { address, task, stop: stop.drop_guard() }
    }
}

/// A stage that is served.
pub(crate) struct Served {
    pub(crate) address: SocketAddr,
    task: JoinHandle<Result<(), ThreadEnded>>,
    stop: DropGuard,
}

impl Served {
    /// Waits until the last client has gone.
    pub(crate) async fn stop(self) {
        drop(self.stop);
        within("the end of the server", self.task).await.expect("no panic").expect("no error");
    }
}
