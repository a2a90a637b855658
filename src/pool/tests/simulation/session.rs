//! The sessions of the pool under test: real state machines, driven as their tasks drive them.

use std::{collections::VecDeque, mem, time::Duration};

use bytes::Bytes;

use super::{
    address,
    wire::{End, Payload},
    world::{Event, World},
};
use crate::{
    opflex::{self, IdentityAnswer},
    peer::{Action, Input, PeerFsm, Reason},
    pool::session::SessionEventKind,
};

/// A session.
pub(super) struct Session {
    pub(super) peer: usize,
    pub(super) task: Task,
    pub(super) link: Link,
    /// When it was started, its pause included.
    pub(super) begins: Duration,
    /// When its link became what it is.
    pub(super) since: Duration,
    /// When it last began to dial.
    pub(super) dialed: Duration,
    /// When it last failed.
    pub(super) failed: Option<Duration>,
    pub(super) ready: bool,
    /// What came in for it, and by which link.
    inbox: VecDeque<(Link, Input)>,
    turn_is_due: bool,
    alarm: Option<Duration>,
}

pub(super) enum Task {
    Pausing,
    Peer(Box<PeerFsm>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Link {
    Down,
    Dialing(u64),
    Up(usize),
}

impl Session {
    pub(super) const fn new(peer: usize, now: Duration, pause: Duration) -> Self {
        Self {
            peer,
            task: Task::Pausing,
            link: Link::Down,
            begins: now.saturating_add(pause),
            since: now.saturating_add(pause),
            dialed: now,
            failed: None,
            ready: false,
            inbox: VecDeque::new(),
            turn_is_due: false,
            alarm: None,
        }
    }
}

impl World {
    pub(super) fn session_server(&self, id: u64) -> Option<usize> {
        self.pool.sessions.get(&id).map(|session| session.peer)
    }

    pub(super) fn session_starts(&mut self, id: u64) {
        let (now, seed, timers) = (self.instant(), self.rng.u64(..), self.plan.timers);
        let Some(session) = self.pool.sessions.get_mut(&id) else { return };
        if matches!(session.task, Task::Pausing) {
            session.begins = self.now;
            session.task = Task::Peer(PeerFsm::new(address(session.peer), timers, seed, now).into());
            self.feed(id, Input::Started);
        }
    }

    pub(super) fn dialing(&mut self, id: u64, dial: u64) {
        self.link(id, Link::Dialing(dial));
        self.pool.sessions.get_mut(&id).unwrap().dialed = self.now;
    }

    fn link(&mut self, id: u64, link: Link) {
        let session = self.pool.sessions.get_mut(&id).unwrap();
        session.link = link;
        session.since = self.now;
    }

    pub(super) fn established(&mut self, id: u64, dial: u64, conn: usize) {
        match self.pool.sessions.get(&id) {
            Some(session) if session.link == Link::Dialing(dial) => {
                self.link(id, Link::Up(conn));
                self.put(id, Link::Up(conn), established());
            }
            _ => self.close(conn),
        }
    }

    pub(super) fn dial_failed(&mut self, id: u64, dial: u64, reason: Reason) {
        if self.pool.sessions.get(&id).is_some_and(|session| session.link == Link::Dialing(dial)) {
            self.put(id, Link::Dialing(dial), dial_failed(reason));
        }
    }

    pub(super) fn came_in(&mut self, session: u64, conn: usize, payload: Payload) {
        let input = match payload {
            Payload::Frame(frame) => received(frame),
            Payload::Fin => lost("closed"),
            Payload::Rst => lost("reset"),
            Payload::Open => unreachable!("is for servers"),
        };
        self.put(session, Link::Up(conn), input);
    }

    fn put(&mut self, id: u64, by: Link, input: Input) {
        let late = self.lateness();
        let Some(session) = self.pool.sessions.get_mut(&id) else { return };
        session.inbox.push_back((by, input));
        if !mem::replace(&mut session.turn_is_due, true) {
            self.after(late, Event::SessionTurn(id));
        }
    }

    /// Takes what has come in, in one go.
    pub(super) fn session_turn(&mut self, id: u64) {
        let Some(session) = self.pool.sessions.get_mut(&id) else { return };
        session.turn_is_due = false;
        for (by, input) in mem::take(&mut session.inbox) {
            let session = self.pool.sessions.get_mut(&id).expect("only the pool ends sessions");
            if session.link != by {
                continue;
            }
            if matches!(by, Link::Dialing(_)) {
                self.link(id, Link::Down);
            }
            self.feed(id, input);
        }
    }

    pub(super) fn alarm(&mut self, id: u64, set_for: Duration) {
        let Some(session) = self.pool.sessions.get_mut(&id) else { return };
        if session.alarm == Some(set_for) {
            session.alarm = None;
            // As in the session's `select!`, whatever has arrived comes first.
            self.session_turn(id);
            self.feed(id, Input::DeadlinePassed);
        }
    }

    /// One turn of the loop of a session.
    pub(super) fn feed(&mut self, id: u64, input: Input) {
        let (now, caps) = (self.instant(), self.pool.core.backoff_caps());
        let Task::Peer(fsm) = &mut self.pool.sessions.get_mut(&id).unwrap().task else { return };
        let mut actions = Vec::new();
        fsm.set_backoff_caps(caps);
        fsm.handle(input, now, &mut actions);
        for action in actions {
            self.perform(id, action);
        }
        let session = &self.pool.sessions[&id];
        let Task::Peer(fsm) = &session.task else { return };
        let deadline = fsm.next_deadline().map(|deadline| self.since_start(deadline));
        if let Some(deadline) = deadline.filter(|_| session.alarm != deadline) {
            self.pool.sessions.get_mut(&id).unwrap().alarm = Some(deadline);
            let at = deadline.max(self.now) + self.lateness();
            self.at(at, Event::Alarm(id, deadline));
        }
    }

    fn perform(&mut self, id: u64, action: Action) {
        let link = self.pool.sessions[&id].link;
        match action {
            Action::Dial(_) => self.dial(id),
            Action::Disconnect => self.hang_up(id),
            Action::Send(parts) => self.write(link, &parts),
            Action::SendIdentity(number) => {
                let identity = opflex::send_identity(number, &self.pool.identity);
                self.write(link, &[identity]);
            }
            Action::Publish(report) => {
                self.overhear(id, &report);
                self.report(id, SessionEventKind::Status(report));
            }
            Action::EchoRtt(rtt) => self.report(id, SessionEventKind::EchoRtt(rtt)),
            Action::Warn(_) => {}
            Action::Identified { answer, peers, ready } => {
                if let Some(report) = &ready {
                    self.overhear(id, report);
                }
                let IdentityAnswer { location, proxies, roles, .. } = answer;
                self.report(id, SessionEventKind::Identified { location, proxies, roles, peers, ready });
            }
        }
    }

    fn write(&mut self, link: Link, parts: &[Bytes]) {
        if let Link::Up(conn) = link {
            self.send(conn, End::Server, Payload::Frame(super::frame(parts)));
        }
    }

    pub(super) fn hang_up(&mut self, id: u64) {
        let link = self.pool.sessions[&id].link;
        self.link(id, Link::Down);
        match link {
            Link::Down => {}
            Link::Dialing(dial) => {
                self.dials.remove(&dial);
            }
            Link::Up(conn) => self.close(conn),
        }
    }

    fn close(&mut self, conn: usize) {
        if mem::take(&mut self.conns[conn].client_open) {
            self.send(conn, End::Server, Payload::Fin);
        }
    }
}

fn established() -> Input {
    Input::Established { detail: String::new() }
}

fn dial_failed(reason: Reason) -> Input {
    Input::DialFailed { reason, detail: String::new() }
}

const fn received(frame: Bytes) -> Input {
    Input::Received(frame)
}

fn lost(detail: &str) -> Input {
    Input::Lost { detail: detail.into() }
}
