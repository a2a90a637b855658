//! From a socket to the services and back.
//!
//! hyper and tonic's own server would do it, too, at several times the cost for what this service is about: telling
//! very many streams of one change. Here a connection is one task, and everything on it is done there in turn: a
//! watch is not a task of its own but an entry in its connection's list, without buffer, waker or timer. Buffers for
//! reading and writing are the thread's: a connection has some of its own only while something waits in them.
//!
//! `acceptor` → `threads` → `shard`, the connections of one thread → `secure`, TLS if there is any → `connection`, with
//! its byte stream, the `line` → `call`, a request to the services → `answer`, what they say, or `feed`, a watch.

mod acceptor;
mod answer;
mod call;
mod connection;
mod feed;
mod first_word;
mod framing;
mod handshakes;
mod keepalive;
mod line;
mod received;
mod rooms;
mod secure;
mod shard;
mod threads;

pub use keepalive::Keepalive;
pub use threads::ThreadEnded;
pub(super) use {
    acceptor::{Bounds, Incoming, accept},
    handshakes::Handshakes,
    rooms::Rooms,
    shard::Common,
    threads::{Ends, Threads},
};
