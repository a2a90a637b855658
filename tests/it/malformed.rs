//! Malformed requests: each gets an error, and the connection stays open.

use std::io::Write as _;

use flate2::{Compression, write::GzEncoder};
use opflex_peerstatus::server::Keepalive;
use tokio::net::TcpStream;
use tonic::{Code, Status};

use crate::support::{Stage, explain, within};

const PACKAGE: &str = "opflex.peerstatus.v1";

/// A client in HTTP/2, which sends what it is told.
struct Client {
    http: h2::client::SendRequest<bytes::Bytes>,
}

impl Client {
    async fn connect(address: std::net::SocketAddr) -> Self {
        let socket = within("a connection", TcpStream::connect(address)).await.unwrap();
        let (http, connection) = h2::client::handshake(socket).await.unwrap();
        tokio::spawn(connection);
        Self { http }
    }

    /// Its answer, once the head is there.
    async fn ask(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> http::Response<h2::RecvStream> {
        let mut request = http::Request::builder().method(method).uri(format!("http://test{path}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut http = self.http.clone().ready().await.unwrap();
        let (response, mut stream) = http.send_request(request.body(()).unwrap(), false).unwrap();
        stream.send_data(bytes::Bytes::copy_from_slice(body), true).unwrap();
        within("an answer", response).await.unwrap()
    }

    /// What it is answered, in gRPC: from the head, if that is all, or from the trailers.
    async fn send(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Status {
        let response = self.ask(method, path, headers, body).await;
        assert_eq!(response.status(), 200, "{path}");
        if let Some(status) = Status::from_header_map(response.headers()) {
            return status;
        }
        let mut answer = response.into_body();
        while let Some(data) = within("data", answer.data()).await {
            let length = data.unwrap().len();
            answer.flow_control().release_capacity(length).unwrap();
        }
        let trailers = within("trailers", answer.trailers()).await.unwrap().expect("trailers");
        Status::from_header_map(&trailers).expect("a status")
    }

    async fn call(&mut self, path: &str, body: &[u8]) -> Status {
        let headers = [("content-type", "application/grpc"), ("te", "trailers")];
        self.send("POST", &format!("/{PACKAGE}.{path}"), &headers, body).await
    }
}

/// What is wrong with a body, and the body. The first field of every request that has fields is no number.
const BODIES: &[(&str, &[u8])] = &[
    ("nothing", b""),
    ("less than a header", &[0, 0, 0]),
    ("a header alone", &[0, 0, 0, 0, 5]),
    ("a message cut short", &[0, 0, 0, 0, 5, 1, 2]),
    ("compressed, and not said how", &[1, 0, 0, 0, 2, 8, 1]),
    ("neither compressed nor not", &[2, 0, 0, 0, 2, 8, 1]),
    ("text", b"{\"name\": \"pools/default\"}"),
    ("a tag without a value", &[0, 0, 0, 0, 1, 8]),
    ("a number where a text belongs", &[0, 0, 0, 0, 2, 8, 1]),
    ("a text that is longer than its message", &[0, 0, 0, 0, 3, 0x0a, 0x7f, b'x']),
    ("a text that is none", &[0, 0, 0, 0, 3, 0x0a, 1, 0xff]),
    ("a tag that never ends", &[0, 0, 0, 0, 11, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255]),
    ("a group that never ends", &[0, 0, 0, 0, 2, 0xfb, 0x07]),
];

const METHODS: &[&str] = &[
    "PoolService/GetPool",
    "PoolService/AddPeer",
    "PoolService/WaitForPool",
    "PeerStatusService/CreateListener",
    "PeerStatusService/GetListener",
    "PeerStatusService/WatchPeerStatus",
];

#[tokio::test]
async fn a_body_that_is_no_message_is_answered_with_what_it_is() {
    let stage = Stage::new(1, 16, &["default"]);
    let served = stage.serve(Keepalive::default()).await;
    let mut client = Client::connect(served.address).await;
    for method in METHODS {
        for (what, body) in BODIES {
            let status = client.call(method, body).await;
            let expected = (Code::InvalidArgument, "MALFORMED_REQUEST".to_owned(), vec![]);
            assert_eq!(explain(&status), expected, "{what} to {method}");
        }
        let long = [&[0, 0, 1, 0, 1][..], &[0; 65_537]].concat();
        let status = client.call(method, &long).await;
        assert_eq!(explain(&status), (Code::InvalidArgument, "REQUEST_TOO_LARGE".to_owned(), vec![]));
        let longest = client.call(method, &[0, 255, 255, 255, 255]).await;
        assert_eq!(explain(&longest), explain(&status), "refused before it comes");
    }
    assert_eq!(stage.listeners.count(), (0, 0), "nothing has begun");
    let status = client.call("PoolService/ListPools", &[0; 5]).await;
    assert_eq!(status.code(), Code::Ok, "and the connection is as good as ever");
    drop(client);
    served.stop().await;
}

#[tokio::test]
async fn what_is_not_there_is_unimplemented() {
    let stage = Stage::new(1, 16, &["default"]);
    let served = stage.serve(Keepalive::default()).await;
    let mut client = Client::connect(served.address).await;
    for path in
        ["NoService/GetPool", "PoolService/NoMethod", "PoolService/", "PoolService", "PoolService/GetPool/x"]
    {
        let status = client.call(path, &[0; 5]).await;
        assert_eq!(explain(&status), (Code::Unimplemented, "UNKNOWN_METHOD".to_owned(), vec![]), "{path}");
    }
    let headers = [("content-type", "application/grpc")];
    for path in ["/", "//", "/*", "/x?y=z", "/%00"] {
        let status = client.send("POST", path, &headers, &[0; 5]).await;
        assert_eq!(status.code(), Code::Unimplemented, "{path}: {status:?}");
    }
    drop(client);
    served.stop().await;
}

/// A cross-site form can send text/plain.
#[tokio::test]
async fn what_is_not_grpc_is_refused_over_http_2_too() {
    let stage = Stage::new(1, 16, &["default"]);
    let served = stage.serve(Keepalive::default()).await;
    let mut client = Client::connect(served.address).await;
    let path = format!("/{PACKAGE}.PoolService/ListPools");
    for (method, content_type, expected) in [
        ("POST", "text/plain", 415),
        ("POST", "application/grpc+json", 415),
        ("GET", "application/grpc", 405),
        ("PUT", "application/grpc", 405),
    ] {
        let response = client.ask(method, &path, &[("content-type", content_type)], &[0; 5]).await;
        assert_eq!(response.status(), expected, "{method} {content_type}");
    }
    assert_eq!(client.call("PoolService/ListPools", &[0; 5]).await.code(), Code::Ok);
    drop(client);
    served.stop().await;
}

#[tokio::test]
async fn a_request_of_more_than_one_message_is_refused() {
    let stage = Stage::new(1, 16, &["default"]);
    let served = stage.serve(Keepalive::default()).await;
    let mut client = Client::connect(served.address).await;
    for method in ["PoolService/ListPools", "PeerStatusService/WatchPeerStatus"] {
        let status = client.call(method, &[0; 10]).await;
        assert_eq!(
            explain(&status),
            (Code::InvalidArgument, "MALFORMED_REQUEST".to_owned(), vec![]),
            "{method}"
        );
    }
    drop(client);
    served.stop().await;
}

/// A message as gzip makes it.
fn gzip(message: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(message).unwrap();
    let compressed = encoder.finish().unwrap();
    [&[1][..], &u32::try_from(compressed.len()).unwrap().to_be_bytes(), &compressed].concat()
}

#[tokio::test]
async fn compressions_and_timeouts_are_taken_or_refused_with_a_reason() {
    let stage = Stage::new(1, 16, &["default"]);
    let served = stage.serve(Keepalive::default()).await;
    let mut client = Client::connect(served.address).await;
    let path = format!("/{PACKAGE}.PoolService/ListPools");
    let compressed = |encoding| [("content-type", "application/grpc"), ("grpc-encoding", encoding)];
    let status = client.send("POST", &path, &compressed("gzip"), &gzip(b"")).await;
    assert_eq!(status.code(), Code::Ok, "{status:?}");
    let status = client.send("POST", &path, &compressed("zstd"), &gzip(b"")).await;
    assert_eq!(explain(&status), (Code::Unimplemented, "UNSUPPORTED_ENCODING".to_owned(), vec![]));
    let bomb = gzip(&vec![0; 1 << 24]);
    assert!(bomb.len() < 1 << 15, "{}", bomb.len());
    let status = client.send("POST", &path, &compressed("gzip"), &bomb).await;
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    let with_timeout = |timeout| [("content-type", "application/grpc"), ("grpc-timeout", timeout)];
    for timeout in ["", "0", "1", "99999999999S", "-1S", "5 S"] {
        let status = client.send("POST", &path, &with_timeout(timeout), &[0; 5]).await;
        let expected = (Code::InvalidArgument, "BAD_DURATION".to_owned(), vec!["grpc-timeout".to_owned()]);
        assert_eq!(explain(&status), expected, "{timeout:?}");
    }
    let status = client.send("POST", &path, &with_timeout("99999999H"), &[0; 5]).await;
    assert_eq!(status.code(), Code::Ok, "{status:?}");
    let status = client.send("POST", &path, &with_timeout("0S"), &[0; 5]).await;
    assert_eq!(explain(&status), (Code::DeadlineExceeded, "DEADLINE_EXCEEDED".to_owned(), vec![]));
    drop(client);
    served.stop().await;
}
