//! What a simulated peer answers to `send_identity`: the members and their order are the reference server's.

use serde::Serialize;

use crate::opflex::{Raw, Role, Roles};

/// The answer to `send_identity`.
#[derive(Debug, Serialize)]
pub(super) struct Identification<'a> {
    name: String,
    domain: &'a str,
    your_location: &'a str,
    data: NoData,
    my_role: Roles,
    peers: Vec<Listed>,
}

/// What stands for no forwarding proxies.
#[derive(Debug, Serialize)]
struct NoData {}

#[derive(Debug, Serialize)]
struct Listed {
    role: Roles,
    connectivity_info: String,
}

impl<'a> Identification<'a> {
    /// The answer of the peer `own`, which tells its clients that they are at `location` and to connect to
    /// `peers`.
    pub(super) fn new(
        own: &(String, u16),
        domain: &'a str,
        location: &'a str,
        peers: &[(String, u16)],
    ) -> Self {
        // Everything but a policy element: what a leaf is.
        let role = Roles::from_iter([Role::PolicyRepository, Role::EndpointRegistry, Role::Observer]);
        let listed = |peer| Listed { role, connectivity_info: connectivity_info(peer) };
        Self {
            name: connectivity_info(own),
            domain,
            your_location: location,
            data: NoData {},
            my_role: role,
            peers: peers.iter().map(listed).collect(),
        }
    }

    pub(super) fn encode(&self) -> Raw {
        Raw::encode(self)
    }
}

/// An address as the reference writes it: without brackets, whatever the host.
fn connectivity_info((host, port): &(String, u16)) -> String {
    format!("{host}:{port}")
}
