use std::convert::Infallible;

use axum::{body::Body, middleware::from_fn, routing::get};
use bytes::Bytes;
use futures_util::stream;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::oneshot,
    time::Instant,
};

use super::*;

/// Serves `router` and connects to it.
async fn connect(router: Router) -> (TcpStream, AbortOnDropHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = AbortOnDropHandle::new(tokio::spawn(serve(listener, router)));
    (TcpStream::connect(address).await.unwrap(), server)
}

/// Reads until the server closes the connection; returns when, in seconds after `start`, and what it sent.
async fn closed(mut client: TcpStream, start: Instant) -> (u64, String) {
    let mut received = Vec::new();
    let _ = client.read_to_end(&mut received).await;
    (start.elapsed().as_secs(), String::from_utf8(received).unwrap())
}

#[tokio::test(start_paused = true)]
async fn an_incomplete_request_head_is_given_five_seconds() {
    for head in ["", "GET / HTTP/1.1\r\nHost: local"] {
        let start = Instant::now();
        let (mut client, _server) = connect(Router::new()).await;
        client.write_all(head.as_bytes()).await.unwrap();
        let (seconds, _) = closed(client, start).await;
        assert_eq!(seconds, HEADER_TIMEOUT.as_secs(), "{head:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_response_that_does_not_begin_is_given_thirty_seconds() {
    let never = get(std::future::pending::<()>).layer(from_fn(limit_response_time));
    let start = Instant::now();
    let (mut client, _server) = connect(Router::new().route("/", never)).await;
    client.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    assert_eq!(closed(client, start).await, (RESPONSE_TIMEOUT.as_secs(), String::new()));
}

#[tokio::test(start_paused = true)]
async fn a_response_that_is_not_read_is_given_thirty_seconds() {
    let (alive, ended) = oneshot::channel::<()>();
    let alive = Arc::new(parking_lot::Mutex::new(Some(alive)));
    // It never ends, and drops `alive` when the connection does.
    let endless = async move || {
        let alive = alive.lock().take();
        Body::from_stream(stream::repeat_with(move || {
            let _ = &alive;
            Ok::<_, Infallible>(Bytes::from_static(&[b'x'; 4096]))
        }))
    };
    let start = Instant::now();
    let (mut client, _server) =
        connect(Router::new().route("/", get(endless).layer(from_fn(limit_response_time)))).await;
    client.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    ended.await.unwrap_err();
    assert_eq!(start.elapsed().as_secs(), RESPONSE_TIMEOUT.as_secs());
}

#[tokio::test(start_paused = true)]
async fn a_response_without_the_timer_lives_longer() {
    let ticks = async || {
        Body::from_stream(stream::unfold(0, async |sent| {
            sleep(RESPONSE_TIMEOUT).await;
            (sent < 3).then(|| (Ok::<_, Infallible>(Bytes::from_static(b"tick")), sent + 1))
        }))
    };
    let start = Instant::now();
    let (mut client, _server) = connect(Router::new().route("/", get(ticks))).await;
    client.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let (seconds, response) = closed(client, start).await;
    assert_eq!((seconds, response.matches("tick").count()), (4 * RESPONSE_TIMEOUT.as_secs(), 3));
}

#[tokio::test]
async fn without_a_clock_the_reason_is_told() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (stream, _) = listener.accept().await.unwrap();
    client.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    refuse_without_date(stream).await.unwrap();
    let (_, response) = closed(client, Instant::now()).await;
    assert!(response.starts_with("HTTP/1.1 503 ") && response.ends_with("set it\n"), "{response}");
}
