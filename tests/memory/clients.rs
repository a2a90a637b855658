//! What clients can make the service allocate. One that reads nothing has what fits in a few buffers, however much there is
//! to be told, and nothing once it is let go. A principal has its share, on however many connections it asks for pages and
//! reads none of them, or begins requests and ends none.
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

use std::{fs, future::Future, sync::Arc, time::Duration};

use futures_util::future::join_all;
use opflex_peerstatus::{
    api::{
        JsonGateway, TransitionsQuery,
        pb::{ListPoolsRequest, ListTransitionsRequest, WatchPeerStatusRequest},
    },
    auth::{AccessRole, Auth, AuthSettings, NewToken},
    server::{Access, Keepalive, ServerOptions},
    status::ListenerScope,
};
use tokio::{
    sync::Mutex,
    time::{Instant, sleep, timeout},
};

use raw::{DATA, END_HEADERS, END_STREAM, HEADERS, LARGEST_WINDOW, RawClient, RawWatch};
use stage::{Served, Stage};

#[global_allocator]
static HEAP: dhat::Alloc = dhat::Alloc;

/// There is one heap, so they are measured one after the other.
static TURN: Mutex<()> = Mutex::const_new(());
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
/// Connections of one principal, and calls on each of them.
const CONNECTIONS: usize = 40;
const CALLS: u32 = 100;
/// What a principal may have of responses, and of incomplete requests, with the minimum of its connections.
const SHARE: usize = 32 << 20;
/// What it may have beside: a call that waits, and a connection.
const CALL: usize = 20 << 10;
const CONNECTION: usize = 64 << 10;
/// A page while it is made, by each of two threads.
const PAGES: usize = 2 * (4 << 20);
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
    let _turn = TURN.lock().await;
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

/// Serves a stage, for a principal with this token.
async fn serve_one_principal(stage: &Stage) -> (Served, String) {
    let folder = tempfile::tempdir().unwrap();
    let NewToken { token, line } = NewToken::generate("greedy", AccessRole::Viewer).unwrap();
    let file = folder.path().join("tokens");
    fs::write(&file, line).unwrap();
    let auth = Auth::load(AuthSettings { tokens: Some(file), ..AuthSettings::default() }).unwrap();
    let access = Access::new(None, Arc::new(auth));
    let options = ServerOptions { keepalive: KEEPALIVE, threads: 2, ..ServerOptions::default() };
    (stage.serve_for(options, access).await, token)
}

/// A header in HPACK, with literals of any length.
fn header(name: &str, value: &str) -> Vec<u8> {
    let mut block = vec![0];
    for word in [name, value] {
        let mut left = word.len();
        if let Some(beyond) = left.checked_sub(127) {
            block.push(127);
            left = beyond;
            while left >= 128 {
                block.push(u8::try_from(left % 128).unwrap() | 128);
                left /= 128;
            }
        }
        block.push(u8::try_from(left).unwrap());
        block.extend(word.bytes());
    }
    block
}

/// A request of a principal, or only its beginning.
async fn ask(client: &mut RawClient, stream: u32, path: &str, more: &[Vec<u8>], body: &[u8], flags: u8) {
    let head = [raw::headers(path), more.concat()].concat();
    client.send(HEADERS, END_HEADERS, stream, &head).await;
    client.send(DATA, flags, stream, body).await;
}

fn message(message: &impl prost::Message) -> Vec<u8> {
    let message = message.encode_to_vec();
    [&[0][..], &u32::try_from(message.len()).unwrap().to_be_bytes(), &message].concat()
}

/// Until so many streams have headers; how many were refused after that.
async fn until_answered(client: &mut RawClient, streams: usize) -> usize {
    let (mut answered, mut refused) = (std::collections::BTreeSet::new(), 0);
    while answered.len() < streams {
        let frame = client.frame().await.expect("the connection goes on");
        if frame.kind == HEADERS && !answered.insert(frame.stream) {
            refused += 1;
        }
    }
    refused
}

#[tokio::test]
async fn pages_that_a_principal_does_not_read_take_no_more_than_its_share_on_however_many_connections() {
    const PATH: &str = "/opflex.peerstatus.v1.PoolService/ListTransitions";
    const PAGES_EACH: u32 = 8;
    let _turn = TURN.lock().await;
    let _profiler = dhat::Profiler::builder().testing().build();
    let stage = Stage::new(1, 4_096, &["default"]);
    stage.add("leaf");
    stage.flap("leaf", 2_000);
    let (served, token) = serve_one_principal(&stage).await;
    let token = header("authorization", &format!("Bearer {token}"));
    let request = message(&ListTransitionsRequest { page_size: 5_000, ..ListTransitionsRequest::default() });
    let before = dhat::HeapStats::get().curr_bytes;
    let mut clients = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut client = RawClient::connect(served.address, 0).await;
        for number in 0..PAGES_EACH {
            ask(&mut client, 2 * number + 1, PATH, std::slice::from_ref(&token), &request, END_STREAM).await;
        }
        clients.push(client);
    }
    let calls = usize::try_from(PAGES_EACH).unwrap();
    let refused: usize =
        join_all(clients.iter_mut().map(|client| until_answered(client, calls))).await.iter().sum();
    let most = dhat::HeapStats::get().max_bytes - before;
    let all = CONNECTIONS * calls;
    println!("{} KiB for {all} pages, of which {refused} and more were refused", most >> 10);
    assert!(most <= SHARE + all * CALL + CONNECTIONS * CONNECTION + PAGES, "{most} bytes");
    assert!(most >= SHARE / 2, "pages were not even made: {most} bytes");
    drop(clients);
    served.stop().await;
}

#[tokio::test]
async fn requests_that_a_principal_does_not_end_take_no_more_than_its_share_on_however_many_connections() {
    const PATH: &str = "/opflex.peerstatus.v1.PoolService/ListPools";
    let _turn = TURN.lock().await;
    let stage = Stage::new(1, 256, &["default"]);
    let (served, token) = serve_one_principal(&stage).await;
    let token = header("authorization", &format!("Bearer {token}"));
    // Headers that nobody needs, and a little of a short message and of the longest.
    let more = [token.clone(), header("x-long", &"x".repeat(12 << 10))];
    let calls = CONNECTIONS * usize::try_from(CALLS).unwrap();
    for (announced, share) in [(100_u32, 0), (0xffff, SHARE)] {
        let part = [&[0][..], &announced.to_be_bytes(), &[0; 60]].concat();
        let profiler = dhat::Profiler::builder().testing().build();
        let mut clients = Vec::new();
        for _ in 0..CONNECTIONS {
            let mut client = RawClient::connect(served.address, LARGEST_WINDOW).await;
            for number in 0..CALLS {
                ask(&mut client, 2 * number + 1, PATH, &more, &part, 0).await;
            }
            clients.push(client);
        }
        // What they ask last is answered, or refused, when all of the others was read.
        let last = 2 * CALLS + 1;
        for client in &mut clients {
            let whole = message(&ListPoolsRequest::default());
            ask(client, last, PATH, std::slice::from_ref(&token), &whole, END_STREAM).await;
            while client.frame().await.expect("the connection goes on").stream != last {}
        }
        let most = dhat::HeapStats::get().max_bytes;
        println!("{} KiB for {calls} requests of {announced} bytes", most >> 10);
        assert!(most <= share + calls * CALL + CONNECTIONS * CONNECTION, "{most} bytes");
        assert!(most >= SHARE / 2, "they were not even read: {most} bytes");
        drop((profiler, clients));
    }
    served.stop().await;
}

/// On the admin port, which may have no authentication.
#[tokio::test]
async fn pages_of_json_are_encoded_one_after_the_other() {
    const PAGES: usize = 40;
    /// A page of 5,000 changes while it is encoded, and afterwards.
    const ENCODING: usize = 12 << 20;
    const ENCODED: usize = 1 << 20;
    let _turn = TURN.lock().await;
    let _profiler = dhat::Profiler::builder().testing().build();
    let stage = Stage::new(1, 8_192, &["default"]);
    stage.add("leaf");
    stage.flap("leaf", 6_000);
    let gateway = JsonGateway::new(stage.api.clone());
    let before = dhat::HeapStats::get().curr_bytes;
    let page = || gateway.transitions(TransitionsQuery { page_size: 5_000, ..TransitionsQuery::default() });
    let pages = join_all((0..PAGES).map(|_| page())).await;
    let most = dhat::HeapStats::get().max_bytes - before;
    let longest = pages.iter().map(|page| page.as_ref().unwrap().len()).max().unwrap();
    println!("{} KiB for {PAGES} pages of {} KiB", most >> 10, longest >> 10);
    assert!(most <= 2 * ENCODING + PAGES * ENCODED, "{most} bytes");
}
