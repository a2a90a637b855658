//! Simulated OpFlex peers for development and demonstration: the server side of the protocol on real sockets, with
//! faults on demand. Like the reference server without policy: answers echoes and identities, and rejects the rest.

mod agent;
mod answer;
mod connection;
mod outages;
mod peer;

pub use agent::SimAgent;
pub use outages::{Outage, Outages};
pub use peer::{Behaviour, SimConfig, SimPeer};

#[cfg(test)]
mod tests;
