//! Messages of a watch as they go over the wire.
//!
//! Of a change, what is the same for all listeners is encoded once and kept with the event. What differs, the listener's
//! place in the chain and its `user_data`, is appended: the fields of a message may come in any order.

use bytes::{BufMut as _, Bytes, BytesMut};
use prost::{
    Message as _,
    encoding::{bytes as bytes_field, uint64 as uint64_field},
};

use super::{convert, pb};
use crate::status::{Delivery, Message};

/// gRPC's header: not compressed, and how long.
const HEADER: usize = 5;
/// Numbers of fields of `WatchPeerStatusResponse`.
const PREVIOUS_REVISION: u32 = 2;
const USER_DATA: u32 = 3;

/// Appends one message, with its header.
pub(super) fn put(frame: &mut BytesMut, message: &Message, user_data: &Bytes) {
    let Delivery::Change { event, parts } = &message.delivery else {
        let message = convert::message(message, user_data);
        header(frame, message.encoded_len());
        message.encode_raw(frame);
        return;
    };
    let common = event.encoded(*parts, || {
        let event = Some(pb::watch_peer_status_response::Event::Change(convert::change(event, *parts)));
        pb::WatchPeerStatusResponse { revision: message.revision, event, ..Default::default() }
            .encode_to_vec()
    });
    // As everywhere in proto3, what is zero or empty is left out.
    let (has_previous, has_data) = (message.previous != 0, !user_data.is_empty());
    let mut length = common.len();
    if has_previous {
        length += uint64_field::encoded_len(PREVIOUS_REVISION, &message.previous);
    }
    if has_data {
        length += bytes_field::encoded_len(USER_DATA, user_data);
    }
    header(frame, length);
    frame.put_slice(common);
    if has_previous {
        uint64_field::encode(PREVIOUS_REVISION, &message.previous, frame);
    }
    if has_data {
        bytes_field::encode(USER_DATA, user_data, frame);
    }
}

fn header(frame: &mut BytesMut, length: usize) {
    frame.reserve(HEADER + length);
    frame.put_u8(0);
    // A snapshot's part has 500 peers at most, each far below 8 MiB.
    frame.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
}
