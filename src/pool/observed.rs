//! The owner task of an observed pool: it reads the agent's log and the sockets, lets the observer decide, and publishes.
//! It connects to nothing.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::{
    sync::mpsc,
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
        Input, Level, LogEvent, LogLine, LogSource, Loss, LossCause, Observation, Observed, Observer,
        ObserverSettings, Socket, SocketState, SocketTable, follow,
    },
    opflex::text::printable,
    peer::{Evidence, PeerAddress, PeerStatus, Reason, Report},
    status::{Hub, SocketFacts, Update, clock},
};

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
/// As long as the detail of any peer may be, in bytes.
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
    /// How many peers it may have.
    pub peer_limit: usize,
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

/// Adds an observed pool to the hub. The future is the pool's task: it runs until `stop`, when it announces every peer as
/// CLOSING, then as removed.
pub fn observe(
    config: ObservedConfig,
    context: ObservedContext,
    stop: CancellationToken,
) -> impl Future<Output = ()> + Send + use<> {
    let ObservedContext { hub, peers, metrics, log, tasks } = context;
    hub.add_observed_pool(Arc::clone(&config.name), clock::now());
    let settings = ObserverSettings {
        peer_port: config.peer_port,
        handshake_timeout: config.handshake_timeout,
        level_hint: config.level_hint,
        peer_limit: config.peer_limit,
    };
    let pool = ObservedPool {
        hub,
        observer: Observer::new(settings),
        sockets: SocketTable::default(),
        listed: Vec::new(),
        are_sockets_readable: true,
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
                event = events.recv(), if is_reading => {
                    is_reading = event.is_some();
                    self.log(event.unwrap_or_else(reader_ended));
                }
                _ = looks.tick() => self.look(),
                () = deadline => self.step(Input::Tick),
                () = log_due => self.transitions.catch_up(Instant::now().into_std()),
            }
        }
        reader_stop.cancel();
        self.end();
    }

    fn log(&mut self, event: LogEvent) {
        match event {
            LogEvent::History(lines) => self.step(Input::History(&lines)),
            LogEvent::Lines(lines) => {
                self.note_lag(&lines);
                self.metrics.log_readable(true);
                self.step(Input::Lines(&lines));
            }
            LogEvent::Lost(loss) => {
                warn!(pool = %self.name, cause = ?loss.cause, detail = loss.detail, "a piece of the agent's log is lost");
                if matches!(loss.cause, LossCause::Unreadable | LossCause::Ended) {
                    self.metrics.log_readable(false);
                }
                self.step(Input::Lost(&loss));
            }
            LogEvent::NewInstance => self.step(Input::NewInstance),
        }
    }

    /// Only the container runtime and journald write a time that has a zone.
    fn note_lag(&self, lines: &[LogLine]) {
        if let Some(received) = lines.last().and_then(|line| line.received) {
            self.metrics.log_lag(SystemTime::now().duration_since(received).unwrap_or_default());
        }
    }

    /// Handles an input, and the dump that it asks for.
    fn step(&mut self, input: Input<'_>) {
        self.step_once(input);
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
                self.step_once(Input::Sockets(&sockets));
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
                self.step_once(Input::SocketsUnreadable(&error.to_string()));
            }
        }
        self.are_sockets_readable = is_readable;
        self.metrics.sockets_readable(is_readable);
    }

    fn step_once(&mut self, input: Input<'_>) {
        let observations = self.observer.step(input, Instant::now().into_std(), SystemTime::now());
        if !observations.is_empty() {
            self.looks.moved = Some(Instant::now());
        }
        for (at, updates) in steps(observations) {
            // A line may carry any time.
            self.publish(clock::shift().from_system(at).min(clock::now()), updates);
        }
        self.metrics.count(counts(&self.observer));
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

    /// All peers leave, and the pool with them.
    fn end(&mut self) {
        let peers =
            self.hub.peers(Some(&self.name), None, usize::MAX).map(|(peers, _)| peers).unwrap_or_default();
        let closing = || Update::Status(Report::new(PeerStatus::Closing, Reason::PoolStopping));
        self.publish(clock::now(), peers.iter().map(|peer| (peer.address.clone(), closing())).collect());
        let removed = |address: &PeerAddress| (address.clone(), Update::Removed);
        self.publish(clock::now(), peers.iter().map(|peer| removed(&peer.address)).collect());
        info!(pool = %self.name, peers = peers.len(), "observed pool stopped");
    }
}

/// What there is, and in which state.
fn states(sockets: &[Socket]) -> BTreeMap<u64, SocketState> {
    sockets.iter().map(|socket| (socket.cookie, socket.state)).collect()
}

const fn reader_ended() -> LogEvent {
    LogEvent::Lost(Loss { cause: LossCause::Ended, detail: String::new() })
}

/// Observations of the same time are one step, of which no reader sees a part. A new peer is added with the status that it
/// has in it.
fn steps(observations: Vec<Observation>) -> Vec<(SystemTime, Vec<(PeerAddress, Update)>)> {
    let mut steps: Vec<(SystemTime, Vec<(PeerAddress, Update)>)> = Vec::new();
    let mut observations = observations.into_iter().peekable();
    while let Some(Observation { address, what, at }) = observations.next() {
        let is_next =
            |next: &Observation| next.address == address && matches!(next.what, Observed::Status { .. });
        let update = match what {
            Observed::Added if observations.peek().is_some_and(is_next) => continue,
            Observed::Added => {
                Update::Observed(Report::new(PeerStatus::Connecting, Reason::Added), Some(Evidence::Log))
            }
            Observed::Status { status, reason, detail, evidence } => {
                let detail = Arc::from(printable(&detail, MAX_DETAIL));
                Update::Observed(Report { detail, ..Report::new(status, reason) }, evidence)
            }
            Observed::Removed => Update::Removed,
        };
        match steps.last_mut() {
            Some((time, step)) if *time == at => step.push((address, update)),
            _ => steps.push((at, vec![(address, update)])),
        }
    }
    steps
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
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_new_peer_is_added_with_the_status_that_it_has() {
        let at = |second| SystemTime::UNIX_EPOCH + Duration::from_secs(second);
        let observation =
            |host: &str, what, second| Observation { address: host.parse().unwrap(), what, at: at(second) };
        let unknown = || Observed::Status {
            status: PeerStatus::Unknown,
            reason: Reason::ObservationLost,
            detail: "two\nlines".into(),
            evidence: None,
        };
        let steps = steps(vec![
            observation("a:1", Observed::Added, 1),
            observation("a:1", unknown(), 1),
            observation("b:1", Observed::Added, 1),
            observation("a:1", Observed::Removed, 2),
        ]);
        let hub = Hub::new(1, 64);
        hub.add_observed_pool("p".into(), at(0));
        let told: Vec<_> = steps
            .into_iter()
            .flat_map(|(at, updates)| hub.apply("p", at, updates))
            .map(|event| {
                let change = event.peer.as_ref().unwrap();
                let health = event.health.map(|health| health.health.as_str());
                (change.kind, change.peer.status, change.peer.detail.to_string(), health)
            })
            .collect();
        use crate::status::ChangeKind::{Added, Removed};
        let expected = [
            (Added, PeerStatus::Unknown, "two lines".to_owned(), None),
            (Added, PeerStatus::Connecting, String::new(), None),
            (Removed, PeerStatus::Disconnected, "two lines".to_owned(), Some("DOWN")),
        ];
        assert_eq!(told, expected);
    }
}
