//! One connection, as a server sees it.
//!
//! Bytes go in with [`Session::next`], which tells what they ask for; what is to be sent is appended to a buffer of the
//! caller's. It holds no request's body and no answer: only how much of them may come, and go.

mod receive;
mod settings;
#[cfg(test)]
mod tests;

use std::time::Instant;

use http::{HeaderMap, StatusCode};

use super::{
    frame::{
        ACK, DATA, END_STREAM, MAX_FRAME, NUMBER, PING, Reason, put, put_go_away, put_head, put_headers,
        put_reset, put_window,
    },
    head::Head as RequestHead,
    hpack::{Decoder, Encoder},
    meter::Meter,
    streams::{Streams, WINDOW},
};

/// Streams that a client may have at a time. HTTP/2's default is no bound at all.
const MAX_STREAMS: usize = 128;
/// The client is told of more room when it has used half of what it had.
const LOW: u32 = WINDOW / 2;
/// What a PING says that asks for nothing but an answer, and the one that asks whether GOAWAY has come.
const ALIVE: [u8; 8] = *b"alive?\0\0";
const LEAVING: [u8; 8] = *b"leaving\0";
/// Streams that are remembered after they were refused, for what the client had said on them by then.
const REMEMBERED: usize = 4;

/// What a client asks for.
#[derive(Debug)]
pub enum Event<'a> {
    /// Something, on a stream of its own.
    Request {
        /// The stream's number.
        stream: u32,
        /// What it says before its body.
        head: RequestHead,
        /// Whether it has none.
        ends: bool,
    },
    /// More of a body.
    Data {
        /// Whose.
        stream: u32,
        /// What there is of it. [`Session::consumed`] makes room for more.
        data: &'a [u8],
        /// Whether it is all.
        ends: bool,
    },
    /// A stream has ended before its time, for the client does not want it any more or breaks the rules.
    Reset {
        /// Which.
        stream: u32,
    },
}

/// Why a connection can't go on. Where the client speaks HTTP/2 it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// It has not begun as HTTP/2 does.
    #[error("does not speak HTTP/2")]
    NotHttp2,
    /// It is ended.
    #[error("{1} ({0:?})")]
    Ended(Reason, &'static str),
}

/// What has been said of the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leaving {
    /// Nothing.
    Not,
    /// That it is near: what is on its way is still taken.
    Announced,
    /// That nothing is taken after this stream.
    After(u32),
}

/// A block of headers of which there is more to come.
#[derive(Debug)]
struct Block {
    stream: u32,
    ends: bool,
    bytes: Vec<u8>,
}

/// One connection.
#[derive(Debug)]
pub struct Session {
    /// Bytes that we may send on all streams together.
    room: i32,
    /// The same on one that begins.
    initial_room: i32,
    /// Bytes that the client may send.
    allowance: u32,
    /// The last stream that it began.
    last: u32,
    streams: Streams,
    leaving: Leaving,
    has_greeted: bool,
    has_settings: bool,
    decoder: Decoder,
    encoder: Encoder,
    block: Option<Box<Block>>,
    meter: Meter,
    /// Streams that we have ended, and the client had not.
    refused: [u32; REMEMBERED],
}

impl Session {
    /// Begins, with what we want from the client.
    pub fn new(now: Instant, out: &mut Vec<u8>) -> Self {
        settings::put_ours(out);
        Self {
            room: WINDOW.cast_signed(),
            initial_room: WINDOW.cast_signed(),
            allowance: WINDOW,
            last: 0,
            streams: Streams::default(),
            leaving: Leaving::Not,
            has_greeted: false,
            has_settings: false,
            decoder: Decoder::default(),
            encoder: Encoder::default(),
            block: None,
            meter: Meter::new(now),
            refused: [0; REMEMBERED],
        }
    }

    /// How many bytes may be sent on a stream; `None`: it is over.
    pub fn room(&self, stream: u32) -> Option<usize> {
        let room = self.streams.get(stream)?.room.min(self.room);
        Some(usize::try_from(room).unwrap_or(0))
    }

    /// Whether anything at all may be sent on streams.
    pub const fn has_room(&self) -> bool {
        self.room > 0
    }

    /// Answers a request. If that is all of the answer, the stream is over.
    pub fn answer(
        &mut self,
        stream: u32,
        status: StatusCode,
        headers: &HeaderMap,
        ends: bool,
        out: &mut Vec<u8>,
    ) {
        if self.streams.get(stream).is_some() {
            let block = self.encoder.encode(Some(status), headers);
            put_headers(out, stream, &block, ends);
            if ends {
                self.end(stream, out);
            }
        }
    }

    /// Sends more of an answer, as far as there is room. Returns how many bytes that was.
    pub fn send(&mut self, stream: u32, data: &[u8], out: &mut Vec<u8>) -> usize {
        let Some(room) = self.room(stream) else { return 0 };
        let data = data.get(..room).unwrap_or(data);
        for part in data.chunks(MAX_FRAME) {
            put_head(out, DATA, 0, stream, part.len());
            out.extend_from_slice(part);
        }
        // It is not more than there is room.
        let sent = i32::try_from(data.len()).unwrap_or(i32::MAX);
        self.room = self.room.saturating_sub(sent);
        if let Some(stream) = self.streams.get_mut(stream) {
            stream.room = stream.room.saturating_sub(sent);
        }
        data.len()
    }

    /// Ends an answer, with trailers if there are any. The stream is over.
    pub fn finish(&mut self, stream: u32, trailers: Option<&HeaderMap>, out: &mut Vec<u8>) {
        if self.streams.get(stream).is_none() {
            return;
        }
        match trailers {
            Some(trailers) => put_headers(out, stream, &self.encoder.encode(None, trailers), true),
            None => put(out, DATA, END_STREAM, stream, &[]),
        }
        self.end(stream, out);
    }

    /// Ends a stream before its time.
    pub fn reset(&mut self, stream: u32, reason: Reason, out: &mut Vec<u8>) {
        if self.forget(stream) {
            put_reset(out, stream, reason);
        }
    }

    /// Room for what the client was sent of a body.
    pub fn consumed(&mut self, stream: u32, bytes: usize, out: &mut Vec<u8>) {
        let Some(this) = self.streams.get_mut(stream).filter(|this| this.is_talking && bytes > 0) else {
            return;
        };
        // It is not more than it was allowed.
        let bytes = u32::try_from(bytes).unwrap_or(0).min(WINDOW.saturating_sub(this.allowance));
        this.allowance += bytes;
        put_window(out, stream, bytes);
    }

    /// So many bytes have been taken by the client's side.
    pub fn written(&mut self, bytes: usize) {
        self.meter.said(bytes);
    }

    /// Asks for a sign of life.
    pub fn ping(&self, out: &mut Vec<u8>) {
        put(out, PING, 0, 0, &ALIVE);
    }

    /// Says that the end is near. What is on its way is still taken, and what is there is brought to its end.
    pub fn leave(&mut self, out: &mut Vec<u8>) {
        if self.leaving == Leaving::Not {
            self.leaving = Leaving::Announced;
            put_go_away(out, NUMBER, Reason::NoError, "the service is stopping");
            put(out, PING, 0, 0, &LEAVING);
        }
    }

    /// Ends the connection, and says why. There is nothing more to be said or heard after that.
    pub fn give_up(&mut self, reason: Reason, why: &'static str, out: &mut Vec<u8>) -> Fault {
        // What it was told before is not taken back.
        let last = if let Leaving::After(last) = self.leaving { last } else { self.last };
        put_go_away(out, last, reason, why);
        Fault::Ended(reason, why)
    }

    /// The stream of which there are headers without their end, and how many bytes of them.
    pub fn unfinished(&self) -> Option<(u32, usize)> {
        self.block.as_ref().map(|block| (block.stream, block.bytes.len()))
    }

    /// Whether that is done.
    pub fn is_over(&self) -> bool {
        matches!(self.leaving, Leaving::After(_)) && self.streams.len() == 0
    }

    /// An answer to a PING.
    fn answered(&mut self, payload: &[u8], out: &mut Vec<u8>) {
        if payload == LEAVING && self.leaving == Leaving::Announced {
            self.leaving = Leaving::After(self.last);
            put_go_away(out, self.last, Reason::NoError, "the service is stopping");
        }
    }

    fn pong(payload: &[u8], out: &mut Vec<u8>) {
        put(out, PING, ACK, 0, payload);
    }

    /// An answer is complete. A client that is still asking is told not to go on (section 8.1).
    fn end(&mut self, stream: u32, out: &mut Vec<u8>) {
        if self.streams.get(stream).is_some_and(|stream| stream.is_talking) {
            put_reset(out, stream, Reason::NoError);
        }
        self.forget(stream);
    }

    /// Whether it was there.
    fn forget(&mut self, stream: u32) -> bool {
        let ended = self.streams.end(stream);
        if ended.as_ref().is_some_and(|stream| stream.is_talking) {
            self.remember(stream);
        }
        ended.is_some()
    }

    /// What the client has said on it by now, not knowing that it is over, is read over.
    fn remember(&mut self, stream: u32) {
        self.refused.rotate_right(1);
        let [latest, ..] = &mut self.refused;
        *latest = stream;
    }
}
