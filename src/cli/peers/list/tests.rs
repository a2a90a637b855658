#![allow(clippy::unwrap_used)]

use super::*;
use crate::{
    api::pb::{PeerFailure, Reason},
    cli::tests::samples::{at, peer},
};

fn now() -> SystemTime {
    at(0).unwrap().try_into().unwrap()
}

/// A wanted peer that failed 2 s ago.
fn failed(address: &str, status: PeerStatus, since: i64, reason: Reason, detail: &str) -> Peer {
    let mut peer = peer(address, status, Reason::Dialing, "");
    peer.wanted = true;
    peer.not_ready_since = if status == PeerStatus::Ready { None } else { at(since) };
    peer.status_since = at(since);
    peer.last_failure = Some(PeerFailure { reason: reason.into(), detail: detail.into(), time: at(-2) });
    peer.failure_count = 14;
    peer
}

/// One of each kind, in no order.
fn peers() -> Vec<Peer> {
    let mut parked =
        peer("boot:8009", PeerStatus::Disconnected, Reason::NotInPeerList, "it lists leaf-1:8009");
    parked.wanted = false;
    let mut fine = peer("leaf-1:8009", PeerStatus::Ready, Reason::HandshakeComplete, "");
    (fine.wanted, fine.status_since) = (true, at(-90_000));
    let mut flapping = failed("leaf-2:8009", PeerStatus::Ready, -3, Reason::RemoteClosed, "closed\x07");
    flapping.flap_count = 9;
    let mut silent = failed("leaf-3:8009", PeerStatus::Connected, -12, Reason::ConnectFailed, "");
    (silent.last_failure, silent.failure_count) = (None, 0);
    vec![
        parked,
        fine,
        flapping,
        silent,
        failed("leaf-4:8009", PeerStatus::Connecting, -192, Reason::ConnectFailed, "connection refused"),
    ]
}

fn view(sort: Sort, not_ready: bool) -> View {
    View { not_ready, sort, wide: false }
}

fn told(view: View, columns: Option<usize>) -> String {
    let style = Style { columns, ..Style::default() };
    view.lines(&view.of(&peers()), total(&peers()), style, now()).join("\n")
}

#[test]
fn the_worst_is_first_with_since_when_and_why() {
    assert_eq!(
        told(view(Sort::Worst, false), None),
        "\
PEER         STATUS        HOW LONG          FLAPS      FAILURES  LAST FAILURE
leaf-4:8009  CONNECTING    not ready 3m 12s  0          14        connect failed: connection refused
leaf-3:8009  CONNECTED     not ready 12s     0          0         none yet: no answer to send_identity so far
leaf-2:8009  READY         up 3s             9, 2s ago  14        2s ago: remote closed: closed·
boot:8009    DISCONNECTED  parked            0          0         not in peer list: it lists leaf-1:8009
leaf-1:8009  READY         up 1d 1h          0          0
2 of 4 READY, 1 parked"
    );
}

#[test]
fn what_is_not_ready_can_be_seen_alone_and_in_another_order() {
    let names = |view: View| view.of(&peers()).iter().map(|peer| peer.host.clone()).collect::<Vec<_>>();
    assert_eq!(names(view(Sort::Worst, true)), ["leaf-4", "leaf-3"]);
    assert_eq!(names(view(Sort::Name, false)), ["boot", "leaf-1", "leaf-2", "leaf-3", "leaf-4"]);
    assert_eq!(names(view(Sort::Flaps, false))[0], "leaf-2");
    assert_eq!(names(view(Sort::Failures, false))[..2], ["leaf-2", "leaf-4"]);
    let none = view(Sort::Worst, true).lines(&[], total(&peers()), Style::default(), now());
    assert_eq!(none, ["2 of 4 READY, 1 parked"]);
    assert_eq!(total(&[]), "no peers");
}

#[test]
fn on_a_narrow_terminal_the_cause_goes_below_the_peer() {
    let narrow = told(view(Sort::Worst, true), Some(60));
    assert_eq!(
        narrow,
        "\
PEER         STATUS      HOW LONG          FLAPS  FAILURES
leaf-4:8009  CONNECTING  not ready 3m 12s  0      14
  connect failed: connection refused
leaf-3:8009  CONNECTED   not ready 12s     0      0
  none yet: no answer to send_identity so far
2 of 4 READY, 1 parked"
    );
    for columns in 1..120 {
        for line in told(view(Sort::Worst, false), Some(columns)).lines().rev().skip(1) {
            assert!(line.chars().count() <= columns, "{columns}: {line}");
        }
    }
}

#[test]
fn a_failure_from_before_it_was_ready_is_no_cause() {
    let mut reset = failed("a:1", PeerStatus::Connecting, -1, Reason::RemoteClosed, "long ago");
    (reset.reason, reset.detail) = (Reason::Reset.into(), String::new());
    assert_eq!(last_failure(&reset, now()).show(Style::default()), "none yet: reset");
}

#[test]
fn peers_of_several_pools_are_named_with_theirs() {
    let mut other = peer("a:1", PeerStatus::Ready, Reason::HandshakeComplete, "");
    (other.name, other.pool) = ("pools/lab/peers/a:1".into(), "lab".into());
    let first = peer("a:1", PeerStatus::Ready, Reason::HandshakeComplete, "");
    let text =
        view(Sort::Name, false).lines(&[first, other], String::new(), Style::default(), now()).join("\n");
    assert!(text.contains("\ndefault/a:1  READY") && text.contains("\nlab/a:1      READY"), "{text}");
}

#[test]
fn a_peer_that_flapped_shows_when_it_did_last() {
    let mut lost = failed("a:1", PeerStatus::Connecting, -90, Reason::RemoteClosed, "");
    (lost.flap_count, lost.last_ready_time) = (3, at(-90));
    assert_eq!(flaps(&lost, now()).show(Style::default()), "3, 1m ago");
    lost.flap_count = 0; // a reset took READY away
    assert_eq!(flaps(&lost, now()).show(Style::default()), "0");
}

#[test]
fn on_80_columns_names_are_whole_and_a_wide_list_shows_no_less() {
    let mut lost = failed("192.168.101.101:8009", PeerStatus::Connecting, -4_000, Reason::ConnectFailed, "");
    (lost.flap_count, lost.last_ready_time, lost.flapping_until) = (14, at(-4_000), at(9));
    lost.last_failure.as_mut().unwrap().detail = "no route to host ".repeat(30).trim_end().into();
    let style = Style { columns: Some(80), ..Style::default() };
    let shown = |wide| {
        View { wide, ..view(Sort::Worst, false) }.table(&[lost.clone()], Places::default(), style, now())
    };
    let narrow = shown(false);
    assert_eq!(
        narrow[..2],
        [
            "PEER                  STATUS                HOW LONG         FLAPS  FAILURES",
            "192.168.101.101:8009  CONNECTING ~flapping  not ready 1h 6m  14     14",
        ]
    );
    assert_eq!(narrow.len(), 6, "the cause is cut after four lines: {narrow:?}");
    assert!(narrow[2].starts_with("  connect failed: no route") && narrow[5].ends_with('…'), "{narrow:?}");
    let wide = shown(true);
    assert_eq!(wide[..2], narrow[..2]);
    assert!(wide[2].starts_with("  since 1970-01-02T07:24:22.114Z: connect failed: no route"), "{wide:?}");
}

#[test]
fn a_wide_list_has_the_time_since_when() {
    let wide = View { wide: true, ..view(Sort::Worst, false) };
    let text = wide.lines(&wide.of(&peers()), String::new(), Style::default(), now()).join("\n");
    let line = |name: &str| text.lines().find(|line| line.starts_with(name)).unwrap();
    assert!(line("PEER").contains("  HOW LONG          SINCE  "), "{text}");
    assert!(line("leaf-4").contains("not ready 3m 12s  1970-01-02T08:27:50.114Z  0"), "{text}");
    assert!(line("boot").contains("parked            -  "), "when it was parked first is not known: {text}");
}

#[test]
fn only_ready_looks_well() {
    let silent = failed("a:1", PeerStatus::Connected, -12, Reason::HandshakeTimeout, "no answer");
    let line = view(Sort::Worst, false).table(
        &[silent],
        Places::default(),
        Style { colour: true, columns: None },
        now(),
    );
    assert!(line[1].contains("\x1b[33mCONNECTED\x1b[0m"), "as CONNECTING: {line:?}");
    assert!(line[1].ends_with("\x1b[31mhandshake timeout: no answer\x1b[0m"), "{line:?}");
}

#[test]
fn numbers_in_names_are_ordered_as_numbers() {
    let hosts = ["10.0.0.10", "leaf-10", "10.0.0.2", "leaf-9"];
    let peers =
        hosts.map(|host| failed(&format!("{host}:1"), PeerStatus::Connecting, -9, Reason::TlsFailed, ""));
    let names = view(Sort::Name, false).of(&peers).into_iter().map(|peer| peer.host).collect::<Vec<_>>();
    assert_eq!(names, ["10.0.0.2", "10.0.0.10", "leaf-9", "leaf-10"]);
    let worst = view(Sort::Worst, false).of(&peers).into_iter().map(|peer| peer.host).collect::<Vec<_>>();
    assert_eq!(worst, names, "if they are equally bad");
}
