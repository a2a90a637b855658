//! The owner task of an observed pool: it reads the agent's log and the sockets, lets the observer decide, and publishes.
//! It connects to nothing.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::{
    sync::{mpsc, watch},
    time::{Instant, MissedTickBehavior, interval},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{info, warn};

use super::{
    log_limiter::LogBudget, supervisor::transition, supervisor::until, time_to_ready::TimeToReady,
    transition_log::TransitionLog,
};
use crate::{
    metrics::{ObservedCounts, ObservedPoolMetrics, ObserverMetrics, PeerMetrics, PoolMetrics},
    observe::{
        Input, Level, LogEvent, LogLine, LogSource, Loss, LossCause, Observer, ObserverSettings, ReadEvent,
        Socket, SocketState, SocketTable, follow,
    },
    opflex::text::printable,
    peer::PeerAddress,
    status::{Hub, SocketFacts, Update, clock},
};

mod steps;

use steps::steps;

/// Pieces of the log on their way to the pool. When the queue is full, reading waits.
const EVENTS: usize = 16;
/// How often the known sockets are looked at: one that is gone is noticed well within a second.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);
/// How often all sockets are listed, when nothing happens.
const DUMP_INTERVAL: Duration = Duration::from_secs(2);
/// For how long they are listed at each look after something happened: as long as the observer waits for lines about a socket
/// that is gone, and some.
const RESTLESS: Duration = Duration::from_millis(600);
/// How often what the kernel knows of a connection is published at most.
const FACTS_INTERVAL: Duration = Duration::from_secs(1);
/// As long as the detail of any peer or pool may be, in bytes.
const MAX_DETAIL: usize = 512;

/// What an observed pool is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObservedConfig {
    /// Its name.
    pub name: Arc<str>,
    /// Where the agent's log is.
    pub log: LogSource,
    /// The port of the peers.
    pub peer_port: u16,
    /// The level of the agent's log. `None`: inferred.
    pub level_hint: Option<Level>,
    /// How long the agent waits for a handshake.
    pub handshake_timeout: Duration,
}

/// Where observed pools publish and count.
#[derive(Clone)]
pub struct ObservedContext {
    /// Where the peers are published.
    pub hub: Arc<Hub>,
    /// Counts transitions.
    pub peers: PeerMetrics,
    /// Counts what was read.
    pub metrics: ObserverMetrics,
    /// Of what is logged.
    pub log: LogBudget,
    /// Where the reader of the log runs.
    pub tasks: TaskTracker,
}

/// Adds an observed pool to the hub. The future is the pool's task: it runs until `stop`. Then the peers stay as they are, since the
/// agent goes on.
pub fn observe(
    config: ObservedConfig,
    context: ObservedContext,
    peer_limit: watch::Receiver<usize>,
    stop: CancellationToken,
) -> impl Future<Output = ()> + Send + use<> {
    let ObservedContext { hub, peers, metrics, log, tasks } = context;
    hub.add_observed_pool(Arc::clone(&config.name), clock::now());
    let settings = ObserverSettings {
        peer_port: config.peer_port,
        handshake_timeout: config.handshake_timeout,
        level_hint: config.level_hint,
        peer_limit: *peer_limit.borrow(),
    };
    let pool = ObservedPool {
        hub,
        observer: Observer::new(settings),
        sockets: SocketTable::default(),
        listed: Vec::new(),
        are_sockets_readable: true,
        is_log_readable: true,
        sight: (false, String::new()),
        peer_limit,
        looks: Looks::default(),
        transitions: TransitionLog::new(Arc::clone(&config.name), log),
        time_to_ready: TimeToReady::default(),
        counts: peers.of(Arc::clone(&config.name)),
        metrics: metrics.of(Arc::clone(&config.name)),
        name: config.name,
    };
    pool.run(config.log, tasks, stop)
}

/// When the sockets are looked at again.
#[derive(Default)]
struct Looks {
    /// When all were listed.
    dumped: Option<Instant>,
    /// When a peer or a socket was seen to change.
    moved: Option<Instant>,
    /// When the facts were published.
    published: Option<Instant>,
}

struct ObservedPool {
    name: Arc<str>,
    hub: Arc<Hub>,
    observer: Observer,
    sockets: SocketTable,
    /// As of the last dump.
    listed: Vec<Socket>,
    are_sockets_readable: bool,
    is_log_readable: bool,
    /// As published: whether nothing can be seen, and what cannot.
    sight: (bool, String),
    peer_limit: watch::Receiver<usize>,
    looks: Looks,
    transitions: TransitionLog,
    time_to_ready: TimeToReady,
    counts: PoolMetrics,
    metrics: ObservedPoolMetrics,
}

impl ObservedPool {
    async fn run(mut self, source: LogSource, tasks: TaskTracker, stop: CancellationToken) {
        info!(pool = %self.name, log = %source, "observing the agent's connections");
        let (sender, mut events) = mpsc::channel(EVENTS);
        let reader_stop = stop.child_token();
        tasks.spawn(follow(source, sender, reader_stop.clone()));
        let mut looks = interval(LOOK_INTERVAL);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.metrics.log_readable(true);
        let mut is_reading = true;
        loop {
            let deadline = until(self.observer.next_deadline());
            let log_due = until(self.transitions.due());
            tokio::select! {
                () = stop.cancelled() => break,
                read = events.recv(), if is_reading => {
                    is_reading = read.is_some();
                    self.log(read.unwrap_or_else(reader_ended));
                }
                _ = looks.tick() => self.look(),
                () = deadline => self.tick(),
                () = log_due => self.transitions.catch_up(Instant::now().into_std()),
                Ok(()) = self.peer_limit.changed() => {
                    let limit = *self.peer_limit.borrow_and_update();
                    self.observer.set_peer_limit(limit);
                }
            }
        }
        reader_stop.cancel();
        info!(pool = %self.name, "observed pool stopped");
    }

    fn log(&mut self, read: Vec<ReadEvent>) {
        for ReadEvent { event, at, wall } in read {
            match event {
                LogEvent::History(lines) => {
                    self.note_log_readable(None);
                    self.step_at(Input::History(&lines), at, wall);
                }
                LogEvent::Lines(lines) => {
                    self.note_lag(&lines, wall);
                    self.note_log_readable(None);
                    self.step_at(Input::Lines(&lines), at, wall);
                }
                LogEvent::Lost(loss) => {
                    match loss.cause {
                        LossCause::Unreadable | LossCause::Ended => {
                            self.note_log_readable(Some(&loss.detail))
                        }
                        LossCause::Truncated | LossCause::Missing => {
                            warn!(pool = %self.name, cause = loss.cause.as_str(), detail = loss.detail, "a piece of the agent's log is lost");
                        }
                    }
                    self.step_at(Input::Lost(&loss), at, wall);
                }
                LogEvent::NewInstance => self.step_at(Input::NewInstance, at, wall),
            }
            self.dump_if_wanted();
        }
        self.metrics.count(counts(&self.observer));
    }

    /// With why it is not. The reader gives each reason once.
    fn note_log_readable(&mut self, error: Option<&str>) {
        match error {
            Some(error) => {
                warn!(pool = %self.name, error, "the agent's log cannot be read: nothing is known of its connections until it can");
            }
            None if !self.is_log_readable => info!(pool = %self.name, "the agent's log can be read now"),
            None => {}
        }
        self.is_log_readable = error.is_none();
        self.metrics.log_readable(self.is_log_readable);
    }

    /// Only the container runtime and journald write a time that has a zone.
    fn note_lag(&self, lines: &[LogLine], read: SystemTime) {
        if let Some(received) = lines.last().and_then(|line| line.received) {
            self.metrics.log_lag(read.duration_since(received).unwrap_or_default());
        }
    }

    fn tick(&mut self) {
        self.step(Input::Tick);
        self.dump_if_wanted();
    }

    fn dump_if_wanted(&mut self) {
        if self.observer.wants_sockets() {
            self.dump();
        }
    }

    /// Lists all sockets only if there is a reason: the kernel goes through its whole table for that.
    fn look(&mut self) {
        let is_past = |at: Option<Instant>, after| at.is_none_or(|at| at.elapsed() >= after);
        let is_quiet = !is_past(self.looks.dumped, DUMP_INTERVAL) && is_past(self.looks.moved, RESTLESS);
        if !(is_quiet && self.are_sockets_readable && self.sockets.is_unchanged()) {
            self.dump();
        }
    }

    fn dump(&mut self) {
        self.looks.dumped = Some(Instant::now());
        let sockets = self.sockets.dump(self.observer.ports());
        let is_readable = sockets.is_ok();
        match sockets {
            Ok(sockets) => {
                self.step(Input::Sockets(&sockets));
                if states(&sockets) != states(&self.listed) {
                    self.looks.moved = Some(Instant::now());
                }
                self.listed = sockets;
                self.publish_facts();
            }
            Err(error) => {
                if self.are_sockets_readable {
                    warn!(pool = %self.name, %error, "the sockets of the node cannot be read: no peer is READY until they can");
                }
                self.listed.clear();
                self.step(Input::SocketsUnreadable(&error.to_string()));
            }
        }
        self.are_sockets_readable = is_readable;
        self.metrics.sockets_readable(is_readable);
    }

    fn step(&mut self, input: Input<'_>) {
        self.step_at(input, Instant::now().into_std(), SystemTime::now());
        self.metrics.count(counts(&self.observer));
    }

    fn step_at(&mut self, input: Input<'_>, now: std::time::Instant, wall: SystemTime) {
        let observations = self.observer.step(input, now, wall);
        if !observations.is_empty() {
            self.looks.moved = Some(Instant::now());
        }
        for (at, updates) in steps(observations) {
            // A line may carry any time.
            self.publish(clock::shift().from_system(at).min(clock::now()), updates);
        }
        self.publish_sight();
    }

    fn publish_sight(&mut self) {
        let (is_blind, detail) = (self.observer.blindness().is_some(), self.observer.limitation());
        if (is_blind, detail) != (self.sight.0, &self.sight.1) {
            let detail = printable(detail, MAX_DETAIL);
            self.hub.set_sight(&self.name, is_blind, &detail, clock::now());
            self.sight = (is_blind, self.observer.limitation().to_owned());
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

    /// Publishes what the kernel knows of the connections, if that was not done just before.
    fn publish_facts(&mut self) {
        if self.looks.published.is_some_and(|at| at.elapsed() < FACTS_INTERVAL) {
            return;
        }
        self.looks.published = Some(Instant::now());
        let now = clock::now();
        let facts = self.listed.iter().filter_map(|socket| {
            let last_received = socket.last_received.and_then(|ago| now.checked_sub(ago));
            let facts = Update::Socket(SocketFacts { rtt: socket.rtt, last_received });
            Some((self.observer.peer_of(socket.cookie)?.clone(), facts))
        });
        let facts: Vec<_> = facts.collect();
        if !facts.is_empty() {
            self.hub.apply(&self.name, now, facts);
        }
    }
}

/// What there is, and in which state.
fn states(sockets: &[Socket]) -> BTreeMap<u64, SocketState> {
    sockets.iter().map(|socket| (socket.cookie, socket.state)).collect()
}

fn reader_ended() -> Vec<ReadEvent> {
    vec![ReadEvent::now(LogEvent::Lost(Loss { cause: LossCause::Ended, detail: String::new() }))]
}

fn counts(observer: &Observer) -> ObservedCounts {
    let counts = observer.counts();
    ObservedCounts {
        lines: counts.lines,
        rejected: [
            ("tainted", counts.rejected_tainted),
            ("contradicted", counts.rejected_by_sockets),
            ("impossible", counts.rejected_illegal),
            ("repeated", counts.rejected_repeated),
            ("bad_peer", counts.rejected_peers),
            ("too_long", counts.cut),
        ],
        losses: counts.lost,
        unmentioned: counts.unmentioned,
    }
}

#[cfg(test)]
mod tests;
