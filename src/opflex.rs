//! The OpFlex wire protocol: bytes ⇄ messages.
//!
//! JSON documents in the shape of JSON-RPC 1.0 with structured ids, each terminated by a NUL byte. The input is
//! untrusted: length and nesting are limited, and a value stays a slice of its frame, never a parsed tree.

mod frame;
mod identity;
mod json;
mod message;
mod method;
pub(crate) mod text;

#[cfg(test)]
mod golden;

pub use frame::{FrameDecoder, FrameTooLong};
pub use identity::{
    ConnectivityInfo, ElementMode, Identity, IdentityAnswer, IdentityError, MAX_PEERS, Proxies, Role, Roles,
};
pub use message::{
    Answer, ErrorCode, MAX_NESTING, Message, MessageError, Raw, RemoteError, Request, echo, error, result,
    send_identity,
};
pub use method::Method;
