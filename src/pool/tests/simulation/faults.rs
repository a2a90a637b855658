//! What a world is like, and what befalls it until calm comes. Drawn from the seed.

use std::time::Duration;

use super::{
    server::Behaviour,
    world::{Event, World},
};
use crate::peer::Timers;

/// More peers than any world has.
pub(super) const NO_LIMIT: usize = 64;

/// How the world is made.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) servers: usize,
    pub(super) configured: Vec<usize>,
    /// What servers list at first.
    pub(super) fabric: Vec<usize>,
    pub(super) limit: usize,
    pub(super) timers: Timers,
    pub(super) rediscovery_interval: Duration,
    /// The longest that a message is under way as a rule, and how many of a thousand take much longer.
    pub(super) delay: Duration,
    pub(super) stalls_per_mille: u32,
    /// The most that the pool's tasks act late.
    pub(super) lateness: Duration,
    pub(super) news: News,
    pub(super) storm: Duration,
    pub(super) faults: usize,
    pub(super) requests: usize,
}

/// How the pool hears of what servers list in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum News {
    /// They have listed the same from the beginning.
    None,
    /// They tell those that are connected.
    Pushed,
    /// They close all connections.
    Restart,
}

/// Something bad, or the end of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fault {
    Killed(usize),
    Started(usize),
    PowerOff(usize),
    PowerOn(usize),
    Partitioned(usize),
    Healed(usize),
    /// One of its connections is forgotten in between.
    Severed(usize),
    /// It closes one connection.
    Closed(usize),
    Behaves(usize, Behaviour),
    /// It lists something of its own, or what the others do.
    ListsItsOwn(usize),
    ListsAsOthers(usize),
    FabricChanges,
    Asked(Request),
}

/// What clients ask of the pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Request {
    Add(usize),
    Remove(usize),
    ResetLearned,
    ResetAll,
    ResetNamed(usize),
}

impl Plan {
    /// Without servers, faults and requests.
    pub(super) fn quiet() -> Self {
        Self {
            servers: 0,
            configured: Vec::new(),
            fabric: Vec::new(),
            limit: NO_LIMIT,
            timers: Timers::default(),
            rediscovery_interval: Duration::from_secs(60),
            delay: Duration::ZERO,
            stalls_per_mille: 0,
            lateness: Duration::ZERO,
            news: News::None,
            storm: Duration::ZERO,
            faults: 0,
            requests: 0,
        }
    }

    pub(super) fn draw(rng: &mut fastrand::Rng) -> Self {
        let servers = rng.usize(1..=12).min(rng.usize(1..=12));
        let most_configured = if rng.u8(0..4) == 0 { servers } else { servers.min(3) };
        let most_configured = rng.usize(1..=most_configured);
        let configured = rng.choose_multiple(0..servers, most_configured);
        let limit = if rng.u8(0..8) == 0 { rng.usize(configured.len()..=servers + 1) } else { NO_LIMIT };
        let seconds =
            |rng: &mut fastrand::Rng, least: u64, most: u64| Duration::from_secs(rng.u64(least..=most));
        let keepalive = seconds(rng, 5, 30);
        let (connect, handshake) = (seconds(rng, 1, 10), seconds(rng, 2, 15));
        let timers = Timers { connect, handshake, keepalive, echo: keepalive / 4, ..Timers::default() };
        let timers = if rng.u8(0..20) == 0 { Timers::default() } else { timers };
        Self {
            fabric: subset(rng, servers),
            servers,
            configured,
            limit,
            timers,
            rediscovery_interval: seconds(rng, 3, 60),
            delay: Duration::from_millis(rng.u64(1..80)),
            stalls_per_mille: rng.u32(0..20),
            lateness: Duration::from_millis(if rng.bool() { 0 } else { rng.u64(1..40) }),
            news: *rng.choice(&[News::None, News::Pushed, News::Restart]).unwrap(),
            storm: seconds(rng, 5, 60),
            faults: rng.usize(0..20),
            requests: rng.usize(0..6),
        }
    }
}

/// Some of the servers; rarely none.
fn subset(rng: &mut fastrand::Rng, servers: usize) -> Vec<usize> {
    let least = usize::from(rng.u8(0..20) != 0);
    let size = if rng.u8(0..3) == 0 { servers } else { rng.usize(least..=servers) };
    rng.choose_multiple(0..servers, size)
}

impl World {
    /// Decides what is to happen when.
    pub(super) fn schedule_faults(&mut self) {
        let storm = self.plan.storm;
        for server in 0..self.plan.servers {
            if self.chance(10) {
                self.at(Duration::ZERO, Event::Fault(Fault::Killed(server)));
                let at = self.up_to(storm);
                self.at(at, Event::Fault(Fault::Started(server)));
            }
        }
        for _ in 0..self.plan.faults {
            let at = self.up_to(storm);
            let (fault, end) = self.draw_fault();
            self.at(at, Event::Fault(fault));
            let end_at = at + self.up_to(storm / 2);
            if let Some(end) = end.filter(|_| end_at < storm) {
                self.at(end_at, Event::Fault(end));
            }
        }
        for _ in 0..self.plan.requests {
            let (at, peer) = (self.up_to(storm), self.rng.usize(0..self.plan.servers));
            let request = match self.rng.u8(0..10) {
                0..4 => Request::Add(peer),
                4..6 => Request::Remove(peer),
                6 => Request::ResetLearned,
                7 => Request::ResetAll,
                _ => Request::ResetNamed(peer),
            };
            self.at(at, Event::Fault(Fault::Asked(request)));
        }
        self.at(storm, Event::Calm);
    }

    /// Something bad, and what ends it.
    fn draw_fault(&mut self) -> (Fault, Option<Fault>) {
        let server = self.rng.usize(0..self.plan.servers);
        let lists_change = self.plan.news != News::None;
        match self.rng.u8(0..12) {
            0 | 1 => (Fault::Killed(server), Some(Fault::Started(server))),
            2 => (Fault::PowerOff(server), Some(Fault::PowerOn(server))),
            3 | 4 => (Fault::Partitioned(server), Some(Fault::Healed(server))),
            5 => (Fault::Severed(server), None),
            6 => (Fault::Closed(server), None),
            7 if lists_change => (Fault::ListsItsOwn(server), Some(Fault::ListsAsOthers(server))),
            8 if lists_change => (Fault::FabricChanges, None),
            _ => {
                let behaviour = self.rng.choice(Behaviour::BAD).unwrap();
                (Fault::Behaves(server, behaviour), Some(Fault::Behaves(server, Behaviour::Normal)))
            }
        }
    }

    pub(super) fn suffer(&mut self, fault: Fault) {
        match fault {
            Fault::Killed(server) => {
                self.servers[server].listening = false;
                self.server_closes_all(server);
            }
            Fault::Started(server) => self.servers[server].listening = true,
            Fault::PowerOff(server) => {
                self.servers[server].powered = false;
                self.forget_conns(server);
            }
            Fault::PowerOn(server) => {
                self.servers[server].powered = true;
                self.resend(server);
            }
            Fault::Partitioned(server) => self.servers[server].partitioned = true,
            Fault::Healed(server) => {
                self.servers[server].partitioned = false;
                self.resend(server);
            }
            Fault::Severed(server) => {
                if let Some(conn) = self.draw_conn(server) {
                    self.conns[conn].severed = true;
                }
            }
            Fault::Closed(server) => {
                if let Some(conn) = self.draw_conn(server) {
                    self.server_closes(conn);
                }
            }
            Fault::Behaves(server, behaviour) => self.servers[server].behaviour = behaviour,
            Fault::ListsItsOwn(server) => {
                self.servers[server].own_list = Some(subset(&mut self.rng, self.plan.servers));
                self.tell_perhaps(server);
            }
            Fault::ListsAsOthers(server) => {
                self.servers[server].own_list = None;
                self.tell_perhaps(server);
            }
            Fault::FabricChanges => {
                self.change_fabric();
                (0..self.plan.servers).for_each(|server| self.tell_perhaps(server));
            }
            Fault::Asked(request) => self.ask(request),
        }
    }

    pub(super) fn change_fabric(&mut self) {
        self.fabric = subset(&mut self.rng, self.plan.servers);
        self.note(|world| format!("    everybody lists {:?}", world.fabric));
    }

    fn tell_perhaps(&mut self, server: usize) {
        if self.rng.bool() {
            self.push_lists(server);
        }
    }

    fn draw_conn(&mut self, server: usize) -> Option<usize> {
        let open = |id: &usize| self.conns[*id].server == server && self.conns[*id].client_open;
        let open: Vec<_> = (0..self.conns.len()).filter(open).collect();
        self.rng.choice(open)
    }
}
