//! What filters let pass.

use super::*;

fn strings(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

fn pools(globs: &[&str]) -> FilterSpec {
    FilterSpec { pools: strings(globs), ..FilterSpec::default() }
}

fn peers(globs: &[&str]) -> FilterSpec {
    FilterSpec { peers: strings(globs), ..FilterSpec::default() }
}

fn statuses(statuses: &[PeerStatus]) -> FilterSpec {
    FilterSpec { statuses: statuses.to_vec(), ..FilterSpec::default() }
}

/// The events of the life of one peer, which is the only one of its pool, so that its health moves with it.
fn life(pool: &str, address: &str, origin: PeerOrigin) -> (Vec<Arc<Event>>, Arc<PeerState>) {
    let hub = hub(64);
    hub.add_pool(pool.into(), identity(), at(0));
    let address: PeerAddress = address.parse().unwrap();
    let publish =
        |what| hub.publish(PeerUpdate { pool: pool.into(), address: address.clone(), at: at(0), what });
    publish(Update::added(origin));
    let (added, _) = hub.peer(pool, &address).unwrap();
    let steps = [Connected, Ready, Closing].map(|status| is(status, Reason::Reset));
    for what in steps.into_iter().chain([Update::Removed]) {
        publish(what);
    }
    let mut events = Vec::new();
    hub.read_after(0, 64, &mut events).unwrap();
    (events, added)
}

/// For each event of a life, whether the peer part and the health part pass.
fn passing(spec: FilterSpec, events: &[Arc<Event>]) -> String {
    let filter = Filter::compile(spec).unwrap();
    let letter = |event| match filter.parts(event) {
        Parts { peer: true, health: true, .. } => 'B',
        Parts { peer: true, health: false, .. } => 'P',
        Parts { peer: false, health: true, .. } => 'H',
        Parts { peer: false, health: false, .. } => '-',
    };
    events.iter().map(|event| letter(event)).collect()
}

/// Whether the filter lets a CONNECTING peer into the snapshot.
fn admits(spec: FilterSpec, pool: &str, address: &str) -> bool {
    let (events, added) = life(pool, address, PeerOrigin::Configured);
    let admitted = Filter::compile(spec.clone()).unwrap().admits_peer(&added);
    let heard = passing(spec, &events).starts_with(['P', 'B']);
    assert_eq!(admitted, heard, "a snapshot and a change agree");
    admitted
}

#[test]
fn an_empty_filter_lets_everything_pass() {
    let (events, added) = life("p", "a:1", PeerOrigin::Learned);
    assert_eq!(passing(FilterSpec::default(), &events), "PPBBP");
    let filter = Filter::default();
    assert!(filter.admits_peer(&added) && filter.admits_health_of("p"));
}

#[test]
fn a_glob_for_peers_is_held_against_host_and_port_and_against_the_host() {
    let cases = [
        ("leaf-101:8009", "leaf-101:8009", true),
        ("leaf-101", "leaf-101:8009", true),
        ("leaf-10", "leaf-101:8009", false),
        ("leaf-*", "leaf-101:8009", true),
        ("leaf-10?", "leaf-101:8009", true),
        ("leaf-10?", "leaf-10:8009", false),
        ("*:8009", "leaf-101:8009", true),
        ("*:8010", "leaf-101:8009", false),
        ("leaf-101:*", "leaf-101:8009", true),
        ("[2001:db8::1]:8009", "[2001:db8::1]:8009", true),
        ("2001:db8::1", "[2001:db8::1]:8009", true),
        ("[2001:db8::*]:8009", "[2001:db8::1]:8009", true),
        ("[2001:db8::1]", "[2001:db8::1]:8009", false),
        ("2001:db8::1:8009", "[2001:db8::1]:8009", false),
        ("10.0.0.1", "10.0.0.1:8009", true),
        ("10.0.0.1", "10.0.0.10:8009", false),
        ("10.0.0.1", "10x0x0x1:8009", false),
        ("*", "10.0.0.1:8009", true),
        ("LEAF-*", "leaf-101:8009", true),
        ("leaf-*", "LEAF-101:8009", true),
        // Brackets and backslashes are letters like others.
        ("leaf-[0-9]*", "leaf-101:8009", false),
        ("leaf-\\1*", "leaf-101:8009", false),
    ];
    for (glob, address, expected) in cases {
        assert_eq!(admits(peers(&[glob]), "p", address), expected, "{glob} and {address}");
    }
    assert!(admits(peers(&["x", "a"]), "p", "a:1"), "one match is enough");
}

#[test]
fn a_glob_for_pools_stands_before_everything_even_health() {
    for (glob, pool, expected) in
        [("p", "p", true), ("p*", "pod-1", true), ("p", "pod-1", false), ("*-1", "pod-1", true)]
    {
        assert_eq!(admits(pools(&[glob]), pool, "a:1"), expected, "{glob} and {pool}");
        assert_eq!(Filter::compile(pools(&[glob])).unwrap().admits_health_of(pool), expected);
    }
    let (events, _) = life("q", "a:1", PeerOrigin::Learned);
    assert_eq!(passing(pools(&["p"]), &events), "-----");
}

#[test]
fn a_change_passes_if_it_enters_or_leaves_a_status() {
    // Added (CONNECTING), CONNECTED, READY, CLOSING, removed (DISCONNECTED).
    let (events, _) = life("p", "a:1", PeerOrigin::Learned);
    for (status, expected) in [
        (Connecting, "PPHH-"),
        (Connected, "-PBH-"),
        (Ready, "--BB-"),
        (Closing, "--HBP"),
        (Disconnected, "--HHP"),
    ] {
        assert_eq!(passing(statuses(&[status]), &events), expected, "{status}");
    }
    assert_eq!(passing(statuses(&[Connecting, Ready]), &events), "PPBB-");
    assert!(admits(statuses(&[Connecting]), "p", "a:1"));
    assert!(!admits(statuses(&[Ready]), "p", "a:1"));
}

#[test]
fn origins_and_interests_narrow_their_part() {
    let (events, added) = life("p", "a:1", PeerOrigin::Learned);
    let origins = |origins: &[PeerOrigin]| FilterSpec { origins: origins.to_vec(), ..FilterSpec::default() };
    assert_eq!(passing(origins(&[PeerOrigin::Learned]), &events), "PPBBP");
    assert_eq!(passing(origins(&[PeerOrigin::Configured]), &events), "--HH-");
    let interests = |list: &[Interest]| FilterSpec { interests: list.to_vec(), ..FilterSpec::default() };
    assert_eq!(passing(interests(&[Interest::Peers]), &events), "PPPPP");
    assert_eq!(passing(interests(&[Interest::Health]), &events), "--HH-");
    assert_eq!(passing(interests(&[Interest::Health, Interest::Peers]), &events), "PPBBP");
    let health = Filter::compile(interests(&[Interest::Health])).unwrap();
    assert!(!health.admits_peer(&added) && health.admits_health_of("p"));
    let peers = Filter::compile(interests(&[Interest::Peers])).unwrap();
    assert!(peers.admits_peer(&added) && !peers.admits_health_of("p"));
}

#[test]
fn the_health_passes_where_the_peer_that_caused_it_does_not() {
    let (events, added) = life("p", "a:1", PeerOrigin::Learned);
    let elsewhere = peers(&["b"]);
    assert_eq!(passing(elsewhere.clone(), &events), "--HH-");
    let filter = Filter::compile(elsewhere).unwrap();
    assert!(!filter.admits_peer(&added) && filter.admits_health_of("p"));
}

#[test]
fn conditions_are_combined_with_and() {
    let both = FilterSpec { peers: strings(&["a"]), statuses: vec![Ready], ..pools(&["p"]) };
    let (events, _) = life("p", "a:1", PeerOrigin::Learned);
    assert_eq!(passing(both.clone(), &events), "--BB-");
    let (events, _) = life("p", "b:1", PeerOrigin::Learned);
    assert_eq!(passing(both, &events), "--HH-");
}

#[test]
fn a_filter_keeps_what_its_creator_wrote() {
    let spec = FilterSpec { interests: vec![Interest::Peers; 2], ..peers(&["Leaf-*", "Leaf-*"]) };
    assert_eq!(Filter::compile(spec.clone()).unwrap().spec(), spec);
}

#[test]
fn lists_and_globs_have_limits_and_errors_name_the_list() {
    let field = |spec| Filter::compile(spec).map(|_| ()).map_err(|error| error.field);
    let many = |count| vec!["a".to_owned(); count];
    let long = |size: usize| vec!["é".repeat(size / 2)];
    type Make = fn(Vec<String>) -> FilterSpec;
    let lists: [(&str, Make); 2] = [
        ("pools", |pools| FilterSpec { pools, ..FilterSpec::default() }),
        ("peers", |peers| FilterSpec { peers, ..FilterSpec::default() }),
    ];
    for (name, make) in lists {
        assert_eq!(field(make(many(64))), Ok(()));
        assert_eq!(field(make(many(65))), Err(name));
        assert_eq!(field(make(long(320))), Ok(()), "320 bytes");
        assert_eq!(field(make(long(322))), Err(name), "322 bytes");
        assert_eq!(field(make(strings(&["a", ""]))), Err(name), "an empty glob matches nothing");
    }
    assert_eq!(field(statuses(&[Ready; 64])), Ok(()));
    assert_eq!(field(statuses(&[Ready; 65])), Err("statuses"));
    let origins = vec![PeerOrigin::Learned; 65];
    assert_eq!(field(FilterSpec { origins, ..FilterSpec::default() }), Err("origins"));
    let interests = vec![Interest::Peers; 65];
    assert_eq!(field(FilterSpec { interests, ..FilterSpec::default() }), Err("interests"));
    let error = Filter::compile(peers(&[""])).unwrap_err();
    assert_eq!(error.to_string(), "peers: a glob of 0 bytes; 1 to 320 are allowed");
}
