//! Who belongs to a pool: what each list, failure, answer and request leads to.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod learning;
mod properties;

use std::sync::LazyLock;

use super::*;
use crate::{opflex::Role, pool::effect::Effect};

fn at(host: &str) -> PeerAddress {
    PeerAddress::new(host, 8009).unwrap()
}

fn now() -> Instant {
    static NOW: LazyLock<Instant> = LazyLock::new(Instant::now);
    *NOW
}

fn list(hosts: &str) -> Vec<PeerAddress> {
    hosts.split_whitespace().map(at).collect()
}

/// What effects amount to for one peer.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Order {
    Start(PeerAddress, PeerOrigin),
    Ready(PeerAddress),
    Stop(PeerAddress, Reason),
    Park(PeerAddress),
    Unpark(PeerAddress),
    Adopt(PeerAddress),
    Redial(PeerAddress),
    LeaveOut(usize),
}

/// Checks that effects belong together, and names them: first what is published.
fn orders(effects: &Effects) -> Vec<Order> {
    let (mut orders, mut actions) = (Vec::new(), effects.actions.iter().collect::<Vec<_>>());
    let mut take = |wanted: &dyn Fn(&Effect) -> bool| {
        let index = actions.iter().position(|action| wanted(action)).expect("an action for the update");
        actions.remove(index);
    };
    let mut updates = effects.updates.iter();
    while let Some((address, update)) = updates.next() {
        let address = address.clone();
        orders.push(match update {
            Update::Added(origin, by) => {
                assert_eq!(by.is_some(), *origin == PeerOrigin::Learned);
                take(&|action| matches!(action, Effect::Start(started, ..) if *started == address));
                Order::Start(address, *origin)
            }
            Update::Origin(PeerOrigin::Configured) => {
                take(
                    &|action| matches!(action, Effect::SetReach(adopted, Reach::Any) if *adopted == address),
                );
                Order::Adopt(address)
            }
            Update::Status(report) if report.status == PeerStatus::Ready => Order::Ready(address),
            Update::Status(closing) => {
                assert_eq!(closing.status, PeerStatus::Closing);
                take(&|action| matches!(action, Effect::Stop(stopped) if *stopped == address));
                match updates.next() {
                    Some((removed, Update::Removed)) if *removed == address => {
                        Order::Stop(address, closing.reason)
                    }
                    Some((parked, Update::Status(report))) if *parked == address => {
                        let expected = (PeerStatus::Disconnected, Reason::NotInPeerList);
                        assert_eq!((report.status, report.reason), expected);
                        Order::Park(address)
                    }
                    other => panic!("{other:?}"),
                }
            }
            Update::Listed(_) => continue,
            update => panic!("{update:?}"),
        });
    }
    orders.extend(actions.into_iter().map(|action| match action {
        Effect::Start(address, ..) => Order::Unpark(address.clone()),
        Effect::Redial(address) => Order::Redial(address.clone()),
        Effect::LeftOut(_, LeftOut { full, later, local }) => {
            Order::LeaveOut(full + later + local.as_ref().map_or(0, |(count, _)| *count))
        }
        other => panic!("{other:?}"),
    }));
    orders
}

fn in_short(effects: &Effects) -> Vec<String> {
    let word = |order: &Order| match order {
        Order::Start(address, origin) => format!("start {} {origin}", address.host()),
        Order::Ready(address) => format!("ready {}", address.host()),
        Order::Stop(address, reason) => format!("stop {} {reason}", address.host()),
        Order::Park(address) => format!("park {}", address.host()),
        Order::Unpark(address) => format!("unpark {}", address.host()),
        Order::Adopt(address) => format!("adopt {}", address.host()),
        Order::Redial(address) => format!("redial {}", address.host()),
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

/// A reset while these peers are READY.
fn reset(pool: &mut Membership, everyone: bool, ready: &str) -> Vec<String> {
    let ready = list(ready).into_iter().collect();
    in_short(&effects(|effects| pool.reset(everyone, &ready, now(), effects)))
}

fn unpark(pool: &mut Membership) -> Vec<String> {
    in_short(&effects(|effects| pool.ask_parked(effects)))
}

/// A pool with these many places.
fn empty(mode: ElementMode, limit: usize) -> Membership {
    Membership::new(mode, limit, LearnRules::default())
}

/// A pool with room, and these configured peers.
fn pool(configured: &str) -> Membership {
    let mut pool = empty(ElementMode::Stitched, 100);
    for address in list(configured) {
        add(&mut pool, address.host()).unwrap();
    }
    pool
}

fn identified(pool: &mut Membership, by: &str, hosts: &str) -> Vec<String> {
    in_short(&effects(|effects| {
        pool.identified(&at(by), Roles::default(), list(hosts), None, now(), effects)
    }))
}

#[test]
fn a_configured_peer_is_started_once() {
    let mut pool = empty(ElementMode::Stitched, 1);
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
    assert_eq!(
        in_short(&remove(&mut pool, "a").unwrap()),
        ["stop a REMOVED_BY_CLIENT", "stop b NOT_IN_PEER_LIST"]
    );
    assert_eq!(remove(&mut pool, "a").unwrap_err(), PoolError::PeerNotFound(at("a")));
}

#[test]
fn a_reset_by_name_does_all_or_nothing() {
    let mut pool = pool("anycast a");
    identified(&mut pool, "anycast", "a b");
    let names = |hosts| list(hosts).into_iter().collect();
    let mut effects = Effects::default();
    let unknown = pool.reset_named(&names("a z"), &mut effects);
    assert_eq!((unknown, effects.actions.len()), (Err(PoolError::PeerNotFound(at("z"))), 0));
    pool.reset_named(&names("anycast b"), &mut effects).unwrap();
    assert_eq!(in_short(&effects), ["unpark anycast", "redial b"]);
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
    let mut pool = empty(ElementMode::Stitched, 3);
    add(&mut pool, "a").unwrap();
    let orders = identified(&mut pool, "a", "a b c d e");
    assert_eq!(orders, ["start b LEARNED", "start c LEARNED", "leave out 2"]);
    assert_eq!(identified(&mut pool, "a", "a b c d e"), ["leave out 2"]);
}

#[test]
fn those_that_go_make_room_for_those_that_come() {
    let mut pool = empty(ElementMode::Stitched, 2);
    add(&mut pool, "a").unwrap();
    identified(&mut pool, "a", "a b");
    assert_eq!(identified(&mut pool, "a", "a c"), ["start c LEARNED", "stop b NOT_IN_PEER_LIST"]);
}

#[test]
fn a_pool_that_stops_names_every_peer_once_and_is_empty() {
    let mut pool = pool("anycast b");
    identified(&mut pool, "anycast", "a");
    let effects = effects(|effects| pool.stop_all(effects));
    let removed = effects.updates.iter().filter(|(_, update)| matches!(update, Update::Removed));
    let removed = removed.map(|(address, _)| address.clone());
    assert_eq!(removed.collect::<Vec<_>>(), list("a anycast b"));
    assert_eq!(pool.len(), 0);
    assert!(unpark(&mut pool).is_empty());
}

#[test]
fn in_transport_mode_only_an_address_that_is_nothing_by_itself_makes_learned_peers_leave() {
    let mut pool = empty(ElementMode::Transport, 100);
    add(&mut pool, "anycast").unwrap();
    let leaf = Roles::from_iter([Role::PolicyRepository]);
    let mut identified = |by, roles, hosts| {
        in_short(&effects(|effects| pool.identified(&at(by), roles, list(hosts), None, now(), effects)))
    };
    assert_eq!(identified("anycast", leaf, "a b"), ["start a LEARNED", "start b LEARNED", "park anycast"]);
    assert_eq!(identified("a", leaf, "a c"), ["start c LEARNED"], "b stays");
    assert_eq!(identified("b", Roles::default(), "a b"), ["stop c NOT_IN_PEER_LIST"], "it has no role");
    assert_eq!(identified("b", leaf, "a"), ["stop b NOT_IN_PEER_LIST"], "it does not list itself");
}

#[test]
fn an_answer_adds_peers_then_makes_its_sender_ready_and_then_removes_others() {
    let mut pool = pool("a");
    identified(&mut pool, "a", "a b");
    let report = Report::new(PeerStatus::Ready, Reason::HandshakeComplete);
    let effects = effects(|effects| {
        pool.identified(&at("a"), Roles::default(), list("a c"), Some(report), now(), effects);
    });
    assert_eq!(in_short(&effects), ["start c LEARNED", "ready a", "stop b NOT_IN_PEER_LIST"]);
}

#[test]
fn a_reset_removes_learned_peers_and_dials_those_that_are_not_ready() {
    let mut pool = pool("anycast a b");
    identified(&mut pool, "anycast", "a b c d");
    identified(&mut pool, "a", "a b c");
    assert_eq!(
        reset(&mut pool, false, "a c"),
        ["stop c RESET", "start c LEARNED", "unpark anycast", "redial b"],
        "a is READY, stays connected, and its list counts"
    );
    assert_eq!(pool.len(), 4);
}

#[test]
fn a_reset_follows_the_lists_of_ready_configured_peers_again() {
    let mut pool = pool("a");
    identified(&mut pool, "a", "a b");
    assert_eq!(reset(&mut pool, false, "a b"), ["stop b RESET", "start b LEARNED"]);
    assert_eq!(reset(&mut pool, false, ""), ["stop b RESET", "redial a"], "it will list them again");
}

#[test]
fn a_reset_follows_the_newest_list_alone_and_dials_a_ready_peer_whose_list_is_not_known() {
    let mut pool = pool("a c");
    identified(&mut pool, "a", "a b c");
    identified(&mut pool, "c", "a c d");
    assert_eq!(reset(&mut pool, false, "a c d"), ["stop d RESET", "start d LEARNED"]);
    identified(&mut pool, "d", "a c d");
    add(&mut pool, "d").unwrap();
    assert_eq!(reset(&mut pool, false, "a c d"), ["redial d"], "it was learned when it answered");
}

#[test]
fn an_address_that_was_asked_in_vain_is_parked_again() {
    let mut pool = pool("anycast");
    identified(&mut pool, "anycast", "a b");
    assert_eq!(unpark(&mut pool), ["unpark anycast"]);
    assert_eq!(in_short(&effects(|effects| pool.park_asked(effects))), ["park anycast"]);
    assert!(effects(|effects| pool.park_asked(effects)).updates.is_empty(), "once");
}

#[test]
fn a_reset_of_all_redials_every_configured_peer() {
    let mut pool = pool("anycast a");
    identified(&mut pool, "anycast", "a b");
    assert_eq!(reset(&mut pool, true, "a b"), ["stop b RESET", "redial a", "unpark anycast"]);
}

#[test]
fn in_transport_mode_a_reset_redials_every_peer_because_any_may_have_named_the_proxies() {
    for (mode, orders) in [(ElementMode::Transport, &["redial a"][..]), (ElementMode::Stitched, &[])] {
        let mut pool = empty(mode, 100);
        add(&mut pool, "a").unwrap();
        identified(&mut pool, "a", "a");
        assert_eq!(reset(&mut pool, false, "a"), orders);
    }
}

#[test]
fn the_newest_list_that_names_a_peer_is_where_it_was_learned() {
    let mut pool = pool("a");
    identified(&mut pool, "a", "a b c");
    let listed = |pool: &mut Membership, by: &str| {
        let effects = effects(|effects| {
            pool.identified(&at(by), Roles::default(), list("a b c"), None, now(), effects);
        });
        effects.updates.into_iter().map(|(peer, update)| format!("{peer} {update:?}")).count()
    };
    assert_eq!(["a", "b", "b", "a"].map(|by| listed(&mut pool, by)), [0, 1, 0, 1], "c, which both name");
}
