//! Graceful shutdown.

use std::{
    io::{PipeReader, PipeWriter, Write as _, pipe},
    net::SocketAddr,
    process::Stdio,
    time::Duration,
};

use opflex_peerstatus::api::pb::{
    CreateListenerRequest, ListListenersRequest, ListPeersRequest, ListPoolsRequest, PeerStatus, ResetReason,
    WatchPeerStatusRequest, peer_status_service_client::PeerStatusServiceClient,
    pool_service_client::PoolServiceClient, watch_peer_status_response::Event,
};
use tokio::{net::TcpStream, time::sleep};
use tonic::Code;

use crate::support::{
    Folder, Process, RawWatch, ScriptedPeer, Server, Watch, explain, free_address, sim, within,
};

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
        assert!(
            !matches!(message.event, Some(Event::Change(_))),
            "that the service stops is no change of a peer"
        );
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

#[tokio::test]
async fn a_thousand_streams_some_of_which_never_read_end_within_the_grace_period() {
    let mut peer = ScriptedPeer::listen().await;
    let folder = Folder::new();
    let config = folder.write("config.toml", "[server]\ndrain_timeout = \"2s\"");
    let args = ["serve", "--listen", "127.0.0.1:0", "--config", &config, "--peer", &peer.address()];
    let mut process = Process::start(&args);
    let address = process.address().await;
    let id = peer.greeted().await;
    peer.answer_well(&id).await;
    let mut reading = Vec::new();
    for _ in 0..10 {
        let client = PeerStatusServiceClient::connect(format!("http://{address}")).await.unwrap();
        for _ in 0..98 {
            let stream = client.clone().watch_peer_status(WatchPeerStatusRequest::default()).await.unwrap();
            let mut watch = Watch::new(stream.into_inner());
            watch.synced().await;
            reading.push(watch);
        }
    }
    // These speak HTTP/2 by hand, ask for a watch, and never read again.
    let mut stuck = Vec::new();
    for _ in 0..20 {
        let mut raw = RawWatch::ask(address.parse().unwrap(), &WatchPeerStatusRequest::default()).await;
        assert!(raw.read(64).await);
        stuck.push(raw);
    }
    process.signal("TERM").await;
    let begun = std::time::Instant::now();
    for mut watch in reading {
        let end = watch.end().await.unwrap_err();
        assert_eq!(explain(&end), (Code::Unavailable, "DRAINING".into(), vec![]));
    }
    assert_eq!(process.ended().await.code(), Some(0));
    // The grace period and the time that connections to peers have to close; the rest is for a busy machine.
    assert!(begun.elapsed() < std::time::Duration::from_secs(2 + 1 + 5), "{:?}", begun.elapsed());
    peer.closed().await;
    drop(stuck);
}

#[tokio::test]
async fn after_a_kill_everybody_is_told_that_the_service_is_another_one() {
    let peer = sim();
    let name = peer.address().to_string();
    let port = free_address().to_string();
    let args = ["serve", "--listen", &port, "--peer", &name];
    let mut process = Process::start(&args);
    let url = format!("http://{}", process.address().await);
    let mut cursors = Vec::new();
    for _ in 0..20 {
        let mut client = PeerStatusServiceClient::connect(url.clone()).await.unwrap();
        let stream = client.watch_peer_status(WatchPeerStatusRequest::default()).await.unwrap();
        let mut watch = Watch::new(stream.into_inner());
        watch.until_ready(&name).await;
        cursors.push(watch.cursor());
    }
    process.signal("KILL").await;
    assert_eq!(process.ended().await.code(), None);
    let mut process = Process::start(&args);
    process.address().await;
    let mut client = PeerStatusServiceClient::connect(url.clone()).await.unwrap();
    let stream = client.watch_peer_status(WatchPeerStatusRequest::default()).await.unwrap();
    Watch::new(stream.into_inner()).until_ready(&name).await;
    for cursor in cursors {
        let mut client = PeerStatusServiceClient::connect(url.clone()).await.unwrap();
        let request = WatchPeerStatusRequest { resume_after: Some(cursor), ..Default::default() };
        let mut stream = client.watch_peer_status(request).await.unwrap().into_inner();
        let mut seen = Vec::new();
        while !matches!(seen.last(), Some(Event::Synced(_))) {
            let message = within("a message", stream.message()).await.unwrap().unwrap();
            seen.push(message.event.unwrap());
        }
        let [
            Event::Attached(attached),
            Event::Reset(reset),
            Event::Snapshot(snapshot),
            Event::Synced(synced),
        ] = &seen[..]
        else {
            panic!("{seen:?}")
        };
        assert_ne!(attached.cursor.unwrap().epoch, cursor.epoch);
        assert_eq!(reset.reason(), ResetReason::EpochChanged);
        let peers: Vec<_> = snapshot.peers.iter().map(|peer| (&*peer.name, peer.status())).collect();
        assert_eq!(peers, [(&*format!("pools/default/peers/{name}"), PeerStatus::Ready)]);
        assert_eq!(synced.peer_count, 1);
    }
    process.signal("TERM").await;
    assert_eq!(process.ended().await.code(), Some(0));
}

/// A pipe that is full, so that writing to it blocks.
fn full_pipe() -> (PipeReader, PipeWriter) {
    let (reader, mut writer) = pipe().unwrap();
    rustix::io::ioctl_fionbio(&writer, true).unwrap();
    while writer.write(&[b'x'; 4096]).is_ok() {}
    rustix::io::ioctl_fionbio(&writer, false).unwrap();
    (reader, writer)
}

/// A pipe that nobody reads any more.
fn closed_pipe() -> Stdio {
    pipe().unwrap().1.into()
}

/// Waits until something listens there.
async fn listens(address: SocketAddr) {
    within("a listener", async {
        while TcpStream::connect(address).await.is_err() {
            sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_signal_ends_a_command_whose_output_is_full() {
    let (_unread, full) = full_pipe();
    let to_full = || Stdio::from(full.try_clone().unwrap());
    let address = free_address();
    let serve = ["serve", "--listen", &address.to_string(), "--peer", "127.0.0.1:1"];
    let process = Process::start_writing_to(&serve, to_full(), to_full());
    listens(address).await;
    process.signal("TERM").await;
    assert_eq!(process.ended().await.code(), Some(0), "it serves and stops in order");
    let address = free_address();
    let (host, port) = (address.ip().to_string(), address.port().to_string());
    let simulate = ["simulate", "--host", &host, "--ports", &port];
    let process = Process::start_writing_to(&simulate, to_full(), Stdio::null());
    listens(address).await;
    process.signal("TERM").await;
    assert_eq!(process.ended().await.code(), Some(130));
    let server = Server::start(&[]).await;
    let watch = ["watch", "--server", &server.address().to_string()];
    let process = Process::start_writing_to(&watch, to_full(), Stdio::null());
    within("a watch", async {
        let list = ListListenersRequest::default;
        while server.listeners().list_listeners(list()).await.unwrap().into_inner().listeners.is_empty() {
            sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    process.signal("INT").await;
    assert_eq!(process.ended().await.code(), Some(130));
    server.stop().await;
}

#[tokio::test]
async fn a_closed_output_does_not_end_the_service() {
    let address = free_address();
    let serve = ["serve", "--listen", &address.to_string(), "--peer", "127.0.0.1:1"];
    let process = Process::start_writing_to(&serve, closed_pipe(), closed_pipe());
    listens(address).await;
    let mut client = PoolServiceClient::connect(format!("http://{address}")).await.unwrap();
    // Each failure of the peer is logged.
    within("failures of the peer", async {
        let list = ListPeersRequest::default;
        while client.list_peers(list()).await.unwrap().into_inner().peers[0].failure_count < 3 {
            sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    drop(client);
    process.signal("TERM").await;
    assert_eq!(process.ended().await.code(), Some(0));
}
