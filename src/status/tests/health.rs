//! The health of a pool against its definition.

use proptest::prelude::*;

use super::{super::hub::pool::Counts, *};

/// The definition: known if it is the same whatever the unknown peers are.
fn defined(statuses: &[PeerStatus]) -> PoolHealth {
    let mut healths = vec![statuses.to_vec()];
    for index in 0..statuses.len() {
        let known = |pool: Vec<PeerStatus>| {
            let known = if pool[index] == Unknown { &PeerStatus::ALL[1..] } else { &[pool[index]][..] };
            let with = |status: &PeerStatus| {
                let mut pool = pool.clone();
                pool[index] = *status;
                pool
            };
            known.iter().map(with).collect::<Vec<_>>()
        };
        healths = healths.into_iter().flat_map(known).collect();
    }
    let mut healths = healths.iter().map(|pool| known(pool));
    let first = healths.next().unwrap();
    if healths.all(|health| health == first) { first } else { PoolHealth::Unknown }
}

/// The same for known peers, word by word (design, rule 6).
fn known(statuses: &[PeerStatus]) -> PoolHealth {
    let wanted: Vec<_> = statuses.iter().filter(|status| !matches!(status, Closing | Disconnected)).collect();
    if wanted.is_empty() {
        PoolHealth::Down
    } else if wanted.iter().all(|status| **status == Ready) {
        PoolHealth::Healthy
    } else if wanted.iter().any(|status| **status == Ready) {
        PoolHealth::Degraded
    } else {
        PoolHealth::Down
    }
}

#[test]
fn health_is_as_defined_for_every_pool_of_up_to_four_peers() {
    let mut pools: Vec<Vec<PeerStatus>> = vec![vec![]];
    for _ in 0..4 {
        let longer = |pool: &Vec<PeerStatus>| {
            let pool = pool.clone();
            PeerStatus::ALL.iter().map(move |status| [pool.clone(), vec![*status]].concat())
        };
        let more: Vec<_> = pools.iter().flat_map(longer).collect();
        pools.extend(more);
    }
    for pool in pools {
        let none = Counts::default();
        let counts = pool.iter().fold(none, |all, status| all.moved(none, Counts::of(Some(*status))));
        assert_eq!(counts.health(), defined(&pool), "{pool:?}");
    }
}

#[test]
fn a_pool_without_peers_is_down() {
    let (pool, _) = hub(8).pool("p").unwrap();
    assert_eq!((pool.health, pool.wanted, pool.ready), (PoolHealth::Down, 0, 0));
    assert_eq!(pool.health_since, at(0));
}

#[test]
fn peers_on_their_way_out_do_not_count() {
    let hub = hub(64);
    for host in ["a", "b", "c"] {
        add(&hub, host);
        set(&hub, host, Ready);
    }
    for (host, status) in [("b", Closing), ("c", Disconnected)] {
        set(&hub, host, status);
        let (pool, _) = hub.pool("p").unwrap();
        assert_eq!(pool.health, PoolHealth::Healthy, "{host} is {status}");
        assert_eq!(pool.wanted, pool.ready);
    }
    set(&hub, "a", Closing);
    let (pool, _) = hub.pool("p").unwrap();
    assert_eq!((pool.health, pool.wanted, pool.ready), (PoolHealth::Down, 0, 0));
}

/// The last event of the log.
fn last_event(hub: &Hub) -> Arc<Event> {
    let mut events = Vec::new();
    hub.read_after(hub.cursor().revision - 1, 1, &mut events).unwrap();
    events.remove(0)
}

#[test]
fn a_health_change_is_in_the_event_of_the_peer_that_caused_it() {
    let hub = hub(64);
    type Told = Option<(PoolHealth, u32, u32)>;
    let steps: [(&str, Option<PeerStatus>, Told); 8] = [
        ("a", None, None),
        ("a", Some(Connected), None),
        ("a", Some(Ready), Some((PoolHealth::Healthy, 1, 1))),
        ("b", None, Some((PoolHealth::Degraded, 1, 2))),
        ("b", Some(Ready), Some((PoolHealth::Healthy, 2, 2))),
        ("a", Some(Connecting), Some((PoolHealth::Degraded, 1, 2))),
        ("b", Some(Closing), Some((PoolHealth::Down, 0, 1))),
        ("b", Some(Disconnected), None),
    ];
    for (host, status, expected) in steps {
        let revision = status.map_or_else(|| add(&hub, host), |status| set(&hub, host, status));
        let event = last_event(&hub);
        assert_eq!(Some(event.revision), revision);
        assert_eq!(event.peer.as_ref().unwrap().peer.address.host(), host);
        let health = event.health.map(|health| (health.health, health.ready, health.wanted));
        assert_eq!(health, expected, "{host} {status:?}");
    }
}

#[test]
fn a_removal_recomputes_the_health_in_the_same_event() {
    let hub = hub(64);
    add(&hub, "a");
    set(&hub, "a", Ready);
    add(&hub, "b");
    let revision = publish(&hub, "b", Update::Removed).unwrap();
    let event = last_event(&hub);
    assert_eq!((event.revision, event.peer.as_ref().unwrap().kind), (revision, ChangeKind::Removed));
    let expected =
        HealthChange { previous: PoolHealth::Degraded, health: PoolHealth::Healthy, ready: 1, wanted: 1 };
    assert_eq!(event.health, Some(expected));
    publish(&hub, "a", Update::Removed);
    assert_eq!(last_event(&hub).health.unwrap().health, PoolHealth::Down);
}

#[derive(Clone, Debug)]
enum Step {
    Add,
    Is(PeerStatus),
    Remove,
}

fn step() -> impl Strategy<Value = (u8, Step)> {
    let what = prop_oneof![
        Just(Step::Add),
        prop::sample::select(PeerStatus::ALL).prop_map(Step::Is),
        Just(Step::Remove)
    ];
    (0..5_u8, what)
}

proptest! {
    #[test]
    fn health_always_equals_its_recomputation(steps in prop::collection::vec(step(), 0..80)) {
        let hub = hub(8);
        let mut health = PoolHealth::Down;
        for (host, step) in steps {
            let host = format!("leaf-{host}");
            let revision = match step {
                Step::Add => add(&hub, &host),
                Step::Is(status) => set(&hub, &host, status),
                Step::Remove => publish(&hub, &host, Update::Removed),
            };
            let snapshot = hub.snapshot();
            let statuses: Vec<_> = snapshot.peers.iter().map(|peer| peer.status).collect();
            let pool = &snapshot.pools[0];
            prop_assert_eq!(pool.health, defined(&statuses));
            let wanted = statuses.iter().filter(|status| !matches!(status, Closing | Disconnected)).count();
            prop_assert_eq!(pool.wanted as usize, wanted);
            prop_assert_eq!(pool.ready as usize, statuses.iter().filter(|status| **status == Ready).count());
            // The event says it exactly when it changed, and says both ends of it.
            if revision.is_some() {
                let said = last_event(&hub).health;
                let expected = (pool.health != health).then_some((health, pool.health, pool.ready, pool.wanted));
                prop_assert_eq!(said.map(|said| (said.previous, said.health, said.ready, said.wanted)), expected);
            }
            health = pool.health;
        }
    }
}

#[test]
fn an_observed_pool_without_peers_is_unknown_while_its_agent_cannot_be_seen_and_until_it_has_peers() {
    let hub = Arc::new(Hub::new(EPOCH, 64));
    hub.add_observed_pool("p".into(), at(0));
    let state = || {
        let pool = hub.pool("p").unwrap().0;
        (pool.health, pool.health_since, pool.detail.to_string())
    };
    let observed = |status| Update::Observed(Report::new(status, Reason::Dialing), None);
    publish(&hub, "a", observed(Connecting));
    publish(&hub, "a", Update::Removed);
    assert_eq!(state(), (PoolHealth::Down, at(1), String::new()), "it was seen that the last one left");
    hub.set_sight("p", false, "the level is too high", at(2));
    assert_eq!(state(), (PoolHealth::Down, at(1), "the level is too high".to_owned()));
    hub.set_sight("p", true, "no log", at(3));
    assert_eq!(state(), (PoolHealth::Unknown, at(3), "no log".to_owned()));
    hub.set_sight("p", false, "", at(4));
    assert_eq!(state(), (PoolHealth::Unknown, at(3), String::new()), "there may be peers that were not seen");
    publish(&hub, "a", observed(Connecting));
    assert_eq!(state().0, PoolHealth::Down);
    hub.set_sight("p", true, "no sockets", at(5));
    assert_eq!(state().0, PoolHealth::Down, "it has peers, which are unknown themselves");
    publish(&hub, "a", Update::Removed);
    assert_eq!(state().0, PoolHealth::Unknown);
}
