//! What a client says, as it comes.

use std::{
    io,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::Instant,
};

use super::Connection;
use crate::http2::{Fault, Reason};

/// How much of a round may be spent on listening. What was heard is to have its turn as well.
const LISTENING: Duration = Duration::from_micros(250);
/// How long a frame may take to arrive, or headers in several of them.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a client has said.
pub(super) enum Said {
    Nothing,
    Something,
    Goodbye,
}

impl<T: AsyncRead + AsyncWrite + Unpin> Connection<T> {
    /// Takes in what the client says.
    pub(super) fn listen(&mut self, now: Instant, cx: &mut Context<'_>) -> io::Result<Result<Said, Fault>> {
        if self.line.is_overfull() {
            return Ok(Ok(Said::Nothing));
        }
        if std::mem::take(&mut self.is_unheard) {
            return Ok(self.take_in(&[], now).map(|()| Said::Something));
        }
        let shard = Rc::clone(&self.shard);
        let mut buffer = shard.reading();
        let Poll::Ready(read) = self.line.poll_read(cx, &mut buffer)? else { return Ok(Ok(Said::Nothing)) };
        if read == 0 {
            return Ok(Ok(Said::Goodbye));
        }
        self.pulse.heard(now);
        Ok(self.take_in(buffer.get(..read).unwrap_or_default(), now).map(|()| Said::Something))
    }

    fn take_in(&mut self, read: &[u8], now: Instant) -> Result<(), Fault> {
        let waited_for = self.session.unfinished().map(|(stream, _)| stream);
        let has_moved_on = if self.begun.is_empty() {
            let rest = self.hear_all(read, now)?;
            self.begun.extend_from_slice(rest);
            rest.len() < read.len()
        } else {
            let mut begun = std::mem::take(&mut self.begun);
            begun.extend_from_slice(read);
            let rest = self.hear_all(&begun, now)?.len();
            let heard = begun.len() - rest;
            if rest > 0 {
                begun.drain(..heard);
                self.begun = begun;
            }
            heard > 0
        };
        let waits_for = self.session.unfinished().map(|(stream, _)| stream);
        let is_same = waits_for.is_some() && waits_for == waited_for;
        if self.begun.is_empty() && waits_for.is_none() {
            self.waits_since = None;
        } else if (has_moved_on && !is_same) || self.waits_since.is_none() {
            self.waits_since = Some(now);
        }
        Ok(())
    }

    /// Bytes that are not a request, or a part of one, as long as more do not come.
    pub(super) fn unfinished(&self) -> usize {
        self.begun.capacity() + self.session.unfinished().map_or(0, |(_, bytes)| bytes)
    }

    /// Takes in nothing more if what there is has waited for the rest too long. Returns when it will have.
    pub(super) fn wait_for_rest(&mut self, now: Instant) -> Result<Option<Instant>, Fault> {
        // Who leaves so much unread that it is not listened to may have said the rest; the keepalive sees to that.
        let waits_since = self.waits_since.filter(|_| !self.line.is_overfull());
        let Some(until) = waits_since.map(|since| since + PATIENCE) else { return Ok(None) };
        if now < until {
            return Ok(Some(until));
        }
        let why = "a frame, or headers, of which the rest has not come";
        Err(self.session.give_up(Reason::EnhanceYourCalm, why, &mut self.line.out))
    }

    /// Takes in what is complete, as far as there is time. Returns the rest.
    fn hear_all<'a>(&mut self, mut input: &'a [u8], now: Instant) -> Result<&'a [u8], Fault> {
        while let Some(event) = self.session.next(&mut input, now.into_std(), &mut self.line.out)? {
            self.hear(event);
            if now.elapsed() >= LISTENING {
                self.is_unheard = true;
                break;
            }
        }
        Ok(input)
    }
}
