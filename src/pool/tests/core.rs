//! The core and the hub together: whatever peers answer and clients request in whatever order, what is published is
//! true, nothing runs that should not, and something always does. Its sessions only exist on paper.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use proptest::{collection::vec, prelude::*};

use crate::{
    opflex::{ElementMode, Identity, Roles},
    peer::{PeerAddress, PeerOrigin, PeerStatus, PoolHealth, Reason, Report},
    pool::{
        PoolError, REDISCOVERY_INTERVAL, Reset,
        admission::LearnRules,
        command::Request,
        core::{PoolCore, PoolEvent, Settings},
        effect::Effect,
        session::SessionEventKind,
    },
    status::{Hub, PeerState},
};

const PEERS: u16 = 6;

fn at(port: u16) -> PeerAddress {
    PeerAddress::new("127.0.0.1", port + 1).unwrap()
}

/// A pool, and its sessions.
struct World {
    core: PoolCore,
    hub: Hub,
    now: Instant,
    /// Which sessions run, and whether they have yet to report.
    running: BTreeMap<PeerAddress, bool>,
    location: Option<String>,
}

#[derive(Clone, Debug)]
enum Step {
    Connected(usize),
    /// Which peer, and the how many'th time in a row.
    Failed(usize, u32),
    /// Which peer answers the identity, with which list.
    Identified(usize, Vec<u16>),
    Deadline,
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
        4 => (any::<usize>(), 1_u32..6).prop_map(|(peer, failures)| Step::Failed(peer, failures)),
        6 => (any::<usize>(), vec(0..PEERS, 0..5)).prop_map(|(by, list)| Step::Identified(by, list)),
        1 => Just(Step::Deadline),
        2 => (0..PEERS).prop_map(Step::Add),
        1 => (0..PEERS).prop_map(Step::Remove),
        1 => reset.prop_map(Step::Reset),
    ]
}

impl World {
    fn new(peer_limit: usize) -> Self {
        let hub = Hub::new(1, 1024);
        hub.add_pool("p".into(), Arc::new(Identity::new("agent", "domain")), SystemTime::UNIX_EPOCH);
        let now = Instant::now();
        let settings = Settings {
            mode: ElementMode::Stitched,
            peer_limit,
            location: Some("configured".into()),
            rediscovery_interval: REDISCOVERY_INTERVAL,
            rules: LearnRules::default(),
        };
        Self {
            core: PoolCore::new(settings, now, 7),
            hub,
            now,
            running: BTreeMap::new(),
            location: Some("configured".into()),
        }
    }

    fn peers(&self) -> Vec<Arc<PeerState>> {
        self.hub.peers(Some("p"), None, usize::MAX).unwrap().0
    }

    fn member(&self, address: &PeerAddress) -> Option<Arc<PeerState>> {
        self.hub.peer("p", address).map(|(peer, _)| peer)
    }

    /// One of those that run.
    fn pick(&self, index: usize) -> Option<PeerAddress> {
        let running: Vec<_> = self.running.keys().collect();
        (!running.is_empty()).then(|| running[index % running.len()].clone())
    }

    /// Performs what the core wants, as the owner task does. Returns the answer to a request.
    fn handle(&mut self, event: PoolEvent) -> Option<Result<usize, PoolError>> {
        let mut answer = None;
        for effect in self.core.handle(event, self.now) {
            match effect {
                Effect::Publish(updates) => {
                    self.hub.apply("p", SystemTime::UNIX_EPOCH, updates);
                }
                Effect::Start(address, ..) => drop(self.running.insert(address, true)),
                Effect::Redial(address) => assert!(self.running.contains_key(&address)),
                Effect::Stop(address) => drop(self.running.remove(&address)),
                Effect::SetIdentity(location, _) => self.location = location,
                Effect::SetReach(..) | Effect::LeftOut(..) | Effect::Warn(..) => {}
                Effect::Reply(result) => assert!(answer.replace(result).is_none()),
            }
        }
        answer
    }

    fn report(&mut self, address: PeerAddress, kind: SessionEventKind) {
        self.handle(PoolEvent::Session(address, kind));
    }

    fn status(&mut self, address: PeerAddress, status: PeerStatus, reason: Reason, failures: u32) {
        let report = Report { failures, ..Report::new(status, reason) };
        self.report(address, SessionEventKind::Status(report));
    }

    fn request(&mut self, request: Request) -> Result<usize, PoolError> {
        self.handle(PoolEvent::Request(request)).unwrap()
    }

    fn identified(&mut self, by: PeerAddress, list: Vec<u16>, location: Option<&str>) {
        let peers: Vec<_> = list.into_iter().map(at).collect();
        let lists_itself = peers.contains(&by);
        let location = location.map(str::to_owned);
        let roles = Roles::default();
        let ready = lists_itself.then(|| Report::new(PeerStatus::Ready, Reason::HandshakeComplete));
        self.report(
            by.clone(),
            SessionEventKind::Identified { location, proxies: None, roles, peers, ready },
        );
        assert!(lists_itself || !self.running.contains_key(&by), "parked or stopped");
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Connected(peer) => {
                let Some(peer) = self.pick(peer) else { return };
                self.status(peer, PeerStatus::Connected, Reason::TcpEstablished, 0);
            }
            Step::Failed(peer, failures) => {
                let Some(peer) = self.pick(peer) else { return };
                self.status(peer, PeerStatus::Connecting, Reason::RemoteClosed, failures);
            }
            Step::Identified(by, list) => {
                let Some(by) = self.pick(by) else { return };
                self.identified(by, list, None);
            }
            Step::Deadline => {
                self.now = self.core.next_deadline().unwrap_or(self.now);
                self.handle(PoolEvent::DeadlinePassed);
            }
            Step::Add(port) => {
                let added = self.request(Request::Add(at(port)));
                assert_eq!(
                    added.is_ok(),
                    added != Err(PoolError::PeerExists) && self.member(&at(port)).is_some()
                );
            }
            Step::Remove(port) => {
                if self.request(Request::Remove(at(port))).is_ok() {
                    assert!(self.member(&at(port)).is_none());
                }
            }
            Step::Reset(reset) => drop(self.request(Request::Reset(reset))),
        }
    }

    /// Lets new sessions publish that they dial, as sessions do.
    fn begin(&mut self) {
        let new: Vec<_> = self.running.iter().filter(|(_, new)| **new).map(|(at, _)| at.clone()).collect();
        for address in new {
            self.running.insert(address.clone(), false);
            self.status(address, PeerStatus::Connecting, Reason::Dialing, 0);
        }
    }

    /// What must hold between any two events.
    fn check(&mut self) {
        self.begin();
        let peers = self.peers();
        let count = |status| peers.iter().filter(|peer| peer.status == status).count();
        let (ready, parked) = (count(PeerStatus::Ready), count(PeerStatus::Disconnected));
        let health = match ready {
            0 => PoolHealth::Down,
            ready if ready == peers.len() - parked => PoolHealth::Healthy,
            _ => PoolHealth::Degraded,
        };
        assert_eq!(self.hub.pool("p").unwrap().0.health, health);
        assert_eq!(count(PeerStatus::Closing), 0, "a peer that closes leaves or is parked at once");
        assert_eq!(self.core.len(), peers.len());

        for peer in &peers {
            let runs = self.running.contains_key(&peer.address);
            assert_eq!(runs, peer.status != PeerStatus::Disconnected, "{peer:?}");
            assert!(runs || peer.origin == PeerOrigin::Configured, "only configured peers are parked");
        }
        assert!(
            self.running.keys().all(|address| self.member(address).is_some()),
            "a stranger has a session"
        );
        let is_failing =
            |peer: &Arc<PeerState>| peer.origin == PeerOrigin::Learned && peer.consecutive_failures >= 4;
        let deadline = self.core.next_deadline();
        let asks = ready == 0 || peers.iter().any(is_failing);
        assert!(deadline.is_some() || !asks, "parked peers are asked while they may help: {peers:#?}");
        assert!(peers.is_empty() || !self.running.is_empty() || ready == 0, "silently dead");
    }
}

proptest! {
    #[test]
    fn what_is_published_is_true_and_nothing_is_leaked_or_silently_dead(
        limit in 1_usize..8,
        steps in vec(step(), 0..50),
    ) {
        let mut world = World::new(limit);
        world.check();
        for step in steps {
            world.take(step);
            world.check();
        }
        world.handle(PoolEvent::Stopping);
        prop_assert!(world.running.is_empty());
        prop_assert!(world.peers().is_empty());
        prop_assert_eq!(world.hub.pool("p").unwrap().0.health, PoolHealth::Down);
    }
}

#[test]
fn parked_peers_are_asked_again_a_minute_after_the_last_ready_peer_was_lost_and_every_minute_then() {
    let mut world = World::new(9);
    let begin = world.now;
    world.take(Step::Add(0));
    world.check();
    assert_eq!(world.core.next_deadline(), Some(begin + REDISCOVERY_INTERVAL), "counted from the start");

    world.now += Duration::from_secs(10);
    world.take(Step::Identified(0, vec![0]));
    world.check();
    assert_eq!(world.core.next_deadline(), None, "a peer is READY");

    world.now += Duration::from_secs(100);
    let lost = world.now;
    world.take(Step::Failed(0, 1));
    world.check();
    world.now += Duration::from_secs(30);
    world.take(Step::Failed(0, 2));
    world.check();
    let due = Some(lost + REDISCOVERY_INTERVAL);
    assert_eq!(world.core.next_deadline(), due, "another failure does not put it off");

    world.take(Step::Deadline);
    world.check();
    assert_eq!(world.core.next_deadline(), Some(lost + 2 * REDISCOVERY_INTERVAL));
}

#[test]
fn a_pool_that_stops_publishes_that_all_close_then_that_all_are_gone_and_is_down_at_once() {
    let mut world = World::new(9);
    for step in [Step::Add(0), Step::Identified(0, vec![0, 1]), Step::Identified(1, vec![0, 1])] {
        world.take(step);
        world.check();
    }
    let before = world.hub.cursor().revision;
    assert_eq!(world.hub.pool("p").unwrap().0.health, PoolHealth::Healthy);
    world.handle(PoolEvent::Stopping);
    let mut events = Vec::new();
    world.hub.read_after(before, usize::MAX, &mut events).unwrap();
    let published = events.iter().map(|event| {
        let PeerState { address, status, reason, .. } = &*event.peer.as_ref().unwrap().peer;
        let health = event.health.as_ref().map_or("", |health| health.health.as_str());
        format!("{} {status} {reason} {health}", address.port())
    });
    assert_eq!(
        published.collect::<Vec<_>>(),
        [
            "1 CLOSING POOL_STOPPING ",
            "2 CLOSING POOL_STOPPING DOWN",
            "1 DISCONNECTED POOL_STOPPING ",
            "2 DISCONNECTED POOL_STOPPING ",
        ]
    );
}

#[test]
fn the_location_is_that_of_the_newest_answer_until_a_reset_goes_back_to_the_configuration() {
    let mut world = World::new(9);
    world.take(Step::Add(0));
    world.take(Step::Add(1));
    world.check();
    for (peer, location, expected) in
        [(0, Some("rack 7"), "rack 7"), (1, Some("rack 8"), "rack 8"), (0, None, "rack 8")]
    {
        world.identified(at(peer), vec![0, 1], location);
        assert_eq!(world.location.as_deref(), Some(expected));
    }
    world.take(Step::Reset(Reset::Learned));
    assert_eq!(world.location.as_deref(), Some("configured"));
}

#[test]
fn the_cap_of_pauses_after_a_lookup_grows_with_the_names_in_the_pool_to_a_minute() {
    let mut core = World::new(usize::MAX).core;
    let mut add = |host: &str| {
        let address = PeerAddress::new(host, 8009).unwrap();
        core.handle(PoolEvent::Request(Request::Add(address)), Instant::now());
        core.backoff_caps().lookup
    };
    assert_eq!(add("192.0.2.1"), Duration::ZERO, "nothing has to be looked up");
    assert_eq!(add("leaf-1"), Duration::from_secs(3));
    assert_eq!(add("leaf-2"), Duration::from_secs(6));
    assert_eq!((3..50).map(|leaf| add(&format!("leaf-{leaf}"))).last(), Some(Duration::from_secs(60)));
}

#[test]
fn the_cap_of_pauses_grows_with_the_pool_from_one_second_to_thirty() {
    let mut world = World::new(usize::MAX);
    let mut ports = 0..;
    for (peers, cap) in [(1, 1_000), (200, 1_000), (400, 2_000), (5_999, 29_995), (6_001, 30_000)] {
        while world.core.len() < peers {
            world.take(Step::Add(ports.next().unwrap()));
        }
        assert_eq!(world.core.backoff_caps().dial, Duration::from_millis(cap));
    }
}

#[test]
fn parked_peers_are_asked_when_a_learned_peer_has_failed_four_times_and_again_until_it_recovers() {
    let mut world = World::new(9);
    let seconds = Duration::from_secs;
    world.take(Step::Add(0));
    world.identified(at(0), vec![1, 2], None);
    world.begin();
    world.identified(at(1), vec![1, 2], None);
    let is_asked = |world: &mut World| {
        world.begin();
        let asked = world.running.contains_key(&at(0));
        if asked {
            world.identified(at(0), vec![1, 2], None);
        }
        asked
    };
    for failures in 1..=3 {
        world.status(at(2), PeerStatus::Connecting, Reason::ConnectFailed, failures);
        assert!(!is_asked(&mut world));
    }
    world.status(at(2), PeerStatus::Connecting, Reason::ConnectFailed, 4);
    assert!(is_asked(&mut world), "at once");
    for pause in [1, 2, 4, 8, 16, 30, 30] {
        world.status(at(2), PeerStatus::Connecting, Reason::ConnectFailed, 5);
        assert!(!is_asked(&mut world));
        assert_eq!(world.core.next_deadline(), Some(world.now + seconds(pause)), "before {pause} s");
        world.take(Step::Deadline);
        assert!(is_asked(&mut world), "after {pause} s");
    }
    world.identified(at(2), vec![1, 2], None);
    assert_eq!(world.core.next_deadline(), None, "it is READY again");
    let peers = world.peers();
    let listed_by: Vec<_> = peers.iter().map(|peer| peer.learned_from.clone()).collect();
    assert_eq!(listed_by, [None, Some(at(2)), Some(at(0))], "by others, and last");
}

#[test]
fn a_list_that_shrinks_never_shows_a_health_that_was_not_so() {
    let mut world = World::new(9);
    world.take(Step::Add(0));
    world.identified(at(0), vec![0, 1], None);
    world.identified(at(1), vec![0, 1], None);
    world.status(at(0), PeerStatus::Connecting, Reason::RemoteClosed, 1);
    let before = world.hub.cursor().revision;
    world.identified(at(0), vec![0], None);
    let mut events = Vec::new();
    world.hub.read_after(before, usize::MAX, &mut events).unwrap();
    let health: Vec<_> = events.iter().filter_map(|event| event.health.map(|change| change.health)).collect();
    assert_eq!(health, [PoolHealth::Healthy]);
}
