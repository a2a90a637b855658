//! Many peers at once. The limits are far above what is measured (see docs/performance.md), and far below what the reference
//! takes.

use std::time::{Duration, Instant};

use opflex_peerstatus::{
    api::pb::{ListPeersRequest, PeerStatus},
    sim::SimPeer,
};
use tokio::{
    net::TcpListener,
    time::{sleep, timeout},
};

use crate::support::{Process, Server, sims};

/// The reference takes 62 s for 50 peers.
const SOON: Duration = Duration::from_secs(20);

fn addresses(peers: &[SimPeer]) -> Vec<String> {
    peers.iter().map(|peer| peer.address().to_string()).collect()
}

/// Addresses that refuse connections.
async fn dead(count: usize) -> Vec<String> {
    let mut listeners = Vec::new();
    for _ in 0..count {
        listeners.push(TcpListener::bind("127.0.0.1:0").await.unwrap());
    }
    listeners.iter().map(|listener| listener.local_addr().unwrap().to_string()).collect()
}

/// Waits until so many peers are READY. Returns how long that took.
async fn until_ready(server: &Server, count: usize) -> Duration {
    let begun = Instant::now();
    let counted = async {
        loop {
            let request = ListPeersRequest { page_size: 500, ..Default::default() };
            let peers = server.pools().list_peers(request).await.unwrap().into_inner().peers;
            if peers.iter().filter(|peer| peer.status() == PeerStatus::Ready).count() == count {
                break;
            }
            sleep(Duration::from_millis(20)).await;
        }
    };
    assert!(timeout(SOON, counted).await.is_ok(), "{count} peers are not READY after {SOON:?}");
    begun.elapsed()
}

#[tokio::test]
async fn fifty_peers_are_ready_at_once_missed_at_once_and_back_within_seconds() {
    let mut peers = sims(50);
    let server = Server::start(&addresses(&peers)).await;
    let took = until_ready(&server, 50).await;
    assert!(took < SOON / 4, "no peer waits for another one: {took:?}");
    for peer in &mut peers {
        peer.stop().await;
    }
    let took = until_ready(&server, 0).await;
    assert!(took < SOON / 4, "a lost connection is noticed at once: {took:?}");
    sleep(Duration::from_secs(2)).await;
    for peer in &mut peers {
        peer.restart().await.unwrap();
    }
    until_ready(&server, 50).await;
    server.stop().await;
}

#[tokio::test]
async fn peers_that_come_late_are_ready_though_fifty_others_stay_dead() {
    let mut late = sims(10);
    for peer in &mut late {
        peer.stop().await;
    }
    let all = [dead(50).await, addresses(&late)].concat();
    let server = Server::start(&all).await;
    sleep(Duration::from_secs(5)).await;
    for peer in &mut late {
        peer.restart().await.unwrap();
    }
    until_ready(&server, 10).await;
    server.stop().await;
}

#[tokio::test]
async fn peers_take_no_threads() {
    let mut threads = Vec::new();
    for count in [1, 200] {
        let peers = dead(count).await.join(",");
        let mut process =
            Process::start(&["serve", "--listen", "127.0.0.1:0", "--admin", "off", "--peer", &peers]);
        process.address().await;
        // All have been dialled by then.
        sleep(Duration::from_secs(1)).await;
        threads.push(process.threads());
    }
    // The runtime may keep a thread for a while that read a file.
    assert!(threads[1] <= threads[0] + 4, "{threads:?}");
}
