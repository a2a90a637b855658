#![allow(clippy::unwrap_used)]

use super::*;
use crate::{
    api::pb::{PeerStatus, Reason, Role},
    cli::tests::samples::{at, peer},
};

fn now() -> SystemTime {
    at(0).unwrap().try_into().unwrap()
}

#[test]
fn peers_are_a_table() {
    let mut failing = peer("leaf-101:8009", PeerStatus::Connecting, Reason::ConnectFailed, "refused\x07");
    failing.consecutive_failures = 12;
    let ready = peer("[2001:db8::1]:8009", PeerStatus::Ready, Reason::HandshakeComplete, "");
    assert_eq!(
        peers_table(&[failing, ready], Style::default(), now()).join("\n"),
        "\
PEER                POOL     ORIGIN      STATUS      REASON              SINCE  FAILURES  DETAIL
leaf-101:8009       default  configured  CONNECTING  connect failed      5s     12        refused·
[2001:db8::1]:8009  default  configured  READY       handshake complete  5s     0"
    );
    assert_eq!(peers_table(&[], Style::default(), now()), ["no peers"]);
}

#[test]
fn one_peer_is_told_in_full() {
    let mut ready = peer("a:8009", PeerStatus::Ready, Reason::HandshakeComplete, "");
    ready.roles = vec![Role::PolicyRepository.into(), Role::Observer.into()];
    assert_eq!(
        peer_card(&ready, Style::default(), now()).join("\n"),
        "\
name               pools/default/peers/a:8009
status             READY
since              1970-01-02T08:30:57.114Z (5s ago)
reason             handshake complete
detail
origin             configured
roles              policy repository, observer
last ready         -
failures in a row  0
transitions        0
revision           0"
    );
}
