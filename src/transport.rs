//! Byte streams to peers: how they come up, and how frames go over them.

mod connection;
mod connector;
mod counted;
mod dial_limits;
mod secure;
#[cfg(test)]
mod tests;

pub use connection::{Connection, Event};
pub use connector::{Connector, DialError};
pub use dial_limits::DialLimits;
pub use secure::secure;

use tokio::io::{AsyncRead, AsyncWrite};

/// Anything that carries bytes both ways.
pub trait ByteStream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> ByteStream for T {}
