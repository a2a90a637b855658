//! Addresses as people and peers write them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use proptest::prelude::*;

use super::*;

#[test]
fn an_address_has_one_spelling() {
    let cases = [
        ("leaf-101:8009", "leaf-101:8009"),
        ("LEAF_101.Fabric.example:1", "leaf_101.fabric.example:1"),
        ("leaf.:8009", "leaf.:8009"),
        ("10.0.0.30:65535", "10.0.0.30:65535"),
        ("127.0.0.1:00080", "127.0.0.1:80"),
        ("[2001:DB8:0:0:0:0:0:1]:8009", "[2001:db8::1]:8009"),
        ("[::]:8009", "[::]:8009"),
        ("[::ffff:10.0.0.1]:8009", "[::ffff:10.0.0.1]:8009"),
        ("[FE80::1%Eth0.7]:8009", "[fe80::1%Eth0.7]:8009"),
        ("1.2.3.x:1", "1.2.3.x:1"),
    ];
    for (text, canonical) in cases {
        let address: PeerAddress = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(address.to_string(), canonical);
        assert_eq!(address.to_string().parse::<PeerAddress>().unwrap(), address);
        assert_eq!(PeerAddress::new(address.host(), address.port()).unwrap(), address);
    }
}

#[test]
fn a_bad_address_is_refused_with_what_would_be_a_good_one() {
    let cases = [
        ("", r#""" has no port: expected host:port, for example leaf-101:8009"#),
        ("leaf-101", r#""leaf-101" has no port: expected host:port, for example leaf-101:8009"#),
        (":8009", "host is empty: expected a name or an IP address"),
        ("leaf:", r#""" is not a port: expected a number from 1 to 65535"#),
        ("leaf:0", r#""0" is not a port: expected a number from 1 to 65535"#),
        ("leaf:65536", r#""65536" is not a port: expected a number from 1 to 65535"#),
        ("leaf:+80", r#""+80" is not a port: expected a number from 1 to 65535"#),
        ("leaf: 80", r#"" 80" is not a port: expected a number from 1 to 65535"#),
        ("leaf:http", r#""http" is not a port: expected a number from 1 to 65535"#),
        (
            "http://127.0.0.1:1",
            r#""http://127.0.0.1:1" has a scheme: a peer is host:port alone, for example leaf-101:8009"#,
        ),
        (
            "2001:db8::1:8009",
            r#""2001:db8::1:8009" is ambiguous: put an IPv6 address in brackets, for example [2001:db8::1]:8009"#,
        ),
        (
            "[::1:8009",
            r#""[::1:8009" lacks a closing bracket: expected [address]:port, for example [2001:db8::1]:8009"#,
        ),
        ("[::1]", r#""[::1]" has no port: expected host:port, for example leaf-101:8009"#),
        ("[::1]8009", r#""[::1]8009" has no port: expected host:port, for example leaf-101:8009"#),
        ("[leaf]:1", r#""leaf" is not an IPv6 address: expected for example 2001:db8::1 or fe80::1%eth0"#),
        (
            "[1::2::3]:1",
            r#""1::2::3" is not an IPv6 address: expected for example 2001:db8::1 or fe80::1%eth0"#,
        ),
        (
            "[fe80::1%]:1",
            r#""fe80::1%" is not an IPv6 address: expected for example 2001:db8::1 or fe80::1%eth0"#,
        ),
        (
            "[::1%a:b]:1",
            r#""::1%a:b" is not an IPv6 address: expected for example 2001:db8::1 or fe80::1%eth0"#,
        ),
        (
            "10.0.0.300:1",
            r#""10.0.0.300" is not an IPv4 address: expected four numbers from 0 to 255, for example 10.0.0.30"#,
        ),
        (
            "10.1:1",
            r#""10.1" is not an IPv4 address: expected four numbers from 0 to 255, for example 10.0.0.30"#,
        ),
        ("leaf 101:1", r#"host "leaf 101" contains ' ': allowed are letters, digits, '.', '-' and '_'"#),
        ("leaf%1:1", r#"host "leaf%1" contains '%': allowed are letters, digits, '.', '-' and '_'"#),
        ("leäf:1", r#"host "leäf" contains 'ä': allowed are letters, digits, '.', '-' and '_'"#),
        ("le/af:1", r#"host "le/af" contains '/': allowed are letters, digits, '.', '-' and '_'"#),
    ];
    for (text, reason) in cases {
        assert_eq!(text.parse::<PeerAddress>().expect_err(text).to_string(), reason);
    }
}

#[test]
fn a_host_is_at_most_253_bytes_long() {
    assert!(PeerAddress::new(&"a".repeat(253), 1).is_ok());
    let error = PeerAddress::new(&"a".repeat(254), 1).unwrap_err();
    assert_eq!(error.to_string(), "host is 254 bytes long: at most 253 are allowed");
}

#[test]
fn port_zero_is_refused_however_it_is_given() {
    assert!(matches!(PeerAddress::new("leaf", 0), Err(AddressError::BadPort { .. })));
}

#[test]
fn addresses_sort_by_host_and_then_by_port_as_a_number() {
    let mut addresses = ["b:1", "a:10", "a:9", "[::1]:1"].map(|text| text.parse::<PeerAddress>().unwrap());
    addresses.sort();
    assert_eq!(addresses.map(|address| address.to_string()), ["[::1]:1", "a:9", "a:10", "b:1"]);
}

proptest! {
    #[test]
    fn whatever_is_taken_prints_as_text_that_gives_it_back(text in "[a-zA-Z0-9.:%\\[\\]_-]{0,30}|\\PC{0,20}") {
        match text.parse::<PeerAddress>() {
            Ok(address) => prop_assert_eq!(address.to_string().parse(), Ok(address)),
            Err(error) => prop_assert!(error.to_string().len() < 500),
        }
    }
}

#[test]
fn addresses_are_ordered_as_a_person_expects() {
    let ordered = [
        "10.0.0.2:80",
        "10.0.0.2:8009",
        "10.0.0.10:1",
        "[2001:db8::2]:1",
        "[2001:db8::10]:1",
        "[fe80::1%eth0]:1",
        "[fe80::1%eth1]:1",
        "leaf:1",
        "leaf-01:1",
        "leaf-1:1",
        "leaf-2:1",
        "leaf-10:1",
        "leaf-10a:1",
        "leaf-99999999999999999999999:1",
        "leaf.1a:1",
        "leaf1:1",
    ];
    let mut sorted: Vec<PeerAddress> = ordered.iter().rev().map(|text| text.parse().unwrap()).collect();
    sorted.sort();
    assert_eq!(sorted.iter().map(ToString::to_string).collect::<Vec<_>>(), ordered);
}
