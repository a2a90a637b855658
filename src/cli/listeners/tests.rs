#![allow(clippy::unwrap_used)]

use super::*;
use crate::{
    api::pb::{ListenerFilter, ListenerState, PeerStatus},
    cli::tests::samples::{at, cursor},
};

fn now() -> SystemTime {
    at(0).unwrap().try_into().unwrap()
}

fn listener() -> Listener {
    Listener {
        name: "listeners/noc".into(),
        user_data: b"rack\x1b-7\xff".as_slice().into(),
        state: ListenerState::Detached.into(),
        expire_time: at(250),
        cursor: cursor(12),
        owner: "token:ci".into(),
        lag: 3,
        delivered_count: 40,
        filter: Some(ListenerFilter {
            peers: vec!["10.*".into(), "leaf-*".into()],
            statuses: vec![PeerStatus::Ready.into()],
            ..ListenerFilter::default()
        }),
        ..Listener::default()
    }
}

#[test]
fn listeners_are_a_table_that_shows_who_is_behind() {
    assert_eq!(
        listeners_table(&[listener()], Style::default(), now()).join("\n"),
        "\
LISTENER  STATE     CLIENT  OWNER     LAG  DELIVERED  RESETS  MISSED  EXPIRES IN  USER DATA
noc       detached  -       token:ci  3    40         0       0       4m 10s      rack·-7\u{fffd}"
    );
    assert_eq!(listeners_table(&[], Style::default(), now()), ["no listeners"]);
}

#[test]
fn one_listener_is_told_in_full() {
    let text = listener_card(&listener(), Style::default(), now()).join("\n");
    assert!(text.contains("filter      --peer 10.* --peer leaf-* --status ready\n"), "{text}");
    assert!(text.contains("created     -\nexpires in  4m 10s\nrevision    12\nlag         3\n"), "{text}");
    let everything = listener_card(&Listener::default(), Style::default(), now()).join("\n");
    assert!(everything.contains("filter      everything\n"), "{everything}");
}

#[test]
fn a_time_to_live_is_one_that_the_service_takes() {
    assert_eq!(parse_ttl("10s"), Ok(Duration::from_secs(10)));
    assert!(parse_ttl("24h").is_ok());
    for bad in ["9s", "0s", "24h 1s", "9999999years"] {
        assert_eq!(parse_ttl(bad), Err("10s to 24h are allowed".to_owned()), "{bad}");
    }
    assert!(parse_ttl("soon").is_err());
}

#[test]
fn user_data_is_no_longer_than_the_service_takes() {
    assert!(parse_user_data(&"x".repeat(4096)).is_ok());
    let error = parse_user_data(&"ü".repeat(2049)).unwrap_err();
    assert_eq!(error, "4098 bytes; at most 4096 are allowed");
}
