//! The pool under test: its parts are the real ones, and what the supervisor's task does with them is done here as
//! it does it.

use std::{
    collections::{BTreeMap, VecDeque},
    mem,
    sync::Arc,
    time::Duration,
};

use super::{
    POOL, address,
    faults::Request,
    session::{Session, Task},
    world::{Event, World},
};
use crate::{
    opflex::{ElementMode, Identity},
    peer::{Input, PeerAddress},
    pool::{
        membership::{Membership, Order},
        probe::patience,
        restart_backoff::RestartBackoff,
        session::SessionEventKind,
        steps::{self, Step},
    },
    status::{Hub, PeerUpdate},
};

pub(super) struct Pool {
    pub(super) hub: Hub,
    pub(super) members: Membership,
    /// As the supervisor keeps them: by address, with the number of the one that counts.
    pub(super) running: BTreeMap<PeerAddress, u64>,
    pub(super) sessions: BTreeMap<u64, Session>,
    pub(super) identity: Identity,
    restarts: RestartBackoff,
    pub(super) told: VecDeque<(u64, Duration, SessionEventKind)>,
    asked: VecDeque<Request>,
    turn_is_due: bool,
    rediscover_at: Option<Duration>,
}

impl Pool {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            hub: Hub::new(1, 1 << 12),
            members: Membership::new(ElementMode::Stitched, limit),
            running: BTreeMap::new(),
            sessions: BTreeMap::new(),
            identity: Identity::new("agent", "domain"),
            restarts: RestartBackoff::default(),
            told: VecDeque::new(),
            asked: VecDeque::new(),
            turn_is_due: false,
            rediscover_at: None,
        }
    }

    pub(super) fn cap(&self) -> Duration {
        Duration::from_millis(steps::backoff_cap_ms(self.members.len()))
    }
}

impl World {
    pub(super) fn open_pool(&mut self) {
        self.pool.hub.add_pool(POOL.into(), Arc::new(self.pool.identity.clone()), self.clock());
        for peer in self.plan.configured.clone() {
            let orders = self.pool.members.add(address(peer)).unwrap_or_default();
            self.carry_out(orders, self.now);
        }
        self.update_rediscovery_timer();
    }

    pub(super) fn close_pool(&mut self) {
        let steps = steps::stopped(&mut self.pool.members);
        self.take(steps, self.now);
        self.pool.running.clear();
        self.pool.sessions.clear();
        self.check();
    }

    pub(super) fn ask(&mut self, request: Request) {
        self.pool.asked.push_back(request);
        self.wake_pool();
    }

    pub(super) fn tell(&mut self, session: u64, what: SessionEventKind) {
        self.pool.told.push_back((session, self.now, what));
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
        while !self.pool.told.is_empty() || !self.pool.asked.is_empty() {
            if self.pool.told.is_empty() || !self.pool.asked.is_empty() && self.rng.bool() {
                self.obey();
            } else {
                self.apply();
            }
            self.update_rediscovery_timer();
        }
    }

    fn obey(&mut self) {
        let Some(request) = self.pool.asked.pop_front() else { return };
        if matches!(request, Request::ResetLearned | Request::ResetAll) {
            self.oracle.read(&self.pool.hub);
            self.oracle.given_up.clear();
        }
        let members = &mut self.pool.members;
        let orders = match request {
            Request::Add(peer) => members.add(address(peer)).ok(),
            Request::Remove(peer) => members.remove(&address(peer)).ok(),
            Request::ResetLearned => Some(members.reset_learned()),
            Request::ResetAll => Some(members.reset_all()),
            Request::ResetNamed(peer) => members.reset_named(&[address(peer)].into()).ok(),
        };
        self.carry_out(orders.unwrap_or_default(), self.now);
    }

    fn apply(&mut self) {
        let Some((session, at, what)) = self.pool.told.pop_front() else { return };
        let Some(peer) = self.pool.sessions.get(&session).map(|session| session.peer) else { return };
        let address = address(peer);
        self.oracle.read(&self.pool.hub);
        let (learned, given_up) = (self.oracle.has_learned(), self.oracle.given_up.len());
        let asked = matches!(what, SessionEventKind::Identified { lists_itself: false, .. });
        let steps = steps::told(&mut self.pool.members, address.clone(), what);
        self.take(steps, at);
        self.oracle.read(&self.pool.hub);
        if self.oracle.given_up.len() > given_up || learned && !self.oracle.has_learned() {
            self.check_asked_again(&address);
        }
        assert!(!asked || !self.pool.running.contains_key(&address), "{address} is parked or stopped");
    }

    fn update_rediscovery_timer(&mut self) {
        let quiet = self.pool.hub.pool(POOL).unwrap().0.ready == 0;
        let at = quiet.then(|| self.pool.rediscover_at.unwrap_or(self.now + self.plan.rediscovery_interval));
        if at != self.pool.rediscover_at {
            self.pool.rediscover_at = at;
            at.into_iter().for_each(|at| self.at(at, Event::Rediscover(at)));
        }
    }

    pub(super) fn rediscover(&mut self, at: Duration) {
        if self.pool.rediscover_at == Some(at) {
            self.pool.rediscover_at = None;
            let orders = self.pool.members.nobody_ready();
            self.carry_out(orders, self.now);
            self.update_rediscovery_timer();
        }
    }

    fn carry_out(&mut self, orders: Vec<Order>, at: Duration) {
        self.note(|_| format!("    {orders:?}"));
        self.take(steps::ordered(orders), at);
    }

    fn take(&mut self, steps: Vec<Step>, at: Duration) {
        for step in steps {
            self.note(|_| format!("        {step:?}"));
            match step {
                Step::Say(address, what) => {
                    let at = std::time::SystemTime::UNIX_EPOCH + at;
                    self.pool.hub.publish(PeerUpdate { pool: POOL.into(), address, at, what });
                }
                Step::Start(address) => {
                    let (now, seed) = (self.instant(), self.rng.u64(..));
                    let pause = self.pool.restarts.pause(&address, now, seed);
                    let session = self.enlist(address, Task::Pausing, pause);
                    self.after(pause, Event::SessionStarts(session));
                }
                Step::Redial(address) => self.redial(&address),
                Step::Probe(address, pauses) => {
                    let mut backoff = patience(pauses, self.rng.u64(..));
                    let pause = backoff.next();
                    let session = self.enlist(address, Task::Probe(backoff), pause);
                    self.after(pause, Event::Probe(session));
                }
                Step::End(address) => self.end(&address),
                Step::Mention(_) => {}
            }
        }
    }

    fn enlist(&mut self, address: PeerAddress, task: Task, pause: Duration) -> u64 {
        self.end(&address);
        let peer = super::number(&address);
        let session = Session::new(peer, task, self.now, pause);
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

    fn end(&mut self, address: &PeerAddress) {
        if let Some(id) = self.pool.running.remove(address) {
            self.feed(id, Input::Stopped);
            self.hang_up(id);
            self.pool.sessions.remove(&id);
        }
    }
}
