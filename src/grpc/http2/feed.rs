//! A watch on its stream.
//!
//! It is pumped by its connection, and has nothing of its own but a frame for which the client has no room yet: what
//! is said is decided, and encoded, when it can be sent.

use std::{
    sync::Arc,
    task::{Context, Waker},
    time::SystemTime,
};

use bytes::Bytes;
use h2::SendStream;
use http::HeaderMap;
use tokio::time::Instant;

use super::{call::code_of, shard::Shard};
use crate::{
    grpc::{watch, wire::Frame},
    metrics::Call,
    status::{Delivery, Event, Message, READ_AHEAD, Room, Subscription, Told},
};

/// Bytes after which a DATA frame is full: what HTTP/2 lets every client take in one frame.
const FRAME_LEN: usize = 16 * 1024;
/// Bytes that are sent on trust once there was room: asking h2 takes longer than handing it a change. It keeps them for
/// a client that has none, and then it is asked.
const CREDIT: usize = 4 * 1024;
/// Frames that one watch may send before the others on its connection.
const FRAMES_PER_TURN: usize = 4;

/// A watch on its stream. Dropping it detaches the listener.
pub(super) struct Feed {
    stream: SendStream<Bytes>,
    subscription: Subscription,
    /// What the client has no room for.
    stalled: Bytes,
    /// Bytes that may be sent without asking whether there is room.
    credit: usize,
    said: watch::Said,
    /// How it ends, when that was sent.
    trailers: Option<Box<HeaderMap>>,
    /// What is in the frame.
    batch: Batch,
    /// The client has been up to date since the stream began, or began anew: what it is told is news.
    live: bool,
    call: Call,
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
    /// More, when the others have had their turn.
    More,
    /// It is over.
    Over,
}

impl Feed {
    pub(super) fn new(stream: SendStream<Bytes>, subscription: Subscription, call: Call) -> Self {
        Self {
            stream,
            subscription,
            stalled: Bytes::new(),
            credit: 0,
            said: watch::Said::default(),
            trailers: None,
            batch: Batch::default(),
            live: false,
            call,
        }
    }

    /// Has `waker` woken when the service calls the listener away.
    pub(super) fn wake_at_end(&self, waker: &Waker) {
        self.subscription.wake_at_end(waker);
    }

    /// Whether the client does not want it any more. That changes only when the connection has read something, so
    /// nobody needs to be woken for it.
    pub(super) fn is_reset(&mut self) -> bool {
        self.stream.poll_reset(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    /// Sends what there is to say, as far as there is room.
    pub(super) fn pump(&mut self, now: Instant, shard: &Shard) -> Pumped {
        self.try_pump(now, shard).unwrap_or(Pumped::Over)
    }

    fn try_pump(&mut self, now: Instant, shard: &Shard) -> Result<Pumped, h2::Error> {
        for _ in 0..FRAMES_PER_TURN {
            if !self.send(now, shard)? {
                return Ok(Pumped::Stalled);
            }
            if let Some(trailers) = self.trailers.take() {
                self.call.code(code_of(&trailers));
                self.stream.send_trailers(*trailers)?;
                return Ok(Pumped::Over);
            }
            let told = self.compose(now, &mut shard.scratch());
            if let Told::Ended(end) = told {
                self.trailers = Some(Box::new(self.said.trailers(end)));
                continue;
            }
            if !self.send(now, shard)? {
                return Ok(Pumped::Stalled);
            }
            match told {
                Told::All(due) => return Ok(Pumped::Quiet(due)),
                Told::Some | Told::Ended(_) => {}
            }
        }
        Ok(Pumped::More)
    }

    /// Makes a frame of what there is to say.
    fn compose(&mut self, now: Instant, read: &mut Vec<Arc<Event>>) -> Told {
        let mut frame = Frame::default();
        let (batch, live) = (&mut self.batch, &mut self.live);
        let user_data = self.subscription.user_data().clone();
        let told = self.subscription.tell(now, READ_AHEAD, read, |message| {
            self.said.note(&message);
            batch.note(&message, live);
            frame.put(&message, &user_data);
            if frame.len() < FRAME_LEN { Room::More } else { Room::Full }
        });
        self.stalled = frame.freeze();
        told
    }

    /// Sends the frame that is there, if there is room: some is enough, for h2 keeps the rest. Returns whether it is
    /// gone.
    fn send(&mut self, now: Instant, shard: &Shard) -> Result<bool, h2::Error> {
        if self.stalled.is_empty() {
            return Ok(true);
        }
        if let Some(left) = self.credit.checked_sub(self.stalled.len()) {
            self.credit = left;
        } else {
            self.stream.reserve_capacity(1);
            if self.stream.capacity() == 0 {
                return Ok(false);
            }
            self.credit = CREDIT;
        }
        self.stream.send_data(std::mem::take(&mut self.stalled), false)?;
        shard.count(&std::mem::take(&mut self.batch), now);
        Ok(true)
    }
}
