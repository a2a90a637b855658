//! Waiting for the health of a pool: what counts, what wakes, and what is left behind.

use std::{
    pin::Pin,
    sync::atomic::{AtomicUsize, Ordering},
    task::{Context, Poll, Wake, Waker},
};

use super::*;

fn waiting(hub: &Arc<Hub>, wanted: PoolHealth) -> HealthWait {
    HealthWait::new(Arc::clone(hub), "p", wanted).unwrap()
}

/// The health that ended the wait, with the counts and the revision, if it has ended.
fn met(wait: &mut HealthWait) -> Option<(PoolHealth, u32, u32, u64)> {
    match Pin::new(wait).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(pool) => pool.map(|pool| (pool.health, pool.ready, pool.wanted, pool.revision)),
        Poll::Pending => None,
    }
}

#[test]
fn better_is_good_enough_but_down_is_down() {
    use PoolHealth::*;
    for (wanted, good) in [(Down, &[Down][..]), (Degraded, &[Degraded, Healthy]), (Healthy, &[Healthy])] {
        for (readies, health) in [Down, Degraded, Healthy].into_iter().enumerate() {
            let hub = hub(64);
            add(&hub, "a");
            add(&hub, "b");
            for host in ["a", "b"].iter().take(readies) {
                set(&hub, host, Ready);
            }
            assert_eq!(hub.pool("p").unwrap().0.health, health);
            let wait = waiting(&hub, wanted);
            assert_eq!(wait.met().is_some(), good.contains(&health), "{health} for {wanted}");
        }
    }
}

#[test]
fn an_unknown_health_is_none_to_wait_for() {
    let hub = Arc::new(Hub::new(1, 64));
    hub.add_observed_pool("p".into(), at(0));
    let met = |wanted| waiting(&hub, wanted).met().is_some();
    let wanted = [PoolHealth::Unknown, PoolHealth::Down, PoolHealth::Degraded, PoolHealth::Healthy];
    assert_eq!(wanted.map(met), [false; 4], "nothing was seen");
    let is = |host: &str, status, reason| {
        publish(&hub, host, Update::Observed(Report::new(status, reason), None)).unwrap()
    };
    is("a", Unknown, Reason::ObservationLost);
    is("b", Ready, Reason::HandshakeComplete);
    assert_eq!(hub.pool("p").unwrap().0.health, PoolHealth::Unknown);
    assert_eq!(wanted.map(met), [false; 4], "one of two");
    is("c", Connecting, Reason::ConnectFailed);
    assert_eq!(wanted.map(met), [false, false, true, false], "degraded in any case");
}

#[test]
fn a_wait_ends_with_the_change_that_brings_the_health() {
    let hub = hub(64);
    let mut wait = waiting(&hub, PoolHealth::Healthy);
    add(&hub, "a");
    add(&hub, "b");
    set(&hub, "a", Ready);
    assert_eq!(met(&mut wait), None, "degraded");
    set(&hub, "b", Ready);
    assert_eq!(met(&mut wait), Some((PoolHealth::Healthy, 2, 2, 4)));
}

#[test]
fn a_health_that_came_and_went_between_two_looks_counts() {
    let hub = hub(256);
    add(&hub, "a");
    let mut wait = waiting(&hub, PoolHealth::Healthy);
    set(&hub, "a", Ready);
    for _ in 0..100 {
        set(&hub, "a", Connected);
        set(&hub, "a", Connecting);
    }
    assert_eq!(hub.pool("p").unwrap().0.health, PoolHealth::Down);
    assert_eq!(met(&mut wait), Some((PoolHealth::Healthy, 1, 1, 2)), "as it was then");
    let mut late = waiting(&hub, PoolHealth::Healthy);
    assert_eq!(met(&mut late), None, "but not if it was before the wait");
}

#[test]
fn a_wait_that_fell_behind_the_log_goes_by_what_is_now() {
    let hub = hub(4);
    add(&hub, "a");
    let (mut healthy, mut down) = (waiting(&hub, PoolHealth::Healthy), waiting(&hub, PoolHealth::Down));
    for _ in 0..10 {
        set(&hub, "a", Connected);
        set(&hub, "a", Connecting);
    }
    assert_eq!(met(&mut healthy), None);
    set(&hub, "a", Ready);
    assert_eq!(met(&mut healthy), Some((PoolHealth::Healthy, 1, 1, 22)));
    assert_eq!(met(&mut down).unwrap().0, PoolHealth::Down, "it began with that");
}

#[test]
fn other_pools_do_not_matter() {
    let hub = hub(64);
    hub.add_pool("q".into(), identity(), at(0));
    let mut wait = waiting(&hub, PoolHealth::Healthy);
    for what in [Update::added(PeerOrigin::Configured), is(Ready, Reason::HandshakeComplete)] {
        hub.publish(PeerUpdate { pool: "q".into(), address: peer("a"), at: at(1), what });
    }
    assert_eq!(met(&mut wait), None);
    assert!(HealthWait::new(Arc::clone(&hub), "r", PoolHealth::Down).is_none(), "no such pool");
}

#[test]
fn it_ends_when_the_pool_is_removed() {
    let hub = hub(64);
    let mut wait = waiting(&hub, PoolHealth::Healthy);
    let mut poll = || Pin::new(&mut wait).poll(&mut Context::from_waker(Waker::noop()));
    assert_eq!(poll(), Poll::Pending);
    hub.start_watches_over();
    assert_eq!(poll(), Poll::Pending, "it is still there");
    hub.remove_pool("p");
    hub.start_watches_over();
    assert_eq!(poll(), Poll::Ready(None));
}

/// Counts how often it is woken.
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn a_change_wakes_and_a_wait_that_is_given_up_leaves_nothing() {
    let hub = hub(64);
    let count = Arc::new(Count(AtomicUsize::new(0)));
    let waker = Waker::from(Arc::clone(&count));
    let mut wait = waiting(&hub, PoolHealth::Healthy);
    assert!(Pin::new(&mut wait).poll(&mut Context::from_waker(&waker)).is_pending());
    assert_eq!((hub.wakers().count(), count.0.load(Ordering::Relaxed)), (1, 0));
    add(&hub, "a");
    assert_eq!(count.0.load(Ordering::Relaxed), 1);
    drop(wait);
    assert_eq!(hub.wakers().count(), 0);
}

#[test]
fn a_long_log_is_read_in_turns_with_others() {
    let hub = hub(10_000);
    add(&hub, "a");
    let count = Arc::new(Count(AtomicUsize::new(0)));
    let waker = Waker::from(Arc::clone(&count));
    let mut wait = waiting(&hub, PoolHealth::Healthy);
    for _ in 0..2_000 {
        set(&hub, "a", Connected);
        set(&hub, "a", Connecting);
    }
    set(&hub, "a", Ready);
    let mut polls = 1;
    while Pin::new(&mut wait).poll(&mut Context::from_waker(&waker)).is_pending() {
        assert_eq!(count.0.load(Ordering::Relaxed), polls, "it asks for its next turn");
        polls += 1;
    }
    assert!(polls > 4, "{polls}");
}

#[test]
fn a_call_that_waits_takes_a_place_among_the_streams() {
    let limits = ListenerLimits { listeners: 9, per_owner: 2, streams: 1, streams_per_owner: 1 };
    let listeners = Listeners::new(hub(64), limits);
    let permit = listeners.stream_permit(&Owner::default()).unwrap();
    assert_eq!(listeners.stream_permit(&Owner::default()).err(), Some(AttachError::StreamQuota(1)));
    assert_eq!(listeners.count(), (0, 1));
    drop(permit);
    assert_eq!(listeners.count(), (0, 0));
    listeners.drain();
    assert_eq!(
        listeners.stream_permit(&Owner::default()).err(),
        Some(AttachError::Create(CreateError::Draining))
    );
}
