//! From a socket to the services and back, in HTTP/2 by the `h2` crate.
//!
//! hyper and tonic's own server would do it, too, at several times the cost for what this service is about: telling
//! very many streams of one change. Here a connection is one task, and everything on it is done there in turn: a
//! watch is not a task of its own but an entry in its connection's list, without buffer, waker or timer.
//!
//! `acceptor` → `threads` → `shard`, the connections of one thread → `secure`, TLS if there is any → `connection` → `call`, an ordinary request and its
//! response, or `feed`, a watch.

mod acceptor;
mod answers;
mod call;
mod connection;
mod feed;
mod framing;
mod handshakes;
mod keepalive;
mod line;
mod meter;
mod received;
mod secure;
mod shard;
mod socket;
mod threads;

pub use keepalive::Keepalive;
pub use threads::ThreadEnded;
pub(super) use {
    acceptor::{Bounds, Incoming, accept},
    answers::Answers,
    handshakes::Handshakes,
    shard::Common,
    threads::{Ends, Threads},
};
