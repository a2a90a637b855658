//! Streams: flow control, resets, multiplexing and keepalive.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use opflex_peerstatus::{
    api::pb::{
        Interest, ListenerFilter, WatchPeerStatusRequest,
        peer_status_service_client::PeerStatusServiceClient, watch_peer_status_response::Event as Said,
    },
    server::{Keepalive, ServerOptions},
    status::ListenerScope,
};
use tokio::time::timeout;
use tonic::Code;

use crate::support::{
    QUICK, RawClient, RawWatch, Stage, explain,
    raw::{DATA, END_STREAM, HEADERS, LARGEST_WINDOW, Messages, PING, RST_STREAM},
    within,
};

/// What HTTP/2 says of a stream that was not even begun.
const REFUSED_STREAM: [u8; 4] = 7_u32.to_be_bytes();
const CANCEL: [u8; 4] = 8_u32.to_be_bytes();
const STREAMS: u32 = 128;

/// Revisions of the changes that a stream has told of, without a gap in the chain.
#[derive(Default)]
struct Told {
    messages: Messages,
    changes: Vec<u64>,
    chain: Option<u64>,
}

impl Told {
    fn take(&mut self, data: &[u8]) {
        for message in self.messages.take(data) {
            if matches!(message.event, Some(Said::Change(_))) {
                assert_eq!(Some(message.previous_revision), self.chain, "a gap");
                self.changes.push(message.revision);
            }
            self.chain = Some(message.revision);
        }
    }

    /// Reads on until a change has come.
    async fn until(&mut self, client: &mut RawClient, stream: u32, revision: u64) {
        while self.chain < Some(revision) {
            self.take(&client.data(stream).await);
        }
    }
}

fn stage() -> Stage {
    let stage = Stage::new(1, 1 << 16, &["default"]);
    stage.add("leaf");
    stage
}

fn everything() -> WatchPeerStatusRequest {
    WatchPeerStatusRequest::default()
}

/// Waits until there are so many streams.
async fn until_streams(stage: &Stage, count: usize) {
    within("streams", async {
        while stage.listeners.count().1 != count {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_client_that_says_nothing_but_answers_pings_stays() {
    let stage = stage();
    let keepalive = Keepalive { interval: Duration::from_millis(10), timeout: Duration::from_millis(500) };
    let served = stage.serve(keepalive).await;
    let mut client = RawClient::connect(served.address, LARGEST_WINDOW).await;
    client.watch(1, &everything()).await;
    Told::default().until(&mut client, 1, 1).await;
    let mut pings = 0;
    while pings < 60 {
        let frame = within("a ping", client.any_frame()).await.expect("the connection stays");
        if frame.kind == PING {
            client.send(PING, 1, 0, &frame.payload).await;
            pings += 1;
        }
    }
    assert_eq!(stage.listeners.count().1, 1);
    drop(client);
    served.stop().await;
}

#[tokio::test]
async fn a_client_that_answers_no_ping_is_let_go() {
    let stage = stage();
    let served = stage.serve(QUICK).await;
    let mut client = RawClient::connect(served.address, LARGEST_WINDOW).await;
    client.watch(1, &everything()).await;
    let begin = Instant::now();
    client.ended().await;
    let lasted = begin.elapsed();
    assert!(lasted >= QUICK.timeout && lasted < Keepalive::default().interval, "{lasted:?}");
    until_streams(&stage, 0).await;
    served.stop().await;
}

#[tokio::test]
async fn a_stream_without_room_holds_up_no_other_and_misses_nothing_once_there_is_some() {
    let stage = stage();
    let served = stage.serve(Keepalive::default()).await;
    let mut client = RawClient::connect(served.address, 0).await;
    client.watch(1, &everything()).await;
    client.watch(3, &everything()).await;
    client.make_room(3, LARGEST_WINDOW).await;
    let mut other = Told::default();
    other.until(&mut client, 3, 1).await;
    for last in (11..=301).step_by(10) {
        stage.flap("leaf", 10);
        while other.chain < Some(last) {
            let frame = client.frame().await.expect("the connection goes on");
            assert!(frame.kind != DATA || frame.stream == 3, "there is no room for it: {frame:?}");
            if frame.kind == DATA {
                other.take(&frame.payload);
            }
        }
    }
    // A bit of room at a time, far less than a message.
    let mut stalled = Told::default();
    let (mut given, mut taken) = (0, 0);
    while stalled.chain < Some(301) {
        client.make_room(1, 777).await;
        given += 777;
        let data = client.data(1).await;
        taken += data.len();
        assert!(taken <= given, "{taken} bytes, and there was room for {given}");
        stalled.take(&data);
    }
    assert_eq!(other.changes, (2..=301).collect::<Vec<_>>());
    // It began when it asked, so it has them all, too.
    assert_eq!(stalled.changes, other.changes);
    drop(client);
    served.stop().await;
}

#[tokio::test]
async fn a_stream_that_is_reset_is_detached_at_once_and_the_others_go_on() {
    let stage = stage();
    let served = stage.serve(Keepalive::default()).await;
    let mut client = RawClient::connect(served.address, LARGEST_WINDOW).await;
    for stream in [1, 3, 5] {
        client.watch(stream, &everything()).await;
    }
    let mut told = Told::default();
    told.until(&mut client, 5, 1).await;
    until_streams(&stage, 3).await;
    for (stream, left) in [(1, 2), (3, 1)] {
        client.send(RST_STREAM, 0, stream, &CANCEL).await;
        until_streams(&stage, left).await;
    }
    stage.flap("leaf", 10);
    told.until(&mut client, 5, 11).await;
    drop(client);
    until_streams(&stage, 0).await;
    served.stop().await;
}

#[tokio::test]
async fn a_stream_is_reset_though_its_client_reads_nothing_any_more() {
    let stage = stage();
    let served = stage.serve(Keepalive::default()).await;
    let mut deaf = RawWatch::ask(served.address, &everything()).await;
    until_streams(&stage, 1).await;
    // Until what is sent is stuck.
    let reached =
        || stage.listeners.list(None, 1, &ListenerScope::All).pop().expect("a listener").cursor.revision;
    within("a full socket", async {
        let (mut last, mut still) = (0, 0);
        while still < 10 {
            stage.flap("leaf", 200);
            tokio::time::sleep(Duration::from_millis(20)).await;
            still = if reached() == last { still + 1 } else { 0 };
            last = reached();
        }
    })
    .await;
    deaf.client().send(RST_STREAM, 0, 1, &CANCEL).await;
    until_streams(&stage, 0).await;
    drop(deaf);
    served.stop().await;
}

#[tokio::test]
async fn a_connection_that_is_read_slowly_hears_of_each_of_its_streams_in_turn() {
    let stage = stage();
    let served = stage.serve(Keepalive::default()).await;
    let mut slow = RawWatch::ask(served.address, &everything()).await;
    let client = slow.client();
    for stream in 1..STREAMS {
        client.watch(2 * stream + 1, &everything()).await;
    }
    until_streams(&stage, 128).await;
    let mut heard = BTreeMap::<u32, usize>::new();
    let begin = Instant::now();
    // More than how it begins.
    let count = |heard: &BTreeMap<u32, usize>| heard.values().filter(|bytes| **bytes > 8 * 1024).count();
    while count(&heard) < 128 {
        // More than is read meanwhile, for each of the first alone.
        stage.flap("leaf", 500);
        let mut read = 0;
        while read < 256 * 1024 {
            let frame = client.frame().await.expect("the connection goes on");
            if frame.kind == DATA {
                *heard.entry(frame.stream).or_default() += frame.payload.len();
            }
            read += frame.payload.len();
        }
        assert!(begin.elapsed() < Duration::from_secs(25), "only {} have heard", count(&heard));
    }
    drop(slow);
    served.stop().await;
}

#[tokio::test]
async fn a_connection_has_128_streams_and_more_are_refused_until_one_ends() {
    let stage = stage();
    let served = stage.serve(Keepalive::default()).await;
    let mut client = RawClient::connect(served.address, LARGEST_WINDOW).await;
    for stream in 0..STREAMS + 2 {
        client.watch(2 * stream + 1, &everything()).await;
    }
    let mut refused = Vec::new();
    while refused.len() < 2 {
        let frame = client.frame().await.expect("the connection goes on");
        if frame.kind == RST_STREAM {
            assert_eq!(frame.payload, REFUSED_STREAM);
            refused.push(frame.stream);
        }
    }
    assert_eq!(refused, [257, 259]);
    until_streams(&stage, 128).await;
    client.send(RST_STREAM, 0, 1, &CANCEL).await;
    until_streams(&stage, 127).await;
    client.watch(261, &everything()).await;
    Told::default().until(&mut client, 261, 1).await;
    drop(client);
    served.stop().await;
}

/// How many DATA frames it takes to hear of 20 changes that are published one after the other.
async fn frames_for_twenty(pacing: Duration) -> (usize, Duration) {
    let stage = stage();
    let served = stage.serve_with(ServerOptions { pacing, ..ServerOptions::default() }).await;
    let mut client = RawClient::connect(served.address, LARGEST_WINDOW).await;
    client.watch(1, &everything()).await;
    let mut told = Told::default();
    told.until(&mut client, 1, 1).await;
    // What was there before is told, and then it is quiet.
    tokio::time::sleep(2 * pacing).await;
    let begin = Instant::now();
    stage.flap("leaf", 1);
    told.until(&mut client, 1, 2).await;
    let first = begin.elapsed();
    let mut frames = 0;
    for _ in 0..20 {
        stage.flap("leaf", 1);
        // With no pacing, each comes by itself.
        if pacing.is_zero() {
            let last = told.chain;
            told.take(&client.data(1).await);
            assert!(told.chain > last);
            frames += 1;
        }
    }
    while told.chain < Some(22) {
        told.take(&client.data(1).await);
        frames += 1;
    }
    assert_eq!(told.changes, (2..=22).collect::<Vec<_>>());
    drop(client);
    served.stop().await;
    (frames, first)
}

#[tokio::test]
async fn what_follows_a_change_is_told_together_but_the_first_after_a_quiet_time_at_once() {
    let pacing = Duration::from_millis(500);
    let (frames, first) = frames_for_twenty(pacing).await;
    assert!(frames <= 4, "they were sent in {frames} frames, though several fit into one");
    assert!(first < pacing, "{first:?}");
}

#[tokio::test]
async fn without_pacing_each_change_is_told_at_once() {
    let (frames, _) = frames_for_twenty(Duration::ZERO).await;
    assert_eq!(frames, 20);
}

#[tokio::test]
async fn filters_that_are_as_much_work_as_can_be_hold_up_nobody() {
    let stage = stage();
    let host = "a".repeat(250);
    stage.flap("leaf", 1);
    stage.add(&host);
    let served = stage.serve(Keepalive::default()).await;
    // As long as they may be in all, and each is wrong about the last letter only.
    let globs =
        ["*a".repeat(150) + "*b", "*".to_owned() + &"a".repeat(160) + "b", "*aaaaaaaaa?".repeat(25) + "b"];
    let peers: Vec<_> = globs.iter().cycle().take(16).cloned().collect();
    assert!((3_500..=4_096).contains(&peers.concat().len()));
    let filter =
        Some(ListenerFilter { peers, interests: vec![Interest::Peers.into()], ..Default::default() });
    let hard = WatchPeerStatusRequest { filter, ..everything() };
    let mut busy = RawClient::connect(served.address, LARGEST_WINDOW).await;
    for stream in 0..8 {
        busy.watch(2 * stream + 1, &hard).await;
    }
    let mut client = RawClient::connect(served.address, LARGEST_WINDOW).await;
    client.watch(1, &everything()).await;
    let mut told = Told::default();
    told.until(&mut client, 1, 3).await;
    until_streams(&stage, 9).await;
    let mut slowest = Duration::ZERO;
    for revision in 4..=203 {
        let begin = Instant::now();
        stage.flap(&host, 1);
        told.until(&mut client, 1, revision).await;
        slowest = slowest.max(begin.elapsed());
    }
    assert!(slowest < Duration::from_secs(5), "{slowest:?}");
    within("the others", async {
        while stage.listeners.list(None, 9, &ListenerScope::All).iter().any(|listener| listener.lag > 0) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    drop((busy, client));
    served.stop().await;
}

#[tokio::test]
async fn a_request_that_is_never_complete_holds_up_nobody_and_goes_with_its_stream() {
    let stage = stage();
    let served = stage.serve(Keepalive::default()).await;
    let mut client = RawClient::connect(served.address, LARGEST_WINDOW).await;
    client.begin(1, "/opflex.peerstatus.v1.PoolService/ListPools").await;
    client.send(DATA, 0, 1, &[0, 0, 0, 1, 0, 7]).await;
    client.watch(3, &everything()).await;
    Told::default().until(&mut client, 3, 1).await;
    client.send(DATA, END_STREAM, 1, &[]).await;
    // An error, without anything before it: headers that are the end.
    let end = loop {
        let frame = client.frame().await.expect("the connection goes on");
        if frame.stream == 1 {
            break frame;
        }
    };
    assert_eq!((end.kind, end.flags & END_STREAM), (HEADERS, END_STREAM));
    assert!(timeout(Duration::from_millis(50), client.any_frame()).await.is_err(), "and nothing else");
    drop(client);
    served.stop().await;
}

#[tokio::test]
async fn a_deadline_ends_a_stream_too_after_what_it_has_said() {
    let stage = stage();
    let served = stage.serve(Keepalive::default()).await;
    let url = format!("http://{}", served.address);
    let mut client = PeerStatusServiceClient::connect(url).await.unwrap();
    let mut request = tonic::Request::new(everything());
    request.metadata_mut().insert("grpc-timeout", "500m".parse().unwrap());
    let mut watch = client.watch_peer_status(request).await.unwrap().into_inner();
    let mut messages = 0;
    let status = within("the end", async {
        loop {
            match watch.message().await {
                Ok(message) => messages += usize::from(message.is_some()),
                Err(status) => break status,
            }
        }
    })
    .await;
    assert_eq!(explain(&status), (Code::DeadlineExceeded, "DEADLINE_EXCEEDED".to_owned(), vec![]));
    assert!(messages >= 3, "{messages}");
    until_streams(&stage, 0).await;
    drop(client);
    served.stop().await;
}
