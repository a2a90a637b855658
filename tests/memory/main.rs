//! What one peer can make the service allocate: no more than a frame may have, and 64 KiB.
//!
//! A process of its own, since the heap of all of it is counted. The peer's side allocates nothing meanwhile.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use std::time::Duration;

use opflex_peerstatus::{
    app::{LoadedConfig, Service},
    config::{Admin, Overrides},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::timeout,
};

#[global_allocator]
static HEAP: dhat::Alloc = dhat::Alloc;

/// The longest frame that a peer may send here: the default.
const FRAME_LIMIT: usize = 4 << 20;
/// What may be there beside one frame.
const MARGIN: usize = 64 << 10;
/// How long a write may stand still before it is taken for stuck.
const STUCK: Duration = Duration::from_millis(500);
/// How long anything that must happen may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a frame of the limit's size is filled with, between how it begins and how it ends.
struct Filled {
    name: &'static str,
    begin: &'static str,
    fill: u8,
    end: &'static str,
}

const FRAMES: &[Filled] = &[
    Filled {
        name: "an echo, to be answered with as much",
        begin: "{\"id\":1,\"method\":\"echo\",\"params\":[\"",
        fill: b'x',
        end: "\"]}\0",
    },
    Filled {
        name: "an id, to be repeated",
        begin: "{\"method\":\"no_such\",\"params\":[],\"id\":\"",
        fill: b'x',
        end: "\"}\0",
    },
    Filled {
        name: "the name of a method",
        begin: "{\"id\":1,\"params\":[],\"method\":\"\\n",
        fill: b'x',
        end: "\"}\0",
    },
    Filled { name: "a key with an escape", begin: "{\"\\n", fill: b'x', end: "\":1}\0" },
    Filled {
        name: "an error with an escape",
        begin: "{\"id\":[\"echo\",1],\"error\":{\"code\":\"E\",\"message\":\"\\n",
        fill: b'x',
        end: "\"}}\0",
    },
    Filled {
        name: "a location with an escape",
        begin: "{\"id\":[\"send_identity\",1],\"result\":{\"your_location\":\"\\n",
        fill: b'x',
        end: "\"}}\0",
    },
    Filled {
        name: "roles",
        begin: "{\"id\":[\"send_identity\",1],\"result\":{\"my_role\":[1",
        fill: b'0',
        end: "]}}\0",
    },
    Filled { name: "nothing but blanks", begin: "{", fill: b' ', end: "}\0" },
    Filled { name: "what is no text", begin: "", fill: 0xff, end: "\0" },
    Filled { name: "brackets", begin: "", fill: b'[', end: "\0" },
    Filled { name: "a frame over the limit", begin: "", fill: b'x', end: "xxxxxxxx" },
    Filled { name: "empty frames", begin: "", fill: 0, end: "" },
];

/// Writes a frame of exactly the limit, a piece at a time. False if the service does not take it.
async fn write(peer: &mut TcpStream, frame: &Filled) -> bool {
    let pieces = [frame.fill; 64 << 10];
    let mut left = FRAME_LIMIT + 1 - frame.begin.len() - frame.end.len();
    let mut sent =
        timeout(STUCK, peer.write_all(frame.begin.as_bytes())).await.is_ok_and(|sent| sent.is_ok());
    while sent && left > 0 {
        let piece = &pieces[..left.min(pieces.len())];
        left -= piece.len();
        sent = timeout(STUCK, peer.write_all(piece)).await.is_ok_and(|sent| sent.is_ok());
    }
    sent && timeout(STUCK, peer.write_all(frame.end.as_bytes())).await.is_ok_and(|sent| sent.is_ok())
}

/// Accepts the service's next connection, and reads until it has said who it is.
async fn greeted(listener: &TcpListener) -> TcpStream {
    let (mut peer, _) = timeout(PATIENCE, listener.accept()).await.expect("a connection").unwrap();
    let (mut greeting, mut read) = ([0; 4096], 0);
    while greeting[..read].iter().filter(|byte| **byte == 0).count() < 2 {
        read += timeout(PATIENCE, peer.read(&mut greeting[read..])).await.expect("a greeting").unwrap();
    }
    peer
}

#[tokio::test]
async fn one_peer_costs_no_more_than_a_frame_and_64_kib_whatever_it_sends_and_whether_it_reads() {
    let _profiler = dhat::Profiler::builder().testing().build();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let overrides = Overrides {
        listen: Some("127.0.0.1:0".parse().unwrap()),
        admin: Some(Admin::Off),
        peers: vec![listener.local_addr().unwrap().to_string().parse().unwrap()],
        name: Some("test".into()),
        ..Overrides::default()
    };
    let service = Service::start(LoadedConfig::load(&overrides).unwrap()).await.unwrap();
    drop(greeted(&listener).await);
    let mut peer = greeted(&listener).await;
    let before = dhat::HeapStats::get().curr_bytes;
    for frame in FRAMES {
        // Again and again, reading nothing, until the service takes no more or hangs up.
        let mut taken = 0;
        while taken < 2 && write(&mut peer, frame).await {
            taken += 1;
        }
        let most = dhat::HeapStats::get().max_bytes;
        let above = most.saturating_sub(before);
        assert!(above <= FRAME_LIMIT + MARGIN, "{}: {above} bytes above the {before} before", frame.name);
        drop(peer);
        peer = greeted(&listener).await;
    }
    let most = dhat::HeapStats::get().max_bytes - before;
    assert!(most > FRAME_LIMIT / 2, "frames were not even read: {most}");
    service.stopper().cancel();
    timeout(PATIENCE, service.join()).await.expect("the service stops").unwrap();
}
