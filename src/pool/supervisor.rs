//! The owner task of a pool: it waits for events, lets the core decide, and performs the effects.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

use parking_lot::{Mutex, RwLock};
use tokio::{
    sync::{Notify, Semaphore, mpsc},
    time::{Instant, sleep_until},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::info;

use super::{
    admission::LearnRules,
    command::{PoolHandle, Reply, Request},
    core::{PoolCore, PoolEvent, Settings},
    effect::Effect,
    log_limiter::LogBudget,
    session::{Session, SessionEvent, Shared},
    time_to_ready::TimeToReady,
    transition_log::TransitionLog,
};
use crate::{
    metrics::{self, PeerTransition},
    opflex::{ElementMode, Identity, Proxies},
    peer::{PeerAddress, Reach, Timers},
    status::{Event, Hub, PeerChange, Update, clock},
    tls::ClientTls,
    transport::{Connector, DialLimits},
};

/// Events of sessions on their way to the pool. When the queue is full, sessions wait.
const EVENTS: usize = 1024;
/// Lists among them: each can name a thousand peers.
const LISTS: usize = 16;

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
    /// Whether lists may name addresses on this machine and its links. `None`: peers on loopback may list others there.
    pub learn_local: Option<bool>,
    /// How long it may be without a ready peer before parked addresses are asked again; see [`super::REDISCOVERY_INTERVAL`].
    pub rediscovery_interval: Duration,
}

/// Adds a pool to the hub. The future is the pool's task: it starts the sessions in `tasks` and runs until
/// `stop`, when it announces every peer as CLOSING, then as removed, and then closes the connections. The handle
/// sends it requests.
pub fn open(
    config: PoolConfig,
    limits: DialLimits,
    hub: Arc<Hub>,
    counts: &metrics::PeerMetrics,
    log: LogBudget,
    tasks: TaskTracker,
    stop: CancellationToken,
) -> (PoolHandle, impl Future<Output = ()> + Send + use<>) {
    let peers = config.peers.clone();
    let (supervisor, events) = Supervisor::new(config, limits, hub, counts, log, tasks);
    let (handle, requests) = PoolHandle::new();
    (handle, supervisor.run(peers, events, requests, stop))
}

struct Supervisor {
    name: Arc<str>,
    hub: Arc<Hub>,
    core: PoolCore,
    shared: Arc<Shared>,
    sessions: HashMap<PeerAddress, Running>,
    next_session: u64,
    tasks: TaskTracker,
    events: mpsc::Sender<SessionEvent>,
    time_to_ready: TimeToReady,
    transitions: TransitionLog,
    counts: metrics::PoolMetrics,
}

/// A session that has not been stopped.
struct Running {
    session: u64,
    redial: Arc<Notify>,
    stop: CancellationToken,
    reach: Arc<Mutex<Reach>>,
}

impl Supervisor {
    /// Adds a pool without peers to the hub. The receiver gets the events of its sessions.
    fn new(
        config: PoolConfig,
        limits: DialLimits,
        hub: Arc<Hub>,
        counts: &metrics::PeerMetrics,
        log: LogBudget,
        tasks: TaskTracker,
    ) -> (Self, mpsc::Receiver<SessionEvent>) {
        let counts = counts.of(Arc::clone(&config.name));
        let settings = Settings {
            mode: config.mode,
            peer_limit: config.peer_limit,
            location: config.identity.location.clone(),
            rediscovery_interval: config.rediscovery_interval,
            rules: LearnRules { learn_local: config.learn_local, own: limits.own_addresses() },
        };
        let core = PoolCore::new(settings, Instant::now().into_std(), fastrand::u64(..));
        let identity = Arc::new(config.identity);
        hub.add_pool(Arc::clone(&config.name), Arc::clone(&identity), clock::now());
        let shared = Shared {
            identity: RwLock::new(identity),
            lists: Arc::new(Semaphore::new(LISTS)),
            seeks_proxies: AtomicBool::new(config.mode == ElementMode::Transport),
            backoff_caps: Mutex::new(core.backoff_caps()),
            timers: config.timers,
            frame_limit: config.frame_limit,
            connector: Connector::new(config.timers.connect, limits),
            tls: config.tls,
            counts: counts.clone(),
        };
        let (events, receiver) = mpsc::channel(EVENTS);
        let supervisor = Self {
            transitions: TransitionLog::new(Arc::clone(&config.name), log),
            name: config.name,
            hub,
            core,
            shared: Arc::new(shared),
            sessions: HashMap::new(),
            next_session: 0,
            tasks,
            events,
            time_to_ready: TimeToReady::default(),
            counts,
        };
        (supervisor, receiver)
    }

    /// Waits for an event, lets the core handle it, performs the effects.
    async fn run(
        mut self,
        peers: Vec<PeerAddress>,
        mut events: mpsc::Receiver<SessionEvent>,
        mut requests: mpsc::Receiver<(Request, Reply)>,
        stop: CancellationToken,
    ) {
        for peer in peers {
            // The configuration was checked: no peer is in it twice, and all have room.
            self.handle(PoolEvent::Request(Request::Add(peer)), clock::now(), None);
        }
        loop {
            let deadline = until(self.core.next_deadline());
            let log_due = until(self.transitions.due());
            tokio::select! {
                () = stop.cancelled() => break,
                Some(event) = events.recv() => self.handle_session(event),
                Some((request, reply)) = requests.recv() => {
                    self.handle(PoolEvent::Request(request), clock::now(), Some(reply));
                }
                () = deadline => self.handle(PoolEvent::DeadlinePassed, clock::now(), None),
                () = log_due => self.transitions.catch_up(Instant::now().into_std()),
            }
        }
        let peers = self.core.len();
        self.handle(PoolEvent::Stopping, clock::now(), None);
        info!(pool = %self.name, peers, "pool stopped");
    }

    fn handle_session(&mut self, event: SessionEvent) {
        let SessionEvent { session, address, at, kind, .. } = event;
        if self.sessions.get(&address).is_some_and(|running| running.session == session) {
            self.handle(PoolEvent::Session(address, kind), at, None);
        }
    }

    fn handle(&mut self, event: PoolEvent, at: SystemTime, mut reply: Option<Reply>) {
        let peers = self.core.len();
        let effects = self.core.handle(event, Instant::now().into_std());
        // Counting the names takes a while, and most events change no peers. Sessions that are started need the caps.
        let starts_or_stops = |effect: &Effect| matches!(effect, Effect::Start(..) | Effect::Stop(_));
        if self.core.len() != peers || effects.iter().any(starts_or_stops) {
            *self.shared.backoff_caps.lock() = self.core.backoff_caps();
        }
        for effect in effects {
            match effect {
                Effect::Publish(updates) => self.publish(at, updates),
                Effect::Start(address, pause, reach) => self.start_session(address, pause, reach),
                Effect::SetReach(address, reach) => {
                    if let Some(running) = self.sessions.get(&address) {
                        *running.reach.lock() = reach;
                    }
                }
                Effect::Redial(address) => {
                    if let Some(running) = self.sessions.get(&address) {
                        running.redial.notify_one();
                    }
                }
                Effect::Stop(address) => self.stop_session(&address),
                Effect::SetIdentity(location, proxies) => self.set_identity(location, proxies),
                Effect::LeftOut(by, left_out) => {
                    self.counts.skipped(left_out.local.as_ref().map_or(0, |(count, _)| *count));
                    self.counts.deferred(left_out.later);
                    self.transitions.warn(by, left_out.to_string(), Instant::now().into_std());
                }
                Effect::Warn(peer, text) => self.transitions.warn(peer, text, Instant::now().into_std()),
                Effect::Reply(answer) => {
                    // The caller may have gone.
                    let _ = reply.take().map(|reply| reply.send(answer));
                }
            }
        }
    }

    fn set_identity(&self, location: Option<String>, proxies: Option<Proxies>) {
        let mut identity = self.shared.identity.write();
        Arc::make_mut(&mut identity).location = location;
        let seeks = self.core.mode() == ElementMode::Transport && proxies.is_none();
        self.shared.seeks_proxies.store(seeks, Ordering::Relaxed);
        self.hub.set_identity(&self.name, Arc::clone(&identity), proxies);
    }

    fn start_session(&mut self, address: PeerAddress, pause: Duration, reach: Reach) {
        self.stop_session(&address);
        self.next_session += 1;
        let (id, redial, stop) = (self.next_session, Arc::new(Notify::new()), CancellationToken::new());
        let reach = Arc::new(Mutex::new(reach));
        let running = Running {
            session: id,
            redial: Arc::clone(&redial),
            stop: stop.clone(),
            reach: Arc::clone(&reach),
        };
        self.sessions.insert(address.clone(), running);
        let (shared, events) = (Arc::clone(&self.shared), self.events.clone());
        self.tasks.spawn(Session { id, address, shared, events, redial, stop, pause, reach }.run());
    }

    fn stop_session(&mut self, address: &PeerAddress) {
        if let Some(running) = self.sessions.remove(address) {
            running.stop.cancel();
        }
    }

    fn publish(&mut self, at: SystemTime, updates: Vec<(PeerAddress, Update)>) {
        for event in self.hub.apply(&self.name, at, updates) {
            if let Some(transition) = transition(&event) {
                self.counts.moved(transition);
            }
            if let Some(waited) = self.time_to_ready.note(&event) {
                self.counts.became_ready(waited);
            }
            self.transitions.note(&event, Instant::now().into_std());
        }
    }
}

/// Waits until then; without a moment, for ever.
pub(super) async fn until(moment: Option<std::time::Instant>) {
    match moment {
        Some(moment) => sleep_until(Instant::from_std(moment)).await,
        None => std::future::pending().await,
    }
}

pub(super) fn transition(event: &Event) -> Option<PeerTransition> {
    let PeerChange { peer, previous, .. } = event.peer.as_ref()?;
    Some(PeerTransition { from: *previous, to: peer.status, reason: peer.reason })
}
