//! The world: a clock that jumps from event to event, chance from one seed, and who is told of each event.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    time::{Duration, Instant, SystemTime},
};

use super::{
    faults::{Fault, Plan},
    oracle::Oracle,
    pool::Pool,
    recovery::Recovery,
    server::Server,
    wire::{Conn, Dial, End},
};

/// Something that happens at a moment.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Event {
    /// The request for a connection reaches the server's machine.
    Syn(u64),
    /// And the answer to it the client.
    SynAck(u64),
    Refused(u64),
    DialTimeout(u64),
    /// The next payload of a connection arrives at this end.
    Arrival(usize, End),
    ServerEchoes(usize),
    /// A slow server answers the identity after all.
    ServerIdentifies(usize),
    /// A session takes what has come in for it.
    SessionTurn(u64),
    SessionStarts(u64),
    /// What a session has set its alarm for.
    Alarm(u64, Duration),
    PoolTurn,
    PoolDeadline(Duration),
    Fault(Fault),
    /// Nothing bad is done any more.
    Calm,
    /// Everybody says the same from here on, and the pool has to recover.
    Settled,
    /// Time to look around.
    Look,
}

/// Everything there is.
pub(super) struct World {
    pub(super) plan: Plan,
    pub(super) now: Duration,
    pub(super) rng: fastrand::Rng,
    pub(super) servers: Vec<Server>,
    /// What servers list that have no list of their own.
    pub(super) fabric: Vec<usize>,
    pub(super) conns: Vec<Conn>,
    pub(super) dials: BTreeMap<u64, Dial>,
    pub(super) pool: Pool,
    pub(super) oracle: Oracle,
    /// Since when nothing bad is done.
    pub(super) calm: Option<Duration>,
    pub(super) recovery: Recovery,
    pub(super) steps: u64,
    last_id: u64,
    epoch: Instant,
    queue: BinaryHeap<Reverse<(Duration, u64, Event)>>,
    trace: bool,
}

impl World {
    /// A world in which nothing has happened yet.
    pub(super) fn new(seed: u64, trace: bool) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let plan = Plan::draw(&mut rng);
        let mut world = Self::with_plan(plan, rng, trace);
        world.note(|world| format!("{:?}", world.plan));
        world.schedule_faults();
        world
    }

    /// One without faults.
    pub(super) fn with_plan(plan: Plan, mut rng: fastrand::Rng, trace: bool) -> Self {
        let epoch = Instant::now();
        Self {
            now: Duration::ZERO,
            servers: (0..plan.servers).map(|_| Server::default()).collect(),
            fabric: plan.fabric.clone(),
            conns: Vec::new(),
            dials: BTreeMap::new(),
            pool: Pool::new(&plan, epoch, rng.u64(..)),
            oracle: Oracle::default(),
            calm: None,
            recovery: Recovery::default(),
            steps: 0,
            last_id: 0,
            epoch,
            queue: BinaryHeap::new(),
            trace,
            rng,
            plan,
        }
    }

    /// Lets everything happen, to the end.
    pub(super) fn run(&mut self) {
        self.open_pool();
        while self.step(Duration::MAX, true) && !self.recovery.is_over {}
        self.close_pool();
    }

    /// Lets everything happen until then.
    pub(super) fn run_until(&mut self, end: Duration) {
        while self.step(end, true) {}
        self.now = end;
    }

    /// The same without looking at everything after each event, for many peers.
    pub(super) fn run_unchecked_until(&mut self, end: Duration) {
        while self.step(end, false) {}
        self.now = end;
    }

    /// The next event until then. Returns false if there is none.
    fn step(&mut self, end: Duration, is_checked: bool) -> bool {
        if self.queue.peek().is_none_or(|Reverse((at, ..))| *at > end) {
            return false;
        }
        let Some(Reverse((at, _, event))) = self.queue.pop() else { return false };
        self.now = at;
        self.steps += 1;
        assert!(self.steps < 2_000_000, "the world does not come to rest");
        self.note(|_| format!("{event:?}"));
        let not_the_pools = matches!(event, Event::Arrival(..) | Event::ServerEchoes(_) | Event::Syn(_));
        self.happen(event);
        if is_checked {
            if !not_the_pools {
                self.check();
            }
            self.check_sessions();
        }
        true
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Syn(dial) => self.syn(dial),
            Event::SynAck(dial) => self.syn_ack(dial),
            Event::Refused(dial) => self.refuse(dial),
            Event::DialTimeout(dial) => self.time_out(dial),
            Event::Arrival(conn, end) => self.arrive(conn, end),
            Event::ServerEchoes(conn) => self.server_echoes(conn),
            Event::ServerIdentifies(conn) => self.server_identifies(conn),
            Event::SessionTurn(session) => self.session_turn(session),
            Event::SessionStarts(session) => self.session_starts(session),
            Event::Alarm(session, set_for) => self.alarm(session, set_for),
            Event::PoolTurn => self.pool_turn(),
            Event::PoolDeadline(at) => self.pool_deadline(at),
            Event::Fault(fault) => self.suffer(fault),
            Event::Calm => self.calm_down(),
            Event::Settled => self.settle(),
            Event::Look => self.look(),
        }
    }

    pub(super) fn at(&mut self, at: Duration, event: Event) {
        let id = self.next_id();
        self.queue.push(Reverse((at.max(self.now), id, event)));
    }

    pub(super) fn after(&mut self, delay: Duration, event: Event) {
        self.at(self.now + delay, event);
    }

    pub(super) const fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    /// Evenly between nothing and that.
    pub(super) fn up_to(&mut self, most: Duration) -> Duration {
        Duration::from_micros(self.rng.u64(0..=u64::try_from(most.as_micros()).unwrap()))
    }

    pub(super) fn chance(&mut self, percent: u32) -> bool {
        self.rng.u32(0..100) < percent
    }

    /// How late somebody is who should act now: as a rule not at all.
    pub(super) fn lateness(&mut self) -> Duration {
        let most = self.plan.lateness;
        if self.chance(15) { self.up_to(most) } else { Duration::ZERO }
    }

    pub(super) fn instant(&self) -> Instant {
        self.epoch + self.now
    }

    pub(super) fn since_start(&self, instant: Instant) -> Duration {
        instant - self.epoch
    }

    pub(super) fn clock(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + self.now
    }

    /// A line of the trace.
    pub(super) fn note(&self, line: impl FnOnce(&Self) -> String) {
        if self.trace {
            println!("{:>12.6} {}", self.now.as_secs_f64(), line(self));
        }
    }
}
