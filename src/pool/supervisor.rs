//! The owner task of a pool: it alone starts and stops sessions, and publishes what they tell.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use parking_lot::RwLock;
use tokio::{
    sync::{Notify, Semaphore, mpsc},
    time::{Instant, sleep_until},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{info, warn};

use super::{
    command::{COMMANDS, Command, PoolHandle},
    membership::{Membership, Order},
    probe::probe,
    restart_backoff::RestartBackoff,
    session::{Session, SessionEvent, SessionEventKind, Shared},
    steps::{self, Step, backoff_cap_ms},
    time_to_ready::TimeToReady,
    transition_log::TransitionLog,
};
use crate::{
    metrics::{self, Transition},
    opflex::{ElementMode, Identity, Proxies},
    peer::{PeerAddress, Timers},
    status::{Event, Hub, PeerUpdate, Update},
    tls::ClientTls,
    transport::{Connector, DialLimits},
};

/// Reports of sessions on their way to the pool. Sessions wait when it is full.
const REPORTS: usize = 1024;
/// Lists among them: each can name a thousand peers.
const LISTS: usize = 16;
/// How long a pool usually may be without a ready peer before parked addresses are asked again.
pub const REDISCOVERY_INTERVAL: Duration = Duration::from_secs(60);

/// What a pool is made of.
#[derive(Clone, Debug)]
pub struct PoolConfig {
    /// Its name.
    pub name: Arc<str>,
    /// Who it says it is.
    pub identity: Identity,
    /// What it makes of the answers.
    pub mode: ElementMode,
    /// Its configured peers.
    pub peers: Vec<PeerAddress>,
    /// How long it waits.
    pub timers: Timers,
    /// How connections to its peers are secured, if they are.
    pub tls: Option<Arc<ClientTls>>,
    /// The longest frame that a peer may send, in bytes.
    pub frame_limit: usize,
    /// How many peers it may have, learned ones included.
    pub peer_limit: usize,
    /// How long it may be without a ready peer before parked addresses are asked again; see [`REDISCOVERY_INTERVAL`].
    pub rediscovery_interval: Duration,
}

/// Adds a pool to the hub. The future is the pool's task: it starts the sessions in `tasks` and runs until
/// `stop`, when it announces every peer as CLOSING, then as removed, and then closes the connections. The handle
/// is for asking it to change.
pub fn open(
    config: PoolConfig,
    limits: DialLimits,
    hub: Arc<Hub>,
    counts: &metrics::Peers,
    tasks: TaskTracker,
    stop: CancellationToken,
) -> (PoolHandle, impl Future<Output = ()> + Send + use<>) {
    let peers = config.peers.clone();
    let (supervisor, told) = Supervisor::new(config, limits, hub, counts, tasks);
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
    restarts: RestartBackoff,
    /// Where we are, as configured. What peers say of it is in the identity.
    location: Option<String>,
    mode: ElementMode,
    /// What a peer said, in transport mode.
    proxies: Option<Proxies>,
    rediscovery_interval: Duration,
    /// When parked peers are asked again, if nobody is ready until then.
    rediscover_at: Option<Instant>,
    tasks: TaskTracker,
    tell: mpsc::Sender<SessionEvent>,
    time_to_ready: TimeToReady,
    transitions: TransitionLog,
    counts: metrics::Pool,
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
    fn new(
        config: PoolConfig,
        limits: DialLimits,
        hub: Arc<Hub>,
        counts: &metrics::Peers,
        tasks: TaskTracker,
    ) -> (Self, mpsc::Receiver<SessionEvent>) {
        let counts = counts.of(Arc::clone(&config.name));
        let location = config.identity.location.clone();
        let identity = Arc::new(config.identity);
        hub.add_pool(Arc::clone(&config.name), Arc::clone(&identity), SystemTime::now());
        let shared = Shared {
            identity: RwLock::new(identity),
            lists: Arc::new(Semaphore::new(LISTS)),
            seeks_proxies: AtomicBool::new(config.mode == ElementMode::Transport),
            backoff_cap_ms: AtomicU64::new(backoff_cap_ms(0)),
            timers: config.timers,
            frame_limit: config.frame_limit,
            connector: Connector::new(config.timers.connect, limits),
            tls: config.tls,
            counts: counts.clone(),
        };
        let (tell, told) = mpsc::channel(REPORTS);
        let supervisor = Self {
            name: config.name,
            hub,
            shared: Arc::new(shared),
            membership: Membership::new(config.mode, config.peer_limit),
            sessions: HashMap::new(),
            next_session: 0,
            restarts: RestartBackoff::default(),
            location,
            mode: config.mode,
            proxies: None,
            rediscovery_interval: config.rediscovery_interval,
            rediscover_at: None,
            tasks,
            tell,
            time_to_ready: TimeToReady::default(),
            transitions: TransitionLog::default(),
            counts,
        };
        (supervisor, told)
    }

    async fn run(
        mut self,
        peers: Vec<PeerAddress>,
        mut told: mpsc::Receiver<SessionEvent>,
        mut commanded: mpsc::Receiver<Command>,
        stop: CancellationToken,
    ) {
        for peer in peers {
            // They are checked when the configuration is read: none is there twice, and there is room.
            let orders = self.membership.add(peer).unwrap_or_default();
            self.carry_out(orders, SystemTime::now());
        }
        loop {
            self.update_rediscovery_timer();
            let quiet_for_too_long = at(self.rediscover_at);
            let held_for_long_enough = at(self.transitions.due().map(Instant::from_std));
            tokio::select! {
                () = stop.cancelled() => break,
                Some(told) = told.recv() => self.apply(told),
                Some(command) = commanded.recv() => self.obey(command),
                () = quiet_for_too_long => self.rediscover(),
                () = held_for_long_enough => self.transitions.catch_up(Instant::now().into_std()),
            }
        }
        self.stop_all();
    }

    fn obey(&mut self, command: Command) {
        let orders = command.decide(&mut self.membership);
        if orders.is_ok() && command.starts_over() {
            self.restarts.forget();
            self.note(self.location.clone(), None);
        }
        let touched = orders.map(|orders| {
            let closes = |order: &&Order| matches!(order, Order::Stop(..) | Order::Redial(_));
            let count = orders.iter().filter(closes).count();
            self.carry_out(orders, SystemTime::now());
            count
        });
        command.answer(touched);
    }

    fn apply(&mut self, told: SessionEvent) {
        let SessionEvent { session, address, at, what, .. } = told;
        if self.sessions.get(&address).is_none_or(|running| running.session != session) {
            return;
        }
        if let SessionEventKind::Identified { location, proxies, .. } = &what {
            let location = location.clone().or_else(|| self.shared.identity.read().location.clone());
            let new = proxies.filter(|_| self.mode == ElementMode::Transport);
            self.note(location, self.proxies.or(new));
        }
        let asked = matches!(what, SessionEventKind::Identified { lists_itself: false, .. });
        let steps = steps::told(&mut self.membership, address.clone(), what);
        self.take(steps, at);
        debug_assert!(!asked || !self.sessions.contains_key(&address), "parked or stopped");
    }

    /// Notes where we are, and which proxies there are: the first that a peer names stay.
    fn note(&mut self, location: Option<String>, proxies: Option<Proxies>) {
        let mut identity = self.shared.identity.write();
        if identity.location == location && self.proxies == proxies {
            return;
        }
        Arc::make_mut(&mut identity).location = location;
        self.proxies = proxies;
        let seeks = self.mode == ElementMode::Transport && proxies.is_none();
        self.shared.seeks_proxies.store(seeks, Ordering::Relaxed);
        self.hub.set_identity(&self.name, Arc::clone(&identity), proxies);
    }

    /// Keeps the moment at which parked peers are asked again: so long after the pool last had a ready peer.
    fn update_rediscovery_timer(&mut self) {
        let quiet = self.hub.pool(&self.name).is_some_and(|(pool, _)| pool.ready == 0);
        self.rediscover_at =
            quiet.then(|| self.rediscover_at.unwrap_or_else(|| Instant::now() + self.rediscovery_interval));
    }

    fn rediscover(&mut self) {
        self.rediscover_at = None;
        let orders = self.membership.nobody_ready();
        self.carry_out(orders, SystemTime::now());
    }

    fn carry_out(&mut self, orders: Vec<Order>, at: SystemTime) {
        self.take(steps::ordered(orders), at);
    }

    fn take(&mut self, steps: Vec<Step>, at: SystemTime) {
        for step in steps {
            match step {
                Step::Say(address, what) => self.publish(address, at, what),
                Step::Start(address) => self.start_session(address),
                Step::Redial(address) => {
                    if let Some(running) = self.sessions.get(&address) {
                        running.redial.notify_one();
                    }
                }
                Step::Probe(address, pauses) => self.start_probe(address, pauses),
                Step::End(address) => self.stop_session(&address),
                Step::Mention(left_out) => {
                    warn!(pool = %self.name, left_out, "the pool is full: peers that were listed are not learned");
                }
            }
        }
        self.shared.backoff_cap_ms.store(backoff_cap_ms(self.membership.len()), Ordering::Relaxed);
    }

    fn start_session(&mut self, address: PeerAddress) {
        let Running { session: id, redial, stop } = self.enlist(&address);
        let (shared, tell) = (Arc::clone(&self.shared), self.tell.clone());
        let pause = self.restarts.pause(&address, Instant::now().into_std(), fastrand::u64(..));
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

    /// Only when everything has been said are the connections closed.
    fn stop_all(mut self) {
        let peers = self.membership.len();
        let steps = steps::stopped(&mut self.membership);
        self.take(steps, SystemTime::now());
        for running in self.sessions.values() {
            running.stop.cancel();
        }
        info!(pool = %self.name, peers, "pool stopped");
    }

    fn publish(&mut self, address: PeerAddress, at: SystemTime, what: Update) {
        let pool = Arc::clone(&self.name);
        let Some(event) = self.hub.apply(PeerUpdate { pool, address, at, what }) else { return };
        self.counts.moved(transition(&event));
        if let Some(waited) = self.time_to_ready.note(&event) {
            self.counts.became_ready(waited);
        }
        self.transitions.note(&event, Instant::now().into_std());
    }
}

/// Waits until then; for ever, if that is never.
async fn at(when: Option<Instant>) {
    match when {
        Some(when) => sleep_until(when).await,
        None => std::future::pending().await,
    }
}

fn transition(event: &Event) -> Transition {
    let peer = &event.peer.peer;
    Transition { from: event.peer.previous, to: peer.status, reason: peer.reason }
}

#[cfg(test)]
mod tests;
