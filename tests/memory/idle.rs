//! What a watch takes that has nothing to say, with a connection of its own or among others: what tonic and hyper take
//! for it, however much it was told before.
//!
//! A process of its own, since the heap of all of it is counted.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

// Only a part of what they have is needed here.
#[allow(dead_code)]
#[path = "../it/support/raw.rs"]
mod raw;
#[allow(dead_code)]
#[path = "../it/support/stage.rs"]
mod stage;

use std::{future::Future, time::Duration};

use futures_util::future::join_all;
use opflex_peerstatus::{api::pb::WatchPeerStatusRequest, server::Keepalive, status::ListenerScope};
use tokio::time::{sleep, timeout};

use raw::{LARGEST_WINDOW, Messages, RawClient};
use stage::Stage;

#[global_allocator]
static HEAP: dhat::Alloc = dhat::Alloc;

/// How long anything that must come may take.
const PATIENCE: Duration = Duration::from_secs(60);
const CONNECTIONS: usize = 20;
const STREAMS: u32 = 100;
/// Peers in the snapshot that each is told: some 10 KiB, which must not stay.
const PEERS: usize = 61;
/// What a watch may take on the heap with a connection of its own, and on one that there is. The client's side, which is
/// next to nothing here, and tables that grow are counted; the kernel's part is not.
const OWN: usize = 48 * 1024;
const FURTHER: usize = 6 * 1024;
/// Watches that begin before what they are told is read. h2's table of frames stays as long as it was when most of them
/// waited, and the kernel takes only 32 KiB of what is not read.
const TOGETHER: usize = 9;
/// Bursts of changes that all are told, of some 500 bytes a change: 80 KiB in all.
const BURSTS: usize = 8;
const FLAPS: usize = 20;
/// What a watch may keep of it: a buffer for messages that has grown, and its part of h2's table of frames, which stays as
/// long as it was when most of them waited. That is up to a frame for each change of a burst, when the service is faster
/// than the client and than who makes the changes; the table doubles as it grows.
const KEPT: usize = 16 * 1024 + FLAPS.next_power_of_two() * 400;

/// Nobody is asked for a sign of life: who waits for others here answers none.
const KEEPALIVE: Keepalive = Keepalive { interval: Duration::from_secs(3_600), timeout: PATIENCE };

async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("{what}: did not come within {PATIENCE:?}"))
}

/// Reads on until each of these streams knows of so many revisions.
async fn until(client: &mut RawClient, streams: impl Iterator<Item = u32>, revision: u64) {
    let mut told: std::collections::BTreeMap<_, _> =
        streams.map(|stream| (stream, (Messages::default(), 0))).collect();
    while told.values().any(|(_, last)| *last < revision) {
        let frame = client.frame().await.expect("the connection goes on");
        if let (raw::DATA, Some((messages, last))) = (frame.kind, told.get_mut(&frame.stream)) {
            *last = messages
                .take(&frame.payload)
                .iter()
                .map(|said| said.revision)
                .max()
                .unwrap_or(*last)
                .max(*last);
        }
    }
}

/// Bytes on the heap once everything that was begun is done: twice the same.
async fn settled() -> usize {
    let mut before = usize::MAX;
    loop {
        let now = dhat::HeapStats::get().curr_bytes;
        if now >= before {
            return before;
        }
        before = now;
        sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test]
async fn a_watch_that_has_nothing_to_say_takes_no_more_than_its_buffers() {
    let _profiler = dhat::Profiler::builder().testing().build();
    let stage = Stage::new(1, 256, &["default"]);
    (0..PEERS).for_each(|number| stage.add(&format!("leaf-{number}")));
    let served = stage.serve(KEEPALIVE).await;
    let head = || stage.hub.cursor().revision;
    let watch = WatchPeerStatusRequest::default();
    let mut clients = Vec::new();
    // What is needed once, for the threads and the first clients.
    for _ in 0..2 {
        let mut client = RawClient::connect(served.address, LARGEST_WINDOW).await;
        client.watch(1, &watch).await;
        until(&mut client, 1..2, head()).await;
        clients.push(client);
    }
    let before = settled().await;
    for _ in 0..CONNECTIONS {
        let mut client = RawClient::connect(served.address, LARGEST_WINDOW).await;
        client.watch(1, &watch).await;
        until(&mut client, 1..2, head()).await;
        clients.push(client);
    }
    let own = (settled().await - before) / CONNECTIONS;
    let before = settled().await;
    for client in &mut clients[..CONNECTIONS] {
        let streams: Vec<_> = (1..STREAMS).map(|number| 2 * number + 1).collect();
        for streams in streams.chunks(TOGETHER) {
            for stream in streams {
                client.watch(*stream, &watch).await;
            }
            until(client, streams.iter().copied(), head()).await;
        }
    }
    let streams = CONNECTIONS * usize::try_from(STREAMS - 1).unwrap();
    let further = (settled().await - before) / streams;
    println!("{own} bytes for a watch with a connection of its own, {further} for a further one");
    assert_eq!(stage.listeners.count().1, CONNECTIONS + 2 + streams);
    assert!(own <= OWN, "{own} bytes for a watch with a connection of its own");
    assert!(further <= FURTHER, "{further} bytes for a further one");
    // They hear of what happens all the same, and keep no more of it than buffers that they use again.
    let before = settled().await;
    for _ in 0..BURSTS {
        stage.flap("leaf-1", FLAPS);
        // All at once: what waits in the kernel for a client that does not read is sent again later and later.
        let all = || (0..STREAMS).map(|number| 2 * number + 1);
        join_all(clients[..CONNECTIONS].iter_mut().map(|client| until(client, all(), head()))).await;
    }
    let kept = settled().await.saturating_sub(before) / streams;
    println!("{kept} bytes are kept by each of what it was told");
    assert!(kept <= KEPT, "{kept} bytes are kept by each of what it was told");
    assert!(stage.listeners.list(None, 10_000, &ListenerScope::All).iter().all(|listener| listener.lag == 0));
    drop(clients);
    served.stop().await;
}
