//! Process-wide limits on connection attempts, name lookups, connections to peers and memory for their frames. Peers that were never READY can't
//! exhaust them, so others are always dialled at once; the limit on connections leaves file descriptors for clients.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    ops::RangeInclusive,
    sync::Arc,
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{connector::DialError, frame_budget::FrameBudget};
use crate::peer::{DialPriority, PeerAddress, Reach, Reason, is_loopback as is_loopback_peer};

/// Bounds of the limit on attempts, whatever the limit on open files. The upper one exceeds the default limit on the
/// peers of a pool.
const DIALS: RangeInclusive<usize> = 64..=16_384;
/// Concurrent name lookups. Each takes one of the 512 blocking threads of the runtime.
const LOOKUPS: usize = 256;

/// The limits; clones share them.
#[derive(Clone, Debug)]
pub struct DialLimits {
    pub(super) dials: PriorityLimit,
    pub(super) lookups: PriorityLimit,
    pub(super) frames: FrameBudget,
    pub(super) own: OwnAddresses,
    connections: Arc<Semaphore>,
    /// Those of learned peers among them.
    learned_connections: Arc<Semaphore>,
    max_connections: usize,
}

/// The connections that the learned peers of one pool may have.
#[derive(Clone, Debug)]
pub(super) struct LearnedConnections(Arc<Semaphore>);

/// A limited number of slots: a quarter is reserved for high priority, low priority gets at most half, and learned peers at most
/// three quarters: what others say must not keep configured ones from being dialled.
#[derive(Clone, Debug)]
pub(super) struct PriorityLimit {
    all: Arc<Semaphore>,
    /// Needed besides for normal and low priority.
    normal: Arc<Semaphore>,
    /// Needed besides for low priority.
    low: Arc<Semaphore>,
    /// Needed besides for learned peers.
    learned: Arc<Semaphore>,
}

/// A slot in use.
pub(super) type Permits = Vec<OwnedSemaphorePermit>;

impl DialLimits {
    /// Limits for a process that may open this many files: half of them for attempts, three quarters for connections.
    #[must_use]
    pub fn for_files(files: usize) -> Self {
        let dials = (files / 2).clamp(*DIALS.start(), *DIALS.end());
        let max_connections = (files - files / 4).clamp(*DIALS.start(), Semaphore::MAX_PERMITS);
        Self {
            dials: PriorityLimit::new(dials),
            lookups: PriorityLimit::new(LOOKUPS),
            frames: FrameBudget::default(),
            own: OwnAddresses::default(),
            connections: Arc::new(Semaphore::new(max_connections)),
            learned_connections: Arc::new(Semaphore::new(max_connections - max_connections / 4)),
            max_connections,
        }
    }

    /// For one pool: half of all.
    pub(super) fn learned_connections(&self) -> LearnedConnections {
        LearnedConnections(Arc::new(Semaphore::new(self.max_connections / 2)))
    }

    /// The same, for a service that listens on these addresses.
    #[must_use]
    pub fn with_own_addresses(self, addresses: &[SocketAddr]) -> Self {
        Self { own: addresses.into(), ..self }
    }

    /// Where the service itself listens.
    #[must_use]
    pub fn own_addresses(&self) -> OwnAddresses {
        self.own.clone()
    }

    /// Limit on connections to peers.
    #[must_use]
    pub const fn max_connections(&self) -> usize {
        self.max_connections
    }

    /// Takes a permit for a connection to a peer with this reach, or fails if there is none. Learned peers of one pool may have
    /// half of them, and those of all pools three quarters: what a peer lists must not take them from others.
    pub(super) fn try_connection(
        &self,
        reach: Reach,
        of_pool: &LearnedConnections,
    ) -> Result<Permits, DialError> {
        let needed = [&self.connections, &of_pool.0, &self.learned_connections];
        let needed = if reach == Reach::Any { &needed[..1] } else { &needed };
        let permits = needed.iter().map(|all| Arc::clone(all).try_acquire_owned());
        permits.collect::<Result<_, _>>().map_err(|_| DialError {
            reason: Reason::ConnectFailed,
            detail: format!(
                "there are too many connections to peers: the limit on open files allows {}, of which three quarters may be to \
                 learned ones, and half to those of one pool",
                self.max_connections
            ),
        })
    }
}

/// Where the service itself listens.
#[derive(Clone, Debug, Default)]
pub struct OwnAddresses(Arc<[SocketAddr]>);

impl From<&[SocketAddr]> for OwnAddresses {
    fn from(addresses: &[SocketAddr]) -> Self {
        Self(addresses.into())
    }
}

impl OwnAddresses {
    /// Whether a connection to this host name and port would, as far as the name tells.
    #[must_use]
    pub fn contains_peer(&self, peer: &PeerAddress) -> bool {
        let is_loopback = |own: &SocketAddr| own.ip().is_loopback() || own.ip().is_unspecified();
        match peer.ip() {
            Some(ip) => self.contains(SocketAddr::new(ip, peer.port())),
            None => {
                is_loopback_peer(peer)
                    && self.0.iter().any(|own| own.port() == peer.port() && is_loopback(own))
            }
        }
    }

    /// Whether a connection to this address would reach the service itself.
    #[must_use]
    pub fn contains(&self, address: SocketAddr) -> bool {
        let ip = address.ip().to_canonical();
        let is_at = |own: IpAddr| {
            if own.is_unspecified() { is_of_this_machine(ip) } else { own.to_canonical() == ip }
        };
        self.0.iter().any(|own| own.port() == address.port() && is_at(own.ip()))
    }
}

/// Whether an interface has this address: then packets to it come from it. Nothing is sent.
fn is_of_this_machine(ip: IpAddr) -> bool {
    let any: IpAddr = if ip.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let source = UdpSocket::bind((any, 0)).and_then(|socket| {
        socket.connect((ip, 9))?;
        socket.local_addr()
    });
    ip.is_loopback() || source.is_ok_and(|source| source.ip() == ip)
}

impl PriorityLimit {
    fn new(size: usize) -> Self {
        let part = |size| Arc::new(Semaphore::new(size));
        let most = size - size / 4;
        Self { all: part(size), normal: part(most), low: part(size / 2), learned: part(most) }
    }

    /// Waits for a slot. A learned peer that was never READY has low priority.
    pub(super) async fn acquire(&self, priority: DialPriority, reach: Reach) -> Permits {
        let is_learned = reach != Reach::Any;
        let wanted: &[_] = match priority {
            DialPriority::High if is_learned => &[&self.learned, &self.all],
            DialPriority::High => &[&self.all],
            DialPriority::Normal | DialPriority::Low if is_learned => {
                &[&self.learned, &self.low, &self.normal, &self.all]
            }
            DialPriority::Normal => &[&self.normal, &self.all],
            DialPriority::Low => &[&self.low, &self.normal, &self.all],
        };
        let mut permits = Vec::with_capacity(wanted.len());
        for semaphore in wanted {
            // A semaphore fails only once it is closed, which these never are.
            permits.extend(Arc::clone(semaphore).acquire_owned().await);
        }
        permits
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn however_many_poor_prospects_there_are_a_quarter_is_kept_for_the_others() {
        let limit = PriorityLimit::new(64);
        let fill = |priority| -> Vec<_> {
            std::iter::from_fn(|| limit.acquire(priority, Reach::Any).now_or_never()).collect()
        };
        let [low, normal, high] = [DialPriority::Low, DialPriority::Normal, DialPriority::High].map(fill);
        assert_eq!([low.len(), normal.len(), high.len()], [32, 16, 16]);
        drop((low, normal));
        assert_eq!(fill(DialPriority::High).len(), 48, "high priority may use every slot");
    }

    #[test]
    fn learned_peers_keep_no_new_configured_one_waiting() {
        for priority in [DialPriority::High, DialPriority::Normal, DialPriority::Low] {
            let limit = PriorityLimit::new(64);
            let learned: Vec<_> =
                std::iter::from_fn(|| limit.acquire(priority, Reach::Remote).now_or_never()).collect();
            assert_eq!(learned.len(), if priority == DialPriority::High { 48 } else { 32 });
            for _ in 0..16 {
                let slot = limit.acquire(DialPriority::Normal, Reach::Any).now_or_never();
                std::mem::forget(slot.unwrap());
            }
        }
    }

    #[test]
    fn the_service_knows_its_own_addresses() {
        let limits = DialLimits::for_files(0);
        let own = ["0.0.0.0:9613", "192.0.2.1:50051"].map(|own| own.parse().unwrap());
        let limits = limits.with_own_addresses(&own);
        for (address, is_own) in [
            ("127.0.0.1:9613", true),
            ("127.0.0.9:9613", true),
            ("[::1]:9613", true),
            ("127.0.0.1:9614", false),
            ("192.0.2.9:9613", false),
            ("192.0.2.1:50051", true),
            ("[::ffff:192.0.2.1]:50051", true),
            ("127.0.0.1:50051", false),
        ] {
            assert_eq!(limits.own.contains(address.parse().unwrap()), is_own, "{address}");
        }
    }

    #[test]
    fn limits_follow_from_the_limit_on_open_files() {
        let limits = DialLimits::for_files(100);
        let [one, other, third] = [(); 3].map(|()| limits.learned_connections());
        let take = |reach, pool| limits.try_connection(reach, pool).ok();
        // They are kept for good.
        let fill = |reach, pool| std::iter::from_fn(|| take(reach, pool)).map(std::mem::forget).count();
        assert_eq!(fill(Reach::Remote, &one), 37);
        assert_eq!(fill(Reach::Remote, &other), 20);
        assert_eq!(fill(Reach::Remote, &third), 0);
        assert_eq!(fill(Reach::Any, &third), 18, "they are left for configured peers");
        let refused = limits.try_connection(Reach::Any, &one).unwrap_err();
        assert!(refused.detail.contains("allows 75,"), "{refused}");
        for (files, dials) in [(0, 64), (1024, 512), (20_000, 10_000), (1_048_576, 16_384)] {
            assert_eq!(DialLimits::for_files(files).dials.all.available_permits(), dials);
        }
    }
}
