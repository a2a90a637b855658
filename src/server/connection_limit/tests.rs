#![allow(clippy::unwrap_used)]

use std::net::IpAddr;

use super::*;

const ONE: Source = Source::Network(IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1)));
const OTHER: Source = Source::Network(IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2)));

/// The numbers of the places that were taken, and the tokens of their connections.
fn take(places: &mut Places, source: Source) -> (u64, CancellationToken) {
    let evicted = CancellationToken::new();
    match places.take(source, &evicted) {
        Verdict::Place(number) => (number, evicted),
        Verdict::PlaceOf(number, victim) => {
            victim.cancel();
            (number, evicted)
        }
        refused => panic!("{refused:?}"),
    }
}

#[test]
fn the_oldest_of_the_source_with_most_unadmitted_connections_gives_way() {
    let mut places = Places::new(PlaceLimits { all: 9, unadmitted: 3, per_source: 9 });
    let [good, first, second, third] = [OTHER, ONE, ONE, ONE].map(|source| take(&mut places, source).1);
    let evicted = [&good, &first, &second, &third].map(CancellationToken::is_cancelled);
    assert_eq!(evicted, [false, true, false, false]);
}

#[test]
fn who_connects_again_and_again_evicts_none_of_a_source_with_fewer() {
    let mut places = Places::new(PlaceLimits::new(4096, 4096));
    let good: Vec<_> = (0..100).map(|_| take(&mut places, OTHER).1).collect();
    for _ in 0..10_000 {
        take(&mut places, ONE);
    }
    assert!(good.iter().all(|good| !good.is_cancelled()));
    // Also not if each connection has a source of its own, as far as there are places.
    for host in 0..800 {
        take(&mut places, Source::of(IpAddr::V4(std::net::Ipv4Addr::from_bits(0x0a00_0000 + host))));
    }
    assert!(good.iter().all(|good| !good.is_cancelled()));
}

#[test]
fn an_admitted_connection_does_not_give_way() {
    let mut places = Places::new(PlaceLimits { all: 2, unadmitted: 2, per_source: 9 });
    let (number, admitted) = take(&mut places, ONE);
    assert!(places.admit(number));
    let [idle, last] = [(); 2].map(|()| take(&mut places, ONE));
    assert_eq!((admitted.is_cancelled(), idle.1.is_cancelled()), (false, true));
    assert!(!places.admit(idle.0), "it was evicted");
    assert!(places.admit(last.0) && !places.has_room());
    assert!(matches!(places.take(OTHER, &CancellationToken::new()), Verdict::Full));
    places.uncount(ONE);
    assert!(places.has_room());
}

#[test]
fn a_source_has_a_limit_and_its_own_connections_give_way() {
    let mut places = Places::new(PlaceLimits { all: 9, unadmitted: 9, per_source: 2 });
    let (number, _) = take(&mut places, ONE);
    places.admit(number);
    let [idle, next] = [(); 2].map(|()| take(&mut places, ONE));
    assert!(idle.1.is_cancelled());
    places.admit(next.0);
    assert!(matches!(places.take(ONE, &CancellationToken::new()), Verdict::SourceFull));
    take(&mut places, OTHER);
    for _ in 0..4 {
        take(&mut places, Source::Local);
    }
}

#[test]
fn every_place_is_returned() {
    let mut places = Places::new(PlaceLimits { all: 3, unadmitted: 2, per_source: 2 });
    let numbers: Vec<_> = [ONE, OTHER, ONE, ONE].map(|source| take(&mut places, source).0).into();
    numbers.into_iter().for_each(|number| drop(places.evict(number)));
    assert_eq!((places.all, places.sources.len(), places.unadmitted.len()), (0, 0, 0));
}

#[test]
fn hosts_are_told_apart_by_what_they_cannot_choose() {
    let of = |text: &str| Source::of(text.parse().unwrap());
    assert_eq!(of("127.3.2.1"), Source::Local);
    assert_eq!((of("::1"), of("::ffff:127.0.0.1")), (Source::Local, Source::Local));
    assert_eq!(of("::ffff:192.0.2.1"), ONE);
    assert_ne!(ONE, OTHER);
    assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:1:2:3"));
    assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
}

#[test]
fn warnings_are_limited_and_count_what_they_leave_out() {
    let (mut limit, now) = (WarningLimit::default(), Instant::now());
    let offers = [0, 1, 29, 30, 31].map(|second| limit.offer(now + Duration::from_secs(second)));
    assert_eq!(offers, [Some(0), None, None, Some(2), None]);
}

#[tokio::test]
async fn who_comes_when_all_are_admitted_waits_for_a_place() {
    let limit = ConnectionLimit::new(PlaceLimits::new(1, 1));
    let place = limit.take(ONE).await.unwrap();
    place.admit();
    let waiting = tokio::spawn({
        let limit = Arc::clone(&limit);
        async move { limit.take(OTHER).await.unwrap() }
    });
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished());
    drop(place);
    drop(waiting.await.unwrap());
    assert_eq!(limit.state.lock().places.all, 0);
}
