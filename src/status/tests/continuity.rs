//! The promise as a whole: whatever happens, a client that follows the stream knows what the hub knows.
//!
//! The model client is what a client in any language would be: it applies snapshots and changes, and proves by
//! the chain of previous revisions that it missed nothing. A failing case is printed with its seed.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// So short that a few steps without a poll are an overflow.
const HISTORY: usize = 12;
const HOSTS: [&str; 5] = ["a", "b", "c-1", "c-2", "2001:db8::1"];
const POOLS: [&str; 2] = ["p", "q"];

#[derive(Clone, Debug)]
enum Step {
    Publish(usize, usize, Update),
    Poll(usize),
    PollAll,
    Drop,
    Attach { resume: bool, takeover: bool },
}

fn update() -> impl Strategy<Value = Update> {
    let status = (prop::sample::select(PeerStatus::ALL), prop::sample::select(&Reason::ALL[..3]));
    let origin = prop::sample::select(PeerOrigin::ALL);
    prop_oneof![
        3 => origin.clone().prop_map(Update::added),
        2 => origin.prop_map(Update::Origin),
        8 => status.prop_map(|(status, reason)| is(status, reason)),
        1 => Just(Update::Removed),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        24 => (0..POOLS.len(), 0..HOSTS.len(), update()).prop_map(|(pool, host, what)| Step::Publish(pool, host, what)),
        4 => (0..6_usize).prop_map(Step::Poll),
        2 => Just(Step::PollAll),
        1 => Just(Step::Drop),
        2 => (any::<bool>(), any::<bool>()).prop_map(|(resume, takeover)| Step::Attach { resume, takeover }),
    ]
}

/// Up to two of these, or none: then everything passes.
fn some_of<T: Clone + std::fmt::Debug + 'static>(all: &[T]) -> impl Strategy<Value = Vec<T>> + use<T> {
    prop_oneof![2 => Just(Vec::new()), 1 => prop::sample::subsequence(all.to_vec(), 1..=2)]
}

fn filter() -> impl Strategy<Value = FilterSpec> {
    let globs = |globs: [&str; 3]| some_of(&globs.map(str::to_owned));
    let parts = (
        globs(["p", "?", "x"]),
        globs(["c-*", "[2001:db8::1]:8009", "b"]),
        some_of(PeerOrigin::ALL),
        some_of(PeerStatus::ALL),
        some_of(&[Interest::Peers, Interest::Health]),
    );
    parts.prop_map(|(pools, peers, origins, statuses, interests)| FilterSpec {
        nodes: Vec::new(),
        pools,
        peers,
        origins,
        statuses,
        interests,
    })
}

/// What a client knows.
#[derive(Default)]
struct Client {
    filter: FilterSpec,
    /// What stands in for the state of a peer: any change to it has another revision.
    peers: BTreeMap<(Arc<str>, PeerAddress), (PeerStatus, u64)>,
    health: BTreeMap<Arc<str>, PoolHealth>,
    chain: u64,
    /// Where to resume, once it was told a whole snapshot.
    cursor: Option<u64>,
    /// Between the opening (or a reset) and `Synced`.
    syncing: bool,
}

impl Client {
    fn hear(&mut self, ListenerMessage { revision, previous, delivery }: ListenerMessage) {
        match delivery {
            Delivery::Attached { cursor, resumed, .. } => {
                assert_eq!((revision, previous), (cursor.revision, cursor.revision));
                assert_eq!(resumed.then_some(cursor.revision), self.cursor.filter(|_| resumed));
                self.chain = cursor.revision;
                self.forget(!resumed);
            }
            Delivery::Reset { .. } => self.forget(true),
            Delivery::Snapshot { peers, pools, .. } => {
                assert!(self.syncing, "a snapshot out of the blue");
                assert!(previous == self.chain || previous == revision);
                self.chain = revision;
                for peer in peers {
                    self.learn(&peer);
                }
                self.health.extend(pools.iter().map(|pool| (Arc::clone(&pool.name), pool.health)));
            }
            Delivery::Synced { cursor, peers } => {
                assert!(self.syncing, "synced twice");
                assert_eq!(peers, self.peers.len());
                self.syncing = false;
                self.cursor = Some(cursor.revision);
            }
            Delivery::Change { event, parts } => {
                assert_eq!(previous, self.chain, "a gap before {revision}");
                assert!(revision > previous, "revisions only grow");
                assert_eq!(revision, event.revision);
                self.chain = revision;
                self.cursor = Some(revision);
                self.apply(&event, parts);
            }
            Delivery::Heartbeat(_) | Delivery::Draining { .. } => panic!("nobody asked for {delivery:?}"),
        }
    }

    fn forget(&mut self, everything: bool) {
        self.syncing = true;
        if everything {
            self.cursor = None;
            self.peers.clear();
            self.health.clear();
        }
    }

    fn apply(&mut self, event: &Event, parts: Parts) {
        let PeerChange { peer, kind, .. } = event.peer.as_ref().unwrap();
        if parts.peer {
            let (statuses, origins) = (&self.filter.statuses, &self.filter.origins);
            let stays = (statuses.is_empty() || statuses.contains(&peer.status))
                && (origins.is_empty() || origins.contains(&peer.origin));
            if *kind == ChangeKind::Removed || !stays {
                self.peers.remove(&(Arc::clone(&peer.pool), peer.address.clone()));
            } else {
                self.learn(peer);
            }
        }
        if let Some(health) = event.health.filter(|_| parts.health) {
            let before = self.health.insert(Arc::clone(&peer.pool), health.health);
            assert_eq!(before, Some(health.previous));
        }
    }

    fn learn(&mut self, peer: &PeerState) {
        let key = (Arc::clone(&peer.pool), peer.address.clone());
        self.peers.insert(key, (peer.status, peer.revision));
    }

    /// Holds what it knows against what there is.
    fn check(&self, hub: &Hub) {
        let filter = Filter::compile(self.filter.clone()).unwrap();
        let mut truth = Self::default();
        let snapshot = hub.snapshot();
        let Snapshot { peers, pools, .. } = &*snapshot;
        peers.iter().filter(|peer| filter.admits_peer(peer)).for_each(|peer| truth.learn(peer));
        let pools = pools.iter().filter(|pool| filter.admits_health_of(&pool.name));
        truth.health = pools.map(|pool| (Arc::clone(&pool.name), pool.health)).collect();
        assert_eq!(self.peers, truth.peers);
        assert_eq!(self.health, truth.health);
    }
}

/// A service with one listener, and its client.
struct World {
    hub: Arc<Hub>,
    listeners: Arc<Listeners>,
    stream: Option<Subscription>,
    client: Client,
}

impl World {
    fn new(filter: FilterSpec) -> Self {
        let hub = hub(HISTORY);
        hub.add_pool("q".into(), identity(), at(0));
        let listeners = Listeners::new(
            Arc::clone(&hub),
            ListenerLimits { listeners: 1, per_owner: 2, streams: 1, streams_per_owner: 1 },
        );
        let client = Client { filter: filter.clone(), ..Client::default() };
        let filter = Filter::compile(filter).unwrap();
        let spec = ListenerSpec { filter, idle_ttl: Some(TTL), ..ListenerSpec::default() };
        listeners.create(Some("l"), spec).unwrap();
        Self { hub, listeners, stream: None, client }
    }

    fn run(&mut self, step: Step) {
        match step {
            Step::Publish(pool, host, what) => {
                let update =
                    PeerUpdate { pool: POOLS[pool].into(), address: peer(HOSTS[host]), at: at(1), what };
                self.hub.publish(update);
            }
            Step::Poll(messages) => _ = self.poll(messages),
            Step::PollAll => self.catch_up(),
            Step::Drop => self.stream = None,
            Step::Attach { resume, takeover } => self.attach(resume, takeover),
        }
        self.check_progress();
    }

    fn attach(&mut self, resume: bool, takeover: bool) {
        let revision = self.client.cursor.filter(|_| resume);
        let resume_after = revision.map(|revision| Cursor { epoch: EPOCH, revision });
        let attached = self.listeners.attach("l", AttachOptions { resume_after, takeover, ..options() });
        match attached {
            Ok(stream) => {
                if let Some(mut older) = self.stream.replace(stream) {
                    assert_eq!(told(&mut older), ["end TakenOver", "over"]);
                }
            }
            Err(error) => {
                assert!(self.stream.is_some() && !takeover, "{error}");
                assert_eq!(error, AttachError::Attached("client".into()));
            }
        }
    }

    /// Hears up to that many messages. Returns whether there is nothing more.
    fn poll(&mut self, messages: usize) -> bool {
        let Some(stream) = &mut self.stream else { return false };
        for _ in 0..messages {
            let Some(said) = now(stream) else { return true };
            self.client.hear(said.expect("goes on").expect("goes on"));
        }
        false
    }

    fn catch_up(&mut self) {
        if self.poll(usize::MAX) {
            assert!(!self.client.syncing, "nothing more to say, and not synced");
            self.client.check(&self.hub);
            let view = self.listeners.get("l", &ListenerScope::All).unwrap();
            assert_eq!((view.cursor, view.lag), (self.hub.cursor(), 0));
        }
    }

    /// What is seen from outside is never ahead of the client, but for what its filter holds back.
    fn check_progress(&self) {
        let (Some(_), Some(known)) = (&self.stream, self.client.cursor) else { return };
        let shown = self.listeners.get("l", &ListenerScope::All).unwrap().cursor.revision;
        let filter = Filter::compile(self.client.filter.clone()).unwrap();
        let mut between = Vec::new();
        if self
            .hub
            .read_after(known, usize::try_from(shown.saturating_sub(known)).unwrap(), &mut between)
            .is_ok()
        {
            assert!(
                between.iter().all(|event| filter.parts(event).is_empty()),
                "{shown} is ahead of {known}"
            );
        }
    }
}

proptest! {
    #[test]
    fn a_client_that_has_caught_up_knows_what_the_hub_knows(
        filter in filter(),
        steps in prop::collection::vec(step(), 0..200),
    ) {
        // The heartbeat's timer needs a runtime; paused, so that it never fires.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let _entered = runtime.enter();
        let mut world = World::new(filter);
        for step in steps {
            world.run(step);
        }
        world.attach(true, true);
        world.catch_up();
        world.stream = None;
        prop_assert_eq!(world.listeners.count(), (1, 0));
    }
}
