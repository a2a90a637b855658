//! Who belongs to a pool: what each list, failure, answer and request leads to.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod properties;

use super::*;
use crate::{opflex::Role, pool::effect::Effect};

fn at(host: &str) -> PeerAddress {
    PeerAddress::new(host, 8009).unwrap()
}

fn list(hosts: &str) -> Vec<PeerAddress> {
    hosts.split_whitespace().map(at).collect()
}

/// What effects amount to for one peer.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Order {
    Start(PeerAddress, PeerOrigin),
    Stop(PeerAddress, Reason),
    Park(PeerAddress),
    Unpark(PeerAddress),
    Adopt(PeerAddress),
    Redial(PeerAddress),
    Probe(PeerAddress, u32),
    StopProbe(PeerAddress),
    LeaveOut(usize),
}

/// Checks that effects come in complete sequences, and names these.
fn orders(effects: &Effects) -> Vec<Order> {
    use Effect as E;
    let status = |update: &Update| match update {
        Update::Status(report) => (report.status, report.reason),
        update => panic!("{update:?}"),
    };
    let mut rest = &effects.0[..];
    let mut orders = Vec::new();
    while !rest.is_empty() {
        let (order, taken) = match rest {
            [E::Publish(a, Update::Added(origin)), E::Start(b, _), ..] if a == b => {
                (Order::Start(a.clone(), *origin), 2)
            }
            [E::Publish(a, Update::Origin(PeerOrigin::Configured)), ..] => (Order::Adopt(a.clone()), 1),
            [E::Publish(a, closing), E::Publish(b, after), E::Stop(c), ..] if a == b && b == c => {
                let (first, reason) = status(closing);
                assert_eq!(first, PeerStatus::Closing);
                if matches!(after, Update::Removed) {
                    (Order::Stop(a.clone(), reason), 3)
                } else {
                    assert_eq!(status(after), (PeerStatus::Disconnected, Reason::NotInPeerList));
                    (Order::Park(a.clone()), 3)
                }
            }
            [E::Start(a, _), ..] => (Order::Unpark(a.clone()), 1),
            [E::Redial(a), ..] => (Order::Redial(a.clone()), 1),
            [E::Probe(a, pauses), ..] => (Order::Probe(a.clone(), *pauses), 1),
            [E::Stop(a), ..] => (Order::StopProbe(a.clone()), 1),
            [E::WarnFull(count), ..] => (Order::LeaveOut(*count), 1),
            other => panic!("{other:?}"),
        };
        orders.push(order);
        rest = &rest[taken..];
    }
    orders
}

fn in_short(effects: &Effects) -> Vec<String> {
    let word = |order: &Order| match order {
        Order::Start(address, origin) => format!("start {} {origin}", address.host()),
        Order::Stop(address, reason) => format!("stop {} {reason}", address.host()),
        Order::Park(address) => format!("park {}", address.host()),
        Order::Unpark(address) => format!("unpark {}", address.host()),
        Order::Adopt(address) => format!("adopt {}", address.host()),
        Order::Redial(address) => format!("redial {}", address.host()),
        Order::Probe(address, pauses) => format!("probe {} after {pauses}", address.host()),
        Order::StopProbe(address) => format!("leave {}", address.host()),
        Order::LeaveOut(count) => format!("leave out {count}"),
    };
    orders(effects).iter().map(word).collect()
}

/// The effects of one call.
fn effects(call: impl FnOnce(&mut Effects)) -> Effects {
    let mut effects = Effects::default();
    call(&mut effects);
    effects
}

fn add(pool: &mut Membership, host: &str) -> Result<Effects, PoolError> {
    let mut effects = Effects::default();
    pool.add(at(host), &mut effects).map(|()| effects)
}

fn remove(pool: &mut Membership, host: &str) -> Result<Effects, PoolError> {
    let mut effects = Effects::default();
    pool.remove(at(host), &mut effects).map(|()| effects)
}

fn answered(pool: &mut Membership, host: &str) -> Vec<String> {
    in_short(&effects(|effects| pool.answered(&at(host), effects)))
}

fn reset(pool: &mut Membership, everyone: bool) -> Vec<String> {
    in_short(&effects(|effects| pool.reset(everyone, effects)))
}

fn unpark(pool: &mut Membership) -> Vec<String> {
    in_short(&effects(|effects| pool.unpark(None, effects)))
}

/// A pool with room, and these configured peers.
fn pool(configured: &str) -> Membership {
    let mut pool = Membership::new(ElementMode::Stitched, 100);
    for address in list(configured) {
        add(&mut pool, address.host()).unwrap();
    }
    pool
}

fn identified(pool: &mut Membership, by: &str, hosts: &str) -> Vec<String> {
    in_short(&effects(|effects| pool.identified(&at(by), Roles::default(), list(hosts), effects)))
}

fn failed(pool: &mut Membership, host: &str, times: u32) -> Vec<String> {
    (1..=times)
        .flat_map(|failures| in_short(&effects(|effects| pool.failed(&at(host), failures, effects))))
        .collect()
}

#[test]
fn a_configured_peer_is_started_once() {
    let mut pool = Membership::new(ElementMode::Stitched, 1);
    assert_eq!(in_short(&add(&mut pool, "a").unwrap()), ["start a CONFIGURED"]);
    assert_eq!(add(&mut pool, "a").unwrap_err(), PoolError::PeerExists);
    assert_eq!(add(&mut pool, "b").unwrap_err(), PoolError::PeerQuota(1));
    assert_eq!(pool.len(), 1);
}

#[test]
fn only_configured_peers_can_be_removed() {
    let mut pool = pool("a");
    identified(&mut pool, "a", "a b");
    assert_eq!(remove(&mut pool, "b").unwrap_err(), PoolError::PeerNotConfigured);
    assert_eq!(remove(&mut pool, "c").unwrap_err(), PoolError::PeerNotFound(at("c")));
    assert_eq!(in_short(&remove(&mut pool, "a").unwrap()), ["stop a REMOVED_BY_CLIENT"]);
    assert_eq!(remove(&mut pool, "a").unwrap_err(), PoolError::PeerNotFound(at("a")));
}

#[test]
fn a_learned_peer_is_given_up_at_the_fourth_failure_and_tried_quietly() {
    let mut pool = pool("a");
    identified(&mut pool, "a", "a b");
    assert_eq!(failed(&mut pool, "b", 4), ["stop b GIVEN_UP", "probe b after 0"]);
    assert_eq!(pool.len(), 1);
    assert_eq!(answered(&mut pool, "b"), ["leave b", "start b LEARNED"]);
    assert!(answered(&mut pool, "b").is_empty(), "once is enough");
}

#[test]
fn one_that_takes_connections_and_never_says_who_it_is_comes_back_ever_more_rarely() {
    let mut pool = pool("a");
    identified(&mut pool, "a", "a b");
    for times in 0..3 {
        assert_eq!(
            failed(&mut pool, "b", 4),
            ["stop b GIVEN_UP".to_owned(), format!("probe b after {times}")]
        );
        assert_eq!(
            identified(&mut pool, "a", "a b"),
            [format!("probe b after {times}")],
            "a list is no proof"
        );
        assert_eq!(answered(&mut pool, "b"), ["leave b", "start b LEARNED"]);
    }
    identified(&mut pool, "b", "a b");
    assert_eq!(failed(&mut pool, "b", 4), ["stop b GIVEN_UP", "probe b after 0"], "it was well in between");
}

#[test]
fn one_that_answers_when_the_pool_is_full_is_tried_until_there_is_room() {
    let mut pool = Membership::new(ElementMode::Stitched, 2);
    add(&mut pool, "a").unwrap();
    identified(&mut pool, "a", "a b");
    failed(&mut pool, "b", 4);
    add(&mut pool, "c").unwrap();
    assert_eq!(answered(&mut pool, "b"), ["probe b after 0"]);
    remove(&mut pool, "c").unwrap();
    assert_eq!(answered(&mut pool, "b"), ["leave b", "start b LEARNED"]);
}

#[test]
fn those_who_told_of_others_are_forgotten_when_they_go() {
    let mut pool = pool("a");
    identified(&mut pool, "a", "a b");
    identified(&mut pool, "b", "a b");
    identified(&mut pool, "a", "a");
    assert!(pool.list_sources.is_empty(), "{:?}", pool.list_sources);
}

#[test]
fn a_configured_peer_is_never_given_up() {
    let mut pool = pool("a");
    assert!(failed(&mut pool, "a", 100).is_empty());
}

#[test]
fn when_a_learned_peer_is_given_up_parked_ones_are_asked_again() {
    let mut pool = pool("anycast");
    identified(&mut pool, "anycast", "a b");
    assert_eq!(failed(&mut pool, "a", 4), ["stop a GIVEN_UP", "probe a after 0", "unpark anycast"]);
    // Its list names the peer again: that is a reason to try it at once, but no proof that it answers.
    assert_eq!(identified(&mut pool, "anycast", "a b"), ["probe a after 0", "park anycast"]);
}

#[test]
fn a_peer_that_was_given_up_is_left_alone_once_no_list_names_it() {
    let mut pool = pool("a");
    identified(&mut pool, "a", "a b");
    failed(&mut pool, "b", 4);
    assert_eq!(identified(&mut pool, "a", "a c"), ["leave b", "start c LEARNED"]);
    assert!(answered(&mut pool, "b").is_empty());
}

#[test]
fn a_peer_that_was_given_up_can_be_configured() {
    let mut pool = pool("a");
    identified(&mut pool, "a", "a b");
    failed(&mut pool, "b", 4);
    assert_eq!(in_short(&add(&mut pool, "b").unwrap()), ["leave b", "start b CONFIGURED"]);
    assert!(answered(&mut pool, "b").is_empty());
}

#[test]
fn a_reset_drops_what_was_learned_and_asks_those_who_told_of_it() {
    let mut pool = pool("anycast a b");
    identified(&mut pool, "anycast", "a b c d");
    identified(&mut pool, "a", "a b c d");
    identified(&mut pool, "b", "b");
    identified(&mut pool, "a", "a b c d");
    failed(&mut pool, "d", 4);
    identified(&mut pool, "anycast", "a b c d");
    let orders = reset(&mut pool, false);
    assert_eq!(orders, ["leave d", "stop c RESET", "unpark anycast", "redial a"]);
    assert_eq!(pool.len(), 3);
}

#[test]
fn a_reset_of_everything_redials_everybody_who_stays() {
    let mut pool = pool("anycast a");
    identified(&mut pool, "anycast", "a b");
    assert_eq!(reset(&mut pool, true), ["stop b RESET", "unpark anycast", "redial a"]);
}

#[test]
fn a_reset_by_name_does_all_or_nothing() {
    let mut pool = pool("anycast a");
    identified(&mut pool, "anycast", "a b");
    let names = |hosts| list(hosts).into_iter().collect();
    let mut effects = Effects::default();
    let unknown = pool.reset_named(&names("a z"), &mut effects);
    assert_eq!((unknown, effects.0.len()), (Err(PoolError::PeerNotFound(at("z"))), 0));
    pool.reset_named(&names("anycast b"), &mut effects).unwrap();
    assert_eq!(in_short(&effects), ["unpark anycast", "redial b"]);
}

#[test]
fn a_list_of_thousands_that_are_dead_is_not_knocked_at_for_ever() {
    let mut pool = Membership::new(ElementMode::Stitched, 10_000);
    add(&mut pool, "a").unwrap();
    let dead: Vec<_> = (0..2 * MAX_PROBED).map(|number| at(&format!("dead-{number}"))).collect();
    let list = [&dead[..], &[at("a")]].concat();
    effects(|effects| pool.identified(&at("a"), Roles::default(), list, effects));
    let effects = effects(|effects| dead.iter().for_each(|address| pool.failed(address, 4, effects)));
    let probes = effects.0.iter().filter(|effect| matches!(effect, Effect::Probe(..))).count();
    assert_eq!((probes, pool.len()), (MAX_PROBED, 1));
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
    assert_eq!(in_short(&add(&mut pool, "b").unwrap()), ["adopt b"]);
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
    assert_eq!(unpark(&mut pool), ["unpark first", "unpark second"]);
    assert!(unpark(&mut pool).is_empty());
}

#[test]
fn a_full_pool_learns_nobody() {
    let mut pool = Membership::new(ElementMode::Stitched, 3);
    add(&mut pool, "a").unwrap();
    let orders = identified(&mut pool, "a", "a b c d e");
    assert_eq!(orders, ["start b LEARNED", "start c LEARNED", "leave out 2"]);
    assert_eq!(identified(&mut pool, "a", "a b c d e"), ["leave out 2"]);
}

#[test]
fn those_that_go_make_room_for_those_that_come() {
    let mut pool = Membership::new(ElementMode::Stitched, 2);
    add(&mut pool, "a").unwrap();
    identified(&mut pool, "a", "a b");
    assert_eq!(identified(&mut pool, "a", "a c"), ["start c LEARNED", "stop b NOT_IN_PEER_LIST"]);
}

#[test]
fn a_pool_that_stops_names_every_peer_once_and_is_empty() {
    let mut pool = pool("anycast b");
    identified(&mut pool, "anycast", "a");
    let effects = effects(|effects| pool.stop_all(effects));
    let removed = effects.0.iter().filter_map(|effect| match effect {
        Effect::Publish(address, Update::Removed) => Some(address.clone()),
        _ => None,
    });
    assert_eq!(removed.collect::<Vec<_>>(), list("a anycast b"));
    assert_eq!(pool.len(), 0);
    assert!(unpark(&mut pool).is_empty());
}

#[test]
fn in_transport_mode_a_reset_asks_everybody_again_for_anybody_may_have_told_of_the_proxies() {
    for (mode, orders) in [(ElementMode::Transport, &["redial a"][..]), (ElementMode::Stitched, &[])] {
        let mut pool = Membership::new(mode, 100);
        add(&mut pool, "a").unwrap();
        identified(&mut pool, "a", "a");
        assert_eq!(reset(&mut pool, false), orders);
    }
}

#[test]
fn in_transport_mode_only_an_address_that_is_nothing_by_itself_makes_learned_peers_leave() {
    let mut pool = Membership::new(ElementMode::Transport, 100);
    add(&mut pool, "anycast").unwrap();
    let leaf = Roles::from_iter([Role::PolicyRepository]);
    let mut identified = |by, roles, hosts| {
        in_short(&effects(|effects| pool.identified(&at(by), roles, list(hosts), effects)))
    };
    assert_eq!(identified("anycast", leaf, "a b"), ["start a LEARNED", "start b LEARNED", "park anycast"]);
    assert_eq!(identified("a", leaf, "a c"), ["start c LEARNED"], "b stays");
    assert_eq!(identified("b", Roles::default(), "a b"), ["stop c NOT_IN_PEER_LIST"], "it has no role");
    assert_eq!(identified("b", leaf, "a"), ["stop b NOT_IN_PEER_LIST"], "it does not list itself");
}
