//! A client down to its bytes: it asks for a watch in HTTP/2, and then does what no library does.

use std::net::SocketAddr;

use opflex_peerstatus::grpc::pb::WatchPeerStatusRequest;
use prost::Message as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
};

use super::within;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const PATH: &str = "/opflex.peerstatus.v1.PeerStatusService/WatchPeerStatus";
/// Kinds of frames, and their flags.
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const WINDOW_UPDATE: u8 = 8;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
/// The setting of how much may be sent on a stream before it is asked for more, and the most that can be.
const INITIAL_WINDOW_SIZE: u16 = 4;
const LARGEST_WINDOW: u32 = (1 << 31) - 1;
/// What its kernel keeps for it, so that not reading is noticed soon.
const RECEIVE_BUFFER: u32 = 4096;

/// A client that answers nothing and is given everything at once.
pub(crate) struct RawWatch {
    socket: TcpStream,
}

impl RawWatch {
    pub(crate) async fn ask(address: SocketAddr, request: &WatchPeerStatusRequest) -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(RECEIVE_BUFFER).expect("a smaller buffer");
        let mut socket = within("a connection", socket.connect(address)).await.expect("a connection");
        within("the request", socket.write_all(&bytes_of(request))).await.expect("it is taken");
        Self { socket }
    }

    /// Reads so many bytes. False at the end of the connection.
    pub(crate) async fn read(&mut self, bytes: usize) -> bool {
        let mut read = vec![0; bytes];
        self.socket.read_exact(&mut read).await.is_ok()
    }

    /// Goes without a word on any layer but TCP's: a reset.
    pub(crate) fn kill(self) {
        self.socket.set_zero_linger().expect("an option");
    }
}

fn bytes_of(request: &WatchPeerStatusRequest) -> Vec<u8> {
    let mut setting = INITIAL_WINDOW_SIZE.to_be_bytes().to_vec();
    setting.extend(LARGEST_WINDOW.to_be_bytes());
    let window = (LARGEST_WINDOW - 65_535).to_be_bytes();
    let message = request.encode_to_vec();
    let mut body = vec![0];
    body.extend(u32::try_from(message.len()).expect("short").to_be_bytes());
    body.extend(message);
    let frames = [
        frame(SETTINGS, 0, 0, &setting),
        frame(WINDOW_UPDATE, 0, 0, &window),
        frame(HEADERS, END_HEADERS, 1, &headers()),
        frame(DATA, END_STREAM, 1, &body),
    ];
    [PREFACE.to_vec(), frames.concat()].concat()
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("short").to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// POST over http, by the numbers in HPACK's table; the rest is written out.
fn headers() -> Vec<u8> {
    let mut block = vec![0x83, 0x86];
    for (name, value) in [
        (&[0x04_u8][..], PATH),
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
