//! Clients that flood the service or exhaust its limits: others are not affected, and its memory does not grow.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use opflex_peerstatus::api::pb::{
    AddPeerRequest, ChangeKind, GetPoolRequest, ListPeersRequest, RemovePeerRequest, WatchPeerStatusRequest,
    peer_status_service_client::PeerStatusServiceClient, pool_service_client::PoolServiceClient,
};
use rustix::process::{Resource, getrlimit};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::{JoinHandle, JoinSet},
    time::interval,
};

use crate::support::{
    Authority, ClientFiles, Process, RawClient, Server, Watch, peerstatus,
    raw::{
        CONTINUATION, DATA, END_HEADERS, END_STREAM, Frame, HEADERS, LARGEST_WINDOW, PADDED, PING, PREFACE,
        PRIORITY, RST_STREAM, SETTINGS, WINDOW_UPDATE, headers,
    },
    settings, within,
};

const LIST_PEERS: &str = "/opflex.peerstatus.v1.PoolService/ListPeers";
/// A peer that comes and goes. Nobody listens there.
const PEER: &str = "pools/default/peers/127.0.0.1:1";
/// Reasons for which HTTP/2 ends a connection.
const PROTOCOL_ERROR: u32 = 1;
const FLOW_CONTROL_ERROR: u32 = 3;
const ENHANCE_YOUR_CALM: u32 = 11;
/// What an attack may cost, in KiB: the service has less than that for two hundred idle clients.
const MARGIN: u64 = 24 * 1024;
/// What a client that is silent may cost in all: buffers of the kernel are not ours.
const EACH_SILENT: u64 = 3;
/// Connections of those who use many.
const MANY: usize = 40;

/// The service in a process of its own, and a client that watches it.
struct Scene {
    process: Process,
    address: SocketAddr,
    watch: Watch,
    resident: u64,
    _files: ClientFiles,
}

impl Scene {
    async fn set() -> Self {
        let files = ClientFiles::new();
        let config =
            files.write("peerstatus.toml", "[log]\nlevel = \"error\"\n[[pool]]\nname = \"default\"\n");
        let config = config.to_str().unwrap();
        let mut process =
            Process::start_with_unread_logs(&["serve", "--listen", "127.0.0.1:0", "--config", config]);
        let address: SocketAddr = process.address().await.parse().unwrap();
        let mut client = PeerStatusServiceClient::connect(format!("http://{address}")).await.unwrap();
        let watch = client.watch_peer_status(WatchPeerStatusRequest::default()).await.unwrap().into_inner();
        let mut scene = Self { process, address, watch: Watch::new(watch), resident: 0, _files: files };
        scene.watch.synced().await;
        scene.goes_on().await;
        scene.resident = scene.process.resident();
        scene
    }

    /// A new client gets in and changes something, and the old one hears of it, with nothing missing in between.
    async fn goes_on(&mut self) {
        let url = format!("http://{}", self.address);
        let mut client = within("a new client", PoolServiceClient::connect(url)).await.unwrap();
        let request = AddPeerRequest { parent: "pools/default".into(), host: "127.0.0.1".into(), port: 1 };
        within("an answer", client.add_peer(request)).await.unwrap();
        self.until(ChangeKind::Added).await;
        within("an answer", client.remove_peer(RemovePeerRequest { name: PEER.into() })).await.unwrap();
        self.until(ChangeKind::Removed).await;
        let request = GetPoolRequest { name: "pools/default".into() };
        within("an answer", client.get_pool(request)).await.unwrap();
    }

    async fn until(&mut self, kind: ChangeKind) {
        while self.watch.change().await.0.peer.is_none_or(|change| change.kind() != kind) {}
    }

    /// The same again and again, as long as an attack lasts, and once after it.
    async fn goes_on_during<T>(&mut self, attack: JoinHandle<T>) -> T {
        while !attack.is_finished() {
            self.goes_on().await;
        }
        self.goes_on().await;
        attack.await.unwrap()
    }

    /// How much memory it has more than at the beginning.
    fn grown(&self) -> u64 {
        self.process.resident().saturating_sub(self.resident)
    }

    async fn end(self) {
        let grown = self.grown();
        assert!(grown < MARGIN, "{grown} KiB");
        drop(self.watch);
        self.process.signal("TERM").await;
        let said = self.process.last_words().await;
        assert!(said.is_empty(), "nothing is wrong, and nothing has panicked: {said}");
    }
}

/// What a client says over and over.
type Flood = Box<dyn FnMut() -> Vec<u8> + Send>;

/// A hundred of the same.
fn same(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Flood {
    let bytes = Frame::new(kind, flags, stream, payload).bytes().repeat(100);
    Box::new(move || bytes.clone())
}

/// Requests, each with what comes after it, on one stream after the other.
fn requests(path: &'static str, after: &'static [u8]) -> Flood {
    let mut stream = 1;
    Box::new(move || {
        let mut bytes = Vec::new();
        for _ in 0..100 {
            bytes.extend(Frame::new(HEADERS, END_HEADERS, stream, &headers(path)).bytes());
            if let [kind, payload @ ..] = after {
                bytes.extend(Frame::new(*kind, 0, stream, payload).bytes());
            }
            stream += 2;
        }
        bytes
    })
}

/// Requests that are over with their headers, and have more to say.
fn requests_after_their_end() -> Flood {
    let mut stream = 1;
    Box::new(move || {
        let mut bytes = Vec::new();
        for _ in 0..100 {
            let end = END_HEADERS | END_STREAM;
            bytes.extend(Frame::new(HEADERS, end, stream, &headers(LIST_PEERS)).bytes());
            bytes.extend(Frame::new(DATA, 0, stream, &[0; 5]).bytes());
            stream += 2;
        }
        bytes
    })
}

fn rapid_reset() -> Flood {
    requests(LIST_PEERS, &[RST_STREAM, 0, 0, 0, 8])
}

/// What comes first, if anything, and then over and over.
fn floods() -> Vec<(&'static str, Vec<u8>, Flood)> {
    let begun = Frame::new(HEADERS, END_HEADERS, 1, &headers(LIST_PEERS)).bytes();
    let endless = Frame::new(HEADERS, 0, 1, &headers(LIST_PEERS)).bytes();
    // 0x40, name and value: a header that goes into HPACK's table.
    let header = [&[0x40, 1, b'x', 127, 0x80, 0x1f][..], &[b'x'; 4095]].concat();
    let windows = |size: u32| [&4_u16.to_be_bytes()[..], &size.to_be_bytes()].concat();
    let no_window = [windows(0), windows(65_535)].concat();
    vec![
        ("PING", vec![], same(PING, 0, 0, &[7; 8])),
        ("answers to PING that nobody asked", vec![], same(PING, 1, 0, &[7; 8])),
        ("SETTINGS", vec![], same(SETTINGS, 0, 0, &[])),
        ("windows to and fro", begun.clone(), same(SETTINGS, 0, 0, &no_window)),
        ("PRIORITY", vec![], same(PRIORITY, 0, 3, &[0, 0, 0, 0, 16])),
        ("WINDOW_UPDATE of a stream", begun.clone(), same(WINDOW_UPDATE, 0, 1, &1_u32.to_be_bytes())),
        ("kinds that nobody knows", vec![], same(0xfa, 0, 0, &[0; 100])),
        ("empty DATA", begun.clone(), same(DATA, 0, 1, &[])),
        ("padding of nothing", begun, same(DATA, PADDED, 1, &[0])),
        ("CONTINUATION without end", endless.clone(), same(CONTINUATION, 0, 1, &header)),
        ("empty CONTINUATION", endless, same(CONTINUATION, 0, 1, &[])),
        ("rapid reset", vec![], rapid_reset()),
        ("rapid reset of watches", vec![], requests(crate::support::raw::WATCH, &[RST_STREAM, 0, 0, 0, 8])),
        ("windows that overflow", vec![], requests(LIST_PEERS, &[WINDOW_UPDATE, 0x7f, 0xff, 0xff, 0xff])),
        ("more streams than there may be", vec![], requests(LIST_PEERS, &[])),
        // What has the service reset streams (CVE-2025-8671).
        ("windows of nothing", vec![], requests(LIST_PEERS, &[WINDOW_UPDATE, 0, 0, 0, 0])),
        ("PRIORITY of itself", vec![], requests(LIST_PEERS, &[PRIORITY, 0, 0, 0, 0, 16])),
        ("DATA after the end", vec![], requests_after_their_end()),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_keeps_nobody_else_from_being_served() {
    let mut scene = Scene::set().await;
    for (name, first, flood) in floods() {
        let address = scene.address;
        let attack = tokio::spawn(async move {
            let mut client = RawClient::connect(address, 65_535).await;
            client.write(&first).await;
            client.flood(flood).await
        });
        // Whether the service bears it or ends the connection.
        for _ in 0..3 {
            scene.goes_on().await;
        }
        attack.abort();
        if let Ok(Some(reason)) = attack.await {
            let is_expected = matches!(reason, PROTOCOL_ERROR | FLOW_CONTROL_ERROR | ENHANCE_YOUR_CALM);
            assert!(is_expected, "{name}: {reason}");
        }
        scene.goes_on().await;
    }
    scene.end().await;
}

/// Floods on one connection after the other.
async fn flood_again_and_again(address: SocketAddr, flood: fn() -> Flood) {
    loop {
        RawClient::connect(address, 65_535).await.flood(flood()).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn floods_on_many_connections_that_come_back_keep_nobody_out() {
    let mut scene = Scene::set().await;
    for flood in [rapid_reset as fn() -> Flood, || same(PING, 0, 0, &[7; 8]), || same(SETTINGS, 0, 0, &[])] {
        let mut attackers: JoinSet<_> =
            (0..MANY).map(|_| flood_again_and_again(scene.address, flood)).collect();
        for _ in 0..3 {
            scene.goes_on().await;
        }
        attackers.shutdown().await;
        scene.goes_on().await;
    }
    scene.end().await;
}

#[tokio::test]
async fn windows_that_stay_shut_or_overflow_hold_nothing() {
    let mut scene = Scene::set().await;
    let mut shut = Vec::new();
    for _ in 0..MANY / 2 {
        let mut client = RawClient::connect(scene.address, 0).await;
        for stream in 0..64 {
            client.watch(4 * stream + 1, &WatchPeerStatusRequest::default()).await;
            client.ask(4 * stream + 3, LIST_PEERS, &ListPeersRequest::default()).await;
        }
        shut.push(client);
    }
    for _ in 0..20 {
        scene.goes_on().await;
    }
    let mut wide = RawClient::connect(scene.address, LARGEST_WINDOW).await;
    wide.watch(1, &WatchPeerStatusRequest::default()).await;
    wide.make_room(1, LARGEST_WINDOW).await;
    wide.make_room(0, LARGEST_WINDOW).await;
    wide.ended().await;
    scene.goes_on().await;
    let grown = scene.grown();
    assert!(grown < MARGIN, "{grown} KiB");
    drop(shut);
    scene.goes_on().await;
    scene.end().await;
}

/// Says a byte now and then, until it is hung up on. Returns how long that took.
async fn trickle(mut stream: TcpStream, bytes: Vec<u8>) -> Duration {
    let begin = Instant::now();
    let mut every = interval(Duration::from_secs(1));
    let mut read = Vec::new();
    for byte in bytes {
        loop {
            tokio::select! {
                _ = every.tick() => break,
                read = stream.read_buf(&mut read) => match read {
                    Ok(1..) => {}
                    _ => return begin.elapsed(),
                }
            }
        }
        if stream.write_all(&[byte]).await.is_err() {
            break;
        }
    }
    begin.elapsed()
}

#[tokio::test]
async fn a_preface_or_a_request_that_comes_byte_by_byte_has_its_time() {
    let mut scene = Scene::set().await;
    let preface = TcpStream::connect(scene.address).await.unwrap();
    let preface = tokio::spawn(trickle(preface, PREFACE.to_vec()));
    // The head of a request: it is told nothing of, and holds a connection as any that is idle.
    let mut head = TcpStream::connect(scene.address).await.unwrap();
    head.write_all(&[PREFACE, &Frame::new(SETTINGS, 0, 0, &[]).bytes()].concat()).await.unwrap();
    let head = tokio::spawn(trickle(head, Frame::new(HEADERS, END_HEADERS, 1, &[0; 200]).bytes()));
    let bodies = tokio::spawn(late_bodies(scene.address));
    // One thing after the other is let go, and all the while others are served.
    let lasted = within("the end", preface).await.unwrap();
    assert!((5..20).contains(&lasted.as_secs()), "{lasted:?}");
    let (lasted, answers) = scene.goes_on_during(bodies).await;
    assert!((29..45).contains(&lasted.as_secs()), "{lasted:?}");
    assert!(answers.iter().all(|answer| answer == "4"), "DEADLINE_EXCEEDED: {answers:?}");
    head.abort();
    scene.end().await;
}

/// Requests whose bodies come byte by byte, as many as a connection may have: how long they lasted, and their statuses.
async fn late_bodies(address: SocketAddr) -> (Duration, Vec<String>) {
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut http, connection) = h2::client::handshake(stream).await.unwrap();
    let connection = tokio::spawn(connection);
    let begin = Instant::now();
    let mut requests = JoinSet::new();
    for _ in 0..128 {
        let request = http::Request::post(format!("http://test{LIST_PEERS}"));
        let request = request.header("content-type", "application/grpc").body(()).unwrap();
        http = http.ready().await.unwrap();
        let (response, mut body) = http.send_request(request, false).unwrap();
        // A message of 60,000 bytes begins.
        body.send_data(bytes::Bytes::from_static(&[0, 0, 0, 0xea, 0x60]), false).unwrap();
        requests.spawn(async move {
            let mut every = interval(Duration::from_secs(1));
            let mut response = std::pin::pin!(response);
            loop {
                tokio::select! {
                    response = &mut response => {
                        let status = response.unwrap().headers()["grpc-status"].to_str().unwrap().to_owned();
                        return status;
                    }
                    _ = every.tick() => drop(body.send_data(bytes::Bytes::from_static(&[7]), false)),
                }
            }
        });
    }
    let answers = requests.join_all().await;
    connection.abort();
    (begin.elapsed(), answers)
}

/// So many connections, as far as the limit on files lets this process have them.
async fn crowd(address: SocketAddr, wanted: usize, words: &[u8]) -> Vec<TcpStream> {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let possible = usize::try_from(limit / 2).unwrap_or(usize::MAX);
    let mut crowd = Vec::new();
    for _ in 0..wanted.min(possible) {
        let mut stream = within("a connection", TcpStream::connect(address)).await.unwrap();
        // It may have been hung up on already.
        let _ = stream.write_all(words).await;
        crowd.push(stream);
    }
    crowd
}

#[tokio::test]
async fn thousands_that_say_nothing_keep_nobody_out() {
    let mut scene = Scene::set().await;
    let silent = crowd(scene.address, 5_000, b"").await;
    for _ in 0..5 {
        scene.goes_on().await;
    }
    let (grown, most) = (scene.grown(), EACH_SILENT * u64::try_from(silent.len()).unwrap());
    assert!(grown < most, "{grown} KiB, at most {most}");
    drop(silent);
    scene.goes_on().await;
    scene.end().await;
}

#[tokio::test]
async fn handshakes_that_stall_give_way_to_new_ones() {
    let mut config = settings(&[]);
    config.limits.max_handshakes = 2;
    let server = Server::start_with(config).await;
    for said in [&b""[..], &PREFACE[..1], &PREFACE[..PREFACE.len() - 1]] {
        let stalled = crowd(server.address(), 20, said).await;
        let url = format!("http://{}", server.address());
        let mut client = within("a newcomer", PoolServiceClient::connect(url)).await.unwrap();
        let request = GetPoolRequest { name: "pools/default".into() };
        within("an answer", client.get_pool(request)).await.unwrap();
        drop(stalled);
    }
    server.stop().await;
}

#[tokio::test]
async fn a_thousand_that_begin_tls_and_do_not_go_on_keep_nobody_out() {
    let (files, authority) = (ClientFiles::new(), Authority::new());
    let own = authority.issue("localhost");
    let (cert, key) = (files.write("cert.pem", &own.cert), files.write("key.pem", &own.key));
    let tls = format!("[server.tls]\ncert = {cert:?}\nkey = {key:?}\n[[pool]]\nname = \"default\"\n");
    let config = files.write("peerstatus.toml", &format!("[log]\nlevel = \"error\"\n{tls}"));
    let config = config.to_str().unwrap();
    let mut process =
        Process::start_with_unread_logs(&["serve", "--listen", "127.0.0.1:0", "--config", config]);
    let address: SocketAddr = process.address().await.parse().unwrap();
    let ca = files.write("ca.pem", &authority.pem());
    let server = format!("https://localhost:{}", address.port());
    let to = ["--server", &server, "--tls-ca", ca.to_str().unwrap()];
    let mut watch = Process::start(&[&["watch", "-o", "json"][..], &to].concat());
    while !watch.line().await.expect("the watch begins").contains("\"synced\"") {}
    // A peer comes and goes, by the hand of new clients, and the old one hears of it.
    let mut goes_on = async || {
        for order in ["add", "remove"] {
            let output = peerstatus(&[&["peers", order, "127.0.0.1:1"][..], &to].concat()).await;
            assert!(output.status.success(), "{output:?}");
            let kind = if order == "add" { "ADDED" } else { "REMOVED" };
            while !watch.line().await.expect("the watch goes on").contains(kind) {}
        }
    };
    goes_on().await;
    let before = process.resident();
    // A record that is whole and the beginning of more, and the head of one with the first byte of what it would bring.
    let mut begun = crowd(address, 500, b"\x16\x03\x01\x00\x01\x01").await;
    begun.extend(crowd(address, 500, b"\x16\x03\x01\x02\x00\x01").await);
    let hello = TcpStream::connect(address).await.unwrap();
    let hello =
        tokio::spawn(trickle(hello, [&b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc"[..], &[3; 100]].concat()));
    while !hello.is_finished() {
        goes_on().await;
    }
    let lasted = hello.await.unwrap();
    assert!(lasted < Duration::from_secs(25), "{lasted:?}");
    let first = within("the end", begun[0].read(&mut [0])).await;
    assert!(matches!(first, Ok(0) | Err(_)), "{first:?}");
    let grown = process.resident().saturating_sub(before);
    assert!(grown < MARGIN, "{grown} KiB");
    drop(begun);
    watch.signal("INT").await;
    watch.ended().await;
    process.signal("TERM").await;
    let said = process.last_words().await;
    assert!(said.is_empty(), "{said}");
}
