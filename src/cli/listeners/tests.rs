#![allow(clippy::unwrap_used)]

use super::*;
use crate::{
    cli::tests::samples::{at, cursor},
    grpc::pb::{ListenerState, PeerStatus},
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
        table(&[listener()], Style::default(), now()).join("\n"),
        "\
LISTENER  STATE     CLIENT  LAG  DELIVERED  RESETS  MISSED  EXPIRES IN  USER DATA
noc       detached  -       3    40         0       0       4m 10s      rack·-7\u{fffd}"
    );
    assert_eq!(table(&[], Style::default(), now()), ["no listeners"]);
}

#[test]
fn one_listener_is_told_in_full() {
    let text = card(&listener(), Style::default(), now()).join("\n");
    assert!(text.contains("filter      peers 10.* or leaf-*, statuses READY\n"), "{text}");
    assert!(text.contains("created     -\nexpires in  4m 10s\nrevision    12\nlag         3\n"), "{text}");
    assert_eq!(filter(None), "everything");
}

#[test]
fn a_listener_may_be_named_in_short() {
    assert_eq!(full_name("noc"), "listeners/noc");
    assert_eq!(full_name("listeners/noc"), "listeners/noc");
}
