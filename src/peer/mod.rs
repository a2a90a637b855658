//! One peer, as a value: its address, its status, its state machine, its patience. No I/O, no clock.

pub mod address;
pub mod backoff;
pub mod status;
