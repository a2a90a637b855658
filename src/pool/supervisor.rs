//! The owner task of a pool: it alone starts and stops sessions, and publishes what they tell.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use parking_lot::RwLock;
use tokio::{
    sync::mpsc,
    time::{MissedTickBehavior, interval},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{info, warn};

use super::{
    membership::{Membership, Order},
    session::{Session, Shared, Told, What},
};
use crate::{
    opflex::Identity,
    peer::{PeerAddress, PeerStatus, Reason, Report, Timers},
    status::{Hub, PeerUpdate, Update},
    transport::Connector,
};

/// Reports of sessions on their way to the pool. Sessions wait when it is full.
const REPORTS: usize = 1024;
/// How long a pool may be without a ready peer before parked addresses are asked again.
const ASK_AGAIN: Duration = Duration::from_secs(60);
/// Redials per second that a pool of dead peers may make: what the ceiling of the pauses is made from.
const REDIALS_PER_SECOND: u64 = 200;
/// Bounds of that ceiling, in milliseconds.
const BACKOFF_CAP_MS: std::ops::RangeInclusive<u64> = 1_000..=30_000;

/// What a pool is made of.
#[derive(Clone, Debug)]
pub struct PoolConfig {
    /// Its name.
    pub name: Arc<str>,
    /// Who it says it is.
    pub identity: Identity,
    /// Its configured peers.
    pub peers: Vec<PeerAddress>,
    /// How long it waits.
    pub timers: Timers,
    /// The longest frame that a peer may send, in bytes.
    pub frame_limit: usize,
    /// How many peers it may have, learned ones included.
    pub peer_limit: usize,
}

/// Adds a pool to the hub. The future is the pool's task: it starts the sessions in `tasks` and runs until
/// `stop`, when it announces every peer as CLOSING, then as removed, and then closes the connections.
pub fn open(
    config: PoolConfig,
    hub: Arc<Hub>,
    tasks: TaskTracker,
    stop: CancellationToken,
) -> impl Future<Output = ()> + Send {
    let identity = Arc::new(config.identity);
    hub.add_pool(Arc::clone(&config.name), Arc::clone(&identity), SystemTime::now());
    let shared = Shared {
        identity: RwLock::new(identity),
        backoff_cap_ms: AtomicU64::new(*BACKOFF_CAP_MS.start()),
        timers: config.timers,
        frame_limit: config.frame_limit,
        connector: Connector::new(config.timers.connect),
    };
    let (tell, told) = mpsc::channel(REPORTS);
    let supervisor = Supervisor {
        name: config.name,
        hub,
        shared: Arc::new(shared),
        membership: Membership::new(config.peer_limit),
        sessions: HashMap::new(),
        next_session: 0,
        tasks,
        tell,
    };
    supervisor.run(config.peers, told, stop)
}

struct Supervisor {
    name: Arc<str>,
    hub: Arc<Hub>,
    shared: Arc<Shared>,
    membership: Membership,
    sessions: HashMap<PeerAddress, Running>,
    next_session: u64,
    tasks: TaskTracker,
    tell: mpsc::Sender<Told>,
}

/// A session that has not been stopped.
struct Running {
    session: u64,
    stop: CancellationToken,
}

impl Supervisor {
    async fn run(mut self, peers: Vec<PeerAddress>, mut told: mpsc::Receiver<Told>, stop: CancellationToken) {
        for peer in peers {
            let orders = self.membership.configure(peer);
            self.carry_out(orders, SystemTime::now());
        }
        let mut ask_again = interval(ASK_AGAIN);
        ask_again.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                Some(told) = told.recv() => self.take_in(told),
                _ = ask_again.tick() => self.ask_again_if_nobody_is_ready(),
            }
        }
        self.stop_all();
    }

    fn take_in(&mut self, told: Told) {
        let Told { session, address, at, what } = told;
        if self.sessions.get(&address).is_none_or(|running| running.session != session) {
            return;
        }
        match what {
            What::Is(report) => self.publish_report(address, at, report),
            What::Identified { location, peers, lists_itself } => {
                self.learn_location(location);
                let orders = self.membership.identified(&address, peers);
                self.carry_out(orders, at);
                debug_assert!(lists_itself || !self.sessions.contains_key(&address), "parked or stopped");
            }
        }
    }

    fn learn_location(&self, location: Option<String>) {
        let Some(location) = location else {
            return;
        };
        let mut identity = self.shared.identity.write();
        if identity.location.as_ref() != Some(&location) {
            Arc::make_mut(&mut identity).location = Some(location);
            self.hub.set_identity(&self.name, Arc::clone(&identity));
        }
    }

    fn ask_again_if_nobody_is_ready(&mut self) {
        if self.hub.pool(&self.name).is_some_and(|(pool, _)| pool.ready == 0) {
            let orders = self.membership.nobody_ready();
            self.carry_out(orders, SystemTime::now());
        }
    }

    fn carry_out(&mut self, orders: Vec<Order>, at: SystemTime) {
        for order in orders {
            match order {
                Order::Start(address, origin) => {
                    info!(pool = %self.name, peer = %address, %origin, "peer added");
                    self.publish(address.clone(), at, Update::Added(origin));
                    self.start_session(address);
                }
                Order::Unpark(address) => self.start_session(address),
                Order::Park(address) => {
                    self.say_closing(&address, at, Reason::NotInPeerList);
                    let report = plain(PeerStatus::Disconnected, Reason::NotInPeerList);
                    self.publish_report(address.clone(), at, report);
                    self.stop_session(&address);
                }
                Order::Stop(address, reason) => {
                    self.say_closing(&address, at, reason);
                    self.publish(address.clone(), at, Update::Removed);
                    self.stop_session(&address);
                }
            }
        }
        let peers = u64::try_from(self.membership.len()).unwrap_or(u64::MAX);
        let cap = peers.saturating_mul(1_000) / REDIALS_PER_SECOND;
        let cap = cap.clamp(*BACKOFF_CAP_MS.start(), *BACKOFF_CAP_MS.end());
        self.shared.backoff_cap_ms.store(cap, Ordering::Relaxed);
    }

    fn start_session(&mut self, address: PeerAddress) {
        self.next_session += 1;
        let stop = CancellationToken::new();
        let session = Session {
            id: self.next_session,
            address: address.clone(),
            shared: Arc::clone(&self.shared),
            tell: self.tell.clone(),
            stop: stop.clone(),
        };
        self.tasks.spawn(session.run());
        self.sessions.insert(address, Running { session: self.next_session, stop });
    }

    fn stop_session(&mut self, address: &PeerAddress) {
        if let Some(running) = self.sessions.remove(address) {
            running.stop.cancel();
        }
    }

    /// First it is said of every peer that it closes, then that it is gone, and only then are the
    /// connections closed.
    fn stop_all(mut self) {
        let at = SystemTime::now();
        let peers = self.membership.stop_all();
        for address in &peers {
            self.say_closing(address, at, Reason::PoolStopping);
        }
        for address in &peers {
            self.publish(address.clone(), at, Update::Removed);
        }
        for running in self.sessions.values() {
            running.stop.cancel();
        }
        info!(pool = %self.name, peers = peers.len(), "pool stopped");
    }

    fn say_closing(&self, address: &PeerAddress, at: SystemTime, reason: Reason) {
        self.publish_report(address.clone(), at, plain(PeerStatus::Closing, reason));
    }

    fn publish_report(&self, address: PeerAddress, at: SystemTime, report: Report) {
        let Report { status, reason, detail, failures, roles } = report;
        self.publish(address, at, Update::Is { status, reason, detail, failures, roles });
    }

    fn publish(&self, address: PeerAddress, at: SystemTime, what: Update) {
        let (peer, pool) = (address.clone(), Arc::clone(&self.name));
        let words = match &what {
            Update::Is { status, reason, detail, .. } => Some((*status, *reason, Arc::clone(detail))),
            Update::Added(_) | Update::Removed => None,
        };
        let published = self.hub.publish(PeerUpdate { pool, address, at, what });
        if let (Some(revision), Some((status, reason, detail))) = (published, words) {
            let detail = (!detail.is_empty()).then_some(&*detail);
            let failed = matches!(status, PeerStatus::Connecting) && !matches!(reason, Reason::Dialing);
            if failed {
                warn!(pool = %self.name, %peer, %status, %reason, detail, revision, "peer status");
            } else {
                info!(pool = %self.name, %peer, %status, %reason, detail, revision, "peer status");
            }
        }
    }
}

fn plain(status: PeerStatus, reason: Reason) -> Report {
    Report { status, reason, detail: Arc::from(""), failures: 0, roles: None }
}
