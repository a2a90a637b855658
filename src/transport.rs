//! Byte streams to peers: connecting, TLS, and frames.

mod connection;
mod connector;
mod dial_limits;
mod frame_budget;
mod limited_stream;
mod secure;
#[cfg(test)]
mod tests;

pub use connection::{Connection, ConnectionEvent};
pub use connector::{Connector, DialError};
pub use dial_limits::{DialLimits, OwnAddresses};
pub use secure::secure;

use tokio::io::{AsyncRead, AsyncWrite};

/// A bidirectional byte stream.
pub trait ByteStream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> ByteStream for T {}
