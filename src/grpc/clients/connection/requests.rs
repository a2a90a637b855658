//! What was asked for on a connection, until it is answered or becomes a watch.

use std::{
    future::Future,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use futures_util::{
    StreamExt as _,
    future::{AbortHandle, Abortable},
    stream::FuturesUnordered,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::Instant,
};

use super::{Connection, ROUND};
use crate::{
    grpc::clients::{
        answer::Answer,
        call::{self, Reply, Rest},
        feed::{Feed, Pumped},
        received::Inbox,
        rooms::{Held, Room},
    },
    http2::{Event, Fault, Reason},
};

type Call = Pin<Box<dyn Future<Output = Reply>>>;

/// What a client may have that is not complete, or not answered, without a place among that of all: so nobody who asks
/// for little is refused because others ask for much.
const FREE: usize = 32 * 1024;
/// What a request takes that waits for its end, beside what there is of it.
const WAITING: usize = 2 * 1024;
/// What the services take for one with which they have begun and come to no end yet.
const SERVED: usize = 16 * 1024;
/// What there may be of one at a time: a head, and what may be sent of a body. One that goes on and on takes no more.
const LARGEST: usize = 80 * 1024;
/// Bytes of answers that a client may leave unread before what it asks for is begun. It is a part of what may wait in all,
/// so that one that asks faster than it reads waits for its own answers, and takes nobody's place.
const MOST_WAITING: usize = 4 * 1024 * 1024;

/// Calls of a client, with those that it does not want any more: twice as many as there may be streams.
const MOST_CALLS: usize = 256;

/// All that is not answered to the end.
pub(super) struct Requests {
    calls: FuturesUnordered<Abortable<Call>>,
    open: Vec<Open>,
    answers: Vec<Answer>,
    /// The place of what is not free.
    held: Held,
}

/// One of them.
struct Open {
    stream: u32,
    inbox: Inbox,
    call: AbortHandle,
    /// Bytes that it has come with until now.
    bytes: usize,
}

/// Whoever still waits for it is told.
impl Drop for Open {
    fn drop(&mut self) {
        self.call.abort();
        self.inbox.cut_short();
    }
}

impl Open {
    fn weight(&self) -> usize {
        WAITING + self.bytes.min(LARGEST) + if self.inbox.is_served() { SERVED } else { 0 }
    }
}

impl Requests {
    fn new(room: &Room) -> Self {
        Self { calls: FuturesUnordered::new(), open: Vec::new(), answers: Vec::new(), held: room.place() }
    }

    /// Has a place for what there is, with so many bytes that are not even a request yet. Otherwise returns the stream that
    /// is to be given up, or 0 where there is none.
    fn settle(&mut self, unfinished: usize) -> Result<(), u32> {
        let weight = self.open.iter().map(Open::weight).sum::<usize>() + unfinished;
        if self.held.fit(weight.saturating_sub(FREE)) {
            return Ok(());
        }
        Err(self.open.iter().map(|open| open.stream).max().unwrap_or(0))
    }

    /// Whether so much of what was asked for waits to be read that nothing more is begun.
    fn is_full(&self) -> bool {
        self.answers.iter().map(Answer::waiting).sum::<usize>() >= MOST_WAITING
    }

    fn is_empty(&self) -> bool {
        self.calls.is_empty() && self.open.is_empty()
    }

    /// One is over: answered, or not wanted any more.
    fn end(&mut self, stream: u32) {
        if let Some(at) = self.open.iter().position(|open| open.stream == stream) {
            self.open.swap_remove(at);
        }
        self.answers.retain(|answer| answer.stream != stream);
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> Connection<T> {
    /// Takes up what the client asks for.
    pub(super) fn hear(&mut self, event: Event<'_>) {
        match event {
            // Calls whose stream was reset go when it is the calls' turn, which is not before answers are read.
            Event::Request { stream, .. }
                if self.requests.as_ref().is_some_and(|all| all.calls.len() >= MOST_CALLS) =>
            {
                self.session.reset(stream, Reason::EnhanceYourCalm, &mut self.line.out);
            }
            Event::Request { stream, head, ends } => {
                let (inbox, counted) = (Inbox::new(self.task.clone(), ends), self.shard.begin(head.path()));
                let length = head.len();
                let call = call::run(
                    stream,
                    head,
                    inbox.clone(),
                    self.origin.clone(),
                    Rc::clone(&self.shard),
                    counted,
                );
                let (abort, registration) = AbortHandle::new_pair();
                let requests = self.requests();
                requests.calls.push(Abortable::new(Box::pin(call), registration));
                requests.open.push(Open { stream, inbox, call: abort, bytes: length });
            }
            Event::Data { stream, data, ends } => {
                let open = self.requests.iter_mut().flat_map(|requests| &mut requests.open);
                for open in open.filter(|open| open.stream == stream) {
                    open.bytes = open.bytes.saturating_add(data.len());
                    open.inbox.put(data, ends);
                }
            }
            Event::Reset { stream } => {
                if let Some(requests) = &mut self.requests {
                    requests.end(stream);
                }
                self.feeds.retain(|feed| feed.stream != stream);
                self.seat.watching(!self.feeds.is_empty());
            }
        }
    }

    fn requests(&mut self) -> &mut Requests {
        let room = &self.shard.rooms().requests;
        self.requests.get_or_insert_with(|| Box::new(Requests::new(room)))
    }

    /// Finds room for what is not complete, and gives up what there is none for: the latest first.
    pub(super) fn settle(&mut self) -> Result<(), Fault> {
        let unfinished = self.unfinished();
        if unfinished <= FREE && self.requests.is_none() {
            return Ok(());
        }
        while let Err(stream) = self.requests().settle(unfinished) {
            if stream == 0 {
                let why = "headers without end, and no room for them";
                return Err(self.session.give_up(Reason::EnhanceYourCalm, why, &mut self.line.out));
            }
            self.requests().end(stream);
            self.session.reset(stream, Reason::EnhanceYourCalm, &mut self.line.out);
        }
        if unfinished <= FREE {
            self.requests.take_if(|requests| requests.is_empty());
        }
        Ok(())
    }

    /// Goes on with the requests. Some become watches. Returns when there will be more to do though nothing happens.
    pub(super) fn answer(&mut self, now: Instant, cx: &mut Context<'_>) -> Option<Instant> {
        let mut requests = self.requests.take()?;
        let mut due: Option<Instant> = None;
        let mut over = Vec::new();
        for answer in &mut requests.answers {
            match answer.pump(now, &mut self.session, &mut self.line.out, cx) {
                Pumped::Quiet(until) => due = due.into_iter().chain([until]).min(),
                Pumped::Over => over.push(answer.stream),
                Pumped::Stalled | Pumped::Full | Pumped::More => {}
            }
        }
        for stream in over {
            requests.end(stream);
        }
        // Where there is no room for answers none is thought of: all that a client may ask for at a time is much memory,
        // and much time that others have to wait.
        while !self.line.is_full()
            && !requests.is_full()
            && let Poll::Ready(Some(done)) = requests.calls.poll_next_unpin(cx)
        {
            // Those that are not wanted any more have said nothing.
            if let Ok(reply) = done {
                due = due.into_iter().chain(self.begin_answer(reply, &mut requests, now, cx)).min();
            }
            if now.elapsed() >= ROUND {
                self.more = true;
                break;
            }
        }
        for open in &requests.open {
            self.session.consumed(open.stream, open.inbox.room(), &mut self.line.out);
        }
        self.requests = Some(requests);
        due
    }

    /// Begins an answer, and says as much of it as there is room for. Returns when it will want to go on by itself.
    fn begin_answer(
        &mut self,
        reply: Reply,
        requests: &mut Requests,
        now: Instant,
        cx: &mut Context<'_>,
    ) -> Option<Instant> {
        let Reply { stream, status, headers, rest, mut call } = reply;
        let ends = matches!(rest, Rest::Nothing);
        self.session.answer(stream, status, &headers, ends, &mut self.line.out);
        match rest {
            Rest::Nothing => {
                call.code(call::code_of(&headers));
                requests.end(stream);
            }
            Rest::Body(body, room) => {
                let mut answer = Answer::new(stream, body, room, call);
                let pumped = answer.pump(now, &mut self.session, &mut self.line.out, cx);
                if pumped == Pumped::Over {
                    requests.end(stream);
                } else {
                    requests.answers.push(answer);
                }
                if let Pumped::Quiet(until) = pumped {
                    return Some(until);
                }
            }
            Rest::Watch(subscription) => {
                requests.end(stream);
                let feed = Box::new(Feed::new(stream, subscription, call));
                feed.wake_at_end(&self.task);
                self.feeds.push(feed);
                self.seat.watching(true);
                self.more = true;
            }
        }
        None
    }
}
