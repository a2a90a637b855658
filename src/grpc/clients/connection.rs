//! One client's connection: everything on it, in one task.

mod hearing;
mod requests;
#[cfg(test)]
mod tests;

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use smallvec::SmallVec;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{Instant, Sleep, sleep_until},
};

use self::{hearing::Said, requests::Requests};
use super::{
    feed::{Feed, Pumped},
    keepalive::{Beat, Pulse},
    line::Line,
    secure::Ended,
    shard::{Seat, Shard},
};
use crate::{
    grpc::access::Origin,
    http2::{Fault, PREFACE, Session},
};

/// Rounds before other connections get their turn. Many that flood are as many turns before everybody else's.
const ROUNDS: usize = 2;
/// How long one of them may take. Bytes do not say it all: what is asked in a few of them may be much work, and what is
/// made for a window that is shut is not sent.
const ROUND: Duration = Duration::from_micros(500);
/// How long a client has to hang up when it was told the last word. Closing at once while it speaks would take back, in
/// TCP, what it has not received of that.
const FAREWELL: Duration = Duration::from_secs(1);
/// What is read over of what it says meanwhile, to learn when it has hung up.
const READ_OVER: usize = 64 * 1024;

/// A connection. Resolves when it is over.
pub(super) struct Connection<T> {
    session: Session,
    line: Line<T>,
    /// What was read and not heard: a frame of which there is more to come, or all that there was no time for.
    begun: Vec<u8>,
    /// There was no time for it.
    is_unheard: bool,
    /// Since when there is a frame, or a block of headers, that is not complete.
    waits_since: Option<Instant>,
    origin: Origin,
    shard: Rc<Shard>,
    seat: Seat,
    /// The task that this is.
    task: Waker,
    /// Its watches; mostly there is one. Where there are many, the list is short enough to move about.
    feeds: SmallVec<[Box<Feed>; 1]>,
    /// The one of them that needs no place among those of all that wait for room, or 0.
    spared: u32,
    /// Everything else that was asked for, while there is anything.
    requests: Option<Box<Requests>>,
    /// There is more to do than was done in this round.
    more: bool,
    pulse: Pulse,
    timer: Pin<Box<Sleep>>,
    /// When it fires, kept where it costs nothing to look.
    wakes: Instant,
    /// Answers are thought of before watches: whoever comes second may find no room.
    is_answers_turn: bool,
    /// It is to end: nothing is left but to say so.
    end: Option<End>,
}

/// How a connection ends.
struct End {
    how: Result<(), Fault>,
    is_said: bool,
    /// What may still be read over.
    left: usize,
}

/// Takes up HTTP/2 with a client that has connected.
pub(super) async fn open<T: AsyncRead + AsyncWrite + Unpin>(
    io: T,
    origin: Origin,
    shard: Rc<Shard>,
) -> Result<Connection<T>, Ended> {
    let now = Instant::now();
    let mut out = Vec::new();
    let mut session = Session::new(now.into_std(), &mut out);
    let mut line = Line::new(io, out);
    let mut begun = Vec::new();
    let mut read = [0; 4 * PREFACE.len()];
    loop {
        let length = poll_fn(|cx| {
            line.write(cx)?;
            line.poll_read(cx, &mut read)
        })
        .await?;
        begun.extend_from_slice(read.get(..length).unwrap_or_default());
        let mut rest = &begun[..];
        if session.greet(&mut rest)? {
            begun = rest.to_vec();
            break;
        }
        if length == 0 {
            return Err(Fault::NotHttp2.into());
        }
    }
    Ok(Connection {
        session,
        line,
        begun,
        // What came with the first word.
        is_unheard: true,
        waits_since: None,
        origin,
        seat: Shard::seat(&shard),
        shard,
        task: Waker::noop().clone(),
        feeds: SmallVec::new(),
        spared: 0,
        requests: None,
        more: false,
        pulse: Pulse::new(now),
        timer: Box::pin(sleep_until(now)),
        wakes: now,
        is_answers_turn: false,
        end: None,
    })
}

impl<T: AsyncRead + AsyncWrite + Unpin> Future for Connection<T> {
    type Output = Result<(), Ended>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        this.line.borrow(|| this.shard.lend());
        let end = this.turn(cx);
        this.line.give_back(|buffer| this.shard.take_back(buffer));
        end
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> Connection<T> {
    fn turn(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Ended>> {
        self.be(cx.waker());
        for _ in 0..ROUNDS {
            if self.end.is_some() {
                return self.part(cx);
            }
            let now = Instant::now();
            self.more = false;
            if self.shard.is_closing() {
                self.session.leave(&mut self.line.out);
            }
            match self.listen(now, cx)? {
                Ok(Said::Something) => self.more = true,
                Ok(Said::Nothing) => {}
                Ok(Said::Goodbye) => return Poll::Ready(Ok(())),
                Err(fault) => {
                    self.begin_end(Err(fault), now);
                    continue;
                }
            }
            let mut due = self.speak(now, cx);
            match self.settle().and_then(|()| self.wait_for_rest(now)) {
                Ok(until) => due = until.into_iter().fold(due, Instant::min),
                Err(fault) => {
                    self.begin_end(Err(fault), now);
                    continue;
                }
            }
            match self.pulse.beat(now, self.shard.keepalive()) {
                Beat::Quiet(check) => due = due.min(check),
                Beat::Ask(check) => {
                    self.session.ping(&mut self.line.out);
                    due = due.min(check);
                }
                Beat::Gone => return Poll::Ready(Err(Ended::Gone(self.shard.keepalive().timeout))),
            }
            let (was_blocked, was_full) = (self.line.is_blocked(), self.line.is_full());
            self.session.written(self.line.write(cx)?);
            if self.session.is_over() && self.line.out.is_empty() {
                self.begin_end(Ok(()), now);
                continue;
            }
            // There is room for what there was none for.
            let room = (was_full && !self.line.is_full()) || (was_blocked && !self.line.is_blocked());
            if !self.more && !room {
                return self.sleep(now, due, cx);
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Notes which task this is, which is always the same one.
    fn be(&mut self, task: &Waker) {
        if !self.task.will_wake(task) {
            self.task.clone_from(task);
            self.seat.register(task);
            self.feeds.iter().for_each(|feed| feed.wake_at_end(task));
            self.wakes = Instant::now();
            self.timer.as_mut().reset(self.wakes);
        }
    }

    /// Says what there is to say. Returns when there will be more though nothing happens.
    fn speak(&mut self, now: Instant, cx: &mut Context<'_>) -> Instant {
        let mut due = now + self.shard.keepalive().interval;
        self.is_answers_turn = !self.is_answers_turn;
        for is_answers in [self.is_answers_turn, !self.is_answers_turn] {
            due = due.min(if is_answers { self.answer(now, cx).unwrap_or(due) } else { self.pump(now, due) });
        }
        due
    }

    /// Lets the watches say what they have to say. Returns when the first of them will want to though nothing happens.
    fn pump(&mut self, now: Instant, mut due: Instant) -> Instant {
        if self.spared != 0 && self.feeds.iter().all(|feed| feed.stream != self.spared) {
            self.spared = 0;
        }
        let (had_room, mut at) = (self.session.has_room(), 0);
        while at < self.feeds.len() && !self.line.is_blocked() && !self.line.is_full() {
            let Some(feed) = self.feeds.get_mut(at) else { break };
            let before = self.line.out.len();
            match feed.pump(now, &self.shard, &mut self.spared, &mut self.session, &mut self.line.out) {
                Pumped::Quiet(heartbeat) => due = due.min(heartbeat),
                Pumped::Stalled => {}
                Pumped::Full => {
                    self.more = true;
                    // Who has said something has had its turn.
                    at += usize::from(self.line.out.len() > before);
                    break;
                }
                Pumped::More => self.more = true,
                Pumped::Over => {
                    self.feeds.swap_remove(at);
                    self.seat.watching(!self.feeds.is_empty());
                    continue;
                }
            }
            at += 1;
            // What is said shows in the bytes, and what is not said, to filters or for want of room, in the time alone.
            if at < self.feeds.len() && now.elapsed() >= ROUND {
                self.more = true;
                break;
            }
        }
        // A client that reads less than there is to say hears of each in turn. Where it is sparing with room for the whole
        // connection, whoever is first takes most of that; so this is left to chance.
        if at < self.feeds.len() {
            self.feeds.rotate_left(at);
        } else if had_room && !self.session.has_room() && at > 1 {
            self.feeds.rotate_left(fastrand::usize(..at));
        }
        due
    }

    /// Nothing is left but to say why.
    fn begin_end(&mut self, how: Result<(), Fault>, now: Instant) {
        self.feeds.clear();
        self.requests = None;
        self.seat.watching(false);
        self.end = Some(End { how, is_said: false, left: READ_OVER });
        self.expire(now + self.shard.keepalive().timeout);
    }

    fn expire(&mut self, at: Instant) {
        self.wakes = at;
        self.timer.as_mut().reset(at);
    }

    /// Says the last words, to a client that may not read them.
    fn part(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Ended>> {
        self.line.write(cx)?;
        let Some(End { how, mut is_said, mut left }) = self.end.take() else { return Poll::Ready(Ok(())) };
        // TLS has a last word of its own.
        if !is_said && !self.line.is_blocked() && self.line.poll_shutdown(cx)?.is_ready() {
            is_said = true;
            self.expire(Instant::now() + FAREWELL);
        }
        let shard = Rc::clone(&self.shard);
        let mut is_over = self.timer.as_mut().poll(cx).is_ready();
        while !is_over && left > 0 {
            let Poll::Ready(read) = self.line.poll_read(cx, &mut shard.reading()) else { break };
            // Who has hung up, in whatever way, hears nothing more.
            let read = read.unwrap_or(0);
            (is_over, left) = (read == 0, left.saturating_sub(read));
        }
        if is_over {
            return Poll::Ready(how.map_err(Ended::from));
        }
        self.end = Some(End { how, is_said, left });
        Poll::Pending
    }

    /// Sleeps until something happens, or a timer is due.
    fn sleep(&mut self, now: Instant, due: Instant, cx: &mut Context<'_>) -> Poll<Result<(), Ended>> {
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
