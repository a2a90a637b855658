//! What the hub takes in, what it publishes, and what it tells who asks.

use super::*;
use crate::opflex::Role;

fn state(hub: &Hub, host: &str) -> Arc<PeerState> {
    hub.peer("p", &peer(host)).unwrap().0
}

/// `what` happens to peer `a` in that second.
fn publish_at(hub: &Hub, second: u64, what: Update) -> Option<u64> {
    hub.publish(PeerUpdate { pool: "p".into(), address: peer("a"), at: at(second), what })
}

fn failed(detail: &str, failures: u32) -> Update {
    let (status, reason) = (Connecting, Reason::ConnectFailed);
    Update::Status(Report { status, reason, detail: detail.into(), failures, roles: None })
}

#[test]
fn a_change_is_published_when_the_status_or_the_reason_differs() {
    let hub = hub(64);
    assert_eq!(add(&hub, "a"), Some(1));
    let steps = [
        (Connecting, Reason::Added, None),
        (Connecting, Reason::Dialing, Some(2)),
        (Connecting, Reason::Dialing, None),
        (Connecting, Reason::ConnectFailed, Some(3)),
        (Connected, Reason::TcpEstablished, Some(4)),
        (Ready, Reason::HandshakeComplete, Some(5)),
        (Ready, Reason::HandshakeComplete, None),
        (Closing, Reason::Reset, Some(6)),
        (Disconnected, Reason::Reset, Some(7)),
    ];
    for (status, reason, expected) in steps {
        assert_eq!(publish(&hub, "a", is(status, reason)), expected, "{status} {reason}");
        let now = state(&hub, "a");
        assert_eq!((now.status, now.reason), (status, reason));
        assert_eq!(now.revision, hub.cursor().revision);
    }
    assert_eq!(publish(&hub, "a", Update::Removed), Some(8));
}

#[test]
fn the_hundredth_identical_failure_moves_only_what_is_counted() {
    let hub = hub(64);
    add(&hub, "a");
    let revision = publish_at(&hub, 10, failed("refused", 1));
    let first = state(&hub, "a");
    for failures in 2..=100 {
        assert_eq!(publish_at(&hub, 10 + u64::from(failures), failed("refused again", failures)), None);
    }
    let counts = state(&hub, "a").failures;
    assert_eq!(
        (counts.total(), counts.iter().collect::<Vec<_>>()),
        (100, vec![(Reason::ConnectFailed, 100)])
    );
    let expected = PeerState {
        consecutive_failures: 100,
        failures: counts,
        last_failure: Some(Failure {
            reason: Reason::ConnectFailed,
            detail: "refused again".into(),
            time: at(110),
        }),
        detail: "refused again".into(),
        ..PeerState::clone(&first)
    };
    assert_eq!(*state(&hub, "a"), expected);
    assert_eq!(*hub.snapshot().peers[0], expected);
    assert_eq!(Some(hub.cursor().revision), revision);
    assert_eq!(hub.pool("p").unwrap().0.revision, 2);
    let mut events = Vec::new();
    hub.read_after(1, 9, &mut events).unwrap();
    assert_eq!(events[0].peer.as_ref().unwrap().peer, first, "what was published stays as it was");
}

#[test]
fn a_change_of_the_origin_alone_is_one_of_its_own_kind() {
    let hub = hub(64);
    add(&hub, "a");
    for (revision, origin) in [(2, PeerOrigin::Learned), (3, PeerOrigin::Configured)] {
        assert_eq!(publish(&hub, "a", Update::Origin(origin)), Some(revision));
        assert_eq!(publish(&hub, "a", Update::Origin(origin)), None, "it is that already");
        let mut events = Vec::new();
        hub.read_after(revision - 1, 9, &mut events).unwrap();
        let change = events[0].peer.as_ref().unwrap();
        assert_eq!((change.kind, change.peer.origin), (ChangeKind::Origin, origin));
        assert_eq!(change.previous, Some(change.peer.status));
    }
}

#[test]
fn what_cannot_have_happened_changes_nothing() {
    let hub = hub(64);
    assert_eq!(set(&hub, "a", Ready), None, "not there yet");
    assert_eq!(publish(&hub, "a", Update::Removed), None, "not there yet");
    let elsewhere = Update::added(PeerOrigin::Learned);
    let unknown = PeerUpdate { pool: "q".into(), address: peer("a"), at: at(0), what: elsewhere.clone() };
    assert_eq!(hub.publish(unknown), None, "no such pool");
    add(&hub, "a");
    assert_eq!(publish(&hub, "a", elsewhere), None, "there already");
    assert_eq!(state(&hub, "a").origin, PeerOrigin::Configured);
    publish(&hub, "a", Update::Removed);
    assert_eq!(publish(&hub, "a", Update::Removed), None, "gone already");
    assert_eq!(hub.cursor(), Cursor { epoch: EPOCH, revision: 2 });
}

#[test]
fn status_since_and_transitions_follow_the_status_and_not_the_reason() {
    let hub = hub(64);
    publish_at(&hub, 10, Update::added(PeerOrigin::Learned));
    let seen = |hub: &Hub| (state(hub, "a").status_since, state(hub, "a").transitions);
    assert_eq!(seen(&hub), (at(10), 0), "being added is no transition");
    publish_at(&hub, 11, is(Connecting, Reason::Dialing));
    assert_eq!(seen(&hub), (at(10), 0));
    publish_at(&hub, 12, is(Connected, Reason::TcpEstablished));
    assert_eq!(seen(&hub), (at(12), 1));
    publish_at(&hub, 13, is(Connecting, Reason::RemoteClosed));
    assert_eq!(seen(&hub), (at(13), 2));
}

#[test]
fn last_ready_is_when_it_became_so_and_then_when_it_ceased_to_be() {
    let hub = hub(64);
    publish_at(&hub, 10, Update::added(PeerOrigin::Learned));
    publish_at(&hub, 11, is(Connected, Reason::TcpEstablished));
    assert_eq!(state(&hub, "a").last_ready, None);
    publish_at(&hub, 12, is(Ready, Reason::HandshakeComplete));
    assert_eq!(state(&hub, "a").last_ready, Some(at(12)));
    publish_at(&hub, 20, is(Ready, Reason::HandshakeComplete));
    assert_eq!(state(&hub, "a").last_ready, Some(at(12)));
    publish_at(&hub, 30, is(Connecting, Reason::RemoteClosed));
    publish_at(&hub, 31, is(Connecting, Reason::Dialing));
    publish_at(&hub, 32, is(Connected, Reason::TcpEstablished));
    assert_eq!(state(&hub, "a").last_ready, Some(at(30)));
}

#[test]
fn a_parked_peer_that_is_dialled_again_is_not_ready_since_then() {
    let hub = hub(64);
    let since = |hub: &Hub| state(hub, "a").not_ready_since;
    publish_at(&hub, 10, Update::added(PeerOrigin::Configured));
    publish_at(&hub, 11, is(Closing, Reason::NotInPeerList));
    publish_at(&hub, 11, is(Disconnected, Reason::NotInPeerList));
    publish_at(&hub, 60, is(Connecting, Reason::Dialing));
    assert_eq!(since(&hub), Some(at(60)));
    publish_at(&hub, 70, failed("refused", 1));
    publish_at(&hub, 80, is(Connected, Reason::TcpEstablished));
    assert_eq!(since(&hub), Some(at(60)), "whatever it does until it is READY or parked again");
}

#[test]
fn failures_are_counted_by_reason() {
    let hub = hub(64);
    add(&hub, "a");
    for (status, reason) in [
        (Connecting, Reason::ConnectTimeout),
        (Connected, Reason::TcpEstablished),
        (Connecting, Reason::RemoteClosed),
        (Connecting, Reason::Reset),
        (Connecting, Reason::RemoteClosed),
    ] {
        publish(&hub, "a", is(status, reason));
    }
    let counts = state(&hub, "a").failures;
    let expected = [(Reason::ConnectTimeout, 1), (Reason::RemoteClosed, 2)];
    assert_eq!((counts.total(), counts.iter().collect::<Vec<_>>()), (3, expected.to_vec()));
}

#[test]
fn the_last_word_about_a_peer_is_disconnected_with_the_reason_it_closed_for() {
    let hub = hub(64);
    add(&hub, "a");
    publish_at(&hub, 2, is(Ready, Reason::HandshakeComplete));
    publish_at(&hub, 3, is(Closing, Reason::NotInPeerList));
    publish_at(&hub, 4, Update::Removed);
    let mut events = Vec::new();
    hub.read_after(3, 9, &mut events).unwrap();
    let PeerChange { peer, kind, previous, .. } = events[0].peer.as_ref().unwrap();
    assert_eq!((*kind, *previous), (ChangeKind::Removed, Some(Closing)));
    assert_eq!((peer.status, peer.reason), (Disconnected, Reason::NotInPeerList));
    assert_eq!((peer.transitions, peer.status_since, peer.last_ready), (3, at(4), Some(at(3))));
    assert_eq!((peer.revision, events[0].time), (4, at(4)));
    assert!(hub.peer("p", &peer.address).is_none());
}

#[test]
fn a_peer_that_comes_back_starts_afresh() {
    let hub = hub(64);
    for what in [Update::added(PeerOrigin::Learned), is(Ready, Reason::Reset), Update::Removed] {
        publish_at(&hub, 1, what);
    }
    publish_at(&hub, 9, Update::added(PeerOrigin::Configured));
    let peer = state(&hub, "a");
    assert_eq!((peer.transitions, peer.last_ready, peer.status_since), (0, None, at(9)));
    assert_eq!((peer.status, peer.reason, peer.origin), (Connecting, Reason::Added, PeerOrigin::Configured));
    assert_eq!(peer.revision, 4);
}

#[test]
fn roles_stay_until_the_peer_says_something_else() {
    let hub = hub(64);
    add(&hub, "a");
    let mut roles = Roles::default();
    roles.insert(Role::PolicyRepository);
    let (status, reason) = (Ready, Reason::HandshakeComplete);
    publish(
        &hub,
        "a",
        Update::Status(Report { status, reason, detail: "".into(), failures: 0, roles: Some(roles) }),
    );
    set(&hub, "a", Connecting);
    assert_eq!(state(&hub, "a").roles, roles);
}

#[test]
fn an_identity_is_no_change_and_leaves_snapshots_alone() {
    let hub = hub(64);
    let before = hub.snapshot();
    let new = Arc::new(Identity { location: Some("pod-2".into()), ..Identity::clone(&identity()) });
    hub.set_identity("p", Arc::clone(&new), None);
    hub.set_identity("q", Arc::clone(&new), None);
    assert_eq!(hub.pool("p").unwrap().0.identity, Some(new));
    assert_eq!(before.pools[0].identity, Some(identity()));
    assert_eq!(hub.cursor().revision, 0);
}

#[test]
fn those_who_come_together_begin_with_the_same_snapshot_and_no_longer_than_it_is_true() {
    let hub = hub(64);
    add(&hub, "a");
    let detailed = |detail: &str| {
        Update::Status(Report {
            status: Connecting,
            reason: Reason::ConnectFailed,
            detail: detail.into(),
            failures: 1,
            roles: None,
        })
    };
    publish(&hub, "a", detailed("first"));
    let first = hub.snapshot();
    assert!(Arc::ptr_eq(&first, &hub.snapshot()));
    // No change, and yet not the same.
    assert_eq!(publish(&hub, "a", detailed("second")), None);
    assert_eq!((&*first.peers[0].detail, &*hub.snapshot().peers[0].detail), ("first", "second"));
    let second = hub.snapshot();
    add(&hub, "b");
    hub.add_pool("q".into(), identity(), at(0));
    let third = hub.snapshot();
    assert_eq!((second.peers.len(), third.peers.len(), third.pools.len()), (1, 2, 2));
    assert_eq!((second.cursor.revision, third.cursor.revision), (2, 3));
    drop(third);
    assert_eq!(Arc::strong_count(&hub.snapshot()), 1, "nobody has it, and it is not kept");
}

#[test]
fn the_health_keeps_its_date_while_the_pool_changes_within_it() {
    let hub = hub(64);
    publish_at(&hub, 10, Update::added(PeerOrigin::Learned));
    let pool = |hub: &Hub| hub.pool("p").unwrap().0;
    assert_eq!((pool(&hub).health_since, pool(&hub).revision), (at(0), 1));
    publish_at(&hub, 12, is(Ready, Reason::HandshakeComplete));
    assert_eq!((pool(&hub).health_since, pool(&hub).revision), (at(12), 2));
}

/// Five pools, two of them empty, the others with peers of every kind of address.
fn several_pools() -> Arc<Hub> {
    let hub = hub(64);
    for pool in ["", "a", "empty", "z"] {
        hub.add_pool(pool.into(), identity(), at(0));
    }
    for pool in ["a", "p", "z"] {
        for address in ["10.0.0.1:1", "10.0.0.1:2", "[2001:db8::1]:8009", "leaf-1:8009", "leaf-10:8009"] {
            let (address, what) = (address.parse().unwrap(), Update::added(PeerOrigin::Learned));
            hub.publish(PeerUpdate { pool: pool.into(), address, at: at(0), what }).unwrap();
        }
    }
    hub
}

/// Every page of `size`, put together.
fn paged(hub: &Hub, pool: Option<&str>, size: usize) -> Vec<Arc<PeerState>> {
    let mut all: Vec<Arc<PeerState>> = Vec::new();
    loop {
        let last = all.last().cloned();
        let after = last.as_ref().map(|peer| (&*peer.pool, &peer.address));
        let (page, cursor) = hub.peers(pool, after, size).unwrap();
        assert_eq!(cursor, hub.cursor());
        assert!(page.len() <= size);
        if page.is_empty() {
            return all;
        }
        all.extend(page);
    }
}

#[test]
fn pages_of_any_size_make_the_whole_list() {
    let hub = several_pools();
    let snapshot = hub.snapshot();
    assert_eq!(snapshot.peers.len(), 15);
    assert!(snapshot.peers.is_sorted_by_key(|peer| (peer.pool.clone(), peer.address.clone())));
    for size in 1..=17 {
        assert_eq!(paged(&hub, None, size), *snapshot.peers, "by {size}");
        for pool in ["", "a", "empty", "p", "z"] {
            let mut expected = snapshot.peers.to_vec();
            expected.retain(|peer| &*peer.pool == pool);
            assert_eq!(paged(&hub, Some(pool), size), expected, "{pool:?} by {size}");
        }
        let mut pools: Vec<Arc<PoolState>> = Vec::new();
        loop {
            let (page, _) = hub.pools(pools.last().map(|pool| pool.name.clone()).as_deref(), size);
            assert!(page.len() <= size);
            if page.is_empty() {
                break;
            }
            pools.extend(page);
        }
        assert_eq!(pools, *snapshot.pools, "by {size}");
    }
}

#[test]
fn a_page_goes_on_where_its_last_peer_was_even_if_that_is_gone() {
    let hub = several_pools();
    let address: PeerAddress = "leaf-10:8009".parse().unwrap();
    let gone = PeerUpdate { pool: "a".into(), address: address.clone(), at: at(0), what: Update::Removed };
    hub.publish(gone).unwrap();
    let (page, _) = hub.peers(None, Some(("a", &address)), 1).unwrap();
    assert_eq!((&*page[0].pool, page[0].address.to_string()), ("p", "10.0.0.1:1".to_owned()));
    let (page, _) = hub.peers(None, Some(("b", &address)), 1).unwrap();
    assert_eq!(&*page[0].pool, "p", "a place in a pool that is not there");
    assert_eq!(hub.peers(Some("b"), None, 1).unwrap_err(), UnknownPool);
}

#[test]
fn an_ipv6_peer_is_found_by_every_spelling_of_its_address() {
    let hub = several_pools();
    let (found, _) = hub.peer("p", &"[2001:DB8:0::0:1]:8009".parse().unwrap()).unwrap();
    assert_eq!(found.address.to_string(), "[2001:db8::1]:8009");
}

#[test]
fn a_flapping_peer_does_not_push_out_the_history_of_another() {
    let hub = hub(64);
    add(&hub, "a");
    add(&hub, "b");
    set(&hub, "b", Ready);
    for _ in 0..500 {
        set(&hub, "a", Ready);
        set(&hub, "a", Connecting);
    }
    let history = |hub: &Hub| {
        let mut events = Vec::new();
        while let before = events.last().map_or(u64::MAX, |event: &Arc<Event>| event.revision)
            && let count = events.len()
            && {
                hub.read_before(before, 7, &mut events);
                events.len() > count
            }
        {}
        let revisions: Vec<_> = events.iter().map(|event| event.revision).collect();
        assert!(revisions.is_sorted_by(|newer, older| newer > older), "{revisions:?}");
        events
    };
    let of_b = |hub: &Hub| {
        history(hub).iter().filter(|event| event.peer.as_ref().unwrap().peer.address.host() == "b").count()
    };
    assert_eq!((history(&hub).len(), of_b(&hub)), (64 + 2, 2));
    publish(&hub, "b", Update::Removed);
    assert_eq!(of_b(&hub), 1, "what left the pool is in the log alone");
}
