//! Messages of a watch as they go over the wire.
//!
//! Of a change, what is the same for all listeners is encoded once and kept with the event. What differs, the listener's
//! place in the chain and its `user_data`, is appended: the fields of a message may come in any order. Most listeners
//! hear everything and want nothing back, so that nothing differs for them: they share all of it.

use bytes::{BufMut, Bytes, BytesMut};
use prost::{
    Message as _,
    encoding::{bytes as bytes_field, uint64 as uint64_field},
};

use super::{convert, pb};
use crate::status::{Delivery, Encoded, Event, Message, Parts};

/// gRPC's header: not compressed, and how long.
const HEADER: usize = 5;
/// Numbers of fields of `WatchPeerStatusResponse`.
const PREVIOUS_REVISION: u32 = 2;
const USER_DATA: u32 = 3;

/// Messages that go together, each with its header.
#[derive(Default)]
pub(super) struct Frame {
    /// The first of them, as long as it is one that is shared and the only one.
    shared: Bytes,
    own: BytesMut,
}

impl Frame {
    pub(super) fn len(&self) -> usize {
        self.shared.len() + self.own.len()
    }

    pub(super) fn freeze(self) -> Bytes {
        if self.own.is_empty() { self.shared } else { self.own.freeze() }
    }

    /// Appends a message.
    pub(super) fn put(&mut self, message: &Message, user_data: &Bytes) {
        let Delivery::Change { event, parts } = &message.delivery else {
            return self.own(|own| put(own, &convert::message(message, user_data)));
        };
        let Encoded { whole, common } = event.encoded(*parts, || encode(event, *parts));
        if user_data.is_empty() && message.revision.checked_sub(1) == Some(message.previous) {
            if self.len() == 0 {
                self.shared = whole.clone();
            } else {
                self.own(|own| own.extend_from_slice(whole));
            }
            return;
        }
        let common = whole.get(common.clone()).unwrap_or_default();
        self.own(|own| put_change(own, common, message.previous, user_data));
    }

    /// From here on there is more than one that is shared.
    fn own(&mut self, append: impl FnOnce(&mut BytesMut)) {
        self.own.extend_from_slice(&std::mem::take(&mut self.shared));
        append(&mut self.own);
    }
}

fn encode(event: &Event, parts: Parts) -> Encoded {
    let change = Some(pb::watch_peer_status_response::Event::Change(convert::change(event, parts)));
    let common =
        pb::WatchPeerStatusResponse { revision: event.revision, event: change, ..Default::default() };
    let common = common.encode_to_vec();
    let mut whole = BytesMut::new();
    put_change(&mut whole, &common, event.revision.saturating_sub(1), &Bytes::new());
    Encoded { whole: whole.freeze(), common: HEADER..HEADER + common.len() }
}

/// What is zero or empty is left out, as everywhere in proto3.
fn put_change(frame: &mut BytesMut, common: &[u8], previous: u64, user_data: &Bytes) {
    let (has_previous, has_data) = (previous != 0, !user_data.is_empty());
    let mut length = common.len();
    if has_previous {
        length += uint64_field::encoded_len(PREVIOUS_REVISION, &previous);
    }
    if has_data {
        length += bytes_field::encoded_len(USER_DATA, user_data);
    }
    put_header(frame, length);
    frame.put_slice(common);
    if has_previous {
        uint64_field::encode(PREVIOUS_REVISION, &previous, frame);
    }
    if has_data {
        bytes_field::encode(USER_DATA, user_data, frame);
    }
}

fn put(frame: &mut BytesMut, message: &pb::WatchPeerStatusResponse) {
    put_header(frame, message.encoded_len());
    message.encode_raw(frame);
}

fn put_header(frame: &mut BytesMut, length: usize) {
    frame.reserve(HEADER + length);
    frame.put_u8(0);
    // A snapshot's part has 100 peers at most, each far below 40 MiB.
    frame.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
}

#[cfg(test)]
mod tests;
