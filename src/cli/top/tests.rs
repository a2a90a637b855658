#![allow(clippy::unwrap_used)]

mod keys;
mod panic;
mod screen;

use std::time::SystemTime;

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::model::{Effect, Model};
use crate::{
    api::pb::{
        Change, ChangeKind, Node, Peer, PeerChange, PeerFailure, PeerStatus, Pool, PoolHealth, Reason,
        WatchPeerStatusResponse, watch_peer_status_response::Event,
    },
    cli::tests::samples::{at, attached, message, peer, peer_change, pool, snapshot, synced},
};

fn now() -> SystemTime {
    at(0).unwrap().try_into().unwrap()
}

/// A peer of the pool `default` that is wanted; one that is not READY has failed `failures` times.
fn wanted(address: &str, status: PeerStatus, failures: u64) -> Peer {
    let is_ready = status == PeerStatus::Ready;
    let failure = PeerFailure {
        reason: Reason::ConnectFailed.into(),
        detail: "connection refused".into(),
        time: at(-3),
    };
    Peer {
        wanted: true,
        not_ready_since: if is_ready { None } else { at(-5) },
        failure_count: failures,
        last_failure: (failures > 0).then_some(failure),
        ..peer(address, status, Reason::Dialing, "")
    }
}

fn change(peer: Peer) -> WatchPeerStatusResponse {
    let peer = Some(peer_change(0, peer, PeerStatus::Ready));
    message(2, 1, Event::Change(Change { peer, health: None, node: None }))
}

fn removed(peer: Peer) -> WatchPeerStatusResponse {
    let kind = ChangeKind::Removed.into();
    let change = PeerChange { kind, ..peer_change(0, peer, PeerStatus::Closing) };
    message(3, 2, Event::Change(Change { peer: Some(change), health: None, node: None }))
}

/// A model that has this state.
fn model(pools: Vec<Pool>, peers: Vec<Peer>) -> Model {
    let mut model = Model::new("127.0.0.1:50051".into());
    let count = u32::try_from(peers.len()).unwrap();
    for message in [attached(1, false), snapshot(1, pools, peers), synced(1, count)] {
        model.apply(&message);
    }
    model
}

/// Three peers, of which `b:1` is not READY.
fn three() -> Model {
    let peers = vec![
        wanted("a:1", PeerStatus::Ready, 0),
        wanted("b:1", PeerStatus::Connecting, 7),
        wanted("c:1", PeerStatus::Ready, 0),
    ];
    model(vec![pool("default", PoolHealth::Degraded, 2, 3)], peers)
}

fn press(model: &mut Model, code: KeyCode) -> Option<Effect> {
    model.key(KeyEvent::new(code, KeyModifiers::NONE))
}

fn type_text(model: &mut Model, text: &str) {
    for c in text.chars() {
        assert_eq!(press(model, KeyCode::Char(c)), None);
    }
}

fn rows(model: &Model) -> Vec<&str> {
    model.rows.iter().map(|peer| peer.name.rsplit('/').next().unwrap()).collect()
}
