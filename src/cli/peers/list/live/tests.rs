#![allow(clippy::unwrap_used)]

use std::time::SystemTime;

use super::{super::Sort, *};
use crate::{
    api::pb::{
        Change, ChangeKind, Node, NodeChange, NodeState, PeerChange, PeerStatus, PoolHealth, Reason,
        watch_peer_status_response::Event,
    },
    cli::tests::{
        output::Shared,
        samples::{at, attached, message, peer, peer_change, pool, snapshot, synced},
    },
};

fn now() -> SystemTime {
    at(0).unwrap().try_into().unwrap()
}

fn wanted(address: &str, status: PeerStatus) -> Peer {
    let not_ready_since = if status == PeerStatus::Ready { None } else { at(-5) };
    Peer { wanted: true, not_ready_since, ..peer(address, status, Reason::Dialing, "") }
}

fn change(peer: Peer, before: PeerStatus) -> WatchPeerStatusResponse {
    message(
        2,
        1,
        Event::Change(Change { peer: Some(peer_change(0, peer, before)), health: None, node: None }),
    )
}

fn removed(peer: Peer) -> WatchPeerStatusResponse {
    let kind = ChangeKind::Removed.into();
    let change = PeerChange { kind, ..peer_change(0, peer, PeerStatus::Closing) };
    message(3, 2, Event::Change(Change { peer: Some(change), health: None, node: None }))
}

fn state() -> [WatchPeerStatusResponse; 3] {
    let peers = vec![wanted("a:1", PeerStatus::Ready), wanted("b:1", PeerStatus::Connecting)];
    [attached(1, false), snapshot(1, vec![], peers), synced(1, 2)]
}

const ALL: View = View { not_ready: false, sort: Sort::Worst, wide: false };

fn lines_of(view: View, messages: &[WatchPeerStatusResponse]) -> String {
    let output = Shared::default();
    let mut lines = Lines {
        view,
        known: Known::default(),
        columns: Columns::default(),
        style: Some(Style::default()),
        has_header: false,
        output: Box::new(output.clone()),
        notices: Notices::to(io::sink()),
    };
    messages.iter().for_each(|message| lines.message(message).unwrap());
    let text = output.text();
    // Ages and times are by the clock of this machine.
    let time = |line: &str| line.split_whitespace().next().unwrap().to_owned();
    assert!(text.lines().skip(1).all(|line| time(line).ends_with('Z')), "{text}");
    text.lines()
        .map(|line| line.split_whitespace().skip(1).take(2).collect::<Vec<_>>().join(" ") + "\n")
        .collect()
}

#[test]
fn a_list_that_is_no_terminal_appends_what_looks_different() {
    let mut messages = state().to_vec();
    messages.push(change(wanted("b:1", PeerStatus::Connecting), PeerStatus::Connecting)); // only another reason
    messages.push(change(wanted("b:1", PeerStatus::Ready), PeerStatus::Connected));
    assert_eq!(lines_of(ALL, &messages), "PEER STATUS\nb:1 CONNECTING\na:1 READY\nb:1 READY\n");
}

#[test]
fn a_list_of_what_is_not_ready_tells_that_it_is_ready_again() {
    let mut messages = state().to_vec();
    messages.push(change(wanted("b:1", PeerStatus::Ready), PeerStatus::Connected));
    messages.push(change(Peer { flap_count: 1, ..wanted("b:1", PeerStatus::Ready) }, PeerStatus::Ready));
    let told = lines_of(View { not_ready: true, ..ALL }, &messages);
    assert_eq!(told, "PEER STATUS\nb:1 CONNECTING\nb:1 READY\n");
}

#[test]
fn a_snapshot_after_a_lost_stream_tells_what_is_different() {
    let mut messages = state().to_vec();
    messages.push(attached(9, false));
    messages.push(snapshot(9, vec![], vec![wanted("a:1", PeerStatus::Ready)]));
    messages.push(synced(9, 1));
    assert!(lines_of(ALL, &messages).ends_with("a:1 READY\nb:1 CONNECTING\n"), "b:1 is gone");
}

fn node(state: NodeState) -> Node {
    let stale_since = if state == NodeState::Stale { at(-3) } else { None };
    Node { name: "nodes/n-1".to_owned(), state: state.into(), stale_since, ..Default::default() }
}

fn node_change(state: NodeState) -> WatchPeerStatusResponse {
    let change = NodeChange { node: Some(node(state)), time: at(0), ..Default::default() };
    message(3, 2, Event::Change(Change { peer: None, health: None, node: Some(change) }))
}

fn of_node(address: &str, status: PeerStatus) -> Peer {
    Peer { pool: "n-1.default".to_owned(), ..wanted(address, status) }
}

#[test]
fn peers_of_a_stale_node_are_unknown_until_it_is_live_again() {
    let peers = vec![of_node("a:1", PeerStatus::Ready), wanted("b:1", PeerStatus::Ready)];
    let mut messages = vec![attached(1, false), snapshot(1, vec![], peers), synced(1, 2)];
    messages.push(node_change(NodeState::Stale));
    messages.push(change(of_node("a:1", PeerStatus::Connecting), PeerStatus::Ready)); // it is still STALE
    messages.push(node_change(NodeState::Live));
    let told = lines_of(ALL, &messages);
    let rows: Vec<_> = told.lines().skip(3).collect();
    assert_eq!(rows, ["n-1 a:1", "n-1 a:1"], "{told}");

    let mut known = Known::default();
    let statuses = |known: &Known| known.peers().map(|peer| peer.status()).collect::<Vec<_>>();
    messages[..4].iter().for_each(|message| drop(known.apply(message)));
    assert_eq!(statuses(&known), [PeerStatus::Unspecified, PeerStatus::Ready]);
    known.refresh(vec![of_node("a:1", PeerStatus::Ready)]);
    assert_eq!(
        statuses(&known),
        [PeerStatus::Unspecified, PeerStatus::Ready],
        "counters tell nothing of a node"
    );
    messages[4..].iter().for_each(|message| drop(known.apply(message)));
    assert_eq!(statuses(&known), [PeerStatus::Connecting, PeerStatus::Ready]);
}

#[test]
fn pools_of_a_stale_node_say_since_when_and_those_of_one_that_is_gone_go() {
    let mut known = Known::default();
    let pools =
        vec![pool("n-1.default", PoolHealth::Healthy, 1, 1), pool("default", PoolHealth::Healthy, 1, 1)];
    [attached(1, false), snapshot(1, pools, vec![]), synced(1, 0)]
        .iter()
        .for_each(|message| drop(known.apply(message)));
    let stale = |known: &Known| known.pools().map(|pool| pool.stale_since.is_some()).collect::<Vec<_>>();
    for (state, expected) in [
        (NodeState::Stale, &[false, true][..]),
        (NodeState::Live, &[false, false]),
        (NodeState::Gone, &[false]),
    ] {
        known.apply(&node_change(state));
        assert_eq!(stale(&known), expected, "{state:?}");
    }
}

fn screen(columns: Option<usize>) -> Screen {
    Screen::new(ALL, Style { columns, ..Style::default() }, Arc::default())
}

#[test]
fn the_screen_is_drawn_over_itself_and_fits() {
    let mut screen = screen(None);
    for message in state() {
        screen.known.apply(&message);
    }
    let first = screen.text(25, now());
    assert!(first.starts_with("PEER") && first.ends_with("\n1 of 2 READY\n"), "{first}");
    screen.known.apply(&removed(wanted("b:1", PeerStatus::Disconnected)));
    let second = screen.text(25, now());
    assert!(second.starts_with("\x1b[4F\x1b[JPEER"), "{second:?}");
    assert!(second.ends_with("\n1 of 1 READY\n"), "{second}");
    let small = screen.text(3, now());
    assert!(small.ends_with("READY; not all fit on the screen\n") && small.lines().count() == 2, "{small}");
}

#[test]
fn counters_that_were_asked_for_count_if_nothing_has_changed_since() {
    let mut known = Known::default();
    for message in state() {
        known.apply(&message);
    }
    let newer = Peer { failure_count: 7, ..wanted("b:1", PeerStatus::Connecting) };
    known.refresh(vec![newer.clone(), Peer { revision: 5, ..wanted("a:1", PeerStatus::Closing) }]);
    assert!(known.peers().any(|peer| *peer == newer));
    assert!(known.peers().all(|peer| peer.status() != PeerStatus::Closing), "it is as of another change");
}
