//! Headers as HTTP/2 packs them.
//!
//! Source: RFC 7541. What comes is read in full: numbers, tables, Huffman code. What goes is as plain as can be: answers
//! have few headers, and most are sent once per connection, so nothing is kept for them on either side.

mod decode;
mod encode;
mod huffman;
mod table;

pub(super) use {
    decode::{Decoder, Unreadable},
    encode::Encoder,
    table::OVERHEAD,
};

/// It can't be read. Nothing that comes after it can be, either: the tables of the two sides differ from here on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("headers that are not packed as they should be")]
pub(super) struct Malformed;
