//! Floods of one peer, and days.

use super::{super::*, A, B, change, now, rendered};
use crate::{
    api::pb::{PeerFailure, PeerStatus, PoolHealth, Reason},
    cli::tests::samples::{at, health_change, peer, peer_change},
};

fn later(second: i64) -> SystemTime {
    at(second).unwrap().try_into().unwrap()
}

/// A loss and a recovery of one peer, and what they do to its pool.
fn flap(second: i64) -> [crate::api::pb::WatchPeerStatusResponse; 2] {
    let failure =
        PeerFailure { reason: Reason::RemoteClosed.into(), detail: "closed".into(), time: at(second) };
    let peer = |status, reason| {
        let mut peer = peer(A, status, reason, "");
        peer.last_failure = Some(failure.clone());
        peer
    };
    let (lost, back) = (
        peer(PeerStatus::Connecting, Reason::RemoteClosed),
        peer(PeerStatus::Ready, Reason::HandshakeComplete),
    );
    [
        change(
            Some(peer_change(second, lost, PeerStatus::Ready)),
            Some(health_change(PoolHealth::Healthy, PoolHealth::Degraded, 1, 2)),
        ),
        change(
            Some(peer_change(second, back, PeerStatus::Connecting)),
            Some(health_change(PoolHealth::Degraded, PoolHealth::Healthy, 2, 2)),
        ),
    ]
}

#[test]
fn a_flood_of_one_peer_is_folded_and_does_not_hide_the_others() {
    let mut renderer = Renderer::new(Style::default(), false);
    let flood: Vec<_> = (0..9).flat_map(flap).collect();
    let shown = rendered(&mut renderer, &flood);
    assert_eq!(shown.lines().count(), 10, "two cycles and a half: {shown}");
    let other = peer(B, PeerStatus::Ready, Reason::HandshakeComplete, "");
    let other = rendered(&mut renderer, &[change(Some(peer_change(8, other, PeerStatus::Connected)), None)]);
    assert!(other.contains(B), "{other}");
    assert!(renderer.tick(later(9), false).is_empty(), "it may go on");
    assert_eq!(
        renderer.tick(later(11), false).join("\n"),
        "\
08:31:10.114  127.0.0.1:18009  READY                   flapped × 6 in 7s: remote closed: closed
08:31:02.114  pool default     DEGRADED → HEALTHY      2 of 2 peers ready"
    );
    assert!(renderer.tick(later(12), true).is_empty(), "once");
}

#[test]
fn what_ends_a_flood_comes_after_it_and_slow_changes_are_no_flood() {
    let mut renderer = Renderer::new(Style::default(), false);
    rendered(&mut renderer, &(0..5).flat_map(flap).collect::<Vec<_>>());
    let gone = peer(A, PeerStatus::Connecting, Reason::KeepaliveTimeout, "");
    let end = rendered(&mut renderer, &[change(Some(peer_change(5, gone, PeerStatus::Ready)), None)]);
    assert!(
        end.starts_with("08:31:06.114") && end.contains("READY                   flapped × 2 in"),
        "{end}"
    );
    assert!(end.ends_with("READY → CONNECTING      keepalive timeout"), "{end}");

    let mut renderer = Renderer::new(Style::default(), false);
    let slow: Vec<_> = (0..5).flat_map(|number| flap(60 * number)).collect();
    assert_eq!(rendered(&mut renderer, &slow).lines().count(), 20);
}

#[test]
fn another_day_is_told_before_its_first_line() {
    let mut renderer = Renderer::new(Style::default(), false);
    let ready = peer(A, PeerStatus::Ready, Reason::HandshakeComplete, "");
    let at = |second| change(Some(peer_change(second, ready.clone(), PeerStatus::Connected)), None);
    let told = rendered(&mut renderer, &[at(0), at(86_400), at(86_460)]);
    assert_eq!(
        told,
        "\
08:31:02.114  127.0.0.1:18009  CONNECTED → READY       handshake complete
-- 1970-01-03 --
08:31:02.114  127.0.0.1:18009  CONNECTED → READY       handshake complete
08:32:02.114  127.0.0.1:18009  CONNECTED → READY       handshake complete"
    );
    assert_eq!(renderer.tick(now(), true), [""; 0]);
}
