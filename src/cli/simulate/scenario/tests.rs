//! Scenario files, good and bad.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use super::*;
use crate::{config::Config, tls::PeerTlsMode};

fn peer(name: &str, more: &str) -> String {
    format!("[[peer]]\nname = \"{name}\"\nlisten = \"127.0.0.1:0\"\n{more}\n")
}

fn plan(text: &str) -> Plan {
    parse(text).unwrap_or_else(|(line, error)| panic!("{line}: {error}\n{text}"))
}

fn timeline(text: &str) -> Vec<Event> {
    match plan(text).schedule {
        Schedule::Timeline(events) => events,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_peer_is_a_normal_leaf_unless_the_file_says_more() {
    let plan = plan(&peer("leaf-1", ""));
    let leaf = &plan.peers[0];
    assert_eq!(leaf.name.as_deref(), Some("leaf-1"));
    assert_eq!(leaf.behaviour, PlannedBehaviour::new(Mode::Normal));
    assert_eq!(leaf.lists, [Listed::Peer(0)]);
    assert!(!leaf.is_anycast && !leaf.has_tls && leaf.proxies.is_none());
}

#[test]
fn peers_list_the_leaves_of_their_pool() {
    let text = [
        peer("any", "pool = \"a\"\nanycast = true"),
        peer("a-1", "pool = \"a\""),
        peer("b-1", "pool = \"b\""),
        peer("a-2", "pool = \"a\"\nlists = [\"a-*\", \"a-1\", \"leaf.invalid:8009\"]"),
        peer("a-3", "pool = \"a\"\nlists = []"),
    ];
    let lists: Vec<_> = plan(&text.concat()).peers.into_iter().map(|peer| peer.lists).collect();
    let peers = |indices: &[usize]| indices.iter().copied().map(Listed::Peer).collect::<Vec<_>>();
    assert_eq!(lists[0], peers(&[1, 3, 4]), "not the anycast address itself");
    assert_eq!(lists[1], peers(&[1, 3, 4]));
    assert_eq!(lists[2], peers(&[2]));
    let mut given = peers(&[1, 3, 4]);
    given.push(Listed::Address("leaf.invalid:8009".parse().unwrap()));
    assert_eq!(lists[3], given, "each once");
    assert_eq!(lists[4], []);
}

#[test]
fn faults_tls_and_proxies_are_keys_of_a_peer() {
    let plan = plan(
        &[
            peer("a", "behaviour = \"flap\"\nevery = \"2s\""),
            peer("b", "behaviour = \"bad-tls\"\ntls = true\nproxies = \"10.0.0.1,10.0.0.2,10.0.0.3\""),
        ]
        .concat(),
    );
    assert_eq!(plan.peers[0].behaviour.to_string(), "flap every 2s");
    assert_eq!(plan.peers[1].behaviour.to_string(), "bad-tls");
    assert_eq!(plan.peers[1].proxies.unwrap().v6.to_string(), "10.0.0.2");
}

#[test]
fn events_come_in_the_order_of_their_times() {
    let text = peer("a-1", "")
        + &peer("a-2", "")
        + "[[event]]\nat = \"1m\"\npeers = [\"a-*\"]\nclose = true\nlists = [\"a-1\"]\n"
        + "[[event]]\nat = \"10s\"\npeers = [\"a-2\"]\nbehaviour = \"refuse\"\n";
    let events = timeline(&text);
    assert_eq!((events[0].at, &*events[0].peers), (Duration::from_secs(10), &[1][..]));
    assert_eq!(events[0].behaviour, Some(PlannedBehaviour::new(Mode::Refuse)));
    assert_eq!((events[1].at, &*events[1].peers), (Duration::from_secs(60), &[0, 1][..]));
    assert_eq!((events[1].lists.as_deref(), events[1].close), (Some(&[Listed::Peer(0)][..]), true));
}

#[test]
fn mistakes_are_named_with_line_and_key_and_what_is_allowed() {
    let one = peer("a", "");
    let behaviours = "`normal`, `refuse`, `silent`, `mute`, `reject`, `garbage`, `flap`, `bad-tls`";
    let cases = [
        (String::new(), "1: peer: 0 peers; 1 to 500 are allowed".to_owned()),
        ("[[pear]]".to_owned(), "1: pear: unknown field `pear`, expected `peer` or `event`".to_owned()),
        (
            peer("a", "port = 1"),
            "4: peer[0].port: unknown field `port`, expected one of `name`, `listen`".to_owned(),
        ),
        ("[[peer]]\nlisten = \"127.0.0.1:1\"".to_owned(), "1: peer[0]: missing field `name`".to_owned()),
        (
            peer("a b", ""),
            "2: peer[0].name: \"a b\": letters, digits, '.', '_' and '-' are allowed".to_owned(),
        ),
        (one.clone() + &one, "6: peer[1].name: \"a\" is there twice".to_owned()),
        (
            "[[peer]]\nname = \"a\"\nlisten = \"here\"".to_owned(),
            "3: peer[0].listen: \"here\": give an IP address and a port".to_owned(),
        ),
        (
            "[[peer]]\nname = \"a\"\nlisten = \"0.0.0.0:1\"".to_owned(),
            "3: peer[0].listen: \"0.0.0.0:1\": no client can connect to that".to_owned(),
        ),
        (
            ["a", "b"].map(|name| peer(name, "").replace(":0", ":7")).concat(),
            "7: peer[1].listen: \"127.0.0.1:7\" is there twice".to_owned(),
        ),
        (
            peer("a", "behaviour = \"dead\""),
            format!("4: peer[0].behaviour: unknown variant `dead`, expected one of {behaviours}"),
        ),
        (
            peer("a", "every = \"2s\""),
            "4: peer[0].every: has no effect without behaviour = \"flap\"".to_owned(),
        ),
        (
            peer("a", "behaviour = \"flap\"\nevery = \"soon\""),
            "5: peer[0].every: \"soon\" is not a duration such as \"10s\"".to_owned(),
        ),
        (
            peer("a", "behaviour = \"bad-tls\""),
            "4: peer[0].behaviour: \"bad-tls\" is for peers with tls = true".to_owned(),
        ),
        (
            peer("a", "lists = [\"a\",\n\"c\"]"),
            "5: peer[0].lists[1]: \"c\" is the name of no peer, nor a pattern for one".to_owned(),
        ),
        (peer("a", "lists = [\"c:0\"]"), "4: peer[0].lists[0]: \"0\" is not a port".to_owned()),
        (peer("a", "proxies = \"1\""), "4: peer[0].proxies: \"1\": expected three IPv4 unicast".to_owned()),
        (
            one.clone() + "[[event]]\nat = \"1s\"\npeers = [\"a\"]",
            "6: event[0]: changes nothing: behaviour, lists or close = true is needed".to_owned(),
        ),
        (
            one.clone() + "[[event]]\nat = \"1s\"\npeers = [\"x*\"]\nclose = true",
            "7: event[0].peers[0]: \"x*\" is the name of no peer".to_owned(),
        ),
        (
            one.clone() + "[[event]]\nat = \"1s\"\npeers = []\nclose = true",
            "7: event[0].peers: names no peer".to_owned(),
        ),
        (
            one + "[[event]]\nat = \"1s\"\npeers = [\"a\"]\nbehaviour = \"bad-tls\"",
            "8: event[0].behaviour: \"bad-tls\" is for peers with tls = true".to_owned(),
        ),
    ];
    for (text, told) in cases {
        let (line, error) = parse(&text).unwrap_err();
        let error = format!("{line}: {error}");
        assert!(error.starts_with(&told), "{error}\n{text}");
    }
}

#[test]
fn the_two_files_of_the_exercise_agree() {
    let text = include_str!("../../../../examples/forty-peers.toml");
    let File { peers, .. } = from_toml(text).unwrap_or_else(|(line, error)| panic!("{line}: {error}"));
    plan(text);
    let service = include_str!("../../../../examples/forty-peers-service.toml");
    let service: Config = from_toml(service).unwrap_or_else(|(line, error)| panic!("{line}: {error}"));
    let unresolved = "leaf-220.invalid:18009".parse::<PeerAddress>().unwrap();
    let mut count = 0;
    for pool in &service.pools {
        let simulated: Vec<_> = peers.iter().filter(|peer| peer.pool == pool.name).collect();
        let has_tls = pool.tls.mode != PeerTlsMode::Disabled;
        assert!(simulated.iter().all(|peer| peer.tls == has_tls), "{}", pool.name);
        let simulated: Vec<_> = simulated.iter().map(|peer| peer.listen.as_ref().0.to_string()).collect();
        let others = pool.peers.iter().filter(|peer| !simulated.contains(&peer.to_string()));
        assert!(others.clone().all(|peer| *peer == unresolved), "{others:?}");
        count += simulated.len() + others.count();
    }
    assert_eq!((service.pools.len(), count, peers.len()), (3, 40, 39));
}

#[test]
fn the_documented_scenario_is_one() {
    let page = include_str!("../../../../docs/simulate.md");
    let text = page.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
    assert_eq!(plan(text).peers.len(), 3);
}
