//! `ListTransitions`: the same changes as on a watch, newest first.

use std::time::SystemTime;

use opflex_peerstatus::api::pb::{
    Change, ListTransitionsRequest, PeerStatus::Ready, Reason::HandshakeComplete, ResetPeersRequest,
    ResetScope, Transition, watch_peer_status_response::Event,
};

use crate::support::{Server, Watch, settings, sim, sims};

async fn page(server: &Server, request: ListTransitionsRequest) -> (Vec<Transition>, String) {
    let page = server.pools().list_transitions(request).await.unwrap().into_inner();
    (page.transitions, page.next_page_token)
}

/// Every page of `size`, put together.
async fn all(server: &Server, size: u32, asked: ListTransitionsRequest) -> Vec<Transition> {
    let (mut listed, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = ListTransitionsRequest { page_size: size, page_token, ..asked.clone() };
        let (transitions, next) = page(server, request).await;
        assert!(transitions.len() <= size as usize);
        listed.extend(transitions);
        if next.is_empty() {
            return listed;
        }
        page_token = next;
    }
}

/// Makes the peer go and come back.
async fn bounce(server: &Server, watch: &mut Watch, address: &str) -> Vec<(u64, Change)> {
    let reset = ResetPeersRequest {
        scope: ResetScope::Named.into(),
        names: vec![format!("pools/default/peers/{address}")],
        ..Default::default()
    };
    server.pools().reset_peers(reset).await.unwrap();
    let mut heard = Vec::new();
    loop {
        let Some(message) = watch.next().await.unwrap() else { panic!("the watch ended") };
        let Some(Event::Change(change)) = message.event else { continue };
        let peer = change.peer.clone().unwrap().peer.unwrap();
        heard.push((message.revision, change));
        if peer.name.ends_with(address) && (peer.status(), peer.reason()) == (Ready, HandshakeComplete) {
            return heard;
        }
    }
}

#[tokio::test]
async fn history_is_what_a_watch_has_told_newest_first_in_pages_of_any_size() {
    let peer = sim();
    let address = peer.address().to_string();
    let server = Server::start(std::slice::from_ref(&address)).await;
    let mut watch = server.watch().await;
    watch.until_ready(&address).await;
    let mut heard = bounce(&server, &mut watch, &address).await;
    heard.reverse();
    let listed = all(&server, 500, ListTransitionsRequest::default()).await;
    let told: Vec<_> = listed.iter().map(|it| (it.revision, it.change.clone().unwrap())).collect();
    assert_eq!(told[..heard.len()], heard);
    assert_eq!(listed.last().unwrap().revision, 1, "back to the first");
    for size in [1, 2, 3, 5] {
        assert_eq!(all(&server, size, ListTransitionsRequest::default()).await, listed, "{size}");
    }
    server.stop().await;
}

#[tokio::test]
async fn pages_stay_where_they_are_while_more_happens() {
    let peer = sim();
    let address = peer.address().to_string();
    let server = Server::start(std::slice::from_ref(&address)).await;
    let mut watch = server.watch().await;
    watch.until_ready(&address).await;
    let first = ListTransitionsRequest { page_size: 2, ..Default::default() };
    let (newest, token) = page(&server, first).await;
    let second = ListTransitionsRequest { page_size: 2, page_token: token, ..Default::default() };
    let before = page(&server, second.clone()).await;
    assert_eq!(before.0[0].revision, newest[1].revision - 1);
    bounce(&server, &mut watch, &address).await;
    assert_eq!(page(&server, second).await, before);
    server.stop().await;
}

#[tokio::test]
async fn history_goes_beyond_the_log_with_the_newest_32_changes_of_each_peer() {
    let peer = sim();
    let address = peer.address().to_string();
    let mut config = settings(std::slice::from_ref(&address));
    config.history.changes = 4;
    let server = Server::start_with(config).await;
    let mut watch = server.watch().await;
    watch.until_ready(&address).await;
    bounce(&server, &mut watch, &address).await;
    let (newest, token) = page(&server, ListTransitionsRequest { page_size: 2, ..Default::default() }).await;
    assert_eq!(newest.len(), 2);
    let everything = all(&server, 500, ListTransitionsRequest::default()).await;
    assert_eq!(everything.len() as u64, newest[0].revision, "more than the log has");
    for _ in 0..12 {
        bounce(&server, &mut watch, &address).await;
    }
    assert_eq!(all(&server, 500, ListTransitionsRequest::default()).await.len(), 32);
    // What the token follows is gone by now.
    let late = ListTransitionsRequest { page_token: token, ..Default::default() };
    assert_eq!(page(&server, late).await, (vec![], String::new()));
    server.stop().await;
}

#[tokio::test]
async fn history_can_be_asked_about_one_peer_one_pool_and_a_span_of_time() {
    let peers = sims(2);
    let [first, second] = [0, 1].map(|index| peers[index].address().to_string());
    let server = Server::start(std::slice::from_ref(&first)).await;
    server.watch().await.until_ready(&second).await;
    let everything = all(&server, 500, ListTransitionsRequest::default()).await;
    let asked = |peer: &str| ListTransitionsRequest { peer: peer.into(), ..Default::default() };
    let name = |it: &Transition| it.change.clone().unwrap().peer.unwrap().peer.unwrap().name;
    let expected: Vec<_> = everything.iter().filter(|it| name(it).ends_with(&second)).cloned().collect();
    assert!(!expected.is_empty() && expected.len() < everything.len());
    assert_eq!(all(&server, 2, asked(&second)).await, expected);
    assert_eq!(all(&server, 500, asked("127.0.0.?")).await, everything, "the host alone");
    assert!(all(&server, 500, asked("10.*")).await.is_empty());
    let pool = ListTransitionsRequest { parent: "pools/default".into(), ..Default::default() };
    assert_eq!(all(&server, 500, pool).await, everything);

    let time = |it: &Transition| it.change.clone().unwrap().peer.unwrap().time.unwrap();
    let middle = time(&everything[everything.len() / 2]);
    let order = |time: &prost_types::Timestamp| SystemTime::try_from(*time).unwrap();
    let span = |start_time, end_time| ListTransitionsRequest { start_time, end_time, ..Default::default() };
    let (since, until): (Vec<_>, Vec<_>) =
        everything.iter().cloned().partition(|it| order(&time(it)) >= order(&middle));
    assert_eq!(all(&server, 2, span(Some(middle), None)).await, since);
    assert_eq!(all(&server, 2, span(None, Some(middle))).await, until);
    assert!(all(&server, 2, span(Some(middle), Some(middle))).await.is_empty());
    server.stop().await;
}
