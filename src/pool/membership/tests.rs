//! Who belongs to a pool: what each list leads to, and what holds whatever the lists are.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use proptest::{collection::vec, prelude::*};

use super::*;

fn at(host: &str) -> PeerAddress {
    PeerAddress::new(host, 8009).unwrap()
}

fn list(hosts: &str) -> Vec<PeerAddress> {
    hosts.split_whitespace().map(at).collect()
}

fn in_short(orders: &[Order]) -> Vec<String> {
    let word = |order: &Order| match order {
        Order::Start(address, origin) => format!("start {} {origin}", address.host()),
        Order::Stop(address, reason) => format!("stop {} {reason}", address.host()),
        Order::Park(address) => format!("park {}", address.host()),
        Order::Unpark(address) => format!("unpark {}", address.host()),
    };
    orders.iter().map(word).collect()
}

/// A pool with room, and these configured peers.
fn pool(configured: &str) -> Membership {
    let mut pool = Membership::new(100);
    for address in list(configured) {
        pool.configure(address);
    }
    pool
}

fn identified(pool: &mut Membership, by: &str, hosts: &str) -> Vec<String> {
    in_short(&pool.identified(&at(by), list(hosts)))
}

#[test]
fn a_configured_peer_is_started_once() {
    let mut pool = Membership::new(1);
    assert_eq!(in_short(&pool.configure(at("a"))), ["start a CONFIGURED"]);
    assert!(pool.configure(at("a")).is_empty());
    assert_eq!(pool.len(), 1);
}

#[test]
fn listed_peers_are_started_and_those_that_are_there_left_alone() {
    let mut pool = pool("a b");
    assert_eq!(identified(&mut pool, "a", "a b c d c"), ["start c LEARNED", "start d LEARNED"]);
    assert!(identified(&mut pool, "c", "a b c d").is_empty());
    assert_eq!(pool.len(), 4);
}

#[test]
fn the_last_list_wins_and_those_that_come_are_announced_before_those_that_go() {
    let mut pool = pool("a");
    identified(&mut pool, "a", "a b c");
    assert_eq!(identified(&mut pool, "b", "a b d"), ["start d LEARNED", "stop c NOT_IN_PEER_LIST"]);
}

#[test]
fn a_learned_peer_that_does_not_list_itself_goes() {
    let mut pool = pool("a");
    identified(&mut pool, "a", "a b");
    assert_eq!(identified(&mut pool, "b", "a"), ["stop b NOT_IN_PEER_LIST"]);
}

#[test]
fn a_configured_peer_is_stopped_by_no_list() {
    let mut pool = pool("a b c");
    assert!(identified(&mut pool, "a", "a").is_empty());
    assert_eq!(pool.len(), 3);
}

#[test]
fn a_learned_peer_that_is_configured_later_is_stopped_by_no_list() {
    let mut pool = pool("a");
    identified(&mut pool, "a", "a b");
    assert!(pool.configure(at("b")).is_empty());
    assert!(identified(&mut pool, "a", "a").is_empty());
}

#[test]
fn an_address_that_only_tells_about_others_is_parked_and_stays_in_the_pool() {
    let mut pool = pool("anycast");
    assert_eq!(
        identified(&mut pool, "anycast", "a b"),
        ["start a LEARNED", "start b LEARNED", "park anycast"]
    );
    assert_eq!(pool.len(), 3);
}

#[test]
fn a_parked_peer_is_asked_again_when_no_learned_peer_is_left() {
    let mut pool = pool("anycast");
    identified(&mut pool, "anycast", "a");
    assert_eq!(identified(&mut pool, "a", ""), ["stop a NOT_IN_PEER_LIST", "unpark anycast"]);
}

#[test]
fn a_parked_peer_that_another_one_lists_is_dialled() {
    let mut pool = pool("anycast");
    identified(&mut pool, "anycast", "a");
    assert_eq!(identified(&mut pool, "a", "a anycast"), ["unpark anycast"]);
    assert_eq!(identified(&mut pool, "anycast", "a anycast"), [""; 0]);
}

#[test]
fn a_parked_peer_that_is_configured_again_is_dialled() {
    let mut pool = pool("anycast");
    identified(&mut pool, "anycast", "a");
    assert_eq!(in_short(&pool.configure(at("anycast"))), ["unpark anycast"]);
}

#[test]
fn one_that_knows_nobody_is_not_asked_again_on_its_own_word() {
    let mut pool = pool("first second");
    identified(&mut pool, "first", "a");
    assert_eq!(
        identified(&mut pool, "second", ""),
        ["stop a NOT_IN_PEER_LIST", "park second", "unpark first"]
    );
}

#[test]
fn with_nobody_ready_all_parked_peers_are_asked_again_and_only_those() {
    let mut pool = pool("first second third");
    identified(&mut pool, "first", "a");
    identified(&mut pool, "second", "a");
    assert_eq!(in_short(&pool.nobody_ready()), ["unpark first", "unpark second"]);
    assert!(pool.nobody_ready().is_empty());
}

#[test]
fn a_full_pool_learns_nobody() {
    let mut pool = Membership::new(3);
    pool.configure(at("a"));
    assert_eq!(identified(&mut pool, "a", "a b c d e"), ["start b LEARNED", "start c LEARNED"]);
    assert!(identified(&mut pool, "a", "a b c d e").is_empty());
}

#[test]
fn those_that_go_make_room_for_those_that_come() {
    let mut pool = Membership::new(2);
    pool.configure(at("a"));
    identified(&mut pool, "a", "a b");
    assert_eq!(identified(&mut pool, "a", "a c"), ["start c LEARNED", "stop b NOT_IN_PEER_LIST"]);
}

#[test]
fn a_pool_that_stops_names_every_peer_once_and_is_empty() {
    let mut pool = pool("anycast b");
    identified(&mut pool, "anycast", "a");
    assert_eq!(pool.stop_all(), list("a anycast b"));
    assert_eq!(pool.len(), 0);
    assert!(pool.nobody_ready().is_empty());
}

#[derive(Clone, Debug)]
enum Step {
    Configure(usize),
    /// Who of those that have a connection, and whom it lists.
    Identified(usize, Vec<usize>),
    NobodyReady,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => (0..HOSTS.len()).prop_map(Step::Configure),
        6 => (any::<usize>(), vec(0..HOSTS.len(), 0..6)).prop_map(|(by, list)| Step::Identified(by, list)),
        1 => Just(Step::NobodyReady),
    ]
}

const HOSTS: [&str; 8] = ["a", "b", "c", "d", "e", "f", "g", "h"];

/// What the orders amount to, for one who carries them out and knows nothing else.
#[derive(Debug, Default)]
struct World {
    connected: BTreeSet<PeerAddress>,
    parked: BTreeSet<PeerAddress>,
    learned: BTreeSet<PeerAddress>,
}

impl World {
    fn carry_out(&mut self, orders: &[Order]) {
        for order in orders {
            match order {
                Order::Start(address, origin) => {
                    assert!(
                        !self.parked.contains(address) && self.connected.insert(address.clone()),
                        "{order:?}"
                    );
                    if *origin == PeerOrigin::Learned {
                        self.learned.insert(address.clone());
                    }
                }
                Order::Stop(address, reason) => {
                    assert_eq!(*reason, Reason::NotInPeerList);
                    assert!(self.learned.remove(address), "only learned peers go: {order:?}");
                    assert!(self.connected.remove(address), "{order:?}");
                }
                Order::Park(address) => {
                    assert!(!self.learned.contains(address), "{order:?}");
                    assert!(
                        self.connected.remove(address) && self.parked.insert(address.clone()),
                        "{order:?}"
                    );
                }
                Order::Unpark(address) => {
                    assert!(
                        self.parked.remove(address) && self.connected.insert(address.clone()),
                        "{order:?}"
                    );
                }
            }
        }
    }

    fn len(&self) -> usize {
        self.connected.len() + self.parked.len()
    }
}

/// Carries out a step, and says what the world must be like then.
fn take(step: &Step, pool: &mut Membership, world: &mut World, limit: usize) {
    match step {
        Step::Configure(host) => {
            let address = at(HOSTS[*host]);
            world.carry_out(&pool.configure(address.clone()));
            // It is the pool's from now on, not another peer's to take away.
            world.learned.remove(&address);
            assert!(world.connected.contains(&address));
        }
        Step::Identified(by, hosts) => {
            let Some(by) = world.connected.iter().nth(by % world.connected.len().max(1)).cloned() else {
                return;
            };
            let list: Vec<_> = hosts.iter().map(|host| at(HOSTS[*host])).collect();
            let (before, learned_before) = (world.len(), !world.learned.is_empty());
            let orders = pool.identified(&by, list.clone());
            world.carry_out(&orders);
            assert!(world.learned.iter().all(|address| list.contains(address)));
            assert!(world.len() <= limit.max(before));
            let is_there = |address| world.connected.contains(address) || world.parked.contains(address);
            assert!(list.iter().all(is_there) || world.len() >= limit, "left out of a pool with room");
            let stays = list.contains(&by);
            assert_eq!(world.connected.contains(&by), stays, "who lists itself stays, and nobody else");
            assert!(list.iter().all(|address| !world.parked.contains(address)), "listed and parked");
            if learned_before && world.learned.is_empty() {
                assert!(world.parked.iter().all(|address| *address == by), "nobody left, and some parked");
            }
        }
        Step::NobodyReady => {
            world.carry_out(&pool.nobody_ready());
            assert!(world.parked.is_empty());
        }
    }
    assert_eq!(pool.len(), world.len());
}

proptest! {
    #[test]
    fn whatever_peers_say_the_orders_make_sense(
        limit in 1_usize..10,
        steps in vec(step(), 0..40),
    ) {
        let (mut pool, mut world) = (Membership::new(limit), World::default());
        for step in &steps {
            take(step, &mut pool, &mut world, limit);
        }
        let everyone: BTreeSet<_> = world.connected.union(&world.parked).cloned().collect();
        prop_assert_eq!(pool.stop_all(), everyone.into_iter().collect::<Vec<_>>());
    }
}
