//! The supervisor and the hub together: whatever is told and asked in whatever order, what is published is true,
//! nothing runs that should not, and something always does. Its tasks are started and never get to run.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use std::{collections::BTreeSet, pin::pin};

use futures_util::FutureExt as _;
use proptest::{collection::vec, prelude::*};
use tokio::{runtime, time::advance};

use super::*;
use crate::{
    opflex::Roles,
    peer::{PeerOrigin, PeerStatus, PoolHealth, Reason, Report},
    pool::{PoolError, Reset, steps::plain},
    status::PeerState,
};

const PEERS: u16 = 6;

fn at(port: u16) -> PeerAddress {
    PeerAddress::new("127.0.0.1", port + 1).unwrap()
}

/// A pool, and everything that was ever started in it.
struct World {
    pool: Supervisor,
    handle: PoolHandle,
    commanded: mpsc::Receiver<Command>,
    _told: mpsc::Receiver<SessionEvent>,
    hub: Arc<Hub>,
    started: Vec<(PeerAddress, Running)>,
    last_list: BTreeSet<PeerAddress>,
}

#[derive(Clone, Debug)]
enum Step {
    Connected(usize),
    /// Who, and the how many'th time in a row.
    Failed(usize, u32),
    /// Who answers the identity, with which list.
    Identified(usize, Vec<u16>),
    /// Whose probe is answered.
    Answered(usize),
    /// Who was READY, in the words of a session that has been stopped since.
    Late(usize),
    Quiet,
    Add(u16),
    Remove(u16),
    Reset(Reset),
}

fn step() -> impl Strategy<Value = Step> {
    let reset = prop_oneof![
        Just(Reset::Learned),
        Just(Reset::All),
        vec(0..PEERS, 0..3).prop_map(|ports| Reset::Named(ports.into_iter().map(at).collect())),
    ];
    prop_oneof![
        2 => any::<usize>().prop_map(Step::Connected),
        4 => (any::<usize>(), 1_u32..6).prop_map(|(who, failures)| Step::Failed(who, failures)),
        6 => (any::<usize>(), vec(0..PEERS, 0..5)).prop_map(|(by, list)| Step::Identified(by, list)),
        2 => any::<usize>().prop_map(Step::Answered),
        2 => any::<usize>().prop_map(Step::Late),
        1 => Just(Step::Quiet),
        2 => (0..PEERS).prop_map(Step::Add),
        1 => (0..PEERS).prop_map(Step::Remove),
        1 => reset.prop_map(Step::Reset),
    ]
}

impl World {
    fn new(peer_limit: usize) -> Self {
        let config = PoolConfig {
            name: "p".into(),
            identity: Identity::new("agent", "domain"),
            mode: ElementMode::Stitched,
            peers: Vec::new(),
            timers: Timers::default(),
            tls: None,
            frame_limit: 1024,
            peer_limit,
            rediscovery_interval: REDISCOVERY_INTERVAL,
        };
        let hub = Arc::new(Hub::new(1, 1024));
        let (pool, told) = Supervisor::new(
            config,
            DialLimits::for_files(0),
            Arc::clone(&hub),
            &metrics::Peers::default(),
            TaskTracker::new(),
        );
        let (commands, commanded) = mpsc::channel(COMMANDS);
        let handle = PoolHandle::new(commands);
        Self { pool, handle, commanded, _told: told, hub, started: Vec::new(), last_list: BTreeSet::new() }
    }

    fn peers(&self) -> Vec<Arc<PeerState>> {
        self.hub.peers(Some("p"), None, usize::MAX).unwrap().0
    }

    fn member(&self, address: &PeerAddress) -> Option<Arc<PeerState>> {
        self.hub.peer("p", address).map(|(peer, _)| peer)
    }

    /// One of those that run: members, or those that are only probed.
    fn pick(&self, index: usize, member: bool) -> Option<(PeerAddress, u64)> {
        let mut running: Vec<_> =
            self.pool.sessions.iter().map(|(at, run)| (at.clone(), run.session)).collect();
        running.retain(|(address, _)| self.member(address).is_some() == member);
        running.sort();
        (!running.is_empty()).then(|| running[index % running.len()].clone())
    }

    fn tell(&mut self, (address, session): (PeerAddress, u64), what: SessionEventKind) {
        self.pool.apply(SessionEvent::now(session, address, what));
    }

    fn ask<T>(&mut self, asked: impl Future<Output = Result<T, PoolError>>) -> Result<T, PoolError> {
        let mut asked = pin!(asked);
        assert!(asked.as_mut().now_or_never().is_none());
        let command = self.commanded.try_recv().unwrap();
        self.pool.obey(command);
        asked.now_or_never().unwrap()
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Connected(who) => {
                let Some(who) = self.pick(who, true) else { return };
                self.tell(who, SessionEventKind::Is(plain(PeerStatus::Connected, Reason::TcpEstablished)));
            }
            Step::Failed(who, failures) => {
                let Some(who) = self.pick(who, true) else { return };
                let report = plain(PeerStatus::Connecting, Reason::RemoteClosed);
                self.tell(who, SessionEventKind::Is(Report { failures, ..report }));
            }
            Step::Identified(by, list) => {
                let Some(by) = self.pick(by, true) else { return };
                let peers: Vec<_> = list.into_iter().map(at).collect();
                self.last_list = peers.iter().cloned().collect();
                let lists_itself = peers.contains(&by.0);
                let roles = Roles::default();
                let what = SessionEventKind::Identified {
                    location: None,
                    proxies: None,
                    roles,
                    peers,
                    lists_itself,
                };
                self.tell(by.clone(), what);
                if lists_itself {
                    self.tell(by, SessionEventKind::Is(plain(PeerStatus::Ready, Reason::HandshakeComplete)));
                }
            }
            Step::Answered(who) => {
                let Some(who) = self.pick(who, false) else { return };
                self.tell(who, SessionEventKind::Answers);
            }
            Step::Late(who) => self.late(who),
            Step::Quiet => self.pool.rediscover(),
            Step::Add(port) => {
                let handle = self.handle.clone();
                let added = self.ask(handle.add(at(port)));
                assert_eq!(
                    added.is_ok(),
                    added != Err(PoolError::PeerExists) && self.member(&at(port)).is_some()
                );
            }
            Step::Remove(port) => {
                let handle = self.handle.clone();
                if self.ask(handle.remove(at(port))).is_ok() {
                    assert!(self.member(&at(port)).is_none());
                }
            }
            Step::Reset(reset) => {
                let handle = self.handle.clone();
                let _ = self.ask(handle.reset(reset));
            }
        }
    }

    /// What a session says after it was stopped has no effect.
    fn late(&mut self, who: usize) {
        let stopped: Vec<_> =
            self.started.iter().filter(|(_, running)| running.stop.is_cancelled()).collect();
        if stopped.is_empty() {
            return;
        }
        let (address, running) = stopped[who % stopped.len()].clone();
        let before = self.hub.cursor();
        let report = plain(PeerStatus::Ready, Reason::HandshakeComplete);
        self.tell((address, running.session), SessionEventKind::Is(report));
        assert_eq!(self.hub.cursor(), before);
    }

    /// Lets those that were started say their first word, as sessions do.
    fn begin(&mut self) {
        let new = |(_, running): &(&PeerAddress, &Running)| {
            self.started.iter().all(|(_, known)| known.session != running.session)
        };
        let new: Vec<_> =
            self.pool.sessions.iter().filter(new).map(|(at, run)| (at.clone(), run.clone())).collect();
        for (address, running) in new {
            if self.member(&address).is_some() {
                let dialing = plain(PeerStatus::Connecting, Reason::Dialing);
                self.tell((address.clone(), running.session), SessionEventKind::Is(dialing));
            }
            self.started.push((address, running));
        }
    }

    /// What must hold between any two events.
    fn check(&mut self) {
        self.begin();
        self.pool.update_rediscovery_timer();
        let peers = self.peers();
        let count = |status| peers.iter().filter(|peer| peer.status == status).count();
        let (ready, parked) = (count(PeerStatus::Ready), count(PeerStatus::Disconnected));
        let health = match ready {
            0 => PoolHealth::Down,
            ready if ready == peers.len() - parked => PoolHealth::Healthy,
            _ => PoolHealth::Degraded,
        };
        assert_eq!(self.hub.pool("p").unwrap().0.health, health);
        assert_eq!(count(PeerStatus::Closing), 0, "who closes leaves, or is parked, at once");
        assert_eq!(self.pool.membership.len(), peers.len());

        for peer in &peers {
            let runs = self.pool.sessions.contains_key(&peer.address);
            assert_eq!(runs, peer.status != PeerStatus::Disconnected, "{peer:?}");
            assert!(runs || peer.origin == PeerOrigin::Configured, "only configured peers are parked");
        }
        let probed = self.pool.sessions.keys().filter(|address| self.member(address).is_none());
        assert!(
            probed.into_iter().all(|address| self.last_list.contains(address)),
            "nobody names them any more"
        );
        for (address, running) in &self.started {
            let wanted = self.pool.sessions.get(address).is_some_and(|one| one.session == running.session);
            assert_eq!(running.stop.is_cancelled(), !wanted, "a task for {address} is leaked, or lost");
        }
        assert_eq!(self.pool.rediscover_at.is_some(), ready == 0, "nobody ready, and nobody will be asked");
        assert!(peers.is_empty() || !self.pool.sessions.is_empty() || ready == 0, "silently dead");
    }
}

/// A runtime whose clock stands still.
fn still() -> runtime::Runtime {
    runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap()
}

proptest! {
    #[test]
    fn what_is_published_is_true_and_nothing_is_leaked_or_silently_dead(
        limit in 1_usize..8,
        steps in vec(step(), 0..50),
    ) {
        let runtime = still();
        let _inside = runtime.enter();
        let mut world = World::new(limit);
        world.check();
        for step in steps {
            world.take(step);
            world.check();
        }
        let World { pool, hub, started, .. } = world;
        pool.stop_all();
        prop_assert!(started.iter().all(|(_, running)| running.stop.is_cancelled()));
        prop_assert!(hub.peers(Some("p"), None, usize::MAX).unwrap().0.is_empty());
        prop_assert_eq!(hub.pool("p").unwrap().0.health, PoolHealth::Down);
    }
}

#[test]
fn parked_peers_are_asked_again_a_minute_after_the_last_ready_peer_went_and_every_minute_then() {
    still().block_on(async {
        let mut world = World::new(9);
        let begin = Instant::now();
        world.take(Step::Add(0));
        world.check();
        assert_eq!(world.pool.rediscover_at, Some(begin + REDISCOVERY_INTERVAL), "counted from the start");

        advance(Duration::from_secs(10)).await;
        world.take(Step::Identified(0, vec![0]));
        world.check();
        assert_eq!(world.pool.rediscover_at, None, "somebody is ready");

        advance(Duration::from_secs(100)).await;
        let lost = Instant::now();
        world.take(Step::Failed(0, 1));
        world.check();
        advance(Duration::from_secs(30)).await;
        world.take(Step::Failed(0, 2));
        world.check();
        assert_eq!(
            world.pool.rediscover_at,
            Some(lost + REDISCOVERY_INTERVAL),
            "another failure does not put it off"
        );

        advance(Duration::from_secs(30)).await;
        world.pool.rediscover();
        world.check();
        assert_eq!(world.pool.rediscover_at, Some(lost + 2 * REDISCOVERY_INTERVAL));
    });
}

#[test]
fn a_pool_that_stops_says_that_all_close_then_that_all_are_gone_and_is_down_at_once() {
    still().block_on(async {
        let mut world = World::new(9);
        for step in [Step::Add(0), Step::Identified(0, vec![0, 1]), Step::Identified(1, vec![0, 1])] {
            world.take(step);
            world.check();
        }
        let World { pool, hub, .. } = world;
        let before = hub.cursor().revision;
        assert_eq!(hub.pool("p").unwrap().0.health, PoolHealth::Healthy);
        pool.stop_all();
        let mut events = Vec::new();
        hub.read_after(before, usize::MAX, &mut events).unwrap();
        let told = events.iter().map(|event| {
            let PeerState { address, status, reason, .. } = &*event.peer.peer;
            let health = event.health.as_ref().map_or("", |health| health.health.as_str());
            format!("{} {status} {reason} {health}", address.port())
        });
        assert_eq!(
            told.collect::<Vec<_>>(),
            [
                "1 CLOSING POOL_STOPPING ",
                "2 CLOSING POOL_STOPPING DOWN",
                "1 DISCONNECTED POOL_STOPPING ",
                "2 DISCONNECTED POOL_STOPPING ",
            ]
        );
    });
}

#[test]
fn where_we_are_is_what_a_peer_said_last_until_a_reset_goes_back_to_the_configuration() {
    still().block_on(async {
        let mut world = World::new(9);
        world.pool.location = Some("configured".into());
        world.take(Step::Add(0));
        world.take(Step::Add(1));
        world.check();
        let said = |world: &mut World, who, location: Option<&str>| {
            let who = world.pick(who, true).unwrap();
            let (location, peers) = (location.map(str::to_owned), vec![at(0), at(1)]);
            let roles = Roles::default();
            world.tell(
                who,
                SessionEventKind::Identified { location, proxies: None, roles, peers, lists_itself: true },
            );
            world.pool.shared.identity.read().location.clone()
        };
        assert_eq!(said(&mut world, 0, Some("rack 7")).as_deref(), Some("rack 7"));
        assert_eq!(said(&mut world, 1, Some("rack 8")).as_deref(), Some("rack 8"));
        assert_eq!(said(&mut world, 0, None).as_deref(), Some("rack 8"));
        world.take(Step::Reset(Reset::Learned));
        assert_eq!(world.pool.shared.identity.read().location.as_deref(), Some("configured"));
    });
}
