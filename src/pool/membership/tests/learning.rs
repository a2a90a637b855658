//! Which new peers of lists are learned, how many at a time, and when they leave with those who listed them.

use std::time::Duration;

use super::*;

/// A list of this many peers.
fn many(prefix: &str, count: usize) -> String {
    (0..count).map(|number| format!("{prefix}{number} ")).collect()
}

#[test]
fn a_fabric_is_learned_at_once_and_those_who_list_new_peers_all_the_time_add_one_a_second() {
    let mut pool = empty(ElementMode::Stitched, 10_000);
    add(&mut pool, "a").unwrap();
    assert_eq!(identified(&mut pool, "a", &format!("a {}", many("leaf-", 1024))).len(), 1024);
    assert_eq!(identified(&mut pool, "leaf-7", &format!("a {}", many("leaf-", 1024))).len(), 0);
    // All of them are new.
    let orders = identified(&mut pool, "a", &format!("a {}", many("x-", 1000)));
    assert_eq!(orders.iter().filter(|order| order.starts_with("start")).count(), 0, "{orders:?}");
    assert_eq!(orders.last().map(String::as_str), Some("leave out 1000"));
    let take_up = |pool: &mut Membership, millis| {
        let now = now() + Duration::from_millis(millis);
        in_short(&effects(|effects| pool.take_up(now, effects)))
    };
    assert_eq!(
        (pool.next_deadline(), take_up(&mut pool, 999)),
        (Some(now() + Duration::from_secs(1)), vec![])
    );
    assert_eq!(take_up(&mut pool, 1000), ["start x-0 LEARNED"]);
    assert_eq!(take_up(&mut pool, 60_000).len(), 59);
    assert_eq!(pool.len(), 61);
    // Those that the newest list leaves out wait no more.
    identified(&mut pool, "a", "a x-0");
    assert_eq!((pool.next_deadline(), take_up(&mut pool, 120_000)), (None, vec![]));
}

#[test]
fn learned_peers_share_a_limit_that_configured_ones_do_not_have() {
    let mut pool = empty(ElementMode::Transport, 10_000);
    add(&mut pool, "a").unwrap();
    let starts = |pool: &mut Membership, by: &str, prefix: &str| {
        let role = Roles::from_iter([Role::PolicyRepository]);
        let list = list(&format!("{by} {}", many(prefix, 1000)));
        let effects = effects(|effects| pool.identified(&at(by), role, list, None, now(), effects));
        effects.actions.iter().filter(|action| matches!(action, Effect::Start(..))).count()
    };
    assert_eq!(starts(&mut pool, "a", "leaf-"), 1000);
    assert_eq!(starts(&mut pool, "leaf-0", "x-"), 1000);
    assert_eq!(starts(&mut pool, "x-0", "y-"), 24, "accomplices have no more");
    add(&mut pool, "b").unwrap();
    assert_eq!(starts(&mut pool, "b", "z-"), 1000);
}

#[test]
fn a_reset_learns_all_peers_again_at_once() {
    let mut pool = empty(ElementMode::Stitched, 10_000);
    add(&mut pool, "a").unwrap();
    identified(&mut pool, "a", &format!("a {}", many("leaf-", 1000)));
    let orders = reset(&mut pool, false, "a");
    assert_eq!(orders.iter().filter(|order| order.starts_with("start")).count(), 1000);
}

#[test]
fn local_addresses_in_a_list_are_left_out_and_counted() {
    let mut pool = pool("a 127.0.0.7");
    let list = ["a", "127.0.0.1", "fe80::1", "0.0.0.0", "localhost", "127.0.0.7", "b"].map(at).to_vec();
    let effects = effects(|effects| {
        pool.identified(&at("a"), Roles::default(), list, None, now(), effects);
    });
    assert_eq!(in_short(&effects), ["start b LEARNED", "leave out 4"], "one is configured");
    let text = effects.actions.iter().find_map(|action| match action {
        Effect::LeftOut(by, left_out) => Some(format!("{by}: {left_out}")),
        _ => None,
    });
    let expected =
        "a:8009: peers that it lists are not learned; 4 that are local, 0.0.0.0:8009 first: see learn_local";
    assert_eq!(text.as_deref(), Some(expected));
}

#[test]
fn learned_peers_that_only_a_removed_peer_listed_go_with_it_and_others_stay() {
    let mut pool = pool("first second");
    identified(&mut pool, "first", "first second a b c");
    identified(&mut pool, "second", "first second a b c");
    identified(&mut pool, "a", "first second a b c");
    assert_eq!(in_short(&remove(&mut pool, "second").unwrap()), ["stop second REMOVED_BY_CLIENT"]);
    let orders = remove(&mut pool, "first").unwrap();
    // b and c are listed by a, which nobody lists any more.
    let gone = [
        "stop first REMOVED_BY_CLIENT",
        "stop a NOT_IN_PEER_LIST",
        "stop b NOT_IN_PEER_LIST",
        "stop c NOT_IN_PEER_LIST",
    ];
    assert_eq!(in_short(&orders), gone);
    assert_eq!(pool.len(), 0);
}

#[test]
fn a_peer_whose_newest_lister_is_removed_is_learned_from_the_one_before() {
    let mut pool = pool("first second");
    identified(&mut pool, "first", "first second a");
    identified(&mut pool, "second", "first second a");
    let effects = remove(&mut pool, "second").unwrap();
    let listed = effects.updates.iter().find_map(|(peer, update)| match update {
        Update::Listed(by) => Some((peer.clone(), by.clone())),
        _ => None,
    });
    assert_eq!(listed, Some((at("a"), at("first"))));
    assert_eq!(pool.len(), 2);
}
