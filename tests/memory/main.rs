//! What peers can make the service allocate: one no more than a frame may have and 64 KiB, and all together no more than
//! the budget for frames, a reserve for each pool and a share for each peer.
//!
//! A process of its own, since the heap of all of it is counted. The peer's side allocates nothing meanwhile.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use std::{
    slice,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use opflex_peerstatus::{
    app::{LoadedConfig, Service},
    config::{Admin, Overrides},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::Mutex,
    task::JoinSet,
    time::{sleep, timeout},
};

#[global_allocator]
static HEAP: dhat::Alloc = dhat::Alloc;

/// The longest frame that a peer may send here: the default.
const FRAME_LIMIT: usize = 4 << 20;
/// What the frames of all peers together may have, the reserves of a pool included, and what each peer may have beside.
const BUDGET: usize = 136 << 20;
const SHARE: usize = 96 << 10;
const HOSTILE: usize = 200;
/// There is one heap, so they are measured one after the other.
static REFUSED: AtomicUsize = AtomicUsize::new(0);
static TURN: Mutex<()> = Mutex::const_new(());
/// What may be there beside one frame.
const MARGIN: usize = 64 << 10;
/// How long a write may stand still before it is taken for stuck.
const STUCK: Duration = Duration::from_millis(500);
/// Without a refusal for so long, twice the pause between two attempts, there is none any more.
const QUIET: Duration = Duration::from_secs(2);
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

/// Accepts the service's next connection, reads until it has said who it is, and answers as a peer that lists itself.
async fn greeted(listener: &TcpListener) -> TcpStream {
    greeted_with(listener, &list(slice::from_ref(listener))).await
}

/// The same with this list.
async fn greeted_with(listener: &TcpListener, list: &str) -> TcpStream {
    let (mut peer, _) = timeout(PATIENCE, listener.accept()).await.expect("a connection").unwrap();
    let (mut greeting, mut read) = ([0; 4096], 0);
    while greeting[..read].iter().filter(|byte| **byte == 0).count() < 2 {
        read += timeout(PATIENCE, peer.read(&mut greeting[read..])).await.expect("a greeting").unwrap();
    }
    let text = std::str::from_utf8(&greeting[..read]).unwrap();
    let (_, rest) = text.split_once("[\"send_identity\",").expect("its identity");
    let number = rest.split(']').next().unwrap();
    let answer = format!("{{\"id\":[\"send_identity\",{number}],\"result\":{{\"peers\":[{list}]}}}}\0");
    peer.write_all(answer.as_bytes()).await.unwrap();
    peer
}

/// A service with these peers.
async fn serve(peers: impl Iterator<Item = &TcpListener>) -> Service {
    let overrides = Overrides {
        listen: Some("127.0.0.1:0".parse().unwrap()),
        admin: Some(Admin::Off),
        peers: peers.map(|peer| peer.local_addr().unwrap().to_string().parse().unwrap()).collect(),
        name: Some("test".into()),
        ..Overrides::default()
    };
    Service::start(LoadedConfig::load(&overrides).unwrap()).await.unwrap()
}

#[tokio::test]
async fn one_peer_costs_no_more_than_a_frame_and_64_kib_whatever_it_sends_and_whether_it_reads() {
    let _turn = TURN.lock().await;
    let _profiler = dhat::Profiler::builder().testing().build();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let service = serve([&listener].into_iter()).await;
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

/// A peer that begins frames and does not end them. After each refusal it goes on with half of it, and waits with what it
/// could get.
struct Flood {
    listener: TcpListener,
    /// What it answers to our identity.
    list: Arc<str>,
}

impl Flood {
    async fn run(self) {
        static PIECE: [u8; 32 << 10] = [b'x'; 32 << 10];
        let mut bytes = FRAME_LIMIT - PIECE.len();
        loop {
            let mut peer = greeted_with(&self.listener, &self.list).await;
            let mut sent = 0;
            while sent < bytes && peer.write_all(&PIECE).await.is_ok() {
                sent += PIECE.len();
            }
            // Until it is refused, or for ever.
            let _ = peer.read_to_end(&mut Vec::new()).await;
            REFUSED.fetch_add(1, Ordering::Relaxed);
            bytes /= 2;
        }
    }
}

/// Lets them begin frames until none is refused any more: they have all the memory that there is.
async fn flood(floods: impl IntoIterator<Item = Flood>) -> JoinSet<()> {
    REFUSED.store(0, Ordering::Relaxed);
    let floods = floods.into_iter().map(Flood::run).collect();
    timeout(PATIENCE, async {
        let mut before = (0, Instant::now());
        while before.0 == 0 || before.1.elapsed() < QUIET {
            sleep(Duration::from_millis(20)).await;
            let refused = REFUSED.load(Ordering::Relaxed);
            if refused != before.0 {
                before = (refused, Instant::now());
            }
        }
    })
    .await
    .expect("an end of refusals");
    floods
}

async fn listeners<const COUNT: usize>() -> [TcpListener; COUNT] {
    let mut listeners = Vec::new();
    for _ in 0..COUNT {
        listeners.push(TcpListener::bind("127.0.0.1:0").await.unwrap());
    }
    listeners.try_into().unwrap()
}

/// A list of these peers.
fn list(peers: &[TcpListener]) -> Arc<str> {
    let entry = |peer: &TcpListener| format!("{{\"connectivity_info\":\"{}\"}}", peer.local_addr().unwrap());
    peers.iter().map(entry).collect::<Vec<_>>().join(",").into()
}

/// The service answers this peer.
async fn assert_served(peer: &mut TcpStream) {
    let echo = format!("{{\"id\":1,\"method\":\"echo\",\"params\":[\"{}\"]}}\0", "x".repeat(8 << 10));
    peer.write_all(echo.as_bytes()).await.unwrap();
    let mut answer = vec![0; 8 << 10];
    timeout(PATIENCE, peer.read_exact(&mut answer)).await.expect("an answer").unwrap();
}

#[tokio::test]
async fn hostile_peers_together_cost_no_more_than_the_budget_and_others_are_served() {
    let _turn = TURN.lock().await;
    let _profiler = dhat::Profiler::builder().testing().build();
    let ([good], hostile) = (listeners().await, listeners::<HOSTILE>().await);
    let service = serve(hostile.iter().chain([&good])).await;
    let mut good = greeted(&good).await;
    let before = dhat::HeapStats::get().curr_bytes;
    let begin = |listener| Flood { list: list(slice::from_ref(&listener)), listener };
    let floods = flood(hostile.into_iter().map(begin)).await;
    let most = dhat::HeapStats::get().max_bytes - before;
    println!("{} KiB for {HOSTILE} peers", most >> 10);
    assert!((BUDGET / 2..BUDGET + HOSTILE * SHARE).contains(&most), "{most} bytes");
    assert_served(&mut good).await;
    drop(floods);
    service.stopper().cancel();
    timeout(PATIENCE, service.join()).await.expect("the service stops").unwrap();
}

#[tokio::test]
async fn a_peer_that_lists_many_addresses_leaves_a_configured_one_room_for_its_list() {
    let _turn = TURN.lock().await;
    let (good, hostile) = (TcpListener::bind("127.0.0.1:0").await.unwrap(), listeners::<98>().await);
    let service = serve([&hostile[0], &good].into_iter()).await;
    let all = list(&hostile);
    let begin = |listener| Flood { listener, list: Arc::clone(&all) };
    let floods = flood(hostile.into_iter().map(begin)).await;
    let long = format!("{}{}", list(slice::from_ref(&good)), " ".repeat(500 << 10));
    assert_served(&mut greeted_with(&good, &long).await).await;
    drop(floods);
    service.stopper().cancel();
    timeout(PATIENCE, service.join()).await.expect("the service stops").unwrap();
}
