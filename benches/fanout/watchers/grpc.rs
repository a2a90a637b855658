//! Clients of `WatchPeerStatus`: plain `h2` with the windows of tonic's clients, to measure the server and not a client
//! library.

use std::{net::SocketAddr, rc::Rc};

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use h2::{RecvStream, client::SendRequest};
use opflex_peerstatus::api::pb::{
    WatchPeerStatusRequest, WatchPeerStatusResponse, watch_peer_status_response::Event,
};
use prost::Message as _;
use tokio::{
    net::TcpStream,
    task::{JoinHandle, spawn_local},
};

use super::Heard;
use crate::support::Outcome;

const WATCH: &str = "/opflex.peerstatus.v1.PeerStatusService/WatchPeerStatus";
const STREAM_WINDOW: u32 = 2 * 1024 * 1024;
const CONNECTION_WINDOW: u32 = 5 * 1024 * 1024;

pub(super) async fn open(
    address: SocketAddr,
    streams: usize,
    heard: &Rc<Heard>,
) -> Outcome<Vec<JoinHandle<()>>> {
    let (mut client, driver) = connect(address, STREAM_WINDOW).await?;
    let mut tasks = vec![driver];
    for _ in 0..streams {
        client = client.ready().await?;
        let request = WatchPeerStatusRequest { heartbeat_interval: Some(LONG), ..Default::default() };
        let response = call(&mut client, address, WATCH, &request.encode_to_vec())?;
        let heard = Rc::clone(heard);
        tasks.push(spawn_local(async move {
            let mut watch = Watch { heard: &heard, last: None };
            if let Err(error) =
                async { read(response.await?.into_body(), |said| watch.take(said)).await }.await
            {
                heard.failed(error.to_string());
            }
        }));
    }
    Ok(tasks)
}

/// Longer than a measurement.
const LONG: prost_types::Duration = prost_types::Duration { seconds: 300, nanos: 0 };

/// A client with an open stream that it never reads.
pub(crate) struct Stuck {
    _stream: RecvStream,
    driver: JoinHandle<()>,
}

impl Drop for Stuck {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

pub(crate) async fn stuck(address: SocketAddr) -> Outcome<Stuck> {
    // The default window of HTTP/2: 64 KiB.
    let (mut client, driver) = connect(address, 65_535).await?;
    let request = WatchPeerStatusRequest::default().encode_to_vec();
    let stream = call(&mut client, address, WATCH, &request)?.await?.into_body();
    Ok(Stuck { _stream: stream, driver })
}

pub(super) async fn connect(
    address: SocketAddr,
    window: u32,
) -> Outcome<(SendRequest<Bytes>, JoinHandle<()>)> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (client, connection) = h2::client::Builder::new()
        .initial_window_size(window)
        .initial_connection_window_size(window.max(CONNECTION_WINDOW))
        .handshake(stream)
        .await?;
    let driver = spawn_local(async move {
        let _ = connection.await;
    });
    Ok((client, driver))
}

/// Sends one request, and half-closes the stream.
pub(super) fn call(
    client: &mut SendRequest<Bytes>,
    address: SocketAddr,
    path: &str,
    message: &[u8],
) -> Outcome<h2::client::ResponseFuture> {
    let request = http::Request::post(format!("http://{address}{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())?;
    let (response, mut body) = client.send_request(request, false)?;
    body.send_data(frame(message)?, true)?;
    Ok(response)
}

pub(super) fn frame(message: &[u8]) -> Outcome<Bytes> {
    let mut frame = BytesMut::with_capacity(5 + message.len());
    frame.put_u8(0);
    frame.put_u32(message.len().try_into()?);
    frame.put_slice(message);
    Ok(frame.freeze())
}

/// Calls `take` with each message of a response as it arrives.
pub(super) async fn read(mut body: RecvStream, mut take: impl FnMut(&[u8]) -> Outcome<()>) -> Outcome<()> {
    let mut rest = BytesMut::new();
    while let Some(data) = body.data().await {
        let data = data?;
        body.flow_control().release_capacity(data.len())?;
        if rest.is_empty() {
            let mut data = data;
            messages(&mut data, &mut take)?;
            rest.extend_from_slice(&data);
        } else {
            rest.extend_from_slice(&data);
            let mut whole = std::mem::take(&mut rest).freeze();
            messages(&mut whole, &mut take)?;
            rest.extend_from_slice(&whole);
        }
    }
    let status = body.trailers().await?.and_then(|trailers| trailers.get("grpc-status").cloned());
    Err(format!("a stream ended with {status:?}").into())
}

/// Splits off complete messages.
fn messages(data: &mut Bytes, take: &mut impl FnMut(&[u8]) -> Outcome<()>) -> Outcome<()> {
    while let Some(header) = data.get(1..5) {
        let length = usize::try_from(u32::from_be_bytes(header.try_into()?))?;
        let Some(message) = data.get(5..5 + length) else { break };
        take(message)?;
        data.advance(5 + length);
    }
    Ok(())
}

/// One stream; counts messages and checks that none is missing.
struct Watch<'a> {
    heard: &'a Heard,
    last: Option<u64>,
}

impl Watch<'_> {
    fn take(&mut self, message: &[u8]) -> Outcome<()> {
        if !self.heard.closely.get() {
            self.last = None;
            self.heard.delivered(1);
            return Ok(());
        }
        let message = WatchPeerStatusResponse::decode(message)?;
        match message.event {
            Some(Event::Change(change)) => {
                if self.last.is_some_and(|last| last != message.previous_revision) {
                    self.heard.gap();
                }
                self.last = Some(message.revision);
                let time = change.peer.and_then(|peer| peer.time).ok_or("a change without a time")?;
                self.heard
                    .published_at(u64::try_from(time.seconds)? * 1_000_000_000 + u64::try_from(time.nanos)?);
                self.heard.delivered(1);
            }
            Some(Event::Synced(_)) => self.heard.ready(),
            _ => {}
        }
        Ok(())
    }
}
