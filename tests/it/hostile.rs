//! Peers that do not keep to the protocol.

use opflex_peerstatus::grpc::pb::{
    PeerStatus::{Connecting, Ready},
    Reason::{HandshakeComplete, HandshakeRejected, ProtocolError, RemoteClosed},
};
use serde_json::json;

use crate::support::{ScriptedPeer, Server};

/// What a peer sends instead of a good answer to `send_identity`, and what people are told of it.
const VIOLATIONS: &[(&str, &str)] = &[
    ("this is not JSON\0", "frame is not JSON"),
    ("[1,2]\0", "not a JSON object"),
    ("{\"id\":[\"send_identity\",ID],\"result\":{\"peers\":{}}}\0", "peers"),
    ("{\"id\":[\"send_identity\",ID],\"result\":null}\0", "object"),
    ("{\"id\":[\"send_identity\",999999],\"result\":{\"peers\":[]}}\0", "999999"),
    ("{\"id\":[\"send_identity\"],\"result\":{\"peers\":[]}}\0", "answer id"),
    ("{\"id\":[],\"result\":{}}\0", "answer id"),
    ("{\"id\":[\"send_identity\",-1],\"result\":{}}\0", "answer id"),
    ("{\"id\":[\"send_identity\",ID],\"result\":{\"peers\":[{\"connectivity_info\":\":1\"}]}}\0", "peers"),
    (
        "{\"id\":[\"send_identity\",ID],\"result\":{\"peers\":[{\"connectivity_info\":\"h:99999\"}]}}\0",
        "port",
    ),
    ("{\"method\":\"echo\",\"params\":[]}\0", "without id"),
    ("{\"id\":[\"policy_update\",1],\"method\":\"policy_update\",\"params\":[]}\0", "before the handshake"),
];

#[tokio::test]
async fn a_violation_drops_that_connection_and_says_what_it_was() {
    let mut peer = ScriptedPeer::listen().await;
    let address = peer.address();
    let server = Server::start(std::slice::from_ref(&address)).await;
    let mut watch = server.watch().await;
    watch.synced().await;
    for (bytes, told) in VIOLATIONS {
        let id = peer.greeted().await;
        peer.send(bytes.replace("ID", &id[1].to_string()).as_bytes()).await;
        let seen = watch.until(&address, Connecting, ProtocolError).await;
        assert!(seen.detail.contains(told), "{bytes:?} is told as {:?}", seen.detail);
        peer.closed().await;
    }
    let id = peer.greeted().await;
    peer.answer_well(&id).await;
    let healed = watch.until(&address, Ready, HandshakeComplete).await;
    assert_eq!(healed.consecutive_failures, 0, "a good answer forgives everything");
    server.stop().await;
}

#[tokio::test]
async fn an_identity_that_is_refused_is_told_with_the_peers_words() {
    let mut peer = ScriptedPeer::listen().await;
    let address = peer.address();
    let server = Server::start(std::slice::from_ref(&address)).await;
    let mut watch = server.watch().await;
    watch.synced().await;
    let id = peer.greeted().await;
    let refusal = json!({ "id": id, "error": { "code": "EDOMAIN", "message": "wrong\u{1b}[31m domain" } });
    peer.send(format!("{refusal}\0").as_bytes()).await;
    let seen = watch.until(&address, Connecting, HandshakeRejected).await;
    assert!(seen.detail.contains("EDOMAIN"), "{}", seen.detail);
    assert!(!seen.detail.contains('\u{1b}'), "nothing that steers a terminal: {:?}", seen.detail);
    server.stop().await;
}

#[tokio::test]
async fn unknown_requests_are_refused_and_the_connection_stays() {
    let mut peer = ScriptedPeer::listen().await;
    let address = peer.address();
    let server = Server::start(std::slice::from_ref(&address)).await;
    let id = peer.greeted().await;
    peer.answer_well(&id).await;
    for method in ["no_such_method", "send_identity", "policy_resolve", "custom"] {
        let request = json!({ "id": [method, 7], "method": method, "params": [{}] });
        peer.send(format!("{request}\0").as_bytes()).await;
        let answer = peer.receive().await;
        assert_eq!((&answer["id"], &answer["error"]["code"]), (&json!([method, 7]), &json!("EUNSUPPORTED")));
    }
    // Empty frames and one byte at a time are all right.
    for byte in b"\0\0 {\"id\": 1, \"method\": \"echo\", \"params\": [\"\xc3\xa9\"]} \0" {
        peer.send(&[*byte]).await;
    }
    assert_eq!(peer.receive().await, json!({ "id": 1, "result": ["é"] }));
    server.stop().await;
}

#[tokio::test]
async fn a_frame_over_the_limit_ends_the_connection_before_it_is_complete() {
    let mut peer = ScriptedPeer::listen().await;
    let address = peer.address();
    let server = Server::start(std::slice::from_ref(&address)).await;
    let mut watch = server.watch().await;
    watch.synced().await;
    peer.greeted().await;
    let chunk = vec![b'x'; 1 << 20];
    for _ in 0..4 {
        peer.send(&chunk).await;
    }
    peer.send(b"x").await;
    let seen = watch.until(&address, Connecting, ProtocolError).await;
    assert!(seen.detail.contains("4194304"), "{}", seen.detail);
    server.stop().await;
}

#[tokio::test]
async fn a_peer_that_closes_at_once_is_told_apart_from_one_that_refuses() {
    let mut peer = ScriptedPeer::listen().await;
    let address = peer.address();
    let server = Server::start(std::slice::from_ref(&address)).await;
    let mut watch = server.watch().await;
    watch.synced().await;
    peer.accept().await;
    peer.accept().await;
    let seen = watch.until(&address, Connecting, RemoteClosed).await;
    assert_eq!(seen.consecutive_failures, 1);
    server.stop().await;
}
