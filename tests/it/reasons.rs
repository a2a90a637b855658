//! Every reason has a real cause. Those of TLS are in `tls.rs`, those of membership in `membership.rs`.

use std::time::Duration;

use opflex_peerstatus::api::pb::{
    PeerStatus::{Connecting, Ready},
    Reason::{self, HandshakeComplete},
};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use crate::support::{ScriptedPeer, Server, settings, within};

/// Short enough not to wait for, long enough for a peer that answers.
const SHORT: Duration = Duration::from_millis(300);

/// A service with short timers, and what it says of a peer that never becomes READY.
async fn told_of(address: &str, reason: Reason) -> String {
    let mut config = settings(&[address.to_owned()]);
    config.pools[0].timers.connect = SHORT;
    config.pools[0].timers.handshake = SHORT;
    let server = Server::start_with(config).await;
    let mut watch = server.watch().await;
    let snapshot = watch.synced().await;
    let there = snapshot.into_iter().find(|peer| peer.reason() == reason);
    let peer = match there {
        Some(peer) => peer,
        None => watch.until(address, Connecting, reason).await,
    };
    assert!(peer.consecutive_failures > 0, "every failure counts");
    server.stop().await;
    peer.detail
}

#[tokio::test]
async fn a_port_that_nobody_listens_on_refuses() {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = socket.local_addr().unwrap().to_string();
    let detail = told_of(&address, Reason::ConnectFailed).await;
    assert!(detail.contains("connection refused"), "{detail}");
}

#[tokio::test]
async fn a_name_that_does_not_exist_is_not_resolved() {
    let detail = told_of("no-such-host.invalid:8009", Reason::ResolveFailed).await;
    assert!(!detail.is_empty());
}

#[tokio::test]
async fn a_connection_that_nobody_takes_times_out() {
    // A listener whose queue is full drops what comes, as a black hole does.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener: TcpListener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut queued = Vec::new();
    while let Ok(stream) = tokio::time::timeout(SHORT, TcpStream::connect(address)).await {
        queued.push(stream.unwrap());
    }
    let detail = told_of(&address.to_string(), Reason::ConnectTimeout).await;
    assert!(detail.contains("no answer from"), "{detail}");
}

#[tokio::test]
async fn a_peer_that_accepts_and_says_nothing_runs_into_the_handshake_timeout() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let detail = told_of(&address, Reason::HandshakeTimeout).await;
    assert_eq!(detail, "no answer to send_identity within 300ms");
}

#[tokio::test]
async fn a_peer_that_falls_silent_runs_into_the_keepalive_timeout_and_one_that_sends_nothing_but_nuls_does_not()
 {
    let mut peer = ScriptedPeer::listen().await;
    let mut config = settings(&[peer.address()]);
    config.pools[0].timers.keepalive = SHORT;
    let server = Server::start_with(config).await;
    let mut watch = server.watch().await;
    watch.synced().await;
    let id = peer.greeted().await;
    peer.answer_well(&id).await;
    watch.until(&peer.address(), Ready, HandshakeComplete).await;
    // Three times as long as it would take: nothing but empty frames, which are signs of life.
    let nuls = async {
        let mut ticks = tokio::time::interval(SHORT / 6);
        for _ in 0..18 {
            ticks.tick().await;
            peer.send(b"\0").await;
        }
    };
    tokio::select! {
        () = nuls => {}
        (change, _) = watch.change() => panic!("it was alive: {change:?}"),
    }
    let told = watch.until(&peer.address(), Connecting, Reason::KeepaliveTimeout).await;
    assert_eq!(told.detail, "no frame received for 300ms");
    server.stop().await;
}

#[tokio::test]
async fn an_unfinished_frame_is_no_sign_of_life() {
    let mut peer = ScriptedPeer::listen().await;
    let mut config = settings(&[peer.address()]);
    config.pools[0].timers.keepalive = SHORT;
    let server = Server::start_with(config).await;
    let mut watch = server.watch().await;
    watch.synced().await;
    let id = peer.greeted().await;
    peer.answer_well(&id).await;
    watch.until(&peer.address(), Ready, HandshakeComplete).await;
    let address = peer.address();
    let blanks = async {
        let mut ticks = tokio::time::interval(SHORT / 6);
        loop {
            ticks.tick().await;
            peer.send(b" ").await;
        }
    };
    let told = tokio::select! {
        () = blanks => unreachable!(),
        told = watch.until(&address, Connecting, Reason::KeepaliveTimeout) => told,
    };
    assert_eq!(told.detail, "no frame received for 300ms");
    server.stop().await;
}

#[tokio::test]
async fn a_reset_connection_and_a_closed_one_are_told_apart() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let server = Server::start(std::slice::from_ref(&address)).await;
    let mut watch = server.watch().await;
    watch.synced().await;
    let mut ends = Vec::new();
    for reset in [true, false] {
        let (stream, _) = within("a connection", listener.accept()).await.unwrap();
        // Once there is something to read, the service has noticed that it is connected, and not before.
        let mut byte = [0];
        within("a greeting", stream.peek(&mut byte)).await.unwrap();
        if reset {
            socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
        } else {
            // Read what there is, or closing would reset.
            let mut greeting = [0; 1024];
            while stream.try_read(&mut greeting).is_ok() {}
        }
        drop(stream);
        ends.push(watch.until(&address, Connecting, Reason::RemoteClosed).await.detail);
    }
    assert!(ends[0].contains("reset"), "{ends:?}");
    assert_eq!(ends[1], "closed before its first frame: it may expect TLS or another domain");
    server.stop().await;
}
