//! Connections of clients: incomplete handshakes, connection limits, clients that do not read, and closing.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    time::{Duration, Instant},
};

use futures_util::future::select_all;
use opflex_peerstatus::{
    api::pb::{
        GetPoolRequest, ListPeersRequest, WatchPeerStatusRequest, pool_service_client::PoolServiceClient,
    },
    peer::PeerOrigin,
    server::{Keepalive, ServerOptions},
    status::Update,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use crate::support::{
    RawClient, RawWatch, Server, Stage,
    raw::{ACK, DATA, END_STREAM, GOAWAY, HEADERS, LARGEST_WINDOW, PING, PREFACE, RST_STREAM, WINDOW_UPDATE},
    settings, within,
};

/// How long a client may take to speak HTTP/2.
const HANDSHAKE: Duration = Duration::from_secs(10);
const HEALTH_CHECK: &str = "/grpc.health.v1.Health/Check";
const LIST_PEERS: &str = "/opflex.peerstatus.v1.PoolService/ListPeers";
/// Responses that a client may leave unread before it has to wait for more: each is a quarter of a MiB, and 1 MiB may
/// wait.
const EACH: u32 = 4;
/// Bytes of responses that may wait to be read in all.
const RESPONSES: usize = 64 << 20;
/// Bytes of incomplete requests that may wait in all.
const REQUESTS: usize = 64 << 20;
/// Calls that need no credentials.
const UNAUTHENTICATED_CALLS: u32 = 1024;

async fn connect(address: SocketAddr) -> TcpStream {
    within("a connection", TcpStream::connect(address)).await.expect("a connection")
}

/// A connection that has said this and says nothing more.
async fn saying(address: SocketAddr, bytes: &[u8]) -> TcpStream {
    let mut stream = connect(address).await;
    stream.write_all(bytes).await.expect("it is taken");
    stream
}

/// How long it takes until the service hangs up. What it says until then is read.
async fn hung_up(mut stream: TcpStream) -> Duration {
    let begin = Instant::now();
    let mut read = Vec::new();
    let _ = within("the end of the connection", stream.read_to_end(&mut read)).await;
    begin.elapsed()
}

fn everything() -> WatchPeerStatusRequest {
    WatchPeerStatusRequest::default()
}

#[tokio::test]
async fn whoever_does_not_speak_http2_is_let_go_in_time_and_holds_up_nobody() {
    let stage = Stage::new(1, 1 << 10, &["default"]);
    let served = stage.serve(Keepalive::default()).await;
    stage.add("leaf");
    // What can't become HTTP/2 is refused at once.
    for wrong in [
        &b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"[..],
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        &[0xff; 4096],
        &[0; 24],
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\r",
    ] {
        let lasted = hung_up(saying(served.address, wrong).await).await;
        assert!(lasted < HANDSHAKE / 2, "{wrong:?}: {lasted:?}");
    }
    let silent = tokio::spawn(hung_up(connect(served.address).await));
    let half = tokio::spawn(hung_up(saying(served.address, &PREFACE[..12]).await));
    let mut other = RawClient::connect(served.address, LARGEST_WINDOW).await;
    other.watch(1, &everything()).await;
    other.data(1).await;
    for ended in [silent, half] {
        let lasted = ended.await.unwrap();
        assert!(lasted > HANDSHAKE / 2 && lasted < 2 * HANDSHAKE, "{lasted:?}");
    }
    stage.flap("leaf", 1);
    other.data(1).await;
    drop(other);
    served.stop().await;
}

#[tokio::test]
async fn a_stop_does_not_wait_for_those_who_have_not_spoken_and_says_goaway_to_those_who_have() {
    let mut config = settings(&[]);
    config.server.drain_timeout = Duration::from_secs(25);
    let server = Server::start_with(config).await;
    let silent = connect(server.address()).await;
    let half = saying(server.address(), &PREFACE[..20]).await;
    let mut idle = RawClient::connect(server.address(), LARGEST_WINDOW).await;
    let mut watching = RawClient::connect(server.address(), LARGEST_WINDOW).await;
    watching.watch(1, &everything()).await;
    watching.data(1).await;
    // It has been taken in when the one after it is served.
    server.pool().await;
    let begin = Instant::now();
    server.begin_stop();
    let ended = tokio::spawn(server.stop());
    for client in [&mut idle, &mut watching] {
        let mut said_goaway = false;
        while let Some(frame) = client.frame().await {
            said_goaway |= frame.kind == GOAWAY;
        }
        assert!(said_goaway);
    }
    within("the end of the service", ended).await.unwrap();
    assert!(begin.elapsed() < Duration::from_secs(12), "{:?}", begin.elapsed());
    for stream in [silent, half] {
        hung_up(stream).await;
    }
}

#[tokio::test]
async fn those_who_have_not_spoken_are_let_go_at_the_stop_though_others_take_their_time() {
    let stage = Stage::new(1, 1 << 10, &["default"]);
    let served = stage.serve(Keepalive::default()).await;
    let mut slow = RawClient::connect(served.address, LARGEST_WINDOW).await;
    slow.watch(1, &everything()).await;
    slow.data(1).await;
    let silent = connect(served.address).await;
    let half = saying(served.address, &PREFACE[..20]).await;
    let begin = Instant::now();
    let stopped = tokio::spawn(served.stop());
    for stream in [silent, half] {
        hung_up(stream).await;
    }
    assert!(begin.elapsed() < HANDSHAKE / 2, "{:?}", begin.elapsed());
    assert!(!stopped.is_finished(), "the other one is still there");
    drop(slow);
    stopped.await.unwrap();
}

#[tokio::test]
async fn a_stop_takes_no_longer_than_the_drain_whatever_clients_do() {
    let mut config = settings(&[]);
    config.server.drain_timeout = Duration::from_secs(1);
    let server = Server::start_with(config).await;
    let address = server.address();
    let mut greeted = Vec::new();
    for _ in 0..3 {
        greeted.push(RawClient::connect(address, 0).await);
    }
    // One stays silent, one has a watch without room, and one a request that is not complete.
    greeted[1].watch(1, &everything()).await;
    greeted[2].begin(1, LIST_PEERS).await;
    let deaf = RawWatch::ask(address, &everything()).await;
    let others = [connect(address).await, saying(address, &PREFACE[..1]).await, saying(address, b"no").await];
    let mut watch = server.watch().await;
    watch.synced().await;
    let begin = Instant::now();
    server.begin_stop();
    let end = watch.end().await.unwrap_err();
    assert_eq!(end.code(), tonic::Code::Unavailable);
    server.stop().await;
    let lasted = begin.elapsed();
    assert!(lasted < Duration::from_secs(10), "{lasted:?}");
    for client in greeted {
        client.ended().await;
    }
    drop((deaf, others));
}

#[tokio::test]
async fn one_connection_more_than_there_may_be_waits_until_another_ends() {
    let stage = Stage::new(1, 1 << 10, &["default"]);
    let served = stage.serve_with(ServerOptions { connections: 2, ..ServerOptions::default() }).await;
    let mut clients = Vec::new();
    for number in 0..3 {
        let mut client = RawClient::connect(served.address, LARGEST_WINDOW).await;
        client.watch(1, &everything()).await;
        if number < 2 {
            // It is admitted: before that, it would give way.
            client.data(1).await;
        }
        clients.push(client);
    }
    let mut waits = clients.pop().unwrap();
    assert!(timeout(Duration::from_millis(300), waits.any_frame()).await.is_err(), "it is not taken in yet");
    assert_eq!(stage.listeners.count().1, 2);
    drop(clients.pop());
    waits.data(1).await;
    drop((clients, waits));
    served.stop().await;
}

#[tokio::test]
async fn a_head_that_is_too_long_is_refused_and_the_connection_stays() {
    let stage = Stage::new(1, 1 << 10, &["default"]);
    let served = stage.serve(Keepalive::default()).await;
    let (mut http, connection) =
        h2::client::Builder::new().handshake(connect(served.address).await).await.unwrap();
    let connection = tokio::spawn(connection);
    for (length, accepted) in [(8 << 10, true), (20 << 10, false), (100, true)] {
        let request = http::Request::post(format!("http://test{LIST_PEERS}"))
            .header("content-type", "application/grpc")
            .header("long", "x".repeat(length))
            .body(())
            .unwrap();
        http = http.ready().await.unwrap();
        let (response, mut body) = http.send_request(request, false).unwrap();
        // Too late, if it was refused already.
        let _ = body.send_data(bytes::Bytes::from_static(&[0; 5]), true);
        let response = within("an answer", response).await;
        let status = response.map(|response| response.status().as_u16());
        if accepted {
            assert_eq!(status.unwrap(), 200);
        } else {
            assert_eq!(status.unwrap(), 431);
        }
    }
    drop(http);
    within("the end of the connection", connection).await.unwrap().unwrap();
    served.stop().await;
}

/// Waits until so many calls are answered, and says how many of them with a status alone: they were refused.
async fn refusals(client: &mut RawClient, answers: usize) -> usize {
    let (mut begun, mut answered, mut refused) = (BTreeSet::new(), 0, 0);
    loop {
        let frame = within("a frame", client.any_frame()).await.expect("the connection goes on");
        let is_end = frame.flags & END_STREAM != 0;
        match frame.kind {
            HEADERS => {
                answered += usize::from(begun.insert(frame.stream));
                refused += usize::from(is_end);
                if answered == answers {
                    // Their trailers come with the last headers.
                    client.send(PING, 0, 0, &[7; 8]).await;
                }
            }
            PING if frame.flags & ACK != 0 => return refused,
            _ => {}
        }
    }
}

/// A pool of which a page is as large as pages are.
fn crowded() -> Stage {
    let stage = Stage::new(1, 1 << 10, &["default"]);
    for number in 0..700 {
        let host = format!("leaf-{number}");
        stage.publish("default", &host, Update::added(PeerOrigin::Configured));
        stage.flap(&host, 1);
    }
    stage
}

#[tokio::test]
async fn responses_that_nobody_reads_are_bounded_in_memory_and_time_and_others_are_answered() {
    let stage = crowded();
    let served = stage.serve(Keepalive::default()).await;
    let url = format!("http://{}", served.address);
    let mut other = PoolServiceClient::connect(url).await.unwrap();
    let page = other.list_peers(ListPeersRequest::default()).await.unwrap().into_inner();
    let length = prost::Message::encoded_len(&page);
    assert!((200 << 10..=257 << 10).contains(&length), "{length}");
    assert!(!page.next_page_token.is_empty());
    let (mut unread, mut refused) = (Vec::new(), 0);
    while refused == 0 {
        assert!(unread.len() * length * 4 <= RESPONSES + (8 << 20), "nothing is refused");
        let mut client = RawClient::connect(served.address, 0).await;
        for stream in 0..EACH {
            client.ask(2 * stream + 1, LIST_PEERS, &ListPeersRequest::default()).await;
        }
        refused += refusals(&mut client, EACH as usize).await;
        unread.push(client);
    }
    assert!(unread.len() >= RESPONSES / (length + 5) / 4, "{}", unread.len());
    // Modest responses are sent all the same.
    let request = GetPoolRequest { name: "pools/default".to_owned() };
    within("an answer", other.get_pool(request)).await.unwrap();
    let few = ListPeersRequest { page_size: 50, ..Default::default() };
    within("an answer", other.list_peers(few)).await.unwrap();
    // Those that are not read are ended after half a minute, though their clients answer pings.
    let begin = Instant::now();
    let mut ended = 0;
    let first = &mut unread[0];
    while ended < EACH {
        let frame = first.frame().await.expect("the connection goes on");
        ended += u32::from(frame.kind == RST_STREAM);
    }
    assert!((20..40).contains(&begin.elapsed().as_secs()), "{:?}", begin.elapsed());
    within("room", async {
        while other.list_peers(ListPeersRequest::default()).await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    drop((other, unread));
    served.stop().await;
}

#[tokio::test]
async fn who_asks_faster_than_it_reads_waits_for_its_own_answers_and_gets_all_of_them() {
    let stage = crowded();
    let served = stage.serve(Keepalive::default()).await;
    let mut client = RawClient::connect(served.address, 0).await;
    for stream in 0..100 {
        client.ask(2 * stream + 1, LIST_PEERS, &ListPeersRequest::default()).await;
    }
    let mut begun = Vec::new();
    while let Ok(frame) = timeout(Duration::from_millis(500), client.any_frame()).await {
        let frame = frame.expect("the connection goes on");
        if frame.kind == HEADERS {
            begun.push(frame.stream);
        }
    }
    assert!((4..=6).contains(&begun.len()), "{}", begun.len());
    let mut ended = 0;
    while ended < 100 {
        for stream in begun.drain(..) {
            client.make_room(stream, 1 << 20).await;
        }
        let frame = client.frame().await.expect("the connection goes on");
        assert!(frame.kind != RST_STREAM, "{frame:?}");
        if frame.kind == HEADERS && frame.flags & END_STREAM == 0 {
            begun.push(frame.stream);
        }
        ended += usize::from(frame.kind == HEADERS && frame.flags & END_STREAM != 0);
    }
    drop(client);
    served.stop().await;
}

#[tokio::test]
async fn a_client_that_sends_no_more_gets_what_it_asked_for() {
    let stage = crowded();
    let served = stage.serve(Keepalive::default()).await;
    let mut client = RawClient::connect(served.address, LARGEST_WINDOW).await;
    for stream in 0..3 {
        client.ask(2 * stream + 1, LIST_PEERS, &ListPeersRequest::default()).await;
    }
    client.half_close().await;
    let mut ended = 0;
    while let Some(frame) = within("a frame", client.any_frame()).await {
        ended += usize::from(frame.kind == HEADERS && frame.flags & END_STREAM != 0);
    }
    assert_eq!(ended, 3);
    // A watch ends with its client.
    let mut client = RawClient::connect(served.address, LARGEST_WINDOW).await;
    client.watch(1, &everything()).await;
    client.data(1).await;
    client.half_close().await;
    client.ended().await;
    served.stop().await;
}

#[tokio::test]
async fn requests_that_are_never_complete_are_bounded_in_all_and_short_ones_go_on() {
    let stage = Stage::new(1, 1 << 10, &["default"]);
    let served = stage.serve(Keepalive::default()).await;
    let mut other = PoolServiceClient::connect(format!("http://{}", served.address)).await.unwrap();
    let part = [&[0, 0, 0, 0xea, 0x60][..], &[7; 12_000]].concat();
    let mut clients = Vec::new();
    // As many as fit into the window of a connection, and more than fit into memory.
    for _ in 0..REQUESTS / (5 * 48_000) + 10 {
        let mut client = RawClient::connect(served.address, LARGEST_WINDOW).await;
        while client.any_frame().await.unwrap().kind != WINDOW_UPDATE {}
        for stream in 0..5 {
            client.begin(2 * stream + 1, LIST_PEERS).await;
            for _ in 0..4 {
                client.send(DATA, 0, 2 * stream + 1, &part).await;
            }
        }
        clients.push(client);
    }
    // Whose requests they are depends on the turns in which the service reads.
    let refused = clients.iter_mut().map(|client| Box::pin(refusals(client, 1)));
    assert!(select_all(refused).await.0 > 0, "some are refused");
    // Others ask as before, even at some length, as with a token.
    let mut request = tonic::Request::new(GetPoolRequest { name: "pools/default".to_owned() });
    request.metadata_mut().insert("x-long", "x".repeat(8_000).parse().unwrap());
    within("an answer", other.get_pool(request)).await.unwrap();
    drop(clients);
    let request = GetPoolRequest { name: "pools/default".to_owned() };
    within("an answer", other.get_pool(request)).await.unwrap();
    drop(other);
    served.stop().await;
}

#[tokio::test]
async fn calls_that_need_no_credentials_are_bounded_on_each_connection_and_in_all() {
    const OF_A_CONNECTION: u32 = 32;
    let stage = Stage::new(1, 1 << 10, &["default"]);
    let served = stage.serve(Keepalive::default()).await;
    let mut clients = Vec::new();
    for _ in 0..=UNAUTHENTICATED_CALLS / OF_A_CONNECTION {
        let mut client = RawClient::connect(served.address, LARGEST_WINDOW).await;
        for stream in 0..=OF_A_CONNECTION {
            client.begin(2 * stream + 1, HEALTH_CHECK).await;
        }
        assert_eq!(refusals(&mut client, 1).await, 1, "the last one is too many");
        clients.push(client);
    }
    // The oldest were ended for them.
    assert!(refusals(&mut clients[0], 1).await >= 1);
    let mut other = PoolServiceClient::connect(format!("http://{}", served.address)).await.unwrap();
    let request = GetPoolRequest { name: "pools/default".to_owned() };
    within("an answer", other.get_pool(request)).await.unwrap();
    drop((clients, other));
    served.stop().await;
}

#[tokio::test]
async fn requests_that_are_reset_while_answers_wait_do_not_pile_up() {
    let stage = crowded();
    let served = stage.serve(Keepalive::default()).await;
    let mut client = RawClient::connect(served.address, 0).await;
    for stream in 0..20 {
        client.ask(2 * stream + 1, LIST_PEERS, &ListPeersRequest::default()).await;
    }
    // Nothing more is begun, and what is begun here is not wanted.
    for stream in 20..500 {
        client.ask(2 * stream + 1, LIST_PEERS, &ListPeersRequest::default()).await;
        client.send(RST_STREAM, 0, 2 * stream + 1, &8_u32.to_be_bytes()).await;
    }
    client.send(PING, 0, 0, &[7; 8]).await;
    loop {
        let frame = within("a frame", client.any_frame()).await.expect("the connection goes on");
        assert!(frame.kind != HEADERS || frame.stream < 41, "what was reset is not answered");
        if frame.kind == PING && frame.flags & ACK != 0 {
            break;
        }
    }
    drop(client);
    served.stop().await;
}
