//! The streams of a connection: those on which there is something to say or to hear yet.

/// Bytes that may be sent on a stream, or a connection, before there is word of more (RFC 9113, section 6.9.2).
pub(super) const WINDOW: u32 = 65_535;

/// Streams for which room is kept when they have ended.
const FEW: usize = 8;

/// A stream.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) number: u32,
    /// Bytes that we may send; less than none after the client has thought better of it.
    pub(super) room: i32,
    /// Bytes that the client may send.
    pub(super) allowance: u32,
    /// Bytes that it said it will send, and has not.
    pub(super) announced: Option<u32>,
    /// It has not ended its part.
    pub(super) is_talking: bool,
}

/// All of them, in the order of their numbers.
#[derive(Debug, Default)]
pub(super) struct Streams(Vec<Stream>);

impl Streams {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn get_mut(&mut self, number: u32) -> Option<&mut Stream> {
        let at = self.find(number)?;
        self.0.get_mut(at)
    }

    pub(super) fn get(&self, number: u32) -> Option<&Stream> {
        self.0.get(self.find(number)?)
    }

    fn find(&self, number: u32) -> Option<usize> {
        self.0.binary_search_by_key(&number, |stream| stream.number).ok()
    }

    /// Begins one, whose number is higher than that of any before.
    pub(super) fn begin(&mut self, stream: Stream) {
        // There is mostly one, and that stays.
        if self.0.is_empty() {
            self.0.reserve_exact(1);
        }
        self.0.push(stream);
    }

    /// Ends one. Whether it was there.
    pub(super) fn end(&mut self, number: u32) -> Option<Stream> {
        let at = self.find(number)?;
        let ended = self.0.remove(at);
        if self.0.capacity() > FEW && self.0.len() <= self.0.capacity() / 4 {
            self.0.shrink_to(2 * self.0.len());
        }
        Some(ended)
    }

    /// There is so much more room on each, or less. False: that is more than there can be.
    pub(super) fn make_room(&mut self, change: i32) -> bool {
        self.0.iter_mut().all(|stream| {
            let room = stream.room.checked_add(change);
            stream.room = room.unwrap_or(i32::MAX);
            room.is_some()
        })
    }
}
