//! The OpFlex wire protocol: bytes ⇄ messages.
//!
//! JSON documents, each ended by one NUL byte, in the shape of JSON-RPC 1.0 with structured ids. This module
//! knows the shape and nothing else: no state, no clock, no sockets. What it reads comes from the network, so
//! it panics on none of it, refuses what is too long or too deep, and never builds a tree of it: a value is
//! the slice of its frame, and what a caller asks for is read out of that slice.

mod frame;
mod identity;
mod json;
mod message;
mod method;
pub(crate) mod text;

#[cfg(test)]
mod golden;

pub use frame::{FrameDecoder, FrameError};
pub use identity::{
    ConnectivityInfo, ElementMode, Identity, IdentityAnswer, IdentityError, MAX_PEERS, Proxies, Role, Roles,
};
pub use message::{
    Answer, ErrorCode, MAX_NESTING, Message, MessageError, Raw, RemoteError, Request, echo, error, result,
    send_identity,
};
pub use method::Method;
