//! Which addresses may be dialled: a peer that lists others must not make the service connect to this machine.

use std::net::IpAddr;

use super::PeerAddress;

/// Which addresses may be dialled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// All of them: for configured peers.
    Any,
    /// Unicast addresses, those of this machine and its links included.
    Local,
    /// Unicast addresses, loopback included, and no link-local ones.
    Loopback,
    /// Unicast addresses of other machines, and no link-local ones.
    Remote,
}

impl Reach {
    /// Whether a connection to this address may be attempted.
    #[must_use]
    pub const fn allows(self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        let is_link_local = match ip {
            IpAddr::V4(ip) => ip.is_link_local(),
            IpAddr::V6(ip) => ip.is_unicast_link_local(),
        };
        // 0.0.0.0/8 is this host, and 240.0.0.0/4 is reserved, broadcast included.
        let is_reserved = matches!(ip, IpAddr::V4(ip) if matches!(ip.octets(), [0 | 240.., ..]));
        match self {
            Self::Any => true,
            _ if ip.is_unspecified() || ip.is_multicast() || is_reserved => false,
            Self::Local => true,
            Self::Loopback => !is_link_local,
            Self::Remote => !is_link_local && !ip.is_loopback(),
        }
    }

    /// The same for the address of a peer. The addresses of a name are known once it is resolved; `localhost` is known
    /// before.
    #[must_use]
    pub fn allows_peer(self, peer: &PeerAddress) -> bool {
        match peer.ip() {
            Some(ip) => self.allows(ip),
            None => self != Self::Remote || !is_loopback(peer),
        }
    }
}

/// Whether the peer is on this machine, as far as its name tells.
#[must_use]
pub fn is_loopback(peer: &PeerAddress) -> bool {
    let is_localhost = || peer.host() == "localhost" || peer.host().ends_with(".localhost");
    peer.ip().map_or_else(is_localhost, |ip| ip.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn each_reach_allows_what_it_says() {
        let all = [Reach::Any, Reach::Local, Reach::Loopback, Reach::Remote];
        for (host, allowed) in [
            ("10.0.0.30", 4),
            ("2001:db8::1", 4),
            ("leaf-101", 4),
            ("127.0.0.1", 3),
            ("127.255.0.9", 3),
            ("::1", 3),
            ("::ffff:127.0.0.1", 3),
            ("localhost", 3),
            ("a.localhost", 3),
            ("169.254.1.1", 2),
            ("fe80::1%eth0", 2),
            ("0.0.0.0", 1),
            ("::", 1),
            ("::ffff:0.0.0.0", 1),
            ("224.0.0.1", 1),
            ("ff02::1", 1),
            ("255.255.255.255", 1),
            ("0.1.2.3", 1),
            ("240.0.0.1", 1),
            ("::ffff:240.0.0.1", 1),
            ("::ffff:224.0.0.1", 1),
            ("::ffff:169.254.1.1", 2),
            ("239.255.255.255", 1),
            ("223.255.255.255", 4),
        ] {
            let peer = PeerAddress::new(host, 8009).unwrap();
            let count = all.into_iter().filter(|reach| reach.allows_peer(&peer)).count();
            assert_eq!(count, allowed, "{host}");
            assert_eq!(is_loopback(&peer), allowed == 3, "{host}");
        }
    }
}
