//! What we make of an answer to `send_identity`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use proptest::prelude::*;

use super::*;

fn parse(json: impl Into<String>) -> Result<IdentityAnswer, IdentityError> {
    IdentityAnswer::parse(&Raw::new(json.into()).unwrap())
}

/// The peers that one `connectivity_info` names.
fn peers(info: &str) -> Result<Vec<(String, u16)>, String> {
    let peers = format!(r#"{{"peers":[{{"connectivity_info":"{info}"}}]}}"#);
    let answer = parse(peers).map_err(|error| error.to_string())?;
    Ok(answer.peers.into_iter().map(|peer| (peer.host, peer.port)).collect())
}

/// The problem of this `connectivity_info`.
fn unusable(info: &str) -> Vec<String> {
    let answer = parse(format!(r#"{{"peers":[{{"connectivity_info":"{info}"}}]}}"#)).unwrap();
    assert!(answer.peers.is_empty());
    answer.unusable
}

#[test]
fn an_answer_is_read_whole() {
    let answer = parse(
        r#"{"name":"127.0.0.1:1","domain":"d","your_location":"rack 7","my_role":["policy_repository","observer"],
            "data":{"proxy_v4":"10.0.0.1","proxy_v6":"10.0.0.2","proxy_mac":"10.0.0.3"},
            "peers":[{"role":["observer"],"connectivity_info":"a:1"},{"connectivity_info":"b:2"}]}"#,
    )
    .unwrap();
    assert_eq!(answer.location.as_deref(), Some("rack 7"));
    assert_eq!(answer.roles, Roles::from_iter([Role::PolicyRepository, Role::Observer]));
    let proxies = answer.proxies.unwrap();
    assert_eq!([proxies.v4, proxies.v6, proxies.mac].map(|proxy| proxy.octets()[3]), [1, 2, 3]);
    let hosts: Vec<_> = answer.peers.iter().map(|peer| (peer.host.as_str(), peer.port)).collect();
    assert_eq!(hosts, [("a", 1), ("b", 2)]);
}

#[test]
fn everything_in_an_answer_may_be_missing() {
    assert_eq!(parse("{}").unwrap(), IdentityAnswer::default());
}

#[test]
fn an_answer_that_is_no_object_is_refused() {
    for json in ["null", "[]", "1", r#""text""#, "true"] {
        assert_eq!(parse(json), Err(IdentityError::NotAnObject), "{json}");
    }
}

#[test]
fn a_location_counts_only_as_text_of_bounded_length() {
    for json in ["1", "null", "[]"] {
        assert_eq!(parse(format!(r#"{{"your_location":{json}}}"#)).unwrap().location, None);
    }
    let location = |length| parse(format!(r#"{{"your_location":"{}"}}"#, "x".repeat(length)));
    assert!(location(MAX_LOCATION).is_ok());
    assert_eq!(location(MAX_LOCATION + 1), Err(IdentityError::LocationTooLong));
}

#[test]
fn roles_that_we_do_not_know_are_skipped() {
    let roles = |json| parse(format!(r#"{{"my_role":{json}}}"#)).unwrap().roles;
    assert_eq!(roles(r#"["spine",1,null,["observer"],"observer"]"#), Roles::from_iter([Role::Observer]));
    for json in ["[]", "null", r#""observer""#, r#"{"observer":1}"#] {
        assert!(roles(json).is_empty(), "{json}");
    }
}

#[test]
fn of_a_repeated_member_the_first_counts() {
    let answer = parse(
        r#"{"your_location":"a","your_location":"b",
            "peers":[{"connectivity_info":"a:1","connectivity_info":"b:2"}],"peers":7}"#,
    )
    .unwrap();
    assert_eq!(answer.location.as_deref(), Some("a"));
    assert_eq!(answer.peers, [ConnectivityInfo { host: "a".into(), port: 1 }]);
}

#[test]
fn elements_without_connectivity_info_are_skipped() {
    let answer = parse(r#"{"peers":[{},{"connectivity_info":7},{"role":[]},{"connectivity_info":"a:1"}]}"#);
    assert_eq!(answer.unwrap().peers.len(), 1);
}

#[test]
fn the_host_is_what_stands_before_the_last_colon() {
    let cases = [
        ("leaf-101:8009", "leaf-101", 8009),
        ("::1:8009", "::1", 8009),
        ("[::1]:8009", "::1", 8009),
        ("a:+80", "a", 80),
        ("a:000000000008009", "a", 8009),
        ("a:65535", "a", 65535),
        ("[a:1", "[a", 1),
        ("A b:1", "A b", 1),
    ];
    for (info, host, port) in cases {
        assert_eq!(peers(info).unwrap(), [(host.to_owned(), port)], "{info}");
    }
}

#[test]
fn entries_that_name_no_peer_are_left_out_with_their_place() {
    let cases = [
        ("leaf-101", r#"peers[0] has connectivity_info "leaf-101" without a port"#),
        ("", r#"peers[0] has connectivity_info "" without a port"#),
        (":1", r#"peers[0] has connectivity_info ":1" without a host"#),
        ("[]:1", r#"peers[0] has connectivity_info "[]:1" without a host"#),
        ("a:0", r#"peers[0] has connectivity_info "a:0" with a bad port"#),
        ("a:65536", r#"peers[0] has connectivity_info "a:65536" with a bad port"#),
        ("a:99999", r#"peers[0] has connectivity_info "a:99999" with a bad port"#),
        ("a:-5", r#"peers[0] has connectivity_info "a:-5" with a bad port"#),
        ("a: 1", r#"peers[0] has connectivity_info "a: 1" with a bad port"#),
        ("a:", r#"peers[0] has connectivity_info "a:" with a bad port"#),
    ];
    for (info, reason) in cases {
        assert_eq!(unusable(info), [reason]);
    }
    for json in [r#""a:1""#, "null", "{}", "1"] {
        assert_eq!(parse(format!(r#"{{"peers":{json}}}"#)), Err(IdentityError::PeersNotAList), "{json}");
    }
    let answer = parse(r#"{"peers":[{"connectivity_info":"a:1"},"b:2",{"connectivity_info":"c"}]}"#).unwrap();
    assert_eq!(answer.peers, [ConnectivityInfo { host: "a".into(), port: 1 }]);
    let problems = ["peers[1] is not an object", r#"peers[2] has connectivity_info "c" without a port"#];
    assert_eq!(answer.unusable, problems);
}

#[test]
fn what_an_error_quotes_is_cut_and_escaped() {
    let [reason] = &unusable(&format!("\\u001b[2J{}", "x".repeat(1000)))[..] else { panic!() };
    assert!(reason.len() < 200 && reason.contains("\\u{1b}[2Jxxx"), "{reason}");
    let reason = unusable(&format!("\\u001b[2J{}", "x".repeat(100_000)));
    assert_eq!(reason, ["peers[0] has a connectivity_info that is no text, or too long"]);
}

#[test]
fn the_number_of_peers_is_limited() {
    let list = |count| {
        let peers = vec![r#"{"connectivity_info":"a:1"}"#; count].join(",");
        parse(format!(r#"{{"peers":[{peers}]}}"#))
    };
    assert_eq!(list(MAX_PEERS).unwrap().peers.len(), MAX_PEERS);
    assert_eq!(list(MAX_PEERS + 1), Err(IdentityError::TooManyPeers));
}

#[test]
fn large_lists_of_nonsense_give_nothing_or_an_error() {
    let zeros = "0,".repeat(2 << 20);
    assert!(parse(format!(r#"{{"my_role":[{zeros}0]}}"#)).unwrap().roles.is_empty());
    assert_eq!(parse(format!(r#"{{"peers":[{zeros}0]}}"#)), Err(IdentityError::TooManyPeers));
}

#[test]
fn proxies_count_only_if_all_three_are_unicast_addresses() {
    let proxies = |v6| {
        let data = format!(r#"{{"proxy_v4":"10.0.0.1","proxy_v6":{v6},"proxy_mac":"10.0.0.3"}}"#);
        parse(format!(r#"{{"data":{data}}}"#)).unwrap().proxies
    };
    assert!(proxies(r#""10.0.0.2""#).is_some());
    for bad in ["null", "2", r#""::1""#, r#""224.0.0.1""#, r#""255.255.255.255""#, r#""0.0.0.0""#, r#""x""#] {
        assert_eq!(proxies(bad), None, "{bad}");
    }
    assert_eq!(parse(r#"{"data":[]}"#).unwrap().proxies, None);
    assert_eq!(parse(r#"{"data":{}}"#).unwrap().proxies, None);
}

#[test]
fn roles_are_a_set_in_a_fixed_order() {
    let mut roles = Roles::default();
    assert!(roles.is_empty());
    for role in [Role::Observer, Role::PolicyElement, Role::Observer] {
        roles.insert(role);
    }
    assert_eq!(roles.iter().collect::<Vec<_>>(), [Role::PolicyElement, Role::Observer]);
    assert!(roles.contains(Role::Observer) && !roles.contains(Role::EndpointRegistry));
    for role in Role::ALL {
        assert_eq!(Role::from_name(role.as_str()), Some(role));
    }
}

proptest! {
    #[test]
    fn no_connectivity_info_panics_and_every_peer_is_dialable(info in any::<String>()) {
        let answer = parse(serde_json::json!({"peers": [{"connectivity_info": info}]}).to_string());
        if let Ok(answer) = answer {
            prop_assert!(answer.peers.iter().all(|peer| peer.port > 0 && !peer.host.is_empty()));
        }
    }
}
