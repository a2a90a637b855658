use opflex_peerstatus::pb::{HealthChange, Node, NodeChange, Peer, PeerStatus, Pool, PoolHealth};

use super::*;

fn peer(host: &str, status: PeerStatus, reason: Reason) -> Peer {
    Peer {
        pool: "default".into(),
        host: host.into(),
        port: 8009,
        status: status.into(),
        reason: reason.into(),
        detail: "why".into(),
        ..Peer::default()
    }
}

fn pool(name: &str, health: PoolHealth) -> Pool {
    Pool { name: format!("pools/{name}"), health: health.into(), ..Pool::default() }
}

fn whole(pools: Vec<Pool>, peers: Vec<Peer>) -> client::State {
    client::State { pools, peers, ..client::State::default() }
}

fn change(kind: ChangeKind, peer: Peer, health: Option<PoolHealth>) -> pb::Change {
    let health = health.map(|health| HealthChange {
        pool: "pools/default".into(),
        health: health.into(),
        ..HealthChange::default()
    });
    let peer = Some(PeerChange { peer: Some(peer), kind: kind.into(), ..PeerChange::default() });
    pb::Change { peer, health, ..pb::Change::default() }
}

/// Calls as `host status` and `health`.
fn texts(calls: Vec<Call>) -> Vec<String> {
    let of = |call: Call| match call {
        Call::Peer { host, status, .. } => format!("{} {status}", host.to_string_lossy()),
        Call::Health { health, .. } => format!("health {health}"),
    };
    calls.into_iter().map(of).collect()
}

fn node(name: &str, state: NodeState, pools: &[&str]) -> Node {
    let pools = pools.iter().map(|pool| format!("pools/{pool}")).collect();
    Node { name: format!("nodes/{name}"), state: state.into(), pools, ..Node::default() }
}

fn node_change(node: Node) -> pb::Change {
    let change = NodeChange { node: Some(node), ..NodeChange::default() };
    pb::Change { node: Some(change), ..pb::Change::default() }
}

/// A fleet: `n1` with the pools `n1.x` (DOWN) and `n1.y` (DEGRADED), and `n10` with `n10.x` (HEALTHY).
fn fleet() -> State {
    let mut state = State::default();
    let pools = [("n1.x", PoolHealth::Down), ("n1.y", PoolHealth::Degraded), ("n10.x", PoolHealth::Healthy)];
    let peers = [("a", "n1.x"), ("b", "n1.y"), ("c", "n10.x")].map(|(host, name)| Peer {
        pool: format!("pools/{name}"),
        ..peer(host, PeerStatus::Ready, Reason::HandshakeComplete)
    });
    let nodes =
        vec![node("n1", NodeState::Live, &["n1.x", "n1.y"]), node("n10", NodeState::Live, &["n10.x"])];
    let pools = pools.into_iter().map(|(name, health)| pool(name, health)).collect();
    let all = client::State { nodes, ..whole(pools, peers.into()) };
    assert_eq!(texts(state.replace(&all)), ["a 3", "b 3", "c 3", "health 0"]);
    state
}

fn degraded() -> State {
    let mut state = State::default();
    let peers = vec![
        peer("a", PeerStatus::Ready, Reason::HandshakeComplete),
        peer("b", PeerStatus::Connecting, Reason::ConnectFailed),
    ];
    let calls = state.replace(&whole(vec![pool("default", PoolHealth::Degraded)], peers));
    assert_eq!(texts(calls), ["a 3", "b 1", "health 1"], "the present state comes first");
    state
}

#[test]
fn a_change_calls_back_the_peer_first_and_the_health_only_if_it_differs() {
    let mut state = degraded();
    let connected = peer("b", PeerStatus::Connected, Reason::TcpEstablished);
    assert_eq!(texts(state.apply(&change(ChangeKind::Status, connected, None))), ["b 2"]);
    let ready = peer("b", PeerStatus::Ready, Reason::HandshakeComplete);
    let healthy = change(ChangeKind::Status, ready, Some(PoolHealth::Healthy));
    assert_eq!(texts(state.apply(&healthy)), ["b 3", "health 2"]);
    assert_eq!(texts(state.apply(&healthy)), [""; 0], "the same again");
}

#[test]
fn another_reason_for_the_same_status_is_not_called_back() {
    let reset = peer("b", PeerStatus::Connecting, Reason::ConnectTimeout);
    assert_eq!(texts(degraded().apply(&change(ChangeKind::Status, reset, None))), [""; 0]);
}

#[test]
fn a_peer_that_leaves_is_closing_and_then_disconnected() {
    let mut state = degraded();
    let closing = peer("b", PeerStatus::Closing, Reason::RemovedByClient);
    let calls = state.apply(&change(ChangeKind::Status, closing, Some(PoolHealth::Healthy)));
    assert_eq!(texts(calls), ["b 4", "health 2"]);
    let removed =
        change(ChangeKind::Removed, peer("b", PeerStatus::Disconnected, Reason::RemovedByClient), None);
    assert_eq!(texts(state.apply(&removed)), ["b 0"]);
    let added = change(ChangeKind::Added, peer("b", PeerStatus::Connecting, Reason::Added), None);
    assert_eq!(texts(state.apply(&added)), ["b 1"]);
}

#[test]
fn an_outage_is_called_back_once_and_its_end_with_the_health() {
    let mut state = degraded();
    assert_eq!(texts(state.outage("connection refused")), ["health -1"]);
    assert_eq!(texts(state.outage("connection reset")), [""; 0]);
    assert_eq!(texts(state.resume()), ["health 1"], "the same as before, but it was unknown meanwhile");
    assert_eq!(texts(state.resume()), [""; 0]);
    state.outage("connection refused");
    let ready = peer("b", PeerStatus::Ready, Reason::HandshakeComplete);
    let missed = change(ChangeKind::Status, ready, Some(PoolHealth::Healthy));
    assert_eq!(texts(state.apply(&missed)), ["b 3", "health 2"], "what was missed comes when it is back");
    assert_eq!(texts(state.resume()), [""; 0]);
}

#[test]
fn after_a_gap_the_whole_state_is_called_back_and_peers_that_are_gone_are_disconnected() {
    let mut state = degraded();
    state.outage("connection refused");
    let peers = vec![peer("a", PeerStatus::Ready, Reason::HandshakeComplete)];
    let calls = state.replace(&whole(vec![pool("default", PoolHealth::Healthy)], peers));
    assert_eq!(texts(calls), ["b 0", "a 3", "health 2"]);
}

#[test]
fn the_health_of_several_pools_is_the_worst_and_no_pool_is_down() {
    let mut state = State::default();
    let pools = vec![pool("x", PoolHealth::Healthy), pool("y", PoolHealth::Degraded)];
    assert_eq!(texts(state.replace(&whole(pools, vec![]))), ["health 1"]);
    let pools = vec![pool("x", PoolHealth::Healthy), pool("y", PoolHealth::Unspecified)];
    assert_eq!(texts(state.replace(&whole(pools, vec![]))), ["health -1"]);
    assert_eq!(texts(state.replace(&whole(vec![], vec![]))), ["health 0"]);
}

#[test]
fn the_pools_of_a_node_that_is_gone_no_longer_count_and_their_peers_are_disconnected() {
    let mut state = fleet();
    let stale = node("n1", NodeState::Stale, &["n1.x", "n1.y"]);
    let calls = state.apply(&node_change(stale.clone()));
    let Some(Call::Health { change: cause, .. }) = calls.first() else { panic!("{calls:?}") };
    assert_eq!(cause.detail.as_c_str(), c"nothing is heard of node n1");
    assert_eq!(texts(calls), ["health -1"], "its peers keep their last status");
    assert_eq!(
        texts(state.apply(&node_change(node("n1", NodeState::Live, &["n1.x", "n1.y"])))),
        ["health 0"]
    );
    assert_eq!(texts(state.apply(&node_change(stale))), ["health -1"]);
    let a =
        Peer { pool: "pools/n1.x".into(), ..peer("a", PeerStatus::Disconnected, Reason::HandshakeComplete) };
    assert_eq!(texts(state.apply(&change(ChangeKind::Removed, a, None))), ["a 0"]);
    let gone = node_change(node("n1", NodeState::Gone, &[]));
    assert_eq!(texts(state.apply(&gone)), ["b 0", "health 2"], "a was removed before");
    assert_eq!(texts(state.apply(&gone)), [""; 0]);
    let gone = node_change(node("n10", NodeState::Gone, &[]));
    assert_eq!(texts(state.apply(&gone)), ["c 0", "health 0"], "no pool at all");
}

#[test]
fn a_pool_that_a_node_no_longer_has_no_longer_counts() {
    let mut state = fleet();
    let listed = node_change(node("n1", NodeState::Live, &["n1.y"]));
    assert_eq!(texts(state.apply(&listed)), ["a 0", "health 1"]);
    let new = node_change(node("n1", NodeState::Live, &["n1.y", "n1.z"]));
    assert_eq!(texts(state.apply(&new)), [""; 0]);
}

#[test]
fn a_call_has_the_pool_the_reason_and_the_detail() {
    let mut state = State::default();
    let peers = vec![peer("a\0b", PeerStatus::Connecting, Reason::ConnectFailed)];
    let calls = state.replace(&whole(vec![], peers));
    let change = Change { pool: c"default".into(), reason: c"CONNECT_FAILED".into(), detail: c"why".into() };
    let expected = Call::Peer { host: c"a b".into(), port: 8009, status: 1, change };
    assert_eq!(calls.first(), Some(&expected));
    let Some(Call::Health { change, .. }) = state.outage("connection refused").into_iter().next() else {
        panic!("no call")
    };
    assert_eq!(change.detail.as_c_str(), c"connection refused");
}
