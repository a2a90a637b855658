//! Frames over streams: in memory, where time is virtual and a standstill can be seen, and over loopback.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::FutureExt as _;
use socket2::SockRef;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex},
    net::{TcpListener, TcpStream},
    sync::Notify,
    task::yield_now,
    time::timeout,
};

use super::{
    frame_budget::{FrameBudget, PoolFrameBudget},
    *,
};
use crate::peer::Reach;

/// Longer than anything here takes in virtual time: when it is over, nothing moves any more.
const FOREVER: Duration = Duration::from_secs(3600);
const LIMIT: usize = 1 << 20;

/// A connection to a peer that is READY, the only one of its pool.
fn connection(stream: impl ByteStream + 'static, limit: usize) -> Connection {
    let mut connection = identifying(stream, limit);
    connection.set_ready();
    connection
}

/// The same before the peer is READY.
pub(super) fn identifying(stream: impl ByteStream + 'static, limit: usize) -> Connection {
    let budget = PoolFrameBudget::new(FrameBudget::default());
    Connection::new(Box::new(stream), limit, budget.reservation(Reach::Any))
}

/// A connection, and the peer's end of a wire that holds so many bytes each way.
fn wired(capacity: usize) -> (Connection, DuplexStream) {
    let (ours, theirs) = duplex(capacity);
    (connection(ours, LIMIT), theirs)
}

/// A connection, and the peer's end, over loopback.
async fn connected() -> (Connection, TcpStream) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address: SocketAddr = listener.local_addr().unwrap();
    let ours = TcpStream::connect(address).await.unwrap();
    let (theirs, _) = listener.accept().await.unwrap();
    (connection(ours, LIMIT), theirs)
}

async fn frame(connection: &mut Connection) -> Bytes {
    match connection.next().await {
        ConnectionEvent::Frame(frame) => frame,
        other => panic!("{other:?}"),
    }
}

async fn lost(connection: &mut Connection) -> String {
    match connection.next().await {
        ConnectionEvent::Lost(how) => how,
        other => panic!("{other:?}"),
    }
}

/// Answers every frame with itself until the end, and says how that came.
async fn echo(mut connection: Connection) -> ConnectionEvent {
    loop {
        match connection.next().await {
            ConnectionEvent::Frame(frame) => connection.send([frame, Bytes::from_static(b"\0")]),
            end => return end,
        }
    }
}

#[tokio::test]
async fn frames_that_arrive_split_at_any_byte_arrive_whole() {
    let stream = b"{\"id\":1}\0\0[2]\0";
    for split in 0..=stream.len() {
        let (mut ours, mut theirs) = wired(64);
        let mut frames = Vec::new();
        for part in [&stream[..split], &stream[split..]] {
            theirs.write_all(part).await.unwrap();
            while let Some(event) = ours.next().now_or_never() {
                let ConnectionEvent::Frame(frame) = event else { panic!("{event:?}") };
                frames.push(frame);
            }
        }
        assert_eq!(frames, ["{\"id\":1}", "", "[2]"], "split at {split}");
        // So that the runtime does not call this task greedy, and hold events back.
        yield_now().await;
    }
}

#[tokio::test]
async fn frames_that_arrive_byte_by_byte_over_loopback_arrive_whole() {
    let (mut ours, mut theirs) = connected().await;
    theirs.set_nodelay(true).unwrap();
    let writer = tokio::spawn(async move {
        for byte in b"one\0\0three\0" {
            theirs.write_all(&[*byte]).await.unwrap();
        }
        theirs
    });
    for expected in ["one", "", "three"] {
        assert_eq!(frame(&mut ours).await, expected);
    }
    drop(writer.await.unwrap());
    assert_eq!(lost(&mut ours).await, "the peer closed the connection");
}

#[tokio::test]
async fn thousands_of_frames_in_one_read_arrive_in_order() {
    let (mut ours, mut theirs) = connected().await;
    let many: Vec<u8> = (0..20_000).flat_map(|number| format!("{number}\0").into_bytes()).collect();
    let writer = tokio::spawn(async move {
        theirs.write_all(&many).await.unwrap();
        theirs
    });
    for number in 0..20_000 {
        assert_eq!(frame(&mut ours).await, number.to_string());
    }
    drop(writer.await.unwrap());
}

#[tokio::test]
async fn a_flood_of_frames_leaves_other_tasks_their_turn() {
    let (mut ours, mut theirs) = wired(8192);
    theirs.write_all(&[0; 8192]).await.unwrap();
    let turns = Arc::new(AtomicU32::new(0));
    let counter = Arc::clone(&turns);
    let other = tokio::spawn(async move {
        loop {
            counter.fetch_add(1, Ordering::Relaxed);
            yield_now().await;
        }
    });
    for _ in 0..8192 {
        assert!(frame(&mut ours).await.is_empty());
    }
    other.abort();
    let turns = turns.load(Ordering::Relaxed);
    assert!(turns > 20, "{turns} turns in 8192 frames");
}

#[tokio::test]
async fn nothing_is_lost_when_waiting_is_given_up() {
    let (mut ours, mut theirs) = wired(16);
    ours.send([Bytes::from_static(b"a frame longer than the wire\0")]);
    theirs.write_all(b"hal").await.unwrap();
    assert!(ours.next().now_or_never().is_none());
    theirs.write_all(b"f\0").await.unwrap();
    assert_eq!(frame(&mut ours).await, "half");
    let mut read = [0; 29];
    let (read, _) = tokio::join!(theirs.read_exact(&mut read), async {
        assert!(timeout(Duration::from_millis(1), ours.next()).await.is_err());
    });
    assert_eq!(read.unwrap(), 29);
}

#[tokio::test]
async fn a_frame_over_the_limit_is_told_before_it_ends_and_after_those_before_it() {
    let (ours, mut theirs) = duplex(64);
    let mut ours = connection(ours, 4);
    theirs.write_all(b"1234\0\0too long").await.unwrap();
    assert_eq!(frame(&mut ours).await, "1234");
    assert_eq!(frame(&mut ours).await, "");
    let event = ours.next().await;
    assert!(
        matches!(&event, ConnectionEvent::Overran(why) if why == "frame is longer than 4 bytes"),
        "{event:?}"
    );
}

#[tokio::test]
async fn the_parts_of_a_frame_are_written_at_once() {
    let (mut ours, mut theirs) = wired(64);
    ours.send(["{\"id\":", "1", ",\"result\":", "[]", "}\0"].map(Bytes::from));
    assert!(ours.next().now_or_never().is_none());
    let mut buffer = [0; 64];
    let read = theirs.read(&mut buffer).await.unwrap();
    assert_eq!(&buffer[..read], b"{\"id\":1,\"result\":[]}\0");
}

#[tokio::test]
async fn what_waits_to_be_written_keeps_no_frame_alive() {
    let (mut ours, _theirs) = wired(1);
    let large = Bytes::from(vec![b'x'; LIMIT]);
    ours.send([large.slice(..8)]);
    assert!(large.is_unique(), "eight bytes hold a megabyte");
}

#[tokio::test]
async fn a_large_part_is_written_from_where_it_is_and_nothing_is_read_until_it_is_gone() {
    let (mut ours, mut theirs) = wired(1 << 19);
    let large = Bytes::from(vec![b'x'; LIMIT]);
    ours.send([Bytes::from_static(b"{"), large.clone(), Bytes::from_static(b"}\0")]);
    assert!(!large.is_unique(), "a megabyte was copied");
    theirs.write_all(b"next\0").await.unwrap();
    assert!(ours.next().now_or_never().is_none(), "it is read while a frame is kept");
    let mut written = vec![0; LIMIT + 3];
    let (read, next) = tokio::join!(theirs.read_exact(&mut written), frame(&mut ours));
    assert_eq!(read.unwrap(), LIMIT + 3);
    assert!(written.starts_with(b"{x") && written.ends_with(b"x}\0"));
    assert_eq!(next, "next");
    assert!(large.is_unique(), "what is written keeps nothing alive");
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_asks_and_does_not_read_is_not_read_either() {
    let (ours, mut theirs) = wired(1024);
    let connection = tokio::spawn(echo(ours));
    let question = [b"?".repeat(99), vec![0]].concat();
    let mut asked = 0_usize;
    while timeout(FOREVER, theirs.write_all(&question)).await.is_ok() {
        asked += question.len();
        assert!(asked < 200 * 1024, "what is not written grows without bound");
    }
    assert!(asked > 16 * 1024, "it stopped at {asked}");
    // It reads after all: everything that was asked is answered, and nobody sleeps through it.
    let mut answers = vec![0; asked];
    timeout(FOREVER, theirs.read_exact(&mut answers)).await.expect("a standstill").unwrap();
    assert!(answers.chunks(question.len()).all(|answer| answer == question));
    drop(theirs);
    let end = connection.await.unwrap();
    assert!(matches!(end, ConnectionEvent::Lost(_)), "{end:?}");
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_stopped_reading_goes_on_with_the_first_bytes_that_are_read() {
    let (ours, mut theirs) = wired(64);
    let connection = tokio::spawn(echo(ours));
    let question = [vec![b'?'; 100 * 1024], vec![0]].concat();
    theirs.write_all(&question).await.unwrap();
    // The answer is over the mark, so this is not read until enough of it has gone.
    theirs.write_all(b"next\0").await.unwrap();
    let mut answer = vec![0; question.len() + 5];
    for bytes in answer.chunks_mut(10) {
        timeout(FOREVER, theirs.read_exact(bytes)).await.expect("a standstill").unwrap();
    }
    assert!(answer.starts_with(&question) && answer.ends_with(b"next\0"));
    drop(theirs);
    connection.await.unwrap();
}

#[tokio::test]
async fn a_peer_that_asks_much_and_reads_late_gets_every_answer_over_loopback() {
    const QUESTIONS: usize = 30_000;
    let (ours, theirs) = connected().await;
    SockRef::from(&theirs).set_recv_buffer_size(4096).unwrap();
    let connection = tokio::spawn(echo(ours));
    let (mut reader, mut writer) = theirs.into_split();
    let half_asked = Arc::new(Notify::new());
    let notify = Arc::clone(&half_asked);
    let asking = tokio::spawn(async move {
        for number in 0..QUESTIONS {
            // Little enough that it fits in the buffers on the way, so that nobody waits for the other.
            if number == 1_000 {
                notify.notify_one();
            }
            writer.write_all(format!("{number:09}\0").as_bytes()).await.unwrap();
        }
        writer
    });
    half_asked.notified().await;
    let mut answers = vec![0; QUESTIONS * 10];
    reader.read_exact(&mut answers).await.unwrap();
    for (number, answer) in answers.chunks(10).enumerate() {
        assert_eq!(answer, format!("{number:09}\0").as_bytes());
    }
    drop((reader, asking.await.unwrap()));
    let end = connection.await.unwrap();
    assert!(matches!(&end, ConnectionEvent::Lost(how) if how == "the peer closed the connection"), "{end:?}");
}

#[tokio::test]
async fn an_end_of_the_stream_is_told_after_the_frames_before_it() {
    let (mut ours, mut theirs) = connected().await;
    theirs.write_all(b"last words\0and half a fra").await.unwrap();
    drop(theirs);
    assert_eq!(frame(&mut ours).await, "last words");
    assert_eq!(lost(&mut ours).await, "the peer closed the connection");
}

#[tokio::test]
async fn a_reset_is_told_in_the_words_of_the_operating_system() {
    let (mut ours, theirs) = connected().await;
    SockRef::from(&theirs).set_linger(Some(Duration::ZERO)).unwrap();
    drop(theirs);
    assert_eq!(lost(&mut ours).await, "connection reset by peer (os error 104)");
}

#[tokio::test]
async fn last_words_are_heard_even_if_nothing_can_be_written_any_more() {
    let (mut ours, mut theirs) = wired(64);
    theirs.write_all(b"wrong domain\0bye\0").await.unwrap();
    drop(theirs);
    for _ in 0..2 {
        ours.send([Bytes::from_static(b"hello\0")]);
    }
    assert_eq!(frame(&mut ours).await, "wrong domain");
    ours.send([Bytes::from_static(b"hello\0")]);
    assert_eq!(frame(&mut ours).await, "bye");
    assert_eq!(lost(&mut ours).await, "broken pipe");
}

#[tokio::test]
async fn our_last_words_are_written_before_we_hang_up() {
    let (mut ours, mut theirs) = connected().await;
    ours.send(["no", "\0"].map(Bytes::from));
    ours.close().await;
    let mut heard = Vec::new();
    theirs.read_to_end(&mut heard).await.unwrap();
    assert_eq!(heard, b"no\0");
}

#[tokio::test]
async fn hanging_up_waits_for_no_reader() {
    let (mut ours, mut theirs) = wired(4);
    ours.send([Bytes::from_static(b"more than fits\0")]);
    ours.close().now_or_never().expect("it waited");
    let mut heard = Vec::new();
    theirs.read_to_end(&mut heard).await.unwrap();
    assert_eq!(heard, b"more");
}

#[tokio::test]
async fn a_frame_is_short_until_the_peer_is_ready() {
    let (ours, mut theirs) = duplex(1 << 20);
    let mut ours = identifying(ours, LIMIT);
    let long = [vec![b'x'; 512 << 10], b"\0".to_vec()].concat();
    theirs.write_all(&long).await.unwrap();
    assert_eq!(frame(&mut ours).await.len(), 512 << 10);
    ours.set_ready();
    theirs.write_all(&[&b"x"[..], &long].concat()).await.unwrap();
    assert_eq!(frame(&mut ours).await.len(), (512 << 10) + 1);
    let (ours, mut theirs) = duplex(1 << 20);
    let mut ours = identifying(ours, LIMIT);
    theirs.write_all(&[&b"x"[..], &long].concat()).await.unwrap();
    let event = ours.next().await;
    let expected = "frame is longer than 524288 bytes, the limit until the peer is READY";
    assert!(matches!(&event, ConnectionEvent::Overran(why) if why == expected), "{event:?}");
}

/// Peers that are READY, hold this many bytes each, and share one budget: those that got them, and those that did not.
async fn hold(
    count: usize,
    budget: &PoolFrameBudget,
    bytes: &[u8],
) -> (Vec<(Connection, DuplexStream)>, usize) {
    let (mut granted, mut refused) = (Vec::new(), 0);
    for _ in 0..count {
        let (ours, mut theirs) = duplex(bytes.len());
        let mut ours = Connection::new(Box::new(ours), 4 << 20, budget.reservation(Reach::Remote));
        ours.set_ready();
        theirs.write_all(bytes).await.unwrap();
        match timeout(Duration::from_millis(1), ours.next()).await {
            Err(_) => granted.push((ours, theirs)),
            Ok(ConnectionEvent::Frame(frame)) => {
                // More than the wire takes.
                ours.send([frame.clone(), frame]);
                granted.push((ours, theirs));
            }
            Ok(ConnectionEvent::Overran(why)) => {
                assert!(why.starts_with("no memory for its frame"), "{why}");
                refused += 1;
            }
            Ok(other) => panic!("{other:?}"),
        }
    }
    (granted, refused)
}

#[tokio::test(start_paused = true)]
async fn incomplete_frames_of_all_peers_share_one_budget_and_short_ones_always_have_room() {
    let budget = PoolFrameBudget::new(FrameBudget::default());
    let megabyte = vec![b'x'; 1 << 20];
    let (granted, refused) = hold(200, &budget, &megabyte).await;
    // Buffers grow by doubling.
    assert!((64..=128).contains(&granted.len()) && granted.len() + refused == 200, "{}", granted.len());
    assert_eq!(hold(50, &budget, &[b'x'; 8 << 10]).await.1, 0, "short ones are always taken");
    drop(granted);
    assert_eq!(hold(64, &budget, &megabyte).await.1, 0, "it was given back");
}

#[tokio::test(start_paused = true)]
async fn a_frame_whose_answer_is_not_read_counts_as_long_as_it_is_kept() {
    let budget = PoolFrameBudget::new(FrameBudget::default());
    let question = [vec![b'x'; 1 << 20], b"\0".to_vec()].concat();
    let (mut granted, _) = hold(100, &budget, &question).await;
    for (ours, _) in &mut granted {
        assert!(timeout(Duration::from_millis(1), ours.next()).await.is_err());
    }
    let (_, refused) = hold(100, &budget, &question[..1 << 20]).await;
    assert!(refused >= 60, "{refused}");
}
