//! The pool under test: the real core, whose effects are performed on simulated sessions.

use std::{
    collections::{BTreeMap, VecDeque},
    mem,
    sync::Arc,
    time::{Duration, SystemTime},
};

use super::{
    POOL, address,
    faults::{Plan, Request},
    session::{Session, Task},
    world::{Event, World},
};
use crate::{
    opflex::{ElementMode, Identity},
    peer::{Input, PeerAddress, PeerOrigin},
    pool::{
        Reset,
        admission::LearnRules,
        command,
        core::{PoolCore, PoolEvent, Settings},
        effect::Effect,
        session::SessionEventKind,
    },
    status::Hub,
};

pub(super) struct Pool {
    pub(super) hub: Hub,
    pub(super) core: PoolCore,
    /// As the owner task keeps them: by address, with the number of the one that runs.
    pub(super) running: BTreeMap<PeerAddress, u64>,
    pub(super) sessions: BTreeMap<u64, Session>,
    pub(super) identity: Identity,
    pub(super) reports: VecDeque<(u64, Duration, SessionEventKind)>,
    requests: VecDeque<Request>,
    turn_is_due: bool,
    deadline: Option<Duration>,
}

impl Pool {
    pub(super) fn new(plan: &Plan, epoch: std::time::Instant, seed: u64) -> Self {
        let settings = Settings {
            mode: ElementMode::Stitched,
            peer_limit: plan.limit,
            location: None,
            rediscovery_interval: plan.rediscovery_interval,
            rules: LearnRules::default(),
        };
        Self {
            hub: Hub::new(1, 1 << 12),
            core: PoolCore::new(settings, epoch, seed),
            running: BTreeMap::new(),
            sessions: BTreeMap::new(),
            identity: Identity::new("agent", "domain"),
            reports: VecDeque::new(),
            requests: VecDeque::new(),
            turn_is_due: false,
            deadline: None,
        }
    }
}

impl World {
    pub(super) fn open_pool(&mut self) {
        self.pool.hub.add_pool(POOL.into(), Arc::new(self.pool.identity.clone()), self.clock());
        for peer in self.plan.configured.clone() {
            self.handle(PoolEvent::Request(command::Request::Add(address(peer))), self.now);
        }
    }

    pub(super) fn close_pool(&mut self) {
        self.handle(PoolEvent::Stopping, self.now);
        assert!(self.pool.running.is_empty(), "a session was not stopped");
        self.check();
    }

    pub(super) fn ask(&mut self, request: Request) {
        self.pool.requests.push_back(request);
        self.wake_pool();
    }

    pub(super) fn report(&mut self, session: u64, kind: SessionEventKind) {
        self.pool.reports.push_back((session, self.now, kind));
        self.wake_pool();
    }

    fn wake_pool(&mut self) {
        if !mem::replace(&mut self.pool.turn_is_due, true) {
            let late = self.lateness();
            self.after(late, Event::PoolTurn);
        }
    }

    pub(super) fn pool_turn(&mut self) {
        self.pool.turn_is_due = false;
        while !self.pool.reports.is_empty() || !self.pool.requests.is_empty() {
            if self.pool.reports.is_empty() || !self.pool.requests.is_empty() && self.rng.bool() {
                self.take_request();
            } else {
                self.take_report();
            }
        }
    }

    fn take_request(&mut self) {
        let Some(request) = self.pool.requests.pop_front() else { return };
        let request = match request {
            Request::Add(peer) => command::Request::Add(address(peer)),
            Request::Remove(peer) => command::Request::Remove(address(peer)),
            Request::ResetLearned => command::Request::Reset(Reset::Learned),
            Request::ResetAll => command::Request::Reset(Reset::All),
            Request::ResetNamed(peer) => command::Request::Reset(Reset::Named([address(peer)].into())),
        };
        self.handle(PoolEvent::Request(request), self.now);
    }

    fn take_report(&mut self) {
        let Some((session, at, kind)) = self.pool.reports.pop_front() else { return };
        let Some(peer) = self.pool.sessions.get(&session).map(|session| session.peer) else { return };
        let address = address(peer);
        let had_learned = self.oracle.has_learned();
        let lists_itself = match &kind {
            SessionEventKind::Identified { peers, .. } => peers.contains(&address),
            _ => true,
        };
        let fails = matches!(&kind, SessionEventKind::Status(report) if report.failures == 4 && report.reason.is_failure())
            && self.oracle.origins.get(&address) == Some(&PeerOrigin::Learned);
        self.handle(PoolEvent::Session(address.clone(), kind), at);
        if fails || had_learned && !self.oracle.has_learned() {
            self.check_asked_again(&address);
        }
        assert!(lists_itself || !self.pool.running.contains_key(&address), "{address} is parked or stopped");
    }

    pub(super) fn pool_deadline(&mut self, set_for: Duration) {
        if self.pool.deadline == Some(set_for) {
            self.handle(PoolEvent::DeadlinePassed, self.now);
        }
    }

    /// Lets the core handle an event that happened at `at`, and performs its effects as the owner task does.
    fn handle(&mut self, event: PoolEvent, at: Duration) {
        for effect in self.pool.core.handle(event, self.instant()) {
            self.note(|_| format!("        {effect:?}"));
            match effect {
                Effect::Publish(updates) => {
                    self.pool.hub.apply(POOL, SystemTime::UNIX_EPOCH + at, updates);
                    self.oracle.read_step(&self.pool.hub);
                }
                Effect::Start(address, pause, _) => {
                    let session = self.register(address, pause);
                    self.after(pause, Event::SessionStarts(session));
                }
                Effect::Redial(address) => self.redial(&address),
                Effect::Stop(address) => self.stop(&address),
                Effect::SetIdentity(..)
                | Effect::SetReach(..)
                | Effect::LeftOut(..)
                | Effect::Warn(..)
                | Effect::Reply(_) => {}
            }
        }
        let deadline = self.pool.core.next_deadline().map(|deadline| self.since_start(deadline));
        if let Some(deadline) = deadline.filter(|_| deadline != self.pool.deadline) {
            self.at(deadline, Event::PoolDeadline(deadline));
        }
        self.pool.deadline = deadline;
    }

    fn register(&mut self, address: PeerAddress, pause: Duration) -> u64 {
        self.stop(&address);
        let peer = super::number(&address);
        let session = Session::new(peer, self.now, pause);
        let id = self.next_id();
        self.pool.sessions.insert(id, session);
        self.pool.running.insert(address, id);
        id
    }

    fn redial(&mut self, address: &PeerAddress) {
        let Some(id) = self.pool.running.get(address).copied() else { return };
        match self.pool.sessions[&id].task {
            Task::Pausing => self.session_starts(id),
            _ => self.feed(id, Input::Reset),
        }
    }

    fn stop(&mut self, address: &PeerAddress) {
        if let Some(id) = self.pool.running.remove(address) {
            self.feed(id, Input::Stopped);
            self.hang_up(id);
            self.pool.sessions.remove(&id);
        }
    }
}
