//! Requests other than gRPC over HTTP/2: rejected with a helpful message, or served as gRPC-Web if enabled.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use opflex_peerstatus::{
    peer::PeerOrigin,
    server::{Keepalive, ServerOptions, WebSettings},
    status::Update,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::support::{Served, Stage, within};

const GET_POOL: &str = "/opflex.peerstatus.v1.PoolService/GetPool";
const WATCH: &str = "/opflex.peerstatus.v1.PeerStatusService/WatchPeerStatus";
const ORIGIN: &str = "https://ui.example";
/// `GetPoolRequest { name: "pools/default" }`, as gRPC and gRPC-Web send it.
const REQUEST: &[u8] = b"\0\0\0\0\x0f\x0a\x0dpools/default";

/// A response of HTTP/1.1: its status line, its headers in lower case, and its body as far as it has come.
struct Response {
    status: u16,
    headers: String,
    body: Vec<u8>,
}

/// Sends a request over HTTP/1.1 and reads until the body says that it is over, or has this in it.
async fn send(address: SocketAddr, head: &str, body: &[u8], until: &[u8]) -> Response {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head = format!("{head}\r\nhost: test\r\ncontent-length: {}\r\n\r\n", body.len());
    stream.write_all(&[head.as_bytes(), body].concat()).await.unwrap();
    let mut read = Vec::new();
    let contains = |read: &[u8]| read.windows(until.len()).any(|part| part == until);
    within("a response", async {
        while !contains(&read) && stream.read_buf(&mut read).await.unwrap() > 0 {}
    })
    .await;
    let end = read.windows(4).position(|part| part == b"\r\n\r\n").expect("headers") + 4;
    let headers = String::from_utf8(read[..end].to_vec()).unwrap().to_lowercase();
    let status = headers.split(' ').nth(1).unwrap().parse().unwrap();
    Response { status, headers, body: read[end..].to_vec() }
}

async fn web(origins: &[&str]) -> (Stage, Served) {
    let stage = Stage::new(1, 1 << 10, &["default"]);
    let allowed_origins = origins.iter().map(|origin| origin.parse().unwrap()).collect();
    let web = WebSettings { allowed_origins };
    let served = stage.serve_with(ServerOptions { web, ..ServerOptions::default() }).await;
    (stage, served)
}

#[tokio::test]
async fn what_is_not_grpc_is_refused_with_a_sentence_that_helps() {
    let stage = Stage::new(1, 16, &["default"]);
    let served = stage.serve(Keepalive::default()).await;
    for (head, status, says) in [
        ("GET / HTTP/1.1".to_owned(), 405, "GET is not a method of gRPC"),
        (format!("POST {GET_POOL} HTTP/1.1\r\ncontent-type: text/plain"), 415, "\"text/plain\""),
        (format!("POST {GET_POOL} HTTP/1.1"), 415, "is not application/grpc"),
        (format!("POST {GET_POOL} HTTP/1.1\r\ncontent-type: application/grpc"), 505, "HTTP/2"),
        (format!("POST {GET_POOL} HTTP/1.1\r\ncontent-type: application/grpc-web"), 415, "allowed_origins"),
        (
            format!(
                "POST {GET_POOL} HTTP/1.1\r\ncontent-type: application/grpc\r\norigin: https://evil.example"
            ),
            403,
            "allowed_origins",
        ),
    ] {
        let response = send(served.address, &head, b"{}", b"admin port.\n").await;
        let body = String::from_utf8(response.body).unwrap();
        assert_eq!(response.status, status, "{head}");
        assert!(body.contains(says) && body.contains("grpcurl"), "{head}: {body}");
        assert_eq!(response.headers.contains("allow: post"), status == 405, "{head}");
    }
    served.stop().await;
}

#[tokio::test]
async fn a_page_of_another_site_cannot_call_the_api() {
    let (stage, served) = web(&[ORIGIN]).await;
    let head = |origin: &str| {
        format!("POST {GET_POOL} HTTP/1.1\r\ncontent-type: application/grpc-web+proto\r\norigin: {origin}")
    };
    let refused = send(served.address, &head("https://evil.example"), REQUEST, b"admin port.\n").await;
    assert_eq!(refused.status, 403);
    assert!(!refused.headers.contains("access-control-allow-origin"), "{}", refused.headers);
    for second in ["https://evil.example", ORIGIN] {
        let two = format!("{}\r\norigin: {second}", head(ORIGIN));
        assert_eq!(send(served.address, &two, REQUEST, b"admin port.\n").await.status, 403, "{second}");
    }
    let preflight = |origin: &str| {
        format!(
            "OPTIONS {GET_POOL} HTTP/1.1\r\norigin: {origin}\r\naccess-control-request-method: POST\r\n\
             access-control-request-headers: content-type,x-grpc-web"
        )
    };
    let allowed = send(served.address, &preflight(ORIGIN), b"", b"\r\n\r\n").await;
    assert_eq!(allowed.status, 200);
    let header = format!("access-control-allow-origin: {ORIGIN}");
    assert!(allowed.headers.contains(&header), "{}", allowed.headers);
    let refused = send(served.address, &preflight("https://evil.example"), b"", b"\r\n\r\n").await;
    assert!(!refused.headers.contains("access-control-allow-origin"), "{}", refused.headers);
    drop(stage);
    served.stop().await;
}

#[tokio::test]
async fn grpc_web_is_served_over_http_1_to_the_origins_that_may_use_it() {
    let (stage, served) = web(&[ORIGIN]).await;
    stage.add("leaf");
    let head = |path: &str| {
        format!("POST {path} HTTP/1.1\r\ncontent-type: application/grpc-web+proto\r\norigin: {ORIGIN}")
    };
    let response = send(served.address, &head(GET_POOL), REQUEST, b"grpc-status:0").await;
    assert_eq!(response.status, 200);
    assert!(response.headers.contains("content-type: application/grpc-web+proto"), "{}", response.headers);
    let says = |text: &[u8]| response.body.windows(text.len()).any(|part| part == text);
    assert!(
        says(b"pools/default") && says(b"grpc-status:0"),
        "{:?}",
        response.body.escape_ascii().to_string()
    );
    // A watch says everything there is, and goes on.
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    let request = format!("{}\r\nhost: test\r\ncontent-length: 5\r\n\r\n\0\0\0\0\0", head(WATCH));
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut read = Vec::new();
    for change in [b"pools/default/peers/leaf:8009", b"pools/default/peers/next:8009"] {
        within("a message", async {
            while !read.windows(change.len()).any(|part| part == change) {
                assert!(stream.read_buf(&mut read).await.unwrap() > 0, "the stream goes on");
            }
        })
        .await;
        stage.publish("default", "next", Update::added(PeerOrigin::Configured));
    }
    drop(stream);
    served.stop().await;
}

#[tokio::test]
async fn a_grpc_web_request_that_is_broken_is_answered_at_once_and_one_that_breaks_off_holds_no_connection() {
    let (stage, served) = web(&[ORIGIN]).await;
    let head = |format: &str| {
        format!("POST {GET_POOL} HTTP/1.1\r\ncontent-type: application/{format}+proto\r\norigin: {ORIGIN}")
    };
    let response = send(served.address, &head("grpc-web-text"), b"!!!!@@@@", b"\r\n\r\n").await;
    assert!(response.headers.contains("grpc-status: 3"), "{}", response.headers);
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    let request = format!("{}\r\nhost: test\r\ncontent-length: 18\r\n\r\n\0\0\0\0", head("grpc-web"));
    stream.write_all(request.as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    let begin = Instant::now();
    within("the end", stream.read_to_end(&mut Vec::new())).await.unwrap();
    assert!(begin.elapsed() < Duration::from_secs(15), "half of the time that a request has to arrive");
    drop(stage);
    served.stop().await;
}
