//! Clients without credentials: they take little, and give way to those who have some.

use std::net::SocketAddr;

use opflex_peerstatus::auth::{AccessRole, NewToken};
use tokio::{io::AsyncWriteExt as _, net::TcpStream};

use crate::support::{
    ClientFiles, Process, peerstatus,
    raw::{
        ACK, DATA, END_HEADERS, END_STREAM, Frame, HEADERS, PING, PREFACE, RST_STREAM, RawClient, SETTINGS,
        headers,
    },
    within,
};

const LIST_PEERS: &str = "/opflex.peerstatus.v1.PoolService/ListPeers";
const REFLECTION: &str = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
const RUN_OUT: &str =
    "places for connections have run out: the oldest without an authorized request gives way";
/// Connections that ask and do not read.
const DEAF: usize = 400;
/// What each of them may cost, in KiB.
const EACH: u64 = 96;
/// Connections that ask for the description of the API and give its answers no window.
const SHUT: usize = 24;
/// What those of one viewer may cost, in KiB: a quarter of 64 MiB, and for each connection 128 KiB and 128 calls of some 14 KiB, without
/// their answers.
const OF_VIEWER: u64 = 16 * 1024 + SHUT as u64 * (128 + 128 * 20);

/// The service in a process of its own, and an operator with a token.
struct Secured {
    process: Process,
    address: SocketAddr,
    token: String,
    viewer: NewToken,
    _files: ClientFiles,
}

impl Secured {
    async fn start(limits: &str) -> Self {
        let files = ClientFiles::new();
        let operator = NewToken::generate("root", AccessRole::Operator).unwrap();
        let token = files.write("token", &operator.token).to_str().unwrap().to_owned();
        let viewer = NewToken::generate("viewer", AccessRole::Viewer).unwrap();
        let tokens = files.write("tokens", &format!("{}\n{}\n", operator.line, viewer.line));
        let text = format!("{limits}\n[server.auth]\ntokens = {tokens:?}\n[[pool]]\nname = \"default\"\n");
        let config = files.write("peerstatus.toml", &text);
        let args = ["serve", "--listen", "127.0.0.1:0", "--config", config.to_str().unwrap()];
        let mut process = Process::start_with_logs(&[], &args);
        let address = process.address().await.parse().unwrap();
        Self { process, address, token, viewer, _files: files }
    }

    fn to(&self) -> [String; 4] {
        ["--server".to_owned(), self.address.to_string(), "--token-file".to_owned(), self.token.clone()]
    }

    /// A new client, the operator, is served.
    async fn serves(&self, order: &[&str]) {
        let to = self.to();
        let args: Vec<_> = order.iter().copied().chain(to.iter().map(String::as_str)).collect();
        let output = within("an answer", peerstatus(&args)).await;
        assert!(output.status.success(), "{output:?}");
    }

    /// Connections that send this, and read nothing.
    async fn crowd(&self, count: usize, bytes: &[u8]) -> Vec<TcpStream> {
        let mut crowd = Vec::new();
        for _ in 0..count {
            let mut stream = within("a connection", TcpStream::connect(self.address)).await.unwrap();
            // It may have been hung up on already.
            let _ = stream.write_all(bytes).await;
            crowd.push(stream);
        }
        crowd
    }
}

/// A token in HPACK.
fn authorization(token: &str) -> Vec<u8> {
    let value = format!("Bearer {token}");
    [&b"\0\x0dauthorization"[..], &[u8::try_from(value.len()).unwrap()], value.as_bytes()].concat()
}

fn greeting() -> Vec<u8> {
    [PREFACE, &Frame::new(SETTINGS, 0, 0, &[]).bytes()].concat()
}

#[tokio::test]
async fn requests_that_are_refused_and_answers_that_nobody_reads_take_little_and_are_let_go() {
    let secured = Secured::start("").await;
    secured.serves(&["peers", "list"]).await;
    let (before, sockets) = (secured.process.resident(), secured.process.sockets());
    let mut deaf = Vec::new();
    // Without credentials, or no gRPC: `GET /`.
    for head in [headers(LIST_PEERS), vec![0x82, 0x86, 0x84]] {
        let ask = |number: u32| Frame::new(HEADERS, END_HEADERS | END_STREAM, 2 * number + 1, &head).bytes();
        let requests: Vec<u8> = (0..256).flat_map(ask).collect();
        deaf.push(secured.crowd(DEAF / 2, &[greeting(), requests].concat()).await);
    }
    let mut most = 0;
    // They are closed, although they do not read.
    within("the end of all", async {
        while secured.process.sockets() > sockets + 1 {
            most = most.max(secured.process.resident());
            secured.serves(&["peers", "list"]).await;
        }
    })
    .await;
    let grown = most.saturating_sub(before);
    assert!(grown < EACH * DEAF as u64, "{grown} KiB");
    drop(deaf);
}

#[tokio::test]
async fn connections_that_ask_for_nothing_give_way_and_those_that_were_admitted_do_not() {
    let mut secured = Secured::start("[limits]\nmax_connections = 8\n").await;
    let to = secured.to();
    let args: Vec<_> = ["watch", "-o", "json"].into_iter().chain(to.iter().map(String::as_str)).collect();
    let mut watch = Process::start(&args);
    while !watch.line().await.expect("the watch begins").contains("\"synced\"") {}
    let idle = secured.crowd(30, &greeting()).await;
    for (order, kind) in [("add", "ADDED"), ("remove", "REMOVED")] {
        secured.serves(&["peers", order, "127.0.0.1:1"]).await;
        while !watch.line().await.expect("the watch goes on").contains(kind) {}
    }
    let warning = secured.process.log(RUN_OUT).await;
    assert_eq!(warning["level"], "WARN");
    assert!(secured.process.sockets() < 30, "those that gave way are closed");
    drop(idle);
}

#[tokio::test]
async fn a_principal_with_too_many_streams_on_its_connections_loses_those_that_want_more() {
    // A principal may have had 16,384 streams, and a connection 128.
    const CONNECTIONS: usize = 140;
    const STREAMS: u32 = 127;
    let secured = Secured::start("").await;
    let head = [headers(LIST_PEERS), authorization(&secured.viewer.token)].concat();
    let each = |frame: &dyn Fn(u32) -> Frame| -> Vec<u8> {
        (0..STREAMS).flat_map(|number| frame(2 * number + 1).bytes()).collect()
    };
    let begin = each(&|stream| Frame::new(HEADERS, END_HEADERS, stream, &head));
    let cancel = each(&|stream| Frame::new(RST_STREAM, 0, stream, &[0, 0, 0, 8]));
    let mut crowd = Vec::new();
    let mut is_ended = false;
    while crowd.len() < CONNECTIONS && !is_ended {
        let mut client = RawClient::connect(secured.address, 0).await;
        client.write(&[begin.clone(), Frame::new(PING, 0, 0, &[0; 8]).bytes()].concat()).await;
        // When it is answered, all were begun.
        is_ended = loop {
            match within("an answer", client.any_frame()).await {
                Some(frame) if frame.kind == PING && frame.flags & ACK != 0 => break false,
                Some(_) => {}
                None => break true,
            }
        };
        if !is_ended {
            client.write(&cancel).await;
        }
        crowd.push(client);
    }
    assert!(is_ended && crowd.len() > 120, "{} connections", crowd.len());
    secured.serves(&["peers", "list"]).await;
}

/// 128 questions of server reflection, each with a descriptor as the answer, on a connection whose windows are shut.
fn reflection(token: Option<&str>) -> Vec<u8> {
    // SETTINGS_INITIAL_WINDOW_SIZE = 0.
    let mut bytes = [PREFACE, &Frame::new(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]).bytes()].concat();
    // `file_containing_symbol`, field 4.
    let symbol = b"opflex.peerstatus.v1.PeerStatusService";
    let message = [&[4 << 3 | 2, u8::try_from(symbol.len()).unwrap()][..], symbol].concat();
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    let body = [&[0], &length[..], &message].concat();
    let mut head = headers(REFLECTION);
    if let Some(token) = token {
        head.extend(authorization(token));
    }
    for number in 0..128 {
        bytes.extend(Frame::new(HEADERS, END_HEADERS, 2 * number + 1, &head).bytes());
        bytes.extend(Frame::new(DATA, 0, 2 * number + 1, &body).bytes());
    }
    bytes
}

#[tokio::test]
async fn reflection_whose_answers_have_no_window_is_bounded_with_and_without_a_token() {
    let secured = Secured::start("").await;
    // What the allocator keeps for its threads.
    drop(secured.crowd(SHUT, &greeting()).await);
    secured.serves(&["peers", "list"]).await;
    let (before, sockets) = (secured.process.resident(), secured.process.sockets());
    let shut = secured.crowd(SHUT, &reflection(None)).await;
    within("the end of all without a token", async {
        while secured.process.sockets() > sockets + 1 {
            secured.serves(&["peers", "list"]).await;
        }
    })
    .await;
    let grown = secured.process.resident().saturating_sub(before);
    assert!(grown < EACH * SHUT as u64, "{grown} KiB");
    drop(shut);
    let shut = secured.crowd(SHUT, &reflection(Some(&secured.viewer.token))).await;
    for _ in 0..5 {
        secured.serves(&["peers", "list"]).await;
        let grown = secured.process.resident().saturating_sub(before);
        assert!(grown < OF_VIEWER, "{grown} KiB");
    }
    drop(shut);
    within("the end of all", async {
        while secured.process.sockets() > sockets + 1 {
            secured.serves(&["peers", "list"]).await;
        }
    })
    .await;
}
