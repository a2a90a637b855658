//! What lines and sockets together say of the agent's peers.
//!
//! It is pure: lines, dumps of the socket table and the time come in, statuses and reasons come out. Lines wait in a queue
//! for a dump that was taken after they were read, and are applied in their order. A line is believed if
//! - it is legal in the status of its peer,
//! - the sockets do not contradict it, and for READY agree with it,
//! - it cannot be text of a peer (see `forgery`), or what it says can be seen in the sockets.
//!
//! After the queue, statuses are reconciled with the sockets: what is gone is not READY, whatever the log says.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::{Duration, Instant, SystemTime},
};

use super::{Level, LogLine};
use crate::{
    opflex::text,
    peer::{Evidence, PeerAddress, PeerStatus, Reason},
};

mod apply;
mod clock;
mod connection;
mod forgery;
mod history;
mod lines;
mod peer;
mod reconcile;
mod sockets;
mod types;

use clock::Clock;
use forgery::Forgery;
pub(super) use lines::is_idle;
use lines::{Carries, Event, PeerEvent, classify};
use peer::Peer;
use sockets::SocketTable;
pub use types::{
    Counts, Input, Loss, LossCause, Observation, Observed, ObserverSettings, Socket, SocketState,
};

#[cfg(test)]
mod tests;

/// As in connecting pools.
const MAX_DETAIL: usize = 512;

/// More lines than this wait if somebody writes text of peers by the megabyte. Then they count as lost.
const MAX_QUEUE: usize = 20_000;

/// Ports to dump: one in practice, several on one host in tests.
const MAX_PORTS: usize = 16;

/// The state of an observed pool.
#[derive(Debug)]
pub struct Observer {
    settings: ObserverSettings,
    counts: Counts,
    clock: Clock,
    peers: BTreeMap<PeerAddress, Peer>,
    sockets: SocketTable,
    queue: VecDeque<Pending>,
    forgery: Forgery,
    log: LogState,
    /// What a line without a name said of the next one with a name.
    hint: Option<(Reason, Box<str>)>,
    /// Since something can be seen of the agent, it had a peer.
    has_had_peers: bool,
    /// Whether the agent said that it stops.
    is_stopping: bool,
    wants_sockets: bool,
    /// When the first of the queue is decided if nothing happens.
    wait: Option<Instant>,
    out: Vec<Observation>,
}

/// What is known about the log itself.
#[derive(Debug)]
struct LogState {
    /// Why it cannot be read.
    error: Option<String>,
    /// Lines with a level were seen.
    has_levels: bool,
    /// Lines of level info or below were seen.
    has_info: bool,
    /// A connection was not mentioned.
    is_silent: bool,
}

/// A line that waits for a dump of the sockets.
#[derive(Clone, Debug)]
struct Pending {
    event: Pended,
    taint: Carries,
    at: SystemTime,
    /// The same, but not before the lines before it.
    earliest: SystemTime,
    /// When it was read.
    read: Instant,
    /// Of the whole line, for lines that come twice.
    hash: u64,
    /// The agent was adding peers: names may have newlines.
    is_after_name: bool,
    is_ahead: bool,
}

#[derive(Clone, Debug)]
enum Pended {
    Line(Event),
    Lost(Loss),
}

/// What became of the first of the queue.
enum Step {
    Done,
    /// It is decided at the latest then.
    Wait(Instant),
}

impl Observer {
    /// Nothing was seen yet.
    #[must_use]
    pub fn new(settings: ObserverSettings) -> Self {
        Self {
            forgery: Forgery::new(settings.peer_limit),
            settings,
            counts: Counts::default(),
            clock: Clock::default(),
            peers: BTreeMap::new(),
            sockets: SocketTable::default(),
            queue: VecDeque::new(),
            log: LogState {
                error: Some("the log has not been read yet".to_owned()),
                has_levels: false,
                has_info: false,
                is_silent: false,
            },
            hint: None,
            has_had_peers: false,
            is_stopping: false,
            wants_sockets: true,
            wait: None,
            out: Vec::new(),
        }
    }

    /// Handles what happened and returns what follows from it, in order. Lines have no effect until the next dump.
    pub fn step(&mut self, input: Input<'_>, now: Instant, wall: SystemTime) -> Vec<Observation> {
        match input {
            Input::History(lines) => self.read_history(lines, now, wall),
            Input::Lines(lines) => self.enqueue(lines, now, wall),
            Input::Lost(loss) => {
                self.forgery.forget_names();
                self.push(Pended::Lost(loss.clone()), now, wall);
            }
            Input::NewInstance => self.push(Pended::Line(Event::AgentStarts), now, wall),
            Input::Tick => self.wants_sockets |= self.wait.is_some_and(|at| at <= now),
            Input::Sockets(dump) => {
                self.sockets.update(dump, now);
                self.apply_all(now, wall);
            }
            Input::SocketsUnreadable(error) => {
                self.sockets.fail(error);
                self.apply_all(now, wall);
            }
        }
        std::mem::take(&mut self.out)
    }

    /// When [`Input::Tick`] is due.
    #[must_use]
    pub const fn next_deadline(&self) -> Option<Instant> {
        self.wait
    }

    /// Whether a dump is needed now, without waiting for the next one.
    #[must_use]
    pub const fn wants_sockets(&self) -> bool {
        self.wants_sockets
    }

    /// The ports to dump: the configured one and those that the log names.
    pub fn ports(&self) -> impl Iterator<Item = u16> {
        let mut ports = BTreeSet::from([self.settings.peer_port]);
        for peer in self.peers.keys() {
            if ports.len() < MAX_PORTS {
                ports.insert(peer.port());
            }
        }
        for pending in &self.queue {
            if let Pended::Line(Event::Peer(peer, _)) = &pending.event
                && ports.len() < MAX_PORTS
            {
                ports.insert(peer.port());
            }
        }
        ports.into_iter()
    }

    /// The peer whose connection this socket is.
    #[must_use]
    pub fn peer_of(&self, cookie: u64) -> Option<&PeerAddress> {
        self.peers.iter().find(|(_, peer)| peer.cookie == Some(cookie)).map(|(address, _)| address)
    }

    /// Why nothing can be seen of the agent now.
    #[must_use]
    pub fn blindness(&self) -> Option<&str> {
        self.log.error.as_deref().or(self.sockets.error.as_deref())
    }

    /// What is not known of the pool, for people: why nothing can be seen, or handshakes cannot, or that no peer was seen yet. Empty if
    /// there is nothing of the kind.
    #[must_use]
    pub fn limitation(&self) -> &str {
        let unseen = (!self.has_had_peers).then_some(NO_PEER);
        self.blindness().or_else(|| self.insufficient_level()).or(unseen).unwrap_or_default()
    }

    /// Sets for how many peers there is room. Those that are there stay.
    pub const fn set_peer_limit(&mut self, limit: usize) {
        self.settings.peer_limit = limit;
        self.forgery.set_peer_limit(limit);
    }

    /// What was rejected and lost so far.
    #[must_use]
    pub const fn counts(&self) -> &Counts {
        &self.counts
    }

    fn apply_all(&mut self, now: Instant, wall: SystemTime) {
        self.wants_sockets = false;
        self.wait = None;
        self.has_had_peers &= !self.peers.is_empty() || self.blindness().is_none();
        while let Some(pending) = self.queue.front().cloned() {
            let step = match &pending.event {
                Pended::Line(event) => self.apply(event, &pending, now, wall),
                Pended::Lost(loss) => {
                    self.lose(loss, wall);
                    Step::Done
                }
            };
            if let Step::Wait(until) = step {
                self.wait = Some(until);
                break;
            }
            self.queue.pop_front();
        }
        self.reconcile(now, wall);
    }

    fn enqueue(&mut self, lines: &[LogLine], now: Instant, wall: SystemTime) {
        self.wants_sockets |= self.log.error.take().is_some();
        let inherited = self.forgery.taint(now);
        let mut carried = Carries::Nothing;
        let mut may_quote = self.may_quote_peers();
        for line in lines {
            self.counts.lines += 1;
            self.counts.cut += u64::from(line.is_cut);
            let (event, carries) = classify(line);
            let taint = inherited.max(carried).max(self.forgery.lasting());
            if taint == Carries::Nothing {
                self.clock.learn(line, wall);
            }
            self.note_level(line, event.as_ref(), taint);
            may_quote |= matches!(event, Some(Event::Peer(_, PeerEvent::Connected)));
            if carries == Carries::BadName {
                self.counts.rejected_peers += 1;
                self.forgery.has_bad_name = true;
            }
            if may_quote {
                carried = carried.max(carries);
            }
            let (at, is_ahead) = (self.clock.time_of(line, wall), self.clock.is_ahead(line, wall));
            let earliest = self.clock.earliest(at, wall);
            let Some(event) = event else { continue };
            self.forgery.note_name(&event, taint, now);
            let is_after_name = self.forgery.is_after_name(now);
            let hash = forgery::hash(line);
            let event = Pended::Line(event);
            self.queue.push_back(Pending {
                event,
                taint,
                at,
                earliest,
                read: now,
                hash,
                is_after_name,
                is_ahead,
            });
        }
        // A megabyte of text takes several polls.
        let bytes: usize = lines.iter().map(|line| line.message.len() + forgery::FRAME).sum();
        self.forgery.carried(if bytes >= forgery::LARGE { carried.max(inherited) } else { carried }, now);
        self.wants_sockets |= !self.queue.is_empty();
        if self.queue.len() > MAX_QUEUE {
            self.queue.clear();
            let loss = Loss { cause: LossCause::Missing, detail: "too many lines to check".to_owned() };
            self.push(Pended::Lost(loss), now, wall);
        }
    }

    /// Whether there is a peer whose text can be in the log.
    fn may_quote_peers(&self) -> bool {
        let is_up = |peer: &Peer| {
            matches!(peer.status, PeerStatus::Unknown | PeerStatus::Connected | PeerStatus::Ready)
        };
        self.sockets.error.is_some()
            || self.sockets.has_established
            || !self.queue.is_empty()
            || self.peers.values().any(is_up)
    }

    fn note_level(&mut self, line: &LogLine, event: Option<&Event>, taint: Carries) {
        let is_info = match line.level {
            Some(level) => level <= Level::Info,
            None => matches!(event, Some(Event::Peer(_, what)) if !matches!(what, PeerEvent::Failed(..))),
        };
        let is_framed = line.origin.is_some() && taint < Carries::PeerText;
        self.log.has_info |= is_framed && is_info;
        self.log.has_levels |= is_framed && (is_info || line.level.is_some());
        if is_framed && is_info && matches!(event, Some(Event::Peer(..))) {
            self.log.is_silent = false;
        }
    }

    fn push(&mut self, event: Pended, now: Instant, wall: SystemTime) {
        self.wants_sockets = true;
        self.queue.push_back(Pending {
            event,
            taint: Carries::Nothing,
            at: wall,
            earliest: wall,
            read: now,
            hash: 0,
            is_after_name: false,
            is_ahead: false,
        });
    }

    fn lose(&mut self, loss: &Loss, wall: SystemTime) {
        self.counts.lost += 1;
        let detail = match loss.cause {
            LossCause::Unreadable | LossCause::Ended => {
                let detail = format!("the agent's log cannot be read: {}", loss.detail);
                self.log.error = Some(detail.clone());
                detail
            }
            LossCause::Truncated | LossCause::Missing => {
                format!("a piece of the agent's log is missing: {}", loss.detail)
            }
        };
        let wanted = self.peers.iter().filter(|(_, peer)| peer.status.is_wanted());
        for address in wanted.map(|(address, _)| address.clone()).collect::<Vec<_>>() {
            self.report_unknown(&address, &detail, wall);
        }
    }

    /// Why the log does not say when a handshake is complete.
    fn insufficient_level(&self) -> Option<&'static str> {
        match self.settings.level_hint {
            Some(level) if level > Level::Info => {
                Some("the agent's log level is above info, so its log does not say that handshakes succeed")
            }
            None if self.log.has_levels && !self.log.has_info => {
                Some("the agent's log has warnings and errors alone: its level seems to be above info")
            }
            _ if self.log.is_silent => {
                Some("the agent's log did not mention a connection: its level may be above info")
            }
            _ => None,
        }
    }
}

const NO_PEER: &str =
    "no peer was seen yet: neither a line of the agent's log about one nor a connection to the port of peers";

/// How long it takes at most from a line to what the sockets show, and from the sockets to the line.
const SOCKET_GRACE: Duration = Duration::from_millis(200);
