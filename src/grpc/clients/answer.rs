//! An answer on its stream.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Buf as _, Bytes};
use http_body::Body as _;
use tokio::time::Instant;
use tonic::body::Body;

use super::{
    call::code_of,
    feed::Pumped,
    framing::Framing,
    line::FULL,
    rooms::{Held, Room},
};
use crate::{
    http2::{MAX_FRAME, Reason, Session},
    metrics::Call,
};

/// How long a client may leave an answer unread that it has asked for. Nothing but memory is at stake, so it is generous.
const PATIENCE: Duration = Duration::from_secs(30);

/// Bytes that wait to be written at which no more of an answer is added. Watches stop before that: where they have much to
/// say, there is room for a frame of answers beside them.
const MOST: usize = FULL + MAX_FRAME;

/// An answer, as far as it has not been sent.
pub(super) struct Answer {
    pub(super) stream: u32,
    body: Body,
    framing: Framing,
    /// What there is of it now, and how many messages begin in it.
    data: Bytes,
    begun: u64,
    /// Where it may wait until the client makes room, and for how long it has to.
    room: Room,
    waits: Option<(Held, Instant)>,
    call: Call,
}

impl Answer {
    pub(super) fn new(stream: u32, body: Body, room: Room, call: Call) -> Self {
        let (framing, data) = (Framing::default(), Bytes::new());
        Self { stream, body, framing, data, begun: 0, room, waits: None, call }
    }

    /// Sends what there is room for.
    pub(super) fn pump(
        &mut self,
        now: Instant,
        session: &mut Session,
        out: &mut Vec<u8>,
        cx: &mut Context<'_>,
    ) -> Pumped {
        loop {
            while !self.data.is_empty() {
                let part = self.data.len().min(MOST.saturating_sub(out.len()));
                let sent = session.send(self.stream, self.data.get(..part).unwrap_or_default(), out);
                self.data.advance(sent);
                if sent == 0 {
                    return self.wait(now).unwrap_or_else(|| {
                        // RESOURCE_EXHAUSTED, in gRPC's words.
                        session.reset(self.stream, Reason::EnhanceYourCalm, out);
                        Pumped::Over
                    });
                }
            }
            self.waits = None;
            self.call.method().sent(std::mem::take(&mut self.begun));
            // Being empty, it would still hold on to what it was a part of.
            self.data = Bytes::new();
            let trailers = match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Pending => return Pumped::Stalled,
                Poll::Ready(None) => None,
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => {
                        self.begun = self.framing.take(&data);
                        self.data = data;
                        continue;
                    }
                    Err(frame) => frame.into_trailers().ok(),
                },
                Poll::Ready(Some(Err(_))) => {
                    session.reset(self.stream, Reason::Cancel, out);
                    return Pumped::Over;
                }
            };
            self.call.code(trailers.as_ref().map_or(usize::MAX, code_of));
            session.finish(self.stream, trailers.as_ref(), out);
            return Pumped::Over;
        }
    }

    /// Bytes of it that wait.
    pub(super) fn waiting(&self) -> usize {
        self.waits.as_ref().map_or(0, |(held, _)| held.bytes())
    }

    /// Holds what is there until the client makes room, which must not take forever; `None`: it has, or there is no room
    /// for it here, either.
    fn wait(&mut self, now: Instant) -> Option<Pumped> {
        if self.waits.is_none() {
            self.waits = Some((self.room.hold(self.data.len())?, now + PATIENCE));
        }
        let (_, until) = self.waits.as_ref()?;
        (now < *until).then_some(Pumped::Quiet(*until))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::{sync::Arc, task::Waker};

    use super::*;
    use crate::{
        grpc::{
            clients::{
                Rooms,
                received::{Inbox, Received},
            },
            methods,
        },
        http2::PREFACE,
        metrics::Shards,
    };

    /// A session with a request on stream 1, whose client has all the room for answers that there can be.
    fn session(now: Instant) -> Session {
        let mut session = Session::new(now.into_std(), &mut Vec::new());
        let said = [
            PREFACE,
            &[0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 4, 0x7f, 0xff, 0xff, 0xff],
            &[0, 0, 4, 8, 0, 0, 0, 0, 0, 0x7f, 0xff, 0, 0],
            &[0, 0, 3, 1, 5, 0, 0, 0, 1, 0x83, 0x86, 0x84],
        ]
        .concat();
        session.next(&mut &said[..], now.into_std(), &mut Vec::new()).unwrap().unwrap();
        session
    }

    #[tokio::test]
    async fn no_more_is_written_ahead_than_there_may_be_and_the_rest_is_held() {
        let now = Instant::now();
        let (mut session, answers) = (session(now), Rooms::default());
        let call = methods::calls(Shards::default()).begin("/");
        let inbox = Inbox::new(Waker::noop().clone(), false);
        let data: Vec<u8> = (0..=u8::MAX).cycle().take(1_000_000).collect();
        inbox.put(&data, true);
        let body = Body::new(Received::new("/", inbox, Arc::clone(call.method())));
        let room = answers.answers(true);
        let mut answer = Answer::new(1, body, room.clone(), call);
        let mut cx = Context::from_waker(Waker::noop());
        let mut out = vec![0; FULL];
        assert_eq!(answer.pump(now, &mut session, &mut out, &mut cx), Pumped::Quiet(now + PATIENCE));
        assert_eq!(out.len(), FULL + 9 + MAX_FRAME, "a frame beside the watches");
        assert_eq!(room.waiting(), data.len() - MAX_FRAME);
        let mut rounds = 1;
        loop {
            out.clear();
            match answer.pump(now, &mut session, &mut out, &mut cx) {
                Pumped::Over => break,
                pumped => assert_eq!(pumped, Pumped::Quiet(now + PATIENCE)),
            }
            assert!(out.len() <= MOST + 5 * 9, "{}", out.len());
            rounds += 1;
        }
        assert_eq!((rounds, room.waiting()), (1 + (data.len() - MAX_FRAME) / MOST, 0));
    }
}
