//! A watch on its stream.
//!
//! It is pumped by its connection, and has nothing of its own but a frame for which the client has no room yet: what
//! is said is decided, and encoded, when it can be sent.

use std::{
    sync::Arc,
    task::{Context, Waker},
};

use bytes::{Bytes, BytesMut};
use h2::SendStream;
use http::HeaderMap;
use tokio::time::Instant;

use crate::{
    grpc::{watch, wire},
    status::{Event, READ_AHEAD, Room, Subscription, Told},
};

/// Bytes after which a DATA frame is full: what HTTP/2 lets every client take in one frame.
const FRAME: usize = 16 * 1024;
/// Frames that one watch may send before the others on its connection.
const FRAMES_PER_TURN: usize = 4;

/// A watch on its stream. Dropping it detaches the listener.
pub(super) struct Feed {
    stream: SendStream<Bytes>,
    subscription: Subscription,
    /// What the client has no room for.
    stalled: Bytes,
    said: watch::Said,
    /// How it ends, when that was sent.
    trailers: Option<HeaderMap>,
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
    pub(super) fn new(stream: SendStream<Bytes>, subscription: Subscription) -> Self {
        Self { stream, subscription, stalled: Bytes::new(), said: watch::Said::default(), trailers: None }
    }

    /// Has `waker` woken when the service calls the listener away.
    pub(super) fn wake_at_end(&self, waker: &Waker) {
        self.subscription.wake_at_end(waker);
    }

    /// Sends what there is to say, as far as there is room. `read` is scratch.
    pub(super) fn pump(&mut self, now: Instant, read: &mut Vec<Arc<Event>>) -> Pumped {
        // Nobody needs to be woken for this: it changes only when the connection has read something.
        if self.stream.poll_reset(&mut Context::from_waker(Waker::noop())).is_ready() {
            return Pumped::Over;
        }
        self.try_pump(now, read).unwrap_or(Pumped::Over)
    }

    fn try_pump(&mut self, now: Instant, read: &mut Vec<Arc<Event>>) -> Result<Pumped, h2::Error> {
        for _ in 0..FRAMES_PER_TURN {
            if !self.send()? {
                return Ok(Pumped::Stalled);
            }
            if let Some(trailers) = self.trailers.take() {
                self.stream.send_trailers(trailers)?;
                return Ok(Pumped::Over);
            }
            let told = self.compose(now, read);
            if let Told::Ended(end) = told {
                self.trailers = Some(self.said.trailers(end));
                continue;
            }
            if !self.send()? {
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
        let mut frame = BytesMut::new();
        let user_data = self.subscription.user_data().clone();
        let told = self.subscription.tell(now, READ_AHEAD, read, |message| {
            self.said.note(&message);
            wire::put(&mut frame, &message, &user_data);
            if frame.len() < FRAME { Room::More } else { Room::Full }
        });
        self.stalled = frame.freeze();
        told
    }

    /// Sends the frame that is there, if there is room: some is enough, for h2 keeps the rest. Returns whether it is
    /// gone.
    fn send(&mut self) -> Result<bool, h2::Error> {
        if self.stalled.is_empty() {
            return Ok(true);
        }
        self.stream.reserve_capacity(1);
        if self.stream.capacity() == 0 {
            return Ok(false);
        }
        self.stream.send_data(std::mem::take(&mut self.stalled), false)?;
        Ok(true)
    }
}
