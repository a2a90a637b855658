#![allow(clippy::unwrap_used)]

mod floods;

use super::*;
use crate::{
    api::pb::{
        Interest, ListenerFilter, PeerFailure, PeerOrigin, PeerStatus, PoolHealth, Reason, ResetReason,
    },
    cli::tests::samples::{
        at, attached, draining, health_change, heartbeat, message, peer, peer_change, pool, reset, snapshot,
        synced,
    },
};

const A: &str = "127.0.0.1:18009";
const B: &str = "127.0.0.1:18010";

fn now() -> SystemTime {
    at(0).unwrap().try_into().unwrap()
}

fn change(peer: Option<PeerChange>, health: Option<HealthChange>) -> WatchPeerStatusResponse {
    message(2, 1, Event::Change(Change { peer, health, node: None }))
}

fn rendered(renderer: &mut Renderer, messages: &[WatchPeerStatusResponse]) -> String {
    let lines: Vec<String> = messages.iter().flat_map(|message| renderer.render(message, now())).collect();
    lines.join("\n")
}

fn ready(address: &str) -> Peer {
    Peer { wanted: true, ..peer(address, PeerStatus::Ready, Reason::HandshakeComplete, "") }
}

/// Two peers, one of them ready.
fn state() -> Vec<WatchPeerStatusResponse> {
    let mut failing =
        peer(B, PeerStatus::Connecting, Reason::ConnectFailed, "connection refused (os error 111)");
    (failing.wanted, failing.not_ready_since, failing.failure_count) = (true, at(-120), 14);
    failing.last_failure =
        Some(PeerFailure { reason: failing.reason, detail: failing.detail.clone(), time: at(-1) });
    let ready = ready(A);
    vec![
        attached(1, false),
        snapshot(1, vec![pool("default", PoolHealth::Degraded, 1, 2)], vec![ready]),
        snapshot(1, vec![], vec![failing]),
        synced(1, 2),
    ]
}

#[test]
fn the_state_comes_first_as_a_table_even_if_it_came_in_parts() {
    let expected = "\
-- watching as listeners/abc --
pool default: DEGRADED for 3m 12s, 1 of 2 peers ready
PEER             STATUS      HOW LONG         FLAPS  FAILURES  LAST FAILURE
127.0.0.1:18010  CONNECTING  not ready 2m 0s  0      14        connect failed: connection refused (os error 111)
127.0.0.1:18009  READY       up 5s            0      0
-- live: 2 peers; times are UTC --";
    assert_eq!(rendered(&mut Renderer::new(Style::default(), false), &state()), expected);
}

#[test]
fn changes_are_rows_of_one_table() {
    let mut renderer = Renderer::new(Style::default(), false);
    rendered(&mut renderer, &state());
    let lost =
        peer(B, PeerStatus::Connecting, Reason::RemoteClosed, "connection reset by peer (os error 104)");
    let refused = peer(B, PeerStatus::Connecting, Reason::Dialing, "");
    let ready = peer(B, PeerStatus::Ready, Reason::HandshakeComplete, "");
    let new = peer("10.0.0.1:8009", PeerStatus::Connecting, Reason::Added, "");
    let gone = peer(A, PeerStatus::Disconnected, Reason::RemovedByClient, "");
    let removed =
        PeerChange { kind: ChangeKind::Removed.into(), ..peer_change(4, gone, PeerStatus::Closing) };
    let messages = [
        change(
            Some(peer_change(0, lost, PeerStatus::Ready)),
            Some(health_change(PoolHealth::Healthy, PoolHealth::Degraded, 2, 3)),
        ),
        change(Some(peer_change(1, refused, PeerStatus::Connecting)), None),
        change(
            Some(peer_change(2, ready, PeerStatus::Connected)),
            Some(health_change(PoolHealth::Degraded, PoolHealth::Healthy, 3, 3)),
        ),
        change(Some(peer_change(3, new, PeerStatus::Unspecified)), None),
        change(Some(removed), Some(health_change(PoolHealth::Down, PoolHealth::Down, 0, 0))),
        change(None, Some(health_change(PoolHealth::Unspecified, PoolHealth::Down, 0, 0))),
        heartbeat(9),
        draining(9, 1),
    ];
    let expected = "\
08:31:02.114  127.0.0.1:18010  READY → CONNECTING      remote closed: connection reset by peer (os error 104)
08:31:02.114  pool default     HEALTHY → DEGRADED      2 of 3 peers ready
08:31:03.114  127.0.0.1:18010  CONNECTING              dialing
08:31:04.114  127.0.0.1:18010  CONNECTED → READY       handshake complete
08:31:02.114  pool default     DEGRADED → HEALTHY      3 of 3 peers ready
08:31:05.114  10.0.0.1:8009    + added                 configured
08:31:06.114  127.0.0.1:18009  - removed               removed by client
08:31:02.114  pool default     DOWN                    0 of 0 peers ready
08:31:02.114  pool default     UNKNOWN → DOWN          0 of 0 peers ready: 127.0.0.1:18010";
    assert_eq!(rendered(&mut renderer, &messages), expected);
}

#[test]
fn a_learned_peer_that_is_configured_is_told_as_that() {
    let mut renderer = Renderer::new(Style::default(), false);
    let learned = |reason| Peer {
        origin: PeerOrigin::Learned.into(),
        ..peer(A, PeerStatus::Connecting, reason, "connection refused (os error 111)")
    };
    let refused = learned(Reason::ConnectFailed);
    let configured = Peer { origin: PeerOrigin::Configured.into(), ..refused.clone() };
    let messages = [
        change(Some(peer_change(0, learned(Reason::Dialing), PeerStatus::Unspecified)), None),
        change(Some(peer_change(1, refused, PeerStatus::Connecting)), None),
        change(
            Some(PeerChange {
                kind: ChangeKind::Origin.into(),
                ..peer_change(2, configured, PeerStatus::Connecting)
            }),
            None,
        ),
    ];
    let expected = "\
08:31:03.114  127.0.0.1:18009  CONNECTING              connect failed: connection refused (os error 111)
08:31:04.114  127.0.0.1:18009  CONNECTING              now configured";
    assert!(rendered(&mut renderer, &messages).ends_with(expected));
}

#[test]
fn peers_of_several_pools_are_told_apart() {
    let mut renderer = Renderer::new(Style::default(), false);
    let mut other = ready("10.0.0.1:8009");
    other.name = "pools/lab/peers/10.0.0.1:8009".into();
    other.pool = "lab".into();
    let pools = vec![pool("default", PoolHealth::Healthy, 1, 1), pool("lab", PoolHealth::Healthy, 1, 1)];
    let first = ready(A);
    let messages = [snapshot(1, pools, vec![first.clone(), other]), synced(1, 2)];
    let expected = "\
pool default: HEALTHY for 3m 12s, 1 of 1 peers ready
pool lab: HEALTHY for 3m 12s, 1 of 1 peers ready
PEER                     STATUS  HOW LONG  FLAPS  FAILURES  LAST FAILURE
default/127.0.0.1:18009  READY   up 5s     0      0
lab/10.0.0.1:8009        READY   up 5s     0      0
-- live: 2 peers; times are UTC --";
    assert_eq!(rendered(&mut renderer, &messages), expected);
    let line = rendered(&mut renderer, &[change(Some(peer_change(0, first, PeerStatus::Connected)), None)]);
    assert!(line.contains("  default/127.0.0.1:18009  CONNECTED → READY"), "{line}");
}

#[test]
fn an_empty_service_and_a_resumed_stream_say_so() {
    let mut renderer = Renderer::new(Style::default(), false);
    let down = pool("default", PoolHealth::Down, 0, 0);
    let empty = [attached(1, false), snapshot(1, vec![down], vec![]), synced(1, 0)];
    let expected = "\
-- watching as listeners/abc --
pool default: DOWN for 3m 12s, 0 of 0 peers ready
-- live: no peers; times are UTC --";
    assert_eq!(rendered(&mut renderer, &empty), expected);
    assert_eq!(rendered(&mut renderer, &[attached(1, true), synced(1, 0)]), "-- live again --");
}

#[test]
fn a_watch_that_begins_where_its_listener_was_says_so() {
    let mut renderer = Renderer::new(Style::default(), false);
    let ready = peer(A, PeerStatus::Ready, Reason::HandshakeComplete, "");
    let missed = change(Some(peer_change(0, ready, PeerStatus::Connected)), None);
    let expected = "\
-- watching as listeners/abc, from where it was --
08:31:02.114  127.0.0.1:18009  CONNECTED → READY       handshake complete
-- live; times are UTC --";
    assert_eq!(rendered(&mut renderer, &[attached(1, true), missed, synced(2, 1)]), expected);
}

#[test]
fn a_watch_that_ends_with_the_state_does_not_say_that_it_is_live() {
    let mut renderer = Renderer::new(Style::default(), true);
    let told = rendered(&mut renderer, &state());
    assert_eq!(told.lines().last(), Some("-- as of now: 2 peers; times are UTC --"));
    let mut renderer = Renderer::new(Style::default(), true);
    let told = rendered(&mut renderer, &[attached(1, true), synced(2, 1)]);
    assert_eq!(told.lines().last(), Some("-- that is all; times are UTC --"));
}

#[test]
fn a_watch_of_health_alone_says_nothing_of_peers() {
    let mut renderer = Renderer::new(Style::default(), false);
    let mut begin = attached(1, false);
    if let Some(Event::Attached(attached)) = &mut begin.event {
        let interests = vec![Interest::Health.into()];
        attached.listener.as_mut().unwrap().filter = Some(ListenerFilter { interests, ..Default::default() });
    }
    let degraded = pool("default", PoolHealth::Degraded, 1, 2);
    let told = rendered(&mut renderer, &[begin, snapshot(1, vec![degraded], vec![]), synced(1, 0)]);
    assert_eq!(told.lines().last(), Some("-- live: 1 pool; times are UTC --"));
}

#[test]
fn half_a_snapshot_is_forgotten_when_it_starts_over() {
    let mut renderer = Renderer::new(Style::default(), false);
    let old = peer(A, PeerStatus::Ready, Reason::HandshakeComplete, "");
    let messages = [
        attached(1, false),
        snapshot(1, vec![], vec![old]),
        reset(5, ResetReason::Overflow, 4),
        snapshot(5, vec![], vec![]),
        synced(5, 0),
    ];
    assert_eq!(
        rendered(&mut renderer, &messages),
        "-- watching as listeners/abc --\n-- live: no peers; times are UTC --"
    );
}

#[test]
fn text_from_elsewhere_cannot_reach_the_terminal_raw() {
    let mut renderer = Renderer::new(Style::default(), false);
    let mut evil =
        peer("\x1b[2J:1", PeerStatus::Connecting, Reason::ProtocolError, "\x1b]0;owned\x07\r\nREADY");
    evil.pool = "\x1b[31m".into();
    let mut health = health_change(PoolHealth::Healthy, PoolHealth::Down, 0, 1);
    health.pool = "pools/\x1b[5m".into();
    let messages = [
        snapshot(1, vec![pool("\x1b[1m", PoolHealth::Down, 0, 1)], vec![evil.clone()]),
        synced(1, 1),
        change(Some(peer_change(0, evil, PeerStatus::Connected)), Some(health)),
    ];
    let text = rendered(&mut renderer, &messages);
    assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text:?}");
    assert_eq!(text.lines().count(), 6);
}

#[test]
fn colour_shows_where_it_went() {
    let mut renderer = Renderer::new(Style { colour: true, ..Style::default() }, false);
    let ready = peer(A, PeerStatus::Ready, Reason::HandshakeComplete, "");
    let line = rendered(&mut renderer, &[change(Some(peer_change(0, ready, PeerStatus::Connected)), None)]);
    assert_eq!(
        line,
        "\x1b[2m08:31:02.114\x1b[0m  127.0.0.1:18009  \x1b[2mCONNECTED\x1b[0m\
         \x1b[2m → \x1b[0m\x1b[32mREADY\x1b[0m       handshake complete"
    );
}

/// A loss, the next attempt, a new peer and a recovery.
fn changes() -> Vec<WatchPeerStatusResponse> {
    let lost =
        peer(B, PeerStatus::Connecting, Reason::RemoteClosed, "connection reset by peer (os error 104)");
    let dialing = peer(B, PeerStatus::Connecting, Reason::Dialing, "");
    let new =
        peer("[2001:db8:1234:5678:9abc:def0:1234:5678]:8009", PeerStatus::Connecting, Reason::Added, "");
    let ready = peer(B, PeerStatus::Ready, Reason::HandshakeComplete, "");
    vec![
        change(
            Some(peer_change(0, lost, PeerStatus::Ready)),
            Some(health_change(PoolHealth::Healthy, PoolHealth::Degraded, 2, 3)),
        ),
        change(Some(peer_change(1, dialing, PeerStatus::Connecting)), None),
        change(
            Some(peer_change(2, ready, PeerStatus::Connected)),
            Some(health_change(PoolHealth::Degraded, PoolHealth::Healthy, 3, 3)),
        ),
        change(Some(peer_change(3, new, PeerStatus::Unspecified)), None),
    ]
}

fn renderer_for(columns: usize) -> Renderer {
    Renderer::new(Style { columns: Some(columns), ..Style::default() }, false)
}

#[test]
fn on_a_narrow_terminal_the_reason_goes_below_and_a_long_name_is_whole() {
    let mut renderer = renderer_for(80);
    rendered(&mut renderer, &state());
    let expected = "\
08:31:02.114  127.0.0.1:18010  READY → CONNECTING
  remote closed: connection reset by peer (os error 104)
08:31:02.114  pool default     HEALTHY → DEGRADED      2 of 3 peers ready
08:31:03.114  127.0.0.1:18010  CONNECTING              dialing
08:31:04.114  127.0.0.1:18010  CONNECTED → READY       handshake complete
08:31:02.114  pool default     DEGRADED → HEALTHY      3 of 3 peers ready
08:31:05.114  [2001:db8:1234:5678:9abc:def0:1234:5678]:8009
                                                          + added
  configured";
    assert_eq!(rendered(&mut renderer, &changes()), expected);
}

#[test]
fn no_line_is_longer_than_the_terminal_is_wide() {
    for columns in 1..200 {
        let mut renderer = renderer_for(columns);
        rendered(&mut renderer, &state()[..3]);
        for line in rendered(&mut renderer, &changes()).lines() {
            assert!(line.chars().count() <= columns, "{columns}: {line}");
        }
    }
}
