//! HTTP/2 as a server speaks it: bytes to requests, and answers to bytes. No socket, no task, no clock.
//!
//! Source: RFC 9113, with RFC 7541 for headers. It is made for what this service has most of: very many connections that
//! say nothing for hours and are told a little now and then. One of them is a few hundred bytes here, a stream is some
//! twenty, and what is to be sent is written where it is sent from. What a server may leave out is left out: pushing,
//! priorities, and a table for the headers of answers.

mod frame;
mod head;
mod hpack;
mod meter;
mod session;
mod streams;

pub use {
    frame::{MAX_FRAME, PREFACE, Reason},
    head::Head,
    session::{Event, Fault, Session},
};
