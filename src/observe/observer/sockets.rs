//! The newest dump of the agent's sockets, and since when each has been established.

use std::{
    collections::HashMap,
    net::IpAddr,
    time::{Duration, Instant},
};

use super::types::{Socket, SocketState};
use crate::peer::PeerAddress;

/// An agent has one socket to each peer. More are kept from taking memory.
const MAX_SOCKETS: usize = 4096;

#[derive(Clone, Debug)]
pub(super) struct Tracked {
    pub(super) socket: Socket,
    /// When it was first seen.
    pub(super) seen: Instant,
    /// It was there in the first dump.
    pub(super) is_first: bool,
    /// When it was first seen established.
    pub(super) established: Option<Instant>,
}

#[derive(Debug, Default)]
pub(super) struct SocketTable {
    by_address: HashMap<(IpAddr, u16), Vec<Tracked>>,
    /// Why the newest dump failed, or that there was none.
    pub(super) error: Option<String>,
    pub(super) has_established: bool,
    was_dumped: bool,
}

impl SocketTable {
    pub(super) fn update(&mut self, dump: &[Socket], now: Instant) {
        let old = std::mem::take(&mut self.by_address);
        for socket in dump.iter().take(MAX_SOCKETS) {
            let key = (socket.address.ip(), socket.address.port());
            let known = old.get(&key).into_iter().flatten().find(|it| it.socket.cookie == socket.cookie);
            let is_established = socket.state == SocketState::Established;
            let established = known.and_then(|it| it.established).or(Some(now)).filter(|_| is_established);
            let (seen, is_first) = known.map_or((now, !self.was_dumped), |it| (it.seen, it.is_first));
            let tracked = Tracked { socket: *socket, seen, is_first, established };
            self.by_address.entry(key).or_default().push(tracked);
        }
        let has_established = self.all().any(|it| it.established.is_some());
        self.has_established = has_established;
        self.error = None;
        self.was_dumped = true;
    }

    /// The sockets stay, because it is known since when they have been established.
    pub(super) fn fail(&mut self, error: &str) {
        self.error = Some(error.to_owned());
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Tracked> {
        self.by_address.values().flatten()
    }

    /// The sockets of a peer. Of one that is known by name: those to its port that are to no other peer.
    pub(super) fn of<'a>(
        &'a self,
        peer: &PeerAddress,
        is_other: impl Fn(IpAddr, u16) -> bool + 'a,
    ) -> impl Iterator<Item = &'a Tracked> + 'a {
        let port = peer.port();
        let exact = peer.ip().and_then(|ip| self.by_address.get(&(ip, port)));
        let by_port = peer.ip().is_none().then(|| {
            self.by_address.iter().filter(move |((ip, its), _)| *its == port && !is_other(*ip, *its))
        });
        exact.into_iter().flatten().chain(by_port.into_iter().flatten().flat_map(|(_, sockets)| sockets))
    }
}

impl Tracked {
    /// For how long it has been established.
    pub(super) fn age(&self, now: Instant) -> Option<Duration> {
        self.established.map(|since| now.saturating_duration_since(since))
    }
}
