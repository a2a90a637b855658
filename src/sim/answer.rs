//! The identity answer of a simulated peer, its members in the order of the reference server.

use serde::Serialize;

use crate::opflex::{Raw, Role, Roles};

#[derive(Serialize)]
struct Answer<'a> {
    name: String,
    domain: &'a str,
    your_location: &'a str,
    data: NoProxies,
    my_role: Roles,
    peers: Vec<Peer>,
}

#[derive(Serialize)]
struct NoProxies {}

#[derive(Serialize)]
struct Peer {
    role: Roles,
    connectivity_info: String,
}

/// The answer of the peer at `own` to clients at `location`, which lists `peers`.
pub(super) fn identity_answer(
    own: &(String, u16),
    domain: &str,
    location: &str,
    peers: &[(String, u16)],
) -> Raw {
    // The roles of a leaf.
    let role = Roles::from_iter([Role::PolicyRepository, Role::EndpointRegistry, Role::Observer]);
    // As in the reference, IPv6 addresses have no brackets.
    let text = |(host, port): &(String, u16)| format!("{host}:{port}");
    let peers = peers.iter().map(|peer| Peer { role, connectivity_info: text(peer) }).collect();
    Raw::encode(&Answer {
        name: text(own),
        domain,
        your_location: location,
        data: NoProxies {},
        my_role: role,
        peers,
    })
}
