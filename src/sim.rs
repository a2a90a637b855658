//! OpFlex peers to develop and demonstrate against: the server side of the protocol on real sockets, with
//! faults on demand.
//!
//! A [`SimPeer`] speaks as the reference's server does, and knows nothing of policy: it answers echoes and
//! identities, and refuses the rest. It is no part of the service.

mod answer;
mod connection;
mod outages;
mod peer;

pub use outages::{Outage, Outages};
pub use peer::{Behaviour, SimConfig, SimPeer};

#[cfg(test)]
mod tests;
