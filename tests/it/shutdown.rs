//! The end of the service: in order, and in time.

use opflex_peerstatus::grpc::pb::{
    CreateListenerRequest, ListPoolsRequest, WatchPeerStatusRequest,
    peer_status_service_client::PeerStatusServiceClient, pool_service_client::PoolServiceClient,
    watch_peer_status_response::Event,
};
use tokio::net::TcpStream;
use tonic::Code;

use crate::support::{Process, ScriptedPeer, Server, Watch, explain, within};

#[tokio::test]
async fn streams_are_told_to_come_back_later_and_then_connections_to_peers_close() {
    let mut peer = ScriptedPeer::listen().await;
    let server = Server::start(&[peer.address()]).await;
    let id = peer.greeted().await;
    peer.answer_well(&id).await;
    let mut watch = server.watch().await;
    watch.until_ready(&peer.address()).await;
    server.begin_stop();
    let draining = loop {
        let message = watch.next().await.unwrap().unwrap();
        if let Some(Event::Draining(draining)) = message.event {
            break draining;
        }
    };
    assert_eq!(draining.cursor.unwrap(), watch.cursor());
    assert!(draining.retry_after.is_some());
    let end = watch.end().await.unwrap_err();
    assert_eq!(explain(&end), (Code::Unavailable, "DRAINING".into(), vec![]));
    peer.closed().await;
    let refused = server.listeners().create_listener(CreateListenerRequest::default()).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable);
    server.stop().await;
}

#[tokio::test]
async fn logs_that_nobody_reads_hold_up_nobody() {
    let mut peer = ScriptedPeer::listen().await;
    // More than a pipe holds, at once.
    let args = ["serve", "--listen", "127.0.0.1:0", "--log", "trace", "--peer", &peer.address()];
    let mut process = Process::start_with_unread_logs(&args);
    let address = process.address().await;
    let id = peer.greeted().await;
    let mut client = PoolServiceClient::connect(format!("http://{address}")).await.unwrap();
    for _ in 0..300 {
        within("an answer", client.list_pools(ListPoolsRequest::default())).await.unwrap();
    }
    peer.answer_well(&id).await;
    let mut client = PeerStatusServiceClient::connect(format!("http://{address}")).await.unwrap();
    let stream = client.watch_peer_status(WatchPeerStatusRequest::default()).await.unwrap().into_inner();
    Watch::new(stream).until_ready(&peer.address()).await;
    process.signal("TERM").await;
    assert_eq!(process.ended().await.code(), Some(0));
}

#[tokio::test]
async fn the_process_ends_with_0_though_clients_never_read_or_never_speak() {
    for signal in ["TERM", "INT"] {
        let mut peer = ScriptedPeer::listen().await;
        let mut process = Process::start(&["serve", "--listen", "127.0.0.1:0", "--peer", &peer.address()]);
        let address = process.address().await;
        let id = peer.greeted().await;
        peer.answer_well(&id).await;
        let silent = TcpStream::connect(&address).await.unwrap();
        let mut client = PeerStatusServiceClient::connect(format!("http://{address}")).await.unwrap();
        let unread = client.watch_peer_status(WatchPeerStatusRequest::default()).await.unwrap().into_inner();
        let mut read = Watch::new(
            client.watch_peer_status(WatchPeerStatusRequest::default()).await.unwrap().into_inner(),
        );
        read.synced().await;
        process.signal(signal).await;
        assert_eq!(read.end().await.unwrap_err().code(), Code::Unavailable);
        assert_eq!(process.ended().await.code(), Some(0), "after SIG{signal}");
        peer.closed().await;
        drop((silent, unread));
    }
}
