//! A watch on its stream.
//!
//! It is pumped by its connection, and has nothing of its own but a frame for which the client has no room yet: what
//! is said is decided, and encoded, when it can be sent.

use std::{
    sync::Arc,
    task::Waker,
    time::{Duration, SystemTime},
};

use bytes::{Buf as _, Bytes};
use http::HeaderMap;
use tokio::time::Instant;

use super::{call::code_of, line::FULL, rooms::Held, shard::Shard};
use crate::{
    grpc::{watch, wire::Frame},
    http2::{MAX_FRAME, Reason, Session},
    metrics::Call,
    status::{Delivery, Event, Message, READ_AHEAD, Room, Subscription, Told},
};

/// Frames that one watch may send before the others on its connection.
const FRAMES_PER_TURN: usize = 4;

/// How long a client has to make room for the rest of a message where the watch is to end at once: as long as it does
/// not, it can't be told that.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// A watch on its stream. Dropping it detaches the listener.
pub(super) struct Feed {
    pub(super) stream: u32,
    /// The client has been up to date since the stream began, or began anew: what it is told is news.
    live: bool,
    subscription: Subscription,
    /// What the client has no room for.
    stalled: Option<Box<Parcel>>,
    said: watch::Said,
    /// How it ends, when that was sent.
    trailers: Option<Box<HeaderMap>>,
    call: Call,
}

/// Messages that are sent together.
struct Parcel {
    bytes: Bytes,
    batch: Batch,
    /// Their place among all that wait, and when they are given up, if the watch is to end at once.
    held: Option<Held>,
    until: Option<Instant>,
}

/// What is handed out at a time.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Batch {
    pub(super) messages: u64,
    /// Changes among them that are news.
    pub(super) changes: u64,
    /// When the first of those happened.
    pub(super) oldest: Option<SystemTime>,
}

impl Batch {
    /// Takes a message in, for a client that is up to date or is not.
    fn note(&mut self, message: &Message, live: &mut bool) {
        self.messages += 1;
        match &message.delivery {
            Delivery::Change { event, .. } if *live => {
                self.changes += 1;
                self.oldest.get_or_insert(event.time);
            }
            Delivery::Synced { .. } => *live = true,
            Delivery::Attached { .. } | Delivery::Reset { .. } => *live = false,
            _ => {}
        }
    }
}

/// What there is left to do for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pumped {
    /// Nothing, until something happens or this moment comes.
    Quiet(Instant),
    /// Nothing, until the client makes room.
    Stalled,
    /// More: there is no room for it until the connection has been written to.
    Full,
    /// More, when the others have had their turn.
    More,
    /// It is over.
    Over,
}

impl Feed {
    pub(super) fn new(stream: u32, subscription: Subscription, call: Call) -> Self {
        Self {
            stream,
            live: false,
            subscription,
            stalled: None,
            said: watch::Said::default(),
            trailers: None,
            call,
        }
    }

    /// Has `waker` woken when the service calls the listener away.
    pub(super) fn wake_at_end(&self, waker: &Waker) {
        self.subscription.wake_at_end(waker);
    }

    /// Sends what there is to say, as far as there is room. `spared` is the one watch of the client that may wait in any case,
    /// or 0.
    pub(super) fn pump(
        &mut self,
        now: Instant,
        shard: &Shard,
        spared: &mut u32,
        session: &mut Session,
        out: &mut Vec<u8>,
    ) -> Pumped {
        let mut sent = 0;
        if let Some(parcel) = self.stalled.take() {
            if let Some(stuck) = self.send(*parcel, now, shard, spared, session, out) {
                return stuck;
            }
            sent += 1;
        }
        while sent < FRAMES_PER_TURN {
            if let Some(trailers) = self.trailers.take() {
                self.call.code(code_of(&trailers));
                session.finish(self.stream, Some(&trailers), out);
                return Pumped::Over;
            }
            // What cannot be sent is not even thought of: it would be old news by then, and take memory.
            if out.len() + MAX_FRAME > FULL {
                // Who has had a part of the room leaves the next to others.
                return if sent == 0 { Pumped::Full } else { Pumped::More };
            }
            if session.room(self.stream) == Some(0) && !self.subscription.is_ending() {
                return Pumped::Stalled;
            }
            let (parcel, told) = self.compose(now, &mut shard.scratch());
            if let Told::Ended(end) = told {
                self.trailers = Some(Box::new(self.said.trailers(end)));
            }
            if let Some(stuck) = self.send(parcel, now, shard, spared, session, out) {
                return stuck;
            }
            if let Told::All(due) = told {
                return Pumped::Quiet(due);
            }
            sent += 1;
        }
        Pumped::More
    }

    /// Makes a frame of what there is to say.
    fn compose(&mut self, now: Instant, read: &mut Vec<Arc<Event>>) -> (Parcel, Told) {
        let (mut frame, mut batch) = (Frame::default(), Batch::default());
        let user_data = self.subscription.user_data().clone();
        let told = self.subscription.tell(now, READ_AHEAD, read, |message| {
            self.said.note(&message);
            batch.note(&message, &mut self.live);
            frame.put(&message, &user_data);
            if frame.len() < MAX_FRAME { Room::More } else { Room::Full }
        });
        (Parcel { bytes: frame.freeze(), batch, held: None, until: None }, told)
    }

    /// Sends what there is room for. Returns why the rest has to wait, if there is any.
    fn send(
        &mut self,
        mut parcel: Parcel,
        now: Instant,
        shard: &Shard,
        spared: &mut u32,
        session: &mut Session,
        out: &mut Vec<u8>,
    ) -> Option<Pumped> {
        // A snapshot's part may be longer than what is to wait at a time.
        let part = parcel.bytes.len().min(FULL.saturating_sub(out.len()));
        let sent = session.send(self.stream, parcel.bytes.get(..part).unwrap_or_default(), out);
        if sent == parcel.bytes.len() {
            shard.count(&parcel.batch, now);
            *spared = if *spared == self.stream { 0 } else { *spared };
            return None;
        }
        parcel.bytes.advance(sent);
        if sent == part {
            self.stalled = Some(Box::new(parcel));
            return Some(Pumped::Full);
        }
        Some(self.wait(parcel, now, shard, spared).unwrap_or_else(|reason| {
            session.reset(self.stream, reason, out);
            Pumped::Over
        }))
    }

    /// Holds what the client makes no room for, as long as there is some here, and time. That of one watch of a client needs
    /// no place among those of all: so nobody who has one is cut off because others read nothing.
    fn wait(
        &mut self,
        mut parcel: Parcel,
        now: Instant,
        shard: &Shard,
        spared: &mut u32,
    ) -> Result<Pumped, Reason> {
        if *spared == 0 && parcel.held.is_none() {
            *spared = self.stream;
        }
        if *spared != self.stream && parcel.held.is_none() {
            // RESOURCE_EXHAUSTED, in gRPC's words. The client can resume.
            let held = shard.rooms().watches.hold(parcel.bytes.len()).ok_or(Reason::EnhanceYourCalm)?;
            parcel.held = Some(held);
        }
        let mut pumped = Pumped::Stalled;
        if self.subscription.is_called_away_at_once() {
            let until = *parcel.until.get_or_insert(now + LAST_WORDS);
            if now >= until {
                return Err(Reason::Cancel);
            }
            pumped = Pumped::Quiet(until);
        }
        self.stalled = Some(Box::new(parcel));
        Ok(pumped)
    }
}
