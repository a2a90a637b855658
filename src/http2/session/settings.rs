//! What each side wants from the other (RFC 9113, section 6.5).

use super::{Fault, MAX_STREAMS, Session};
use crate::http2::{
    frame::{ACK, Reason, SETTINGS, put},
    head::MOST,
};

const ENABLE_PUSH: u16 = 2;
const MAX_CONCURRENT_STREAMS: u16 = 3;
const INITIAL_WINDOW_SIZE: u16 = 4;
const MAX_FRAME_SIZE: u16 = 5;
const MAX_HEADER_LIST_SIZE: u16 = 6;
/// What a frame may be at most, whoever takes it.
const FRAME_SIZES: std::ops::RangeInclusive<u32> = 16_384..=16_777_215;

pub(super) fn put_ours(out: &mut Vec<u8>) {
    let mut payload = Vec::new();
    for (name, value) in [(MAX_CONCURRENT_STREAMS, MAX_STREAMS), (MAX_HEADER_LIST_SIZE, MOST)] {
        payload.extend_from_slice(&name.to_be_bytes());
        payload.extend_from_slice(&u32::try_from(value).unwrap_or(u32::MAX).to_be_bytes());
    }
    put(out, SETTINGS, 0, 0, &payload);
}

impl Session {
    /// The client's. What it does not say stays as it is, and what we have no use for does not matter.
    pub(super) fn settings(&mut self, payload: &[u8], out: &mut Vec<u8>) -> Result<(), Fault> {
        const TOO_LARGE: Fault = Fault::Ended(Reason::FlowControlError, "a window of more than 2^31-1 bytes");
        let mut room = self.initial_room;
        for [a, b, value @ ..] in payload.as_chunks::<6>().0 {
            let value = u32::from_be_bytes(*value);
            match u16::from_be_bytes([*a, *b]) {
                ENABLE_PUSH if value > 1 => {
                    return Err(Fault::Ended(Reason::ProtocolError, "ENABLE_PUSH is neither 0 nor 1"));
                }
                MAX_FRAME_SIZE if !FRAME_SIZES.contains(&value) => {
                    return Err(Fault::Ended(Reason::ProtocolError, "MAX_FRAME_SIZE is out of bounds"));
                }
                INITIAL_WINDOW_SIZE => room = i32::try_from(value).map_err(|_| TOO_LARGE)?,
                _ => {}
            }
        }
        // Once, for the last of them: there may be thousands.
        if !self.streams.make_room(room - self.initial_room) {
            return Err(TOO_LARGE);
        }
        self.initial_room = room;
        put(out, SETTINGS, ACK, 0, &[]);
        Ok(())
    }
}
