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
    sync::{Notify, mpsc},
    time::{Instant, sleep_until},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{info, warn};

use super::{
    command::{COMMANDS, Command, PoolHandle},
    membership::{Membership, Order},
    pacing::Pacing,
    probe::probe,
    session::{Session, Shared, Told, What},
};
use crate::{
    opflex::Identity,
    peer::{PeerAddress, PeerOrigin, PeerStatus, Reason, Report, Timers},
    status::{Hub, PeerUpdate, Update},
    transport::Connector,
};

/// Reports of sessions on their way to the pool. Sessions wait when it is full.
const REPORTS: usize = 1024;
/// How long a pool usually may be without a ready peer before parked addresses are asked again.
pub const ASK_AGAIN: Duration = Duration::from_secs(60);
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
    /// How long it may be without a ready peer before parked addresses are asked again; see [`ASK_AGAIN`].
    pub ask_again: Duration,
}

/// Adds a pool to the hub. The future is the pool's task: it starts the sessions in `tasks` and runs until
/// `stop`, when it announces every peer as CLOSING, then as removed, and then closes the connections. The handle
/// is for asking it to change.
pub fn open(
    config: PoolConfig,
    hub: Arc<Hub>,
    tasks: TaskTracker,
    stop: CancellationToken,
) -> (PoolHandle, impl Future<Output = ()> + Send) {
    let peers = config.peers.clone();
    let (supervisor, told) = Supervisor::new(config, hub, tasks);
    let (commands, commanded) = mpsc::channel(COMMANDS);
    (PoolHandle::new(commands), supervisor.run(peers, told, commanded, stop))
}

struct Supervisor {
    name: Arc<str>,
    hub: Arc<Hub>,
    shared: Arc<Shared>,
    membership: Membership,
    sessions: HashMap<PeerAddress, Running>,
    next_session: u64,
    pacing: Pacing,
    /// Where we are, as configured. What peers say of it is in the identity.
    location: Option<String>,
    ask_again: Duration,
    /// When parked peers are asked again, if nobody is ready until then.
    ask_again_at: Option<Instant>,
    tasks: TaskTracker,
    tell: mpsc::Sender<Told>,
}

/// A session, or a probe, that has not been stopped.
#[derive(Clone)]
struct Running {
    session: u64,
    redial: Arc<Notify>,
    stop: CancellationToken,
}

impl Supervisor {
    /// Adds a pool without peers to the hub. What its sessions tell comes out of the receiver.
    fn new(config: PoolConfig, hub: Arc<Hub>, tasks: TaskTracker) -> (Self, mpsc::Receiver<Told>) {
        let location = config.identity.location.clone();
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
        let supervisor = Self {
            name: config.name,
            hub,
            shared: Arc::new(shared),
            membership: Membership::new(config.peer_limit),
            sessions: HashMap::new(),
            next_session: 0,
            pacing: Pacing::default(),
            location,
            ask_again: config.ask_again,
            ask_again_at: None,
            tasks,
            tell,
        };
        (supervisor, told)
    }

    async fn run(
        mut self,
        peers: Vec<PeerAddress>,
        mut told: mpsc::Receiver<Told>,
        mut commanded: mpsc::Receiver<Command>,
        stop: CancellationToken,
    ) {
        for peer in peers {
            // They are checked when the configuration is read: none is there twice, and there is room.
            let orders = self.membership.add(peer).unwrap_or_default();
            self.carry_out(orders, SystemTime::now());
        }
        loop {
            self.mind_the_quiet();
            let ask_again = self.ask_again_at;
            let quiet_for_too_long = async {
                match ask_again {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = stop.cancelled() => break,
                Some(told) = told.recv() => self.take_in(told),
                Some(command) = commanded.recv() => self.obey(command),
                () = quiet_for_too_long => self.ask_again(),
            }
        }
        self.stop_all();
    }

    fn obey(&mut self, command: Command) {
        let orders = command.decide(&mut self.membership);
        if orders.is_ok() && command.starts_over() {
            self.locate(self.location.clone());
        }
        let touched = orders.map(|orders| {
            let closes = |order: &&Order| matches!(order, Order::Stop(..) | Order::Redial(_));
            let count = orders.iter().filter(closes).count();
            self.carry_out(orders, SystemTime::now());
            count
        });
        command.answer(touched);
    }

    fn take_in(&mut self, told: Told) {
        let Told { session, address, at, what } = told;
        if self.sessions.get(&address).is_none_or(|running| running.session != session) {
            return;
        }
        match what {
            What::Is(report) => {
                let failures = if report.status == PeerStatus::Connecting { report.failures } else { 0 };
                self.publish_report(address.clone(), at, report);
                let orders = self.membership.failed(&address, failures);
                self.carry_out(orders, at);
            }
            What::Answers => {
                let orders = self.membership.answered(&address);
                self.carry_out(orders, at);
            }
            What::Identified { location, peers, lists_itself } => {
                if location.is_some() {
                    self.locate(location);
                }
                let orders = self.membership.identified(&address, peers);
                self.carry_out(orders, at);
                debug_assert!(lists_itself || !self.sessions.contains_key(&address), "parked or stopped");
            }
        }
    }

    fn locate(&self, location: Option<String>) {
        let mut identity = self.shared.identity.write();
        if identity.location != location {
            Arc::make_mut(&mut identity).location = location;
            self.hub.set_identity(&self.name, Arc::clone(&identity));
        }
    }

    /// Keeps the moment at which parked peers are asked again: so long after the pool last had a ready peer.
    fn mind_the_quiet(&mut self) {
        let quiet = self.hub.pool(&self.name).is_some_and(|(pool, _)| pool.ready == 0);
        self.ask_again_at =
            quiet.then(|| self.ask_again_at.unwrap_or_else(|| Instant::now() + self.ask_again));
    }

    fn ask_again(&mut self) {
        self.ask_again_at = None;
        let orders = self.membership.nobody_ready();
        self.carry_out(orders, SystemTime::now());
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
                Order::Adopt(address) => {
                    self.publish(address, at, Update::Origin(PeerOrigin::Configured));
                }
                Order::Redial(address) => {
                    if let Some(running) = self.sessions.get(&address) {
                        running.redial.notify_one();
                    }
                }
                Order::Probe(address, pauses) => self.start_probe(address, pauses),
                Order::StopProbe(address) => self.stop_session(&address),
            }
        }
        let peers = u64::try_from(self.membership.len()).unwrap_or(u64::MAX);
        let cap = peers.saturating_mul(1_000) / REDIALS_PER_SECOND;
        let cap = cap.clamp(*BACKOFF_CAP_MS.start(), *BACKOFF_CAP_MS.end());
        self.shared.backoff_cap_ms.store(cap, Ordering::Relaxed);
    }

    fn start_session(&mut self, address: PeerAddress) {
        let Running { session: id, redial, stop } = self.enlist(&address);
        let (shared, tell) = (Arc::clone(&self.shared), self.tell.clone());
        let pause = self.pacing.pause(&address, Instant::now().into_std(), fastrand::u64(..));
        self.tasks.spawn(Session { id, address, shared, tell, redial, stop, pause }.run());
    }

    fn start_probe(&mut self, address: PeerAddress, pauses: u32) {
        let Running { session: id, stop, .. } = self.enlist(&address);
        let (shared, tell) = (Arc::clone(&self.shared), self.tell.clone());
        self.tasks.spawn(probe(id, address, pauses, shared, tell, stop));
    }

    /// Makes room for a new task for this address. The one that there is, if any, is stopped.
    fn enlist(&mut self, address: &PeerAddress) -> Running {
        self.stop_session(address);
        self.next_session += 1;
        let running = Running {
            session: self.next_session,
            redial: Arc::new(Notify::new()),
            stop: CancellationToken::new(),
        };
        self.sessions.insert(address.clone(), running.clone());
        running
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
            Update::Added(_) | Update::Origin(_) | Update::Removed => None,
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

#[cfg(test)]
mod tests;
