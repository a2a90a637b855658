//! Listeners: create, watch, resume, take over, destroy.

use opflex_peerstatus::api::pb::{
    CreateListenerRequest, DestroyListenerRequest, GetListenerRequest, Interest, ListListenersRequest,
    ListenerFilter, ListenerState,
    PeerStatus::{self, Ready},
    Reason::HandshakeComplete,
    WatchPeerStatusRequest,
    peer_status_service_client::PeerStatusServiceClient,
    watch_peer_status_response::Event,
};
use tokio::time::Instant;
use tonic::Code;

use crate::support::{Server, Stage, explain, sim, sims};

fn named(name: &str) -> WatchPeerStatusRequest {
    WatchPeerStatusRequest { listener: name.into(), ..Default::default() }
}

#[tokio::test]
async fn user_data_comes_back_with_every_change_until_the_listener_is_destroyed() {
    let mut peer = sim();
    let address = peer.address().to_string();
    peer.stop().await;
    let server = Server::start(std::slice::from_ref(&address)).await;
    let user_data: &[u8] = b"\x00opaque \xff";
    let request = CreateListenerRequest {
        listener_id: "mine".into(),
        user_data: user_data.into(),
        ..Default::default()
    };
    let created = server.create(request).await;
    let name = created.listener.unwrap().name;
    assert_eq!(name, "listeners/mine");
    let resume = WatchPeerStatusRequest { resume_after: created.cursor, ..named(&name) };
    let mut watch = server.watch_with(resume).await.unwrap();
    let attached = watch.next().await.unwrap().unwrap();
    assert_eq!(attached.user_data, user_data);
    let Some(Event::Attached(event)) = attached.event else { panic!("not attached: {attached:?}") };
    assert!(event.resumed);
    peer.restart().await.unwrap();
    loop {
        let (change, message) = watch.change().await;
        assert_eq!(message.user_data, user_data);
        if change.peer.unwrap().peer.unwrap().status() == Ready {
            break;
        }
    }
    let destroy = DestroyListenerRequest { name: name.clone(), allow_missing: false };
    server.listeners().destroy_listener(destroy.clone()).await.unwrap();
    let end = watch.end().await.unwrap_err();
    assert_eq!(explain(&end), (Code::Cancelled, "LISTENER_DESTROYED".into(), vec![]));
    let again = server.listeners().destroy_listener(destroy.clone()).await.unwrap_err();
    assert_eq!(explain(&again), (Code::NotFound, "LISTENER_NOT_FOUND".into(), vec![]));
    let allowed = DestroyListenerRequest { allow_missing: true, ..destroy };
    server.listeners().destroy_listener(allowed).await.unwrap();
    server.stop().await;
}

#[tokio::test]
async fn a_client_that_comes_back_with_its_cursor_has_missed_nothing() {
    let mut peer = sim();
    let address = peer.address().to_string();
    let server = Server::start(std::slice::from_ref(&address)).await;
    let mut watch = server.watch().await;
    watch.until_ready(&address).await;
    let mut other = server.watch().await;
    other.until_ready(&address).await;
    let cursor = watch.cursor();
    drop(watch);
    for _ in 0..3 {
        peer.restart().await.unwrap();
        other.until(&address, Ready, HandshakeComplete).await;
    }
    let resume = WatchPeerStatusRequest { resume_after: Some(cursor), ..Default::default() };
    let mut back = server.watch_with(resume).await.unwrap();
    // The watch itself checks that each change follows the one before it.
    for _ in 0..3 {
        back.until(&address, Ready, HandshakeComplete).await;
    }
    assert_eq!(back.cursor(), other.cursor());
    server.stop().await;
}

#[tokio::test]
async fn an_ephemeral_listener_goes_with_its_stream() {
    let server = Server::start(&[]).await;
    let mut watch = server.watch().await;
    let attached = watch.next().await.unwrap().unwrap();
    let Some(Event::Attached(attached)) = attached.event else { panic!("not attached") };
    let name = attached.listener.unwrap().name;
    let get = GetListenerRequest { name };
    let listener = server.listeners().get_listener(get.clone()).await.unwrap().into_inner().listener.unwrap();
    assert_eq!(listener.state(), ListenerState::Attached);
    assert!(listener.client.starts_with("127.0.0.1:"), "{}", listener.client);
    drop(watch);
    // The service hears of it when the reset of the stream arrives; each call gives it the time to.
    crate::support::within("the end of the listener", async {
        while server.listeners().get_listener(get.clone()).await.is_ok() {}
    })
    .await;
    server.stop().await;
}

#[tokio::test]
async fn one_stream_at_a_time_and_takeover_ends_the_older_one() {
    let server = Server::start(&[]).await;
    let name = server.create(CreateListenerRequest::default()).await.listener.unwrap().name;
    let mut first = server.watch_with(named(&name)).await.unwrap();
    first.synced().await;
    let refused = server.watch_with(named(&name)).await.err().unwrap();
    assert_eq!(explain(&refused), (Code::FailedPrecondition, "LISTENER_ATTACHED".into(), vec![]));
    let takeover = WatchPeerStatusRequest { takeover: true, ..named(&name) };
    let mut second = server.watch_with(takeover).await.unwrap();
    second.synced().await;
    let end = first.end().await.unwrap_err();
    assert_eq!(explain(&end), (Code::Aborted, "LISTENER_TAKEN_OVER".into(), vec![]));
    let listed =
        server.listeners().list_listeners(ListListenersRequest::default()).await.unwrap().into_inner();
    assert_eq!(listed.listeners.len(), 1);
    assert_eq!(listed.listeners[0].state(), ListenerState::Attached);
    server.stop().await;
}

#[tokio::test]
async fn a_filter_leaves_out_what_was_not_asked_for_and_the_chain_holds() {
    let mut peers = sims(3);
    let addresses: Vec<_> = peers.iter().map(|peer| peer.address().to_string()).collect();
    let server = Server::start(&addresses[..1]).await;
    let mut all = server.watch().await;
    all.synced().await;
    while server.pool().await.ready_count != 3 {
        all.change().await;
    }
    let filter = ListenerFilter {
        peers: vec![addresses[1].clone()],
        statuses: vec![Ready.into()],
        interests: vec![Interest::Peers.into()],
        ..Default::default()
    };
    let request = WatchPeerStatusRequest { filter: Some(filter), ..Default::default() };
    let mut some = server.watch_with(request).await.unwrap();
    assert_eq!(some.synced().await.len(), 1);
    for peer in &mut peers {
        peer.restart().await.unwrap();
    }
    // Leaving READY and entering it, and nothing in between, and nothing of the others.
    for expected in [PeerStatus::Connecting, Ready] {
        let peer = some.change().await.0.peer.unwrap().peer.unwrap();
        assert!(peer.name.ends_with(&addresses[1]), "{}", peer.name);
        assert_eq!(peer.status(), expected);
    }
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_names_no_interval_gets_a_heartbeat_after_15_seconds_without_a_message() {
    let stage = Stage::new(1, 64, &["default"]);
    let mut service = PeerStatusServiceClient::new(stage.api.clone().routes());
    let mut stream = service.watch_peer_status(WatchPeerStatusRequest::default()).await.unwrap().into_inner();
    for _ in 0..2 {
        let mut last = Instant::now();
        while !matches!(stream.message().await.unwrap().unwrap().event, Some(Event::Heartbeat(_))) {
            last = Instant::now();
        }
        assert_eq!(last.elapsed().as_secs(), 15);
    }
}
