//! Calm: servers that are to be well are well and stay so. Whatever happened before, the pool has to find them,
//! in time.

use std::{collections::BTreeSet, time::Duration};

use super::{
    POOL, address,
    faults::{NO_LIMIT, News},
    server::Behaviour,
    session::{Link, Session, Task},
    wire::{RETRANSMIT, STALL},
    world::{Event, World},
};
use crate::peer::{PeerStatus, PoolHealth, Reason, Report};

/// How often it is looked whether all is well.
const LOOK: Duration = Duration::from_millis(500);
/// More than a handshake takes in a good network, everybody's lateness included.
const SLACK: Duration = Duration::from_secs(1);
/// The longest that a peer is kept waiting because it was started over and over.
const LONGEST_PACING: Duration = Duration::from_secs(30);

/// How far the pool has recovered.
#[derive(Debug, Default)]
pub(super) struct Recovery {
    /// Since when everybody lists the same, and the pool can know.
    settled: Option<Duration>,
    /// Who has to be READY in the end.
    expected: BTreeSet<usize>,
    /// When they were.
    recovered: Option<Duration>,
    /// How long they have to remain so.
    remain: Duration,
    pub(super) is_over: bool,
}

impl World {
    /// The storm is over.
    pub(super) fn calm_down(&mut self) {
        self.calm = Some(self.now);
        self.plan.delay = self.plan.delay.min(Duration::from_millis(20));
        if self.plan.news != News::None {
            self.change_fabric();
        }
        for server in 0..self.plan.servers {
            self.servers[server].own_list = None;
            self.servers[server].good = self.chance(75);
            if self.servers[server].good || self.chance(30) {
                self.servers[server].behaviour = Behaviour::Normal;
            } else if self.chance(60) {
                self.servers[server].behaviour = self.rng.choice(Behaviour::BAD).unwrap();
            }
            let good = self.servers[server].good;
            let (listening, cut) = (good || self.rng.bool(), !good && self.chance(30));
            self.servers[server].powered = true;
            self.servers[server].partitioned = cut;
            self.servers[server].listening = listening;
            if !listening {
                self.server_closes_all(server);
            }
            self.resend(server);
        }
        self.note(|world| format!("{:#?}", world.servers));
        self.after(STALL + RETRANSMIT + 2 * SLACK, Event::Settled);
    }

    /// What was under way has arrived. From here on the pool's time is measured.
    pub(super) fn settle(&mut self) {
        self.recovery.settled = Some(self.now);
        self.recovery.remain = if self.chance(5) { 5 * self.plan.timers.keepalive } else { 3 * SLACK };
        self.recovery.expected = self.to_be_ready();
        self.note(|world| format!("    to be READY: {:?}", world.recovery.expected));
        for server in 0..self.plan.servers {
            match self.plan.news {
                News::Restart => self.server_closes_all(server),
                News::Pushed => self.push_lists(server),
                News::None => {}
            }
        }
        self.after(LOOK, Event::Look);
    }

    /// Who has to be READY in the end. With nobody well in sight, nobody; and a full pool may have to do without.
    fn to_be_ready(&self) -> BTreeSet<usize> {
        let good = |peer: &usize| self.servers[*peer].good;
        let fabric: BTreeSet<_> = self.fabric.iter().copied().filter(good).collect();
        let tried: BTreeSet<_> = self.pool.sessions.values().map(|session| session.peer).collect();
        let parked = self.oracle.peers.keys().map(super::number);
        if self.plan.limit < NO_LIMIT || !tried.iter().copied().chain(parked).any(|peer| good(&peer)) {
            return BTreeSet::new();
        }
        // Without news, no list names a peer again that was removed, as long as one of the listed peers may be READY.
        let has_listed = self.fabric.iter().any(|peer| tried.contains(peer));
        if self.plan.news == News::None && has_listed {
            return fabric.intersection(&tried).copied().collect();
        }
        fabric
    }

    pub(super) fn look(&mut self) {
        let settled = self.recovery.settled.expect("nobody looks before");
        let missing: Vec<_> =
            self.recovery.expected.iter().copied().filter(|peer| !self.is_well(*peer)).collect();
        if let Some(recovered) = self.recovery.recovered {
            assert!(missing.is_empty(), "{missing:?} were READY, and nothing happened to them");
            self.recovery.is_over = recovered + self.recovery.remain <= self.now;
        } else if missing.is_empty() {
            self.recovery.recovered = Some(self.now);
        }
        assert!(
            missing.is_empty() || self.now < settled + self.all_in_all(),
            "{missing:?} are not READY; the pool has {:#?}",
            self.oracle.peers
        );
        self.check_final_health(missing.is_empty());
        self.after(LOOK, Event::Look);
    }

    /// Long enough for whatever may have to come one after the other: the loss of a connection noticed, somebody
    /// found who tells of others, these found and given up and found again.
    fn all_in_all(&self) -> Duration {
        self.plan.rediscovery_interval
            + 2 * (self.longest_attempt() + self.pool.core.backoff_caps().dial + SLACK)
            + 2 * self.plan.timers.connect
            + 2 * LONGEST_PACING
    }

    fn longest_attempt(&self) -> Duration {
        let timers = &self.plan.timers;
        timers.keepalive.max(timers.handshake).max(timers.connect)
    }

    /// READY, and not only on paper.
    fn is_well(&self, peer: usize) -> bool {
        let address = address(peer);
        let session = self.pool.running.get(&address).map(|id| &self.pool.sessions[id]);
        let sound = session
            .is_some_and(|session| matches!(session.link, Link::Up(conn) if self.conns[conn].is_sound()));
        sound && self.oracle.peers.get(&address) == Some(&PeerStatus::Ready)
    }

    fn check_final_health(&self, all_there: bool) {
        if self.recovery.expected.is_empty() || !all_there {
            return;
        }
        let health = self.pool.hub.pool(POOL).unwrap().0.health;
        let wanted = |status: &PeerStatus| !matches!(status, PeerStatus::Closing | PeerStatus::Disconnected);
        let mut wanted = self.oracle.peers.iter().filter(|(_, status)| wanted(status));
        let nobody_else = wanted.all(|(address, _)| self.recovery.expected.contains(&super::number(address)));
        assert!(health != PoolHealth::Down, "DOWN with all that can be READY");
        assert!(!nobody_else || health == PoolHealth::Healthy, "{health}, and all are READY");
    }

    /// What a session says of its peer, before the pool hears of it.
    pub(super) fn overhear(&mut self, id: u64, report: &Report) {
        let timers = self.plan.timers;
        let session = self.pool.sessions.get_mut(&id).unwrap();
        let failed = report.status == PeerStatus::Connecting
            && !matches!(report.reason, Reason::Dialing | Reason::Reset);
        session.ready = report.status == PeerStatus::Ready;
        if failed {
            session.failed = Some(self.now);
        }
        let heard = match session.link {
            Link::Up(conn) => self.conns[conn].heard,
            _ => self.now,
        };
        match report.reason {
            Reason::KeepaliveTimeout => assert!(heard + timers.keepalive <= self.now, "too soon"),
            Reason::HandshakeTimeout => assert!(session.since + timers.handshake <= self.now, "too soon"),
            _ => {}
        }
        let fresh = self.recovery.settled.is_some_and(|settled| session.dialed > settled + SLACK);
        assert!(
            !(failed && fresh && self.servers[session.peer].good),
            "{}: {} of a server that is well: {}",
            address(session.peer),
            report.reason,
            report.detail
        );
    }

    /// No session stays for too long in any state but READY, and in that not without hearing of its peer.
    pub(super) fn check_sessions(&self) {
        let timers = &self.plan.timers;
        // Late to read, and late to wake.
        let late = 2 * self.plan.lateness + Duration::from_millis(1);
        for session in self.pool.sessions.values() {
            let (since, most, what) = match (&session.task, session.link) {
                (Task::Pausing, _) => (session.begins, Duration::ZERO, "has not begun"),
                (_, Link::Down) => (session.since, self.pool.core.backoff_caps().dial, "does not redial"),
                (_, Link::Dialing(_)) => (session.since, timers.connect, "dials for too long"),
                (_, Link::Up(conn)) if session.ready => {
                    (self.conns[conn].heard, timers.keepalive, "is READY and silent")
                }
                (_, Link::Up(_)) => (session.since, timers.handshake, "is not READY"),
            };
            let since = since.min(self.now);
            assert!(self.now - since <= most + late, "{} {what} since {since:?}", address(session.peer));
            self.check_recovery(session);
        }
    }

    /// A peer whose server is well is READY again in time.
    fn check_recovery(&self, session: &Session) {
        let Some(settled) = self.recovery.settled else { return };
        let due = match &session.task {
            _ if !self.servers[session.peer].good || session.ready => return,
            Task::Pausing => return,
            Task::Peer(_) if session.failed.is_some_and(|failed| failed > settled) => {
                session.failed.unwrap_or_default() + self.pool.core.backoff_caps().dial
            }
            Task::Peer(_) if session.begins > settled => session.begins,
            Task::Peer(_) => settled + self.longest_attempt() + self.pool.core.backoff_caps().dial,
        };
        assert!(self.now <= due + SLACK, "{} is well, and was due at {due:?}", address(session.peer));
    }
}
