//! One client's connection: everything on it, in one task.

use std::{
    future::Future,
    pin::{Pin, pin},
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream::FuturesUnordered};
use h2::Reason;
use smallvec::SmallVec;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{Instant, Sleep, sleep_until},
};

use super::{
    call,
    feed::{Feed, Pumped},
    keepalive::Pulse,
    line::Line,
    shard::{Seat, Shard},
    socket::Socket,
};
use crate::grpc::access::Origin;

/// Streams that a connection may have open. HTTP/2's default is no bound at all.
const MAX_STREAMS: u32 = 128;
/// Streams that may be reset by us because of what the client did, before it is taken for an attack
/// (RUSTSEC-2024-0003).
const MAX_LOCAL_RESETS: usize = 1024;
/// Room for headers: tokens are a few KiB at most.
const MAX_HEADERS: u32 = 16 * 1024;
/// Bytes of a stream that h2 keeps for a client that makes room slower than it is sent to.
const MAX_SEND_BUFFER: usize = 64 * 1024;
/// Watches that are pumped before what they said is written: what h2 needs to hold frames stays with the connection.
const PUMPED_AT_A_TIME: usize = 32;
/// Rounds before other connections get their turn. Many that flood are as many turns before everybody else's.
const ROUNDS: usize = 2;

type Call = Pin<Box<dyn Future<Output = Option<Feed>>>>;

/// A connection. Resolves when it is over.
pub(super) struct Connection<T> {
    http: h2::server::Connection<Socket<T>, Bytes>,
    line: Arc<Line>,
    origin: Origin,
    shard: Rc<Shard>,
    seat: Seat,
    /// The task that this is.
    task: Waker,
    ring: Waker,
    /// Requests that have not been answered to the end.
    calls: Option<Box<FuturesUnordered<Call>>>,
    /// Its watches; mostly there is one.
    feeds: SmallVec<[Feed; 1]>,
    /// There is more to do than was done in this round.
    more: bool,
    /// How often something had been read when the watches were last looked at for whether anybody wants them.
    looked: u32,
    pulse: Pulse,
    timer: Pin<Box<Sleep>>,
    /// When it fires, kept where it costs nothing to look.
    wakes: Instant,
    leaving: bool,
}

/// Takes up HTTP/2 with a client that has connected.
pub(super) async fn open<T: AsyncRead + AsyncWrite + Unpin>(
    io: T,
    origin: Origin,
    shard: Rc<Shard>,
) -> Result<Connection<T>, h2::Error> {
    let (socket, line) = Socket::new(io);
    let mut http = h2::server::Builder::new()
        .max_concurrent_streams(MAX_STREAMS)
        .max_local_error_reset_streams(Some(MAX_LOCAL_RESETS))
        .max_header_list_size(MAX_HEADERS)
        .max_send_buffer_size(MAX_SEND_BUFFER)
        .handshake(socket)
        .await?;
    line.set_up();
    let wakes = Instant::now();
    Ok(Connection {
        pulse: Pulse::new(shard.keepalive(), http.ping_pong()),
        http,
        ring: Waker::from(Arc::clone(&line)),
        line,
        origin,
        seat: Shard::seat(&shard),
        shard,
        task: Waker::noop().clone(),
        calls: None,
        feeds: SmallVec::new(),
        more: false,
        looked: 0,
        timer: Box::pin(sleep_until(wakes)),
        wakes,
        leaving: false,
    })
}

impl<T: AsyncRead + AsyncWrite + Unpin> Future for Connection<T> {
    type Output = Result<(), h2::Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        this.be(cx.waker());
        this.leave_if_told();
        for _ in 0..ROUNDS {
            let (now, was_blocked, reads) = (Instant::now(), this.line.is_blocked(), this.line.reads());
            this.line.attend();
            this.more = false;
            let heartbeat = this.pump(now)?;
            this.answer(cx);
            if let Poll::Ready(end) = this.drive() {
                return Poll::Ready(end);
            }
            // The client has made room, perhaps, or is tired of a watch.
            let news = !this.feeds.is_empty()
                && (reads != this.line.reads() || (was_blocked && !this.line.is_blocked()));
            if !this.more && !news && this.line.rest() {
                return this.sleep(now, heartbeat, cx);
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> Connection<T> {
    /// Notes which task this is, which is always the same one.
    fn be(&mut self, task: &Waker) {
        if !self.task.will_wake(task) {
            self.task.clone_from(task);
            self.line.register(task);
            self.seat.register(task);
            self.feeds.iter().for_each(|feed| feed.wake_at_end(task));
            self.wakes = Instant::now();
            self.timer.as_mut().reset(self.wakes);
        }
    }

    /// When the service stops, the client is asked to go: no new requests, and the end after those that are there.
    fn leave_if_told(&mut self) {
        if self.shard.is_closing() && !self.leaving {
            self.leaving = true;
            self.http.graceful_shutdown();
        }
    }

    /// Lets the watches say what they have to say. Returns when the first of them will want to though nothing happens.
    fn pump(&mut self, now: Instant) -> Result<Option<Instant>, h2::Error> {
        if self.looked != self.line.reads() {
            self.looked = self.line.reads();
            self.let_go();
        }
        let mut heartbeat: Option<Instant> = None;
        let mut at = 0;
        // What cannot be sent is not even thought of: it would be old news by then.
        while at < self.feeds.len() && !self.line.is_blocked() {
            let Some(feed) = self.feeds.get_mut(at) else { break };
            match feed.pump(now, &self.shard) {
                Pumped::Quiet(due) => {
                    heartbeat = Some(heartbeat.map_or(due, |earliest| earliest.min(due)));
                }
                Pumped::Stalled => {}
                Pumped::More => self.more = true,
                Pumped::Over => {
                    self.feeds.swap_remove(at);
                    self.seat.watching(!self.feeds.is_empty());
                    // What was kept for it may be room for the others.
                    self.more = true;
                    continue;
                }
            }
            at += 1;
            if at.is_multiple_of(PUMPED_AT_A_TIME)
                && let Poll::Ready(end) = self.drive()
            {
                end?;
            }
        }
        // A client that reads less than there is to say hears of each in turn.
        if at < self.feeds.len() {
            self.feeds.rotate_left(at);
        }
        Ok(heartbeat)
    }

    /// Ends the watches that the client does not want any more, also where it reads nothing of what it is sent.
    fn let_go(&mut self) {
        let before = self.feeds.len();
        self.feeds.retain(|feed| !feed.is_reset());
        if self.feeds.len() < before {
            self.seat.watching(!self.feeds.is_empty());
            // What was kept for them may be room for the others.
            self.more = true;
        }
    }

    /// Goes on with the requests. Some become watches.
    fn answer(&mut self, cx: &mut Context<'_>) {
        let Some(calls) = &mut self.calls else { return };
        while let Poll::Ready(Some(done)) = calls.poll_next_unpin(cx) {
            if let Some(feed) = done {
                feed.wake_at_end(&self.task);
                self.feeds.push(feed);
                self.seat.watching(true);
            }
            self.more = true;
        }
        if calls.is_empty() {
            self.calls = None;
        }
    }

    /// Reads, takes requests, and writes.
    fn drive(&mut self) -> Poll<Result<(), h2::Error>> {
        self.line.attend();
        loop {
            if self.line.must_calm() {
                self.http.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
            }
            // This future holds nothing: it is how a connection is polled.
            let accepted = pin!(self.http.accept()).poll(&mut Context::from_waker(&self.ring));
            match ready!(accepted) {
                Some(Ok((request, respond))) => {
                    let (routes, access, answers) = self.shard.services();
                    let (counted, origin) = (self.shard.begin(request.uri().path()), self.origin.clone());
                    let call = call::run(request, respond, routes, origin, access, answers, counted);
                    self.calls.get_or_insert_default().push(Box::pin(call));
                    self.more = true;
                }
                Some(Err(error)) => return Poll::Ready(Err(error)),
                None => return Poll::Ready(Ok(())),
            }
        }
    }

    /// Sleeps until something happens, or a timer is due.
    fn sleep(
        &mut self,
        now: Instant,
        heartbeat: Option<Instant>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), h2::Error>> {
        let mut http = Context::from_waker(&self.ring);
        let Some(check) = self.pulse.check(now, self.line.heard(), &mut http) else {
            return Poll::Ready(Err(Reason::NO_ERROR.into()));
        };
        let due = heartbeat.map_or(check, |heartbeat| heartbeat.min(check));
        // Moved only when it has fired, or would fire too late: a busy connection leaves it alone.
        if self.wakes <= now || self.wakes > due {
            self.wakes = due;
            self.timer.as_mut().reset(due);
            if self.timer.as_mut().poll(cx).is_ready() {
                cx.waker().wake_by_ref();
            }
        }
        Poll::Pending
    }
}
