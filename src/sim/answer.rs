//! The identity answer of a simulated peer, its members in the order of the reference server.

use std::net::Ipv4Addr;

use serde::Serialize;

use super::peer::LEAF_ROLES;
use crate::opflex::{Proxies, Raw, Roles};

/// What an identity answer has.
pub(super) struct Answer<'a> {
    /// The address of the peer itself.
    pub(super) own: &'a (String, u16),
    pub(super) domain: &'a str,
    pub(super) location: &'a str,
    pub(super) proxies: Option<Proxies>,
    pub(super) roles: Roles,
    pub(super) peers: &'a [(String, u16)],
}

#[derive(Serialize)]
struct Members<'a> {
    name: String,
    domain: &'a str,
    your_location: &'a str,
    data: Data,
    my_role: Roles,
    peers: Vec<Peer>,
}

/// Empty without proxies.
#[derive(Serialize)]
struct Data {
    #[serde(skip_serializing_if = "Option::is_none")]
    proxy_v4: Option<Ipv4Addr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    proxy_v6: Option<Ipv4Addr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    proxy_mac: Option<Ipv4Addr>,
}

#[derive(Serialize)]
struct Peer {
    role: Roles,
    connectivity_info: String,
}

impl Answer<'_> {
    pub(super) fn encode(&self) -> Raw {
        // As in the reference, IPv6 addresses have no brackets.
        let text = |(host, port): &(String, u16)| format!("{host}:{port}");
        let role = Roles::from_iter(LEAF_ROLES);
        let proxy = |which: fn(Proxies) -> Ipv4Addr| self.proxies.map(which);
        Raw::encode(&Members {
            name: text(self.own),
            domain: self.domain,
            your_location: self.location,
            data: Data {
                proxy_v4: proxy(|proxies| proxies.v4),
                proxy_v6: proxy(|proxies| proxies.v6),
                proxy_mac: proxy(|proxies| proxies.mac),
            },
            my_role: self.roles,
            peers: self.peers.iter().map(|peer| Peer { role, connectivity_info: text(peer) }).collect(),
        })
    }
}
