//! Cases that operators meet, one by one: what has to come of them, whatever the delays.

use std::time::Duration;

use super::{
    POOL, address,
    faults::{Fault, News, Plan},
    world::World,
};
use crate::peer::{PeerStatus, PoolHealth, Timers};

const SECOND: Duration = Duration::from_secs(1);

/// A fabric without faults, of which these servers are configured and those are listed.
fn quiet(seed: u64, servers: usize, configured: &[usize], fabric: &[usize]) -> World {
    let mut rng = fastrand::Rng::with_seed(seed);
    let plan = Plan {
        servers,
        configured: configured.to_vec(),
        fabric: fabric.to_vec(),
        limit: servers,
        timers: Timers::default(),
        rediscovery_interval: 60 * SECOND,
        delay: Duration::from_millis(rng.u64(1..20)),
        lateness: Duration::from_millis(rng.u64(0..10)),
        news: News::None,
        ..Plan::quiet()
    };
    let mut world = World::with_plan(plan, rng, false);
    world.open_pool();
    world
}

impl World {
    fn status(&self, peer: usize) -> Option<PeerStatus> {
        self.oracle.peers.get(&address(peer)).copied()
    }

    fn health(&self) -> PoolHealth {
        self.pool.hub.pool(POOL).unwrap().0.health
    }
}

#[test]
fn the_successor_of_a_dead_leaf_is_ready_within_four_seconds_of_its_death() {
    for seed in 0..1_000 {
        let mut world = quiet(seed, 4, &[0], &[1, 2]);
        world.run_until(20 * SECOND);
        let before = [0, 1, 2].map(|peer| world.status(peer));
        assert_eq!(before, [PeerStatus::Disconnected, PeerStatus::Ready, PeerStatus::Ready].map(Some));
        let revision = world.pool.hub.cursor().revision;
        world.suffer(Fault::Killed(2));
        // The fabric notices a little later.
        let notices = world.up_to(1_500 * SECOND / 1_000);
        world.run_until(20 * SECOND + notices);
        world.fabric = vec![1, 3];
        world.run_until(24 * SECOND);
        assert_eq!(world.status(3), Some(PeerStatus::Ready), "seed {seed}");
        world.run_until(25 * SECOND);
        assert_eq!((world.status(2), world.status(0)), (None, Some(PeerStatus::Disconnected)), "seed {seed}");
        assert_eq!(world.health(), PoolHealth::Healthy, "seed {seed}");
        let mut events = Vec::new();
        world.pool.hub.read_after(revision, usize::MAX, &mut events).unwrap();
        let healths = events.iter().filter_map(|event| event.health.map(|change| change.health));
        assert!(
            healths.into_iter().all(|health| health != PoolHealth::Down),
            "seed {seed}: leaf 1 was READY"
        );
    }
}

#[test]
fn a_dead_leaf_that_is_still_listed_keeps_the_pool_degraded_for_as_long_as_it_is_dead() {
    let mut world = quiet(1, 3, &[0], &[1, 2]);
    world.run_until(20 * SECOND);
    world.suffer(Fault::Killed(2));
    for minute in 1..=30 {
        world.run_until((20 + 60 * minute) * SECOND);
        assert_eq!(world.status(2), Some(PeerStatus::Connecting));
        assert_eq!(world.health(), PoolHealth::Degraded, "after {minute} min");
    }
    world.suffer(Fault::Started(2));
    world.run_until((20 + 60 * 30 + 2) * SECOND);
    assert_eq!((world.status(2), world.health()), (Some(PeerStatus::Ready), PoolHealth::Healthy));
}

#[test]
fn two_peers_whose_lists_contradict_each_other_stay_ready_and_do_not_flood_the_log() {
    let mut world = quiet(1, 4, &[0, 1], &[]);
    for (server, list) in [(0, vec![0, 2]), (1, vec![1, 3])] {
        world.servers[server].own_list = Some(list.clone());
        let other = list[1];
        world.servers[other].own_list = Some(list);
    }
    for second in 1..=120 {
        world.run_until(second * SECOND);
        (0..2).for_each(|server| world.push_lists(server));
    }
    assert_eq!([world.status(0), world.status(1)], [Some(PeerStatus::Ready); 2]);
    let changes = world.pool.hub.cursor().revision;
    assert!(changes < 600, "{changes} changes in two minutes");
}

#[test]
fn a_list_of_a_thousand_dead_names_is_dialled_at_a_bounded_rate() {
    let all: Vec<_> = (0..1_024).collect();
    let mut world = quiet(1, 1_024, &[0], &all);
    all[1..].iter().for_each(|server| world.suffer(Fault::Killed(*server)));
    let failures = |world: &World| -> u64 {
        let (peers, _) = world.pool.hub.peers(None, None, usize::MAX).unwrap();
        peers.iter().map(|peer| peer.failures.total()).sum()
    };
    world.run_unchecked_until(30 * SECOND);
    let before = failures(&world);
    world.run_unchecked_until(60 * SECOND);
    assert_eq!((world.status(0), world.health()), (Some(PeerStatus::Ready), PoolHealth::Degraded));
    assert_eq!(world.oracle.peers.len(), 1_024);
    let rate = (failures(&world) - before) / 30;
    assert!((200..=450).contains(&rate), "{rate} attempts a second: the cap is 5.1 s, half of it on average");
}
