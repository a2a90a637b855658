//! Connections to clients that do not do their part.

#![allow(clippy::unwrap_used)]

use std::{
    cell::Cell,
    convert::Infallible,
    future::{Ready, ready},
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use futures_util::poll;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, ReadBuf, duplex},
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use tonic::{body::Body, service::Routes};

use super::*;
use crate::{
    grpc::{
        access::Access,
        clients::{
            Common, Keepalive, Rooms,
            received::{Inbox, Received},
        },
        methods,
    },
    http2::Reason,
    metrics::{Shards, Turns},
    status::Hub,
};

/// What a client says, and then nothing more. It takes what it is told, except for the last word.
struct Mute(Vec<u8>);

impl AsyncRead for Mute {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.0.is_empty() {
            return Poll::Pending;
        }
        let length = self.0.len().min(buffer.remaining());
        buffer.put_slice(&self.0.drain(..length).collect::<Vec<_>>());
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Mute {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }
}

/// What a client says, all at once. It takes what it is told when it likes to.
struct Busy {
    said: Vec<u8>,
    reads: Rc<Cell<bool>>,
    told: Rc<Cell<usize>>,
}

impl AsyncRead for Busy {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.said.is_empty() {
            return Poll::Pending;
        }
        let length = self.said.len().min(buffer.remaining());
        buffer.put_slice(&self.said.drain(..length).collect::<Vec<_>>());
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Busy {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if !self.reads.get() {
            return Poll::Pending;
        }
        self.told.set(self.told.get() + bytes.len());
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Bytes of what [`Long`] says.
const LONG: usize = 100_000;

/// A service that answers everything at length, and counts how often.
#[derive(Clone)]
struct Long(Arc<AtomicUsize>);

impl tonic::server::NamedService for Long {
    const NAME: &'static str = "long";
}

impl tower::Service<http::Request<Body>> for Long {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: http::Request<Body>) -> Self::Future {
        self.0.fetch_add(1, Ordering::Relaxed);
        let inbox = Inbox::new(Waker::noop().clone(), false);
        inbox.put(&[0; LONG], true);
        let calls = methods::calls(Shards::default());
        let body = Body::new(Received::new("/", inbox, Arc::clone(calls.begin("/").method())));
        ready(Ok(http::Response::new(body)))
    }
}

fn shard(routes: Routes) -> Rc<Shard> {
    let shards = Shards::default();
    Shard::new(Common {
        hub: Arc::new(Hub::new(1, 8)),
        routes,
        keepalive: Keepalive::default(),
        pacing: Duration::ZERO,
        rooms: Rooms::default(),
        access: Arc::new(Access::default()),
        calls: methods::calls(shards.clone()),
        shards,
        turns: Turns::default(),
        close: CancellationToken::new(),
    })
}

/// What ends a connection.
fn wrong() -> Vec<u8> {
    [PREFACE, &[0, 0, 8, 6, 0, 0, 0, 0, 0], &[0; 8]].concat()
}

/// How long a connection goes on that has to end.
async fn end_of(io: impl AsyncRead + AsyncWrite + Unpin) -> Duration {
    let origin = Origin::tcp("127.0.0.1:1".parse().unwrap());
    let connection = open(io, origin, shard(Routes::default())).await.unwrap();
    let begin = Instant::now();
    let ended = timeout(Duration::from_secs(60), connection).await.expect("its end");
    assert!(matches!(ended, Err(Ended::Http2(Fault::Ended(Reason::ProtocolError, _)))), "{ended:?}");
    begin.elapsed()
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_take_the_last_word_is_let_go_all_the_same() {
    assert_eq!(end_of(Mute(wrong())).await.as_secs(), Keepalive::default().timeout.as_secs());
}

#[tokio::test(start_paused = true)]
async fn a_client_that_has_heard_the_last_word_may_hang_up_first() {
    for (hangs_up, said_after, expected) in [
        (true, 0, 0),
        (true, READ_OVER, 0),
        (true, 2 * READ_OVER, 1),
        (false, 0, 1),
        (false, 10 * READ_OVER, 1),
    ] {
        let (mut client, io) = duplex(20 * READ_OVER);
        client.write_all(&[wrong(), vec![0; said_after]].concat()).await.unwrap();
        let client = async {
            let mut heard = Vec::new();
            client.read_to_end(&mut heard).await.unwrap();
            assert!(heard.ends_with(b"SETTINGS have to come first"));
            (!hangs_up).then_some(client)
        };
        let (lasted, _client) = tokio::join!(end_of(io), client);
        assert_eq!(lasted.as_secs(), expected, "{hangs_up} {said_after}");
    }
}

/// A frame of these bytes, of a kind, with flags, on stream 1.
fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
    let [.., a, b] = payload.len().to_be_bytes();
    [&[0, a, b, kind, flags, 0, 0, 0, 1], payload].concat()
}

#[tokio::test(start_paused = true)]
async fn what_is_never_brought_to_its_end_is_given_up_though_more_of_it_comes() {
    let head = [0x83, 0x86, 0x04, 2, b'/', b'x'];
    let settings = [PREFACE, &[0, 0, 0, 4, 0, 0, 0, 0, 0]].concat();
    // A block of headers in as many frames as there are seconds, a frame that is as long, and one after the other that is not.
    let block: Vec<_> = (0..60).map(|_| frame(9, 0, b"")).collect();
    let long: Vec<_> = (0..60).map(|_| vec![0]).collect();
    let whole: Vec<_> = (0..60).map(|_| [&[0][..], &frame(0xfa, 0, &[0; 8])[..16]].concat()).collect();
    for (begin, rest, gives_up) in [
        (frame(1, 0, &head), block, true),
        (frame(0xfa, 0, &[0; 100])[..20].to_vec(), long, true),
        (frame(0xfa, 0, &[0; 8])[..16].to_vec(), whole, false),
    ] {
        let (mut client, io) = duplex(1 << 16);
        client.write_all(&[&settings[..], &begin].concat()).await.unwrap();
        let origin = Origin::tcp("127.0.0.1:1".parse().unwrap());
        let mut connection = open(io, origin, shard(Routes::default())).await.unwrap();
        let mut lasted = 0;
        for part in rest {
            client.write_all(&part).await.unwrap();
            if let Ok(ended) = timeout(Duration::from_secs(1), &mut connection).await {
                assert!(
                    matches!(ended, Err(Ended::Http2(Fault::Ended(Reason::EnhanceYourCalm, _)))),
                    "{ended:?}"
                );
                break;
            }
            lasted += 1;
        }
        assert_eq!((30..33).contains(&lasted), gives_up, "{lasted}");
    }
}

#[tokio::test]
async fn no_more_is_thought_of_than_there_is_room_for() {
    let asked = 100_u8;
    let mut said = [PREFACE, &[0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 4, 0x7f, 0xff, 0xff, 0xff]].concat();
    said.extend([0, 0, 4, 8, 0, 0, 0, 0, 0, 0x7f, 0xff, 0, 0]);
    for number in 0..asked {
        said.extend([0, 0, 11, 1, 5, 0, 0, 0, 2 * number + 1, 0x83, 0x86, 0x04, 7]);
        said.extend(b"/long/x");
    }
    let (reads, told, served) = (Rc::new(Cell::new(false)), Rc::default(), Arc::<AtomicUsize>::default());
    let io = Busy { said, reads: Rc::clone(&reads), told: Rc::clone(&told) };
    let origin = Origin::tcp("127.0.0.1:1".parse().unwrap());
    let mut connection = open(io, origin, shard(Routes::new(Long(Arc::clone(&served))))).await.unwrap();
    for _ in 0..100 {
        assert!(poll!(&mut connection).is_pending());
    }
    assert_eq!(served.load(Ordering::Relaxed), 1, "that fills the line");
    reads.set(true);
    let mut turns = 0;
    while told.get() < usize::from(asked) * LONG {
        assert!(poll!(&mut connection).is_pending());
        turns += 1;
        assert!(turns < 1_000);
    }
    assert_eq!(served.load(Ordering::Relaxed), usize::from(asked));
    assert!(turns > 20, "others have had their turns: {turns}");
}
