//! What a client says, frame by frame.

use std::{cmp::Ordering, time::Instant};

use http::{HeaderMap, StatusCode};

use super::{Block, Event, Fault, LOW, Leaving, MAX_STREAMS, Session};
use crate::http2::{
    frame::{
        ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEAD, HEADERS, Head, MAX_FRAME, NUMBER,
        PING, PREFACE, PRIORITY, PUSH_PROMISE, RST_STREAM, Reason, SETTINGS, WINDOW_UPDATE, WITH_PRIORITY,
        put_headers, put_reset, put_window, without_padding,
    },
    head::{Fields, MOST_UNPACKED, Said},
    hpack::Unreadable,
    streams::{Stream, WINDOW},
};

/// Bytes of headers that are read to find out how long they are. The next one is one too many.
const MAX_BLOCK: usize = 64 * 1024;
/// Bytes before headers that say how important they are.
const PRIORITY_LEN: usize = 5;

const TOO_MUCH: &str = "too much that has to be refused";

type Heard<'a> = Result<Option<Event<'a>>, Fault>;

const fn ended<T>(reason: Reason, why: &'static str) -> Result<T, Fault> {
    Err(Fault::Ended(reason, why))
}

fn number(payload: &[u8]) -> Option<u32> {
    payload.first_chunk().map(|number| u32::from_be_bytes(*number))
}

impl Session {
    /// What is asked for next. Takes from `input` what is complete; `None`: the rest is not. After a fault, which the
    /// client is told of, there is nothing more.
    ///
    /// # Errors
    /// The connection can't go on.
    pub fn next<'a>(&mut self, input: &mut &'a [u8], now: Instant, out: &mut Vec<u8>) -> Heard<'a> {
        let next = self.try_next(input, now, out);
        if let Err(Fault::Ended(reason, why)) = next {
            self.give_up(reason, why, out);
        }
        next
    }

    fn try_next<'a>(&mut self, input: &mut &'a [u8], now: Instant, out: &mut Vec<u8>) -> Heard<'a> {
        if !self.greet(input)? {
            return Ok(None);
        }
        while let Some(head) = Head::parse(input) {
            if head.length > MAX_FRAME {
                return ended(Reason::FrameSizeError, "a frame of more than 16384 bytes");
            }
            let Some((frame, rest)) = input.split_at_checked(HEAD + head.length) else { break };
            *input = rest;
            let payload = frame.get(HEAD..).unwrap_or_default();
            if !self.meter.heard(head.kind, head.length, now) {
                return ended(Reason::EnhanceYourCalm, "too many frames that ask for nothing");
            }
            if let Some(event) = self.frame(head, payload, now, out)? {
                return Ok(Some(event));
            }
        }
        Ok(None)
    }

    /// Whether the client has said that it speaks HTTP/2. If so, that is taken from `input`.
    ///
    /// # Errors
    /// It speaks something else.
    pub fn greet(&mut self, input: &mut &[u8]) -> Result<bool, Fault> {
        if self.has_greeted {
            return Ok(true);
        }
        let said = input.get(..PREFACE.len()).unwrap_or(input);
        if !PREFACE.starts_with(said) {
            return Err(Fault::NotHttp2);
        }
        self.has_greeted = said.len() == PREFACE.len();
        if self.has_greeted {
            *input = input.get(PREFACE.len()..).unwrap_or_default();
        }
        Ok(self.has_greeted)
    }

    fn frame<'a>(&mut self, head: Head, payload: &'a [u8], now: Instant, out: &mut Vec<u8>) -> Heard<'a> {
        if !self.has_settings && (head.kind != SETTINGS || head.has(ACK)) {
            return ended(Reason::ProtocolError, "SETTINGS have to come first");
        }
        if self.block.as_ref().is_some_and(|block| head.kind != CONTINUATION || head.stream != block.stream) {
            return ended(Reason::ProtocolError, "headers were not brought to their end");
        }
        let is_of_stream = matches!(head.kind, DATA | HEADERS | PRIORITY | RST_STREAM | CONTINUATION);
        let is_of_connection = matches!(head.kind, SETTINGS | PING | GOAWAY);
        if (is_of_stream && head.stream == 0) || (is_of_connection && head.stream != 0) {
            return ended(
                Reason::ProtocolError,
                "a frame of a stream without one, or one with it that has none",
            );
        }
        match head.kind {
            DATA => self.data(head, payload, now, out),
            HEADERS => self.headers(head, payload, now, out),
            CONTINUATION => self.go_on(head, payload, now, out),
            PRIORITY => self.priority(head, payload, now, out),
            RST_STREAM => self.reset_by_client(head, payload),
            SETTINGS => self.settings_frame(head, payload, out),
            PING => Self::checked_len(payload, 8).map(|()| {
                if head.has(ACK) {
                    self.answered(payload, out)
                } else {
                    Self::pong(payload, out)
                }
                None
            }),
            WINDOW_UPDATE => self.window_update(head, payload, now, out),
            GOAWAY if payload.len() < 8 => ended(Reason::FrameSizeError, "a GOAWAY that is too short"),
            PUSH_PROMISE => ended(Reason::ProtocolError, "a client that pushes"),
            // What is there goes on; and what nobody knows means nothing.
            _ => Ok(None),
        }
    }

    const fn checked_len(payload: &[u8], length: usize) -> Result<(), Fault> {
        if payload.len() == length {
            Ok(())
        } else {
            ended(Reason::FrameSizeError, "a frame of the wrong length")
        }
    }

    /// Whether there has never been such a stream.
    const fn is_idle(&self, stream: u32) -> bool {
        stream > self.last || stream.is_multiple_of(2)
    }

    /// Whether what the client says on a stream does not count: it has been told, and may not know yet.
    fn is_ignored(&self, stream: u32) -> bool {
        self.refused.contains(&stream) || matches!(self.leaving, Leaving::After(last) if stream > last)
    }

    /// Ends a stream on which the client breaks the rules, or that is over already.
    fn refuse<'a>(&mut self, stream: u32, reason: Reason, now: Instant, out: &mut Vec<u8>) -> Heard<'a> {
        if !self.meter.charge(now) {
            return ended(Reason::EnhanceYourCalm, TOO_MUCH);
        }
        put_reset(out, stream, reason);
        let was_there = self.streams.end(stream).is_some();
        self.remember(stream);
        Ok(was_there.then_some(Event::Reset { stream }))
    }

    fn data<'a>(&mut self, head: Head, payload: &'a [u8], now: Instant, out: &mut Vec<u8>) -> Heard<'a> {
        if self.is_idle(head.stream) {
            return ended(Reason::ProtocolError, "DATA on a stream that was never begun");
        }
        let Some(data) = without_padding(head, payload) else {
            return ended(Reason::ProtocolError, "more padding than there is payload");
        };
        // Nothing but padding is nothing, too.
        if data.is_empty() && !payload.is_empty() && !self.meter.charge(now) {
            return ended(Reason::EnhanceYourCalm, "too much padding");
        }
        let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
        let Some(allowance) = self.allowance.checked_sub(length) else {
            return ended(Reason::FlowControlError, "more than there is room for");
        };
        self.allowance = allowance;
        // What there is room for is bounded by stream; that of the connection keeps nobody waiting.
        if self.allowance < LOW {
            put_window(out, 0, WINDOW - self.allowance);
            self.allowance = WINDOW;
        }
        let stream = head.stream;
        let Some(this) = self.streams.get_mut(stream).filter(|this| this.is_talking) else {
            return if self.is_ignored(stream) {
                Ok(None)
            } else {
                self.refuse(stream, Reason::StreamClosed, now, out)
            };
        };
        let Some(allowance) = this.allowance.checked_sub(length) else {
            return self.refuse(stream, Reason::FlowControlError, now, out);
        };
        this.allowance = allowance;
        let ends = head.has(END_STREAM);
        if let Some(announced) = this.announced {
            let left = u32::try_from(data.len()).ok().and_then(|length| announced.checked_sub(length));
            if left.is_none_or(|left| ends && left > 0) {
                return self.refuse(stream, Reason::ProtocolError, now, out);
            }
            this.announced = left;
        }
        this.is_talking = !ends;
        self.consumed(stream, payload.len() - data.len(), out);
        Ok(Some(Event::Data { stream, data, ends }))
    }

    fn headers<'a>(&mut self, head: Head, payload: &'a [u8], now: Instant, out: &mut Vec<u8>) -> Heard<'a> {
        let stream = head.stream;
        if stream.is_multiple_of(2) {
            return ended(Reason::ProtocolError, "a stream with a number that is not the client's");
        }
        let Some(mut block) = without_padding(head, payload) else {
            return ended(Reason::ProtocolError, "more padding than there is payload");
        };
        if head.has(WITH_PRIORITY) {
            let Some((priority, rest)) = block.split_at_checked(PRIORITY_LEN) else {
                return ended(Reason::FrameSizeError, "headers that are too short");
            };
            if depends_on(priority) == Some(stream) {
                return ended(Reason::ProtocolError, "a stream that depends on itself");
            }
            block = rest;
        }
        let ends = head.has(END_STREAM);
        if head.has(END_HEADERS) {
            return self.block(stream, ends, block, now, out);
        }
        self.block = Some(Box::new(Block { stream, ends, bytes: block.to_vec() }));
        Ok(None)
    }

    fn go_on<'a>(&mut self, head: Head, payload: &'a [u8], now: Instant, out: &mut Vec<u8>) -> Heard<'a> {
        let Some(mut block) = self.block.take() else {
            return ended(Reason::ProtocolError, "CONTINUATION of nothing");
        };
        if block.bytes.len() + payload.len() > MAX_BLOCK {
            return ended(Reason::EnhanceYourCalm, "headers without end");
        }
        block.bytes.extend_from_slice(payload);
        if head.has(END_HEADERS) {
            return self.block(block.stream, block.ends, &block.bytes, now, out);
        }
        self.block = Some(block);
        Ok(None)
    }

    /// Headers are complete.
    fn block<'a>(
        &mut self,
        stream: u32,
        ends: bool,
        block: &[u8],
        now: Instant,
        out: &mut Vec<u8>,
    ) -> Heard<'a> {
        let mut fields = Fields::default();
        match self.decoder.decode(block, MOST_UNPACKED, |name, value| fields.take(name, value)) {
            Ok(()) => {}
            Err(Unreadable::Malformed) => {
                return ended(Reason::CompressionError, "headers that can't be read");
            }
            Err(Unreadable::TooMuch) => {
                return ended(Reason::EnhanceYourCalm, "headers that unpack to too much");
            }
        }
        if let Some(this) = self.streams.get_mut(stream) {
            let is_end = this.is_talking && ends && this.announced.is_none_or(|left| left == 0);
            if !is_end || !fields.are_trailers() {
                let reason = if this.is_talking { Reason::ProtocolError } else { Reason::StreamClosed };
                return self.refuse(stream, reason, now, out);
            }
            this.is_talking = false;
            return Ok(Some(Event::Data { stream, data: &[], ends: true }));
        }
        if self.is_ignored(stream) {
            self.last = self.last.max(stream);
            return if self.meter.charge(now) { Ok(None) } else { ended(Reason::EnhanceYourCalm, TOO_MUCH) };
        }
        match stream.cmp(&self.last) {
            Ordering::Greater => {
                self.last = stream;
                self.begin(stream, ends, fields, now, out)
            }
            // They may have been on their way when the stream ended.
            _ if fields.are_trailers() => self.refuse(stream, Reason::StreamClosed, now, out),
            Ordering::Equal => ended(Reason::StreamClosed, "headers on a stream that is over"),
            Ordering::Less => ended(Reason::ProtocolError, "a stream below the last"),
        }
    }

    fn begin<'a>(
        &mut self,
        stream: u32,
        ends: bool,
        fields: Fields,
        now: Instant,
        out: &mut Vec<u8>,
    ) -> Heard<'a> {
        if self.streams.len() >= MAX_STREAMS {
            return self.refuse(stream, Reason::RefusedStream, now, out);
        }
        let (head, announced) = match fields.request() {
            Said::Request(_, Some(announced)) if ends && announced > 0 => {
                return self.refuse(stream, Reason::ProtocolError, now, out);
            }
            Said::Request(head, announced) => (head, announced),
            Said::Malformed => return self.refuse(stream, Reason::ProtocolError, now, out),
            Said::TooMuch => {
                let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
                put_headers(out, stream, &self.encoder.encode(Some(status), &HeaderMap::new()), true);
                if !ends {
                    return self.refuse(stream, Reason::NoError, now, out);
                }
                return if self.meter.charge(now) {
                    Ok(None)
                } else {
                    ended(Reason::EnhanceYourCalm, TOO_MUCH)
                };
            }
        };
        let (room, allowance) = (self.initial_room, WINDOW);
        self.streams.begin(Stream { number: stream, room, allowance, announced, is_talking: !ends });
        Ok(Some(Event::Request { stream, head, ends }))
    }

    fn priority<'a>(&mut self, head: Head, payload: &[u8], now: Instant, out: &mut Vec<u8>) -> Heard<'a> {
        let reason = match depends_on(payload) {
            _ if payload.len() != PRIORITY_LEN => Reason::FrameSizeError,
            Some(other) if other == head.stream => Reason::ProtocolError,
            _ => return Ok(None),
        };
        if self.is_idle(head.stream) {
            return ended(reason, "a PRIORITY that can't be");
        }
        self.refuse(head.stream, reason, now, out)
    }

    fn reset_by_client<'a>(&mut self, head: Head, payload: &[u8]) -> Heard<'a> {
        Self::checked_len(payload, 4)?;
        let stream = head.stream;
        if self.is_idle(stream) {
            return ended(Reason::ProtocolError, "RST_STREAM of a stream that was never begun");
        }
        Ok(self.streams.end(stream).map(|_| Event::Reset { stream }))
    }

    fn settings_frame<'a>(&mut self, head: Head, payload: &[u8], out: &mut Vec<u8>) -> Heard<'a> {
        if head.has(ACK) {
            return Self::checked_len(payload, 0).map(|()| None);
        }
        if !payload.len().is_multiple_of(6) {
            return ended(Reason::FrameSizeError, "SETTINGS that are cut short");
        }
        self.has_settings = true;
        self.settings(payload, out).map(|()| None)
    }

    fn window_update<'a>(
        &mut self,
        head: Head,
        payload: &[u8],
        now: Instant,
        out: &mut Vec<u8>,
    ) -> Heard<'a> {
        Self::checked_len(payload, 4)?;
        let more = number(payload).unwrap_or(0) & NUMBER;
        let stream = head.stream;
        if stream != 0 && self.is_idle(stream) {
            return ended(Reason::ProtocolError, "WINDOW_UPDATE of a stream that was never begun");
        }
        let room = match self.streams.get_mut(stream) {
            _ if stream == 0 => &mut self.room,
            Some(stream) => &mut stream.room,
            // It is over, which the client may not know.
            None => return Ok(None),
        };
        let sum = room.checked_add_unsigned(more);
        let reason = match sum {
            Some(sum) if more > 0 => {
                *room = sum;
                return Ok(None);
            }
            Some(_) => Reason::ProtocolError,
            None => Reason::FlowControlError,
        };
        if stream == 0 {
            ended(reason, "a WINDOW_UPDATE that can't be")
        } else {
            self.refuse(stream, reason, now, out)
        }
    }
}

/// The stream on which one depends, by how important it is.
fn depends_on(priority: &[u8]) -> Option<u32> {
    number(priority).map(|stream| stream & NUMBER)
}
