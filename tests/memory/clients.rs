//! What clients that read nothing can make the service allocate: what fits in a few buffers each, however much there is
//! to be told, and nothing once they are let go.
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

use opflex_peerstatus::{api::pb::WatchPeerStatusRequest, server::Keepalive, status::ListenerScope};
use tokio::time::{Instant, sleep, timeout};

use raw::RawWatch;
use stage::Stage;

#[global_allocator]
static HEAP: dhat::Alloc = dhat::Alloc;

/// How long anything that must come may take.
const PATIENCE: Duration = Duration::from_secs(60);
const CLIENTS: usize = 40;
/// Changes that the service remembers, and that happen when nobody reads any more.
const HISTORY: usize = 256;
const CHANGES: usize = 20_000;
/// What one of them may take, beside the log: what waits to be written, the rest of a frame, and its connection.
const EACH: usize = 144 << 10;
/// What a thread keeps for writing, whoever is written to.
const THREAD: usize = 128 << 10;
/// Pings go unanswered, and nobody is let go while it is measured.
const KEEPALIVE: Keepalive = Keepalive { interval: Duration::from_secs(20), timeout: Duration::from_secs(2) };

async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("{what}: did not come within {PATIENCE:?}"))
}

async fn until_streams(stage: &Stage, count: usize) {
    within("streams", async {
        while stage.listeners.count().1 != count {
            sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_client_that_reads_nothing_costs_no_more_than_its_buffers_and_nothing_once_it_is_let_go() {
    let _profiler = dhat::Profiler::builder().testing().build();
    let stage = Stage::new(1, HISTORY, &["default"]);
    stage.add("leaf");
    // The log is full before it is measured.
    stage.flap("leaf", 2 * HISTORY);
    let served = stage.serve(KEEPALIVE).await;
    let before = dhat::HeapStats::get().curr_bytes;
    let mut deaf = Vec::new();
    for _ in 0..CLIENTS {
        deaf.push(RawWatch::ask(served.address, &WatchPeerStatusRequest::default()).await);
    }
    until_streams(&stage, CLIENTS).await;
    let begin = Instant::now();
    // As much at a time as the log has, so that they are told of all of it until they are stuck.
    let reached = || {
        stage
            .listeners
            .list(None, CLIENTS, &ListenerScope::All)
            .iter()
            .map(|listener| listener.cursor.revision)
            .max()
    };
    let (mut last, mut still) = (None, 0);
    while still < 20 {
        assert!(begin.elapsed() < KEEPALIVE.interval, "too slow to tell: {:?}", begin.elapsed());
        stage.flap("leaf", HISTORY / 2);
        sleep(Duration::from_millis(20)).await;
        still = if reached() == last { still + 1 } else { 0 };
        last = reached();
    }
    stage.flap("leaf", CHANGES);
    let lag =
        stage.listeners.list(None, CLIENTS, &ListenerScope::All).iter().map(|listener| listener.lag).min();
    assert!(lag > Some(20_000), "they are stuck: {lag:?}");
    let most = dhat::HeapStats::get().max_bytes - before;
    println!("{} bytes for each of {CLIENTS}", most / CLIENTS);
    assert!(most <= CLIENTS * EACH, "{} bytes for each", most / CLIENTS);
    // They answer no ping, so they go.
    until_streams(&stage, 0).await;
    within("memory", async {
        while dhat::HeapStats::get().curr_bytes > before + THREAD + CLIENTS * 1024 {
            sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    drop(deaf);
    served.stop().await;
}
