//! An HTTP/2 client at the level of frames, for what no library does.

use std::{future::pending, net::SocketAddr};

use opflex_peerstatus::api::pb::{WatchPeerStatusRequest, WatchPeerStatusResponse};
use prost::Message;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
};

use super::within;

pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
pub(crate) const WATCH: &str = "/opflex.peerstatus.v1.PeerStatusService/WatchPeerStatus";
/// Frame types and flags.
pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const PRIORITY: u8 = 2;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const ACK: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;
pub(crate) const PADDED: u8 = 8;
/// The setting for the initial window of streams, and the largest window.
const INITIAL_WINDOW_SIZE: u16 = 4;
pub(crate) const LARGEST_WINDOW: u32 = (1 << 31) - 1;
/// The initial window without a setting.
const DEFAULT_WINDOW: u32 = 65_535;
/// Small, so that the kernel buffers little for a client that does not read.
const RECEIVE_BUFFER: u32 = 4096;

/// A frame.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    pub(crate) fn new(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Self {
        Self { kind, flags, stream, payload: payload.to_vec() }
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let length = u32::try_from(self.payload.len()).expect("short").to_be_bytes();
        [&length[1..], &[self.kind, self.flags], &self.stream.to_be_bytes(), &self.payload].concat()
    }
}

/// A client that sends nothing by itself but acknowledgements.
pub(crate) struct RawClient {
    socket: TcpStream,
    read: Vec<u8>,
}

impl RawClient {
    /// Connects with this window for each stream, and the largest one for the connection.
    pub(crate) async fn connect(address: SocketAddr, window: u32) -> Self {
        let socket = within("a connection", TcpStream::connect(address)).await.expect("a connection");
        Self::greet(socket, window, LARGEST_WINDOW - DEFAULT_WINDOW).await
    }

    /// Connects with the largest window for each stream, and a small one for the connection.
    pub(crate) async fn connect_sparing(address: SocketAddr) -> Self {
        let socket = within("a connection", TcpStream::connect(address)).await.expect("a connection");
        Self::greet(socket, LARGEST_WINDOW, 1).await
    }

    /// Connects with a small receive buffer.
    async fn connect_narrow(address: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(RECEIVE_BUFFER).expect("a smaller buffer");
        let socket = within("a connection", socket.connect(address)).await.expect("a connection");
        Self::greet(socket, LARGEST_WINDOW, LARGEST_WINDOW - DEFAULT_WINDOW).await
    }

    async fn greet(socket: TcpStream, window: u32, room: u32) -> Self {
        let mut this = Self { socket, read: Vec::new() };
        let setting = [&INITIAL_WINDOW_SIZE.to_be_bytes()[..], &window.to_be_bytes()].concat();
        let room = Frame::new(WINDOW_UPDATE, 0, 0, &room.to_be_bytes());
        let frames = [Frame::new(SETTINGS, 0, 0, &setting), room];
        let frames = frames.map(|frame| frame.bytes()).concat();
        this.write(&[PREFACE, &frames].concat()).await;
        this
    }

    pub(crate) async fn write(&mut self, bytes: &[u8]) {
        within("the bytes", self.socket.write_all(bytes)).await.expect("they are taken");
    }

    pub(crate) async fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        self.write(&Frame::new(kind, flags, stream, payload).bytes()).await;
    }

    /// Sends a request on a new stream: 1, 3, 5 and so on.
    pub(crate) async fn ask(&mut self, stream: u32, path: &str, message: &impl Message) {
        self.write(&question(stream, path, message)).await;
    }

    /// Sends only the headers of a request.
    pub(crate) async fn begin(&mut self, stream: u32, path: &str) {
        self.send(HEADERS, END_HEADERS, stream, &headers(path)).await;
    }

    pub(crate) async fn watch(&mut self, stream: u32, request: &WatchPeerStatusRequest) {
        self.ask(stream, WATCH, request).await;
    }

    /// Increases the window of a stream.
    pub(crate) async fn make_room(&mut self, stream: u32, bytes: u32) {
        self.send(WINDOW_UPDATE, 0, stream, &bytes.to_be_bytes()).await;
    }

    /// The next frame that needs no acknowledgement; `None` at the end of the connection.
    pub(crate) async fn frame(&mut self) -> Option<Frame> {
        loop {
            let frame = within("a frame", self.any_frame()).await?;
            match frame {
                Frame { kind: SETTINGS | PING, flags, .. } if flags & ACK != 0 => {}
                Frame { kind: kind @ (SETTINGS | PING), payload, .. } => {
                    let payload = if kind == PING { &payload[..] } else { &[] };
                    let _ = self.socket.write_all(&Frame::new(kind, ACK, 0, payload).bytes()).await;
                }
                frame => return Some(frame),
            }
        }
    }

    /// The next frame of any type. Cancel-safe.
    pub(crate) async fn any_frame(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = take_frame(&mut self.read) {
                return Some(frame);
            }
            match self.socket.read_buf(&mut self.read).await {
                Ok(1..) => {}
                _ => return None,
            }
        }
    }

    /// Sends what `next` returns, as fast as possible, until the service disconnects. Returns the error code of its
    /// GOAWAY, if any.
    pub(crate) async fn flood(self, mut next: impl FnMut() -> Vec<u8>) -> Option<u32> {
        let Self { socket, mut read } = self;
        let (mut from, mut to) = socket.into_split();
        let speak = async {
            while to.write_all(&next()).await.is_ok() {}
            pending().await
        };
        let listen = async {
            let mut reason = None;
            while let Ok(1..) = from.read_buf(&mut read).await {
                while let Some(frame) = take_frame(&mut read) {
                    if frame.kind == GOAWAY {
                        reason = frame.payload[4..].first_chunk().map(|code| u32::from_be_bytes(*code));
                    }
                }
            }
            reason
        };
        let until_hung_up = async {
            tokio::select! {
                reason = listen => reason,
                never = speak => never,
            }
        };
        within("the end of the connection", until_hung_up).await
    }

    /// The next DATA of a stream, skipping other frames. Panics at the end of the stream or connection.
    pub(crate) async fn data(&mut self, stream: u32) -> Vec<u8> {
        loop {
            let frame = self.frame().await.expect("the connection goes on");
            assert!(frame.kind != RST_STREAM || frame.stream != stream, "{frame:?}");
            if frame.kind == DATA && frame.stream == stream {
                return frame.payload;
            }
        }
    }

    /// Reads this many bytes. False at the end of the connection.
    pub(crate) async fn read(&mut self, bytes: usize) -> bool {
        let mut read = vec![0; bytes];
        self.socket.read_exact(&mut read).await.is_ok()
    }

    /// Closes this side of the connection: the client reads, and sends no more.
    pub(crate) async fn half_close(&mut self) {
        within("the end", self.socket.shutdown()).await.expect("it is open");
    }

    /// Reads to the end of the connection.
    pub(crate) async fn ended(mut self) {
        within("the end of the connection", async { while self.any_frame().await.is_some() {} }).await;
    }
}

/// The frames of a request.
pub(crate) fn question(stream: u32, path: &str, message: &impl Message) -> Vec<u8> {
    let message = message.encode_to_vec();
    let length = u32::try_from(message.len()).expect("short").to_be_bytes();
    let body = [&[0], &length[..], &message].concat();
    let frames = [
        Frame::new(HEADERS, END_HEADERS, stream, &headers(path)),
        Frame::new(DATA, END_STREAM, stream, &body),
    ];
    frames.map(|frame| frame.bytes()).concat()
}

fn take_frame(read: &mut Vec<u8>) -> Option<Frame> {
    let [a, b, c, kind, flags, d, e, f, g] = *read.first_chunk::<9>()?;
    let length = usize::try_from(u32::from_be_bytes([0, a, b, c])).expect("24 bits");
    let payload = read.get(9..9 + length)?.to_vec();
    read.drain(..9 + length);
    if read.is_empty() {
        // Tests measure the memory of this process: keep none for the client.
        *read = Vec::new();
    }
    Some(Frame { kind, flags, stream: u32::from_be_bytes([d, e, f, g]), payload })
}

/// Decodes messages from the DATA of a stream.
#[derive(Default)]
pub(crate) struct Messages(Vec<u8>);

impl Messages {
    /// The messages completed by these bytes.
    pub(crate) fn take(&mut self, data: &[u8]) -> Vec<WatchPeerStatusResponse> {
        self.0.extend_from_slice(data);
        let mut complete = Vec::new();
        while let Some([0, length @ ..]) = self.0.first_chunk::<5>() {
            let end = 5 + usize::try_from(u32::from_be_bytes(*length)).expect("it fits");
            let Some(message) = self.0.get(5..end) else { break };
            complete.push(WatchPeerStatusResponse::decode(message).expect("a message"));
            self.0.drain(..end);
        }
        complete
    }
}

/// A watch with the largest window and a small receive buffer, which reads only on demand.
pub(crate) struct RawWatch(RawClient);

impl RawWatch {
    pub(crate) async fn ask(address: SocketAddr, request: &WatchPeerStatusRequest) -> Self {
        let mut client = RawClient::connect_narrow(address).await;
        client.watch(1, request).await;
        Self(client)
    }

    /// Reads this many bytes. False at the end of the connection.
    pub(crate) async fn read(&mut self, bytes: usize) -> bool {
        self.0.read(bytes).await
    }

    /// The client behind it.
    pub(crate) fn client(&mut self) -> &mut RawClient {
        &mut self.0
    }

    /// Resets the TCP connection.
    pub(crate) fn kill(self) {
        self.0.socket.set_zero_linger().expect("an option");
    }
}

/// A POST over http in HPACK: static table indices and literals.
pub(crate) fn headers(path: &str) -> Vec<u8> {
    let mut block = vec![0x83, 0x86];
    for (name, value) in [
        (&[0x04_u8][..], path),
        (&[0x01], "test"),
        (&[0x0f, 0x10], "application/grpc"),
        (b"\0\x02te", "trailers"),
    ] {
        block.extend(name);
        block.push(u8::try_from(value.len()).expect("short"));
        block.extend(value.bytes());
    }
    block
}
