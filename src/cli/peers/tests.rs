#![allow(clippy::unwrap_used)]

use super::*;
use crate::{
    api::pb::{PeerFailure, PeerStatus, Reason, Role},
    cli::tests::samples::{at, peer},
};

fn now() -> SystemTime {
    at(0).unwrap().try_into().unwrap()
}

#[test]
fn one_peer_is_told_in_full() {
    let mut failing = peer("a:8009", PeerStatus::Connecting, Reason::Dialing, "");
    failing.roles = vec![Role::PolicyRepository.into(), Role::Observer.into()];
    failing.wanted = true;
    failing.not_ready_since = at(-192);
    failing.last_ready_time = at(-192);
    failing.last_failure =
        Some(PeerFailure { reason: Reason::ConnectFailed.into(), detail: "refused".into(), time: at(-2) });
    (failing.failure_count, failing.consecutive_failures, failing.flap_count) = (14, 12, 2);
    failing.learned_from = "pools/default/peers/b:8009".into();
    failing.echo_rtt = Some(prost_types::Duration { seconds: 0, nanos: 1_240_000 });
    assert_eq!(
        peer_card(&failing, Style::default(), now()).join("\n"),
        "\
name             pools/default/peers/a:8009
status           CONNECTING
since            1970-01-02T08:30:57.114Z (5s ago)
not ready since  1970-01-02T08:27:50.114Z (3m 12s ago)
reason           dialing
detail
last failure     connect failed: refused
failed at        1970-01-02T08:31:00.114Z (2s ago)
failures         14, 12 in a row
flaps            2
last ready       1970-01-02T08:27:50.114Z (3m 12s ago)
wanted           yes
origin           configured
learned from     b:8009
roles            policy repository, observer
echo round trip  1.24 ms
status changes   0
revision         0"
    );
    let new = peer_card(&peer("a:1", PeerStatus::Connecting, Reason::Added, ""), Style::default(), now());
    for unknown in ["last failure     -", "failed at        -", "learned from     -", "echo round trip  -"] {
        assert!(new.iter().any(|line| line == unknown), "{unknown}: {new:?}");
    }
}

#[test]
fn a_parked_peer_is_not_said_to_be_parked_since_it_was_asked_last() {
    let mut parked = peer("a:1", PeerStatus::Disconnected, Reason::NotInPeerList, "it lists b:1");
    parked.not_ready_since = at(-6);
    let card = peer_card(&parked, Style::default(), now()).join("\n");
    assert!(
        card.contains("\nlast asked       1970-01-02T08:30:57.114Z (5s ago)\nnot ready since  -\n"),
        "{card}"
    );
}
