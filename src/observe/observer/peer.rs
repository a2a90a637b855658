//! What is known of one peer, and how changes of it are reported.

use std::{
    collections::VecDeque,
    time::{Duration, Instant, SystemTime},
};

use super::{
    Evidence, MAX_DETAIL, Observation, Observed, Observer, PeerAddress, PeerEvent, PeerStatus, Pending,
    Reason, lines::Carries, sockets::Tracked, text,
};

/// How many connections that ended are remembered: their sockets are gone in milliseconds.
const MAX_ENDED: usize = 4;

#[derive(Debug)]
pub(super) struct Peer {
    pub(super) status: PeerStatus,
    reason: Reason,
    detail: String,
    pub(super) evidence: Option<Evidence>,
    /// When it came into its status.
    pub(super) since: Instant,
    /// The socket of its connection, while it has one.
    pub(super) cookie: Option<u64>,
    /// Sockets of connections that are over.
    ended: VecDeque<u64>,
    /// Since when its socket has been gone, without a line that says so.
    pub(super) lost_since: Option<Instant>,
    /// Why its next connection is going to end, or its last attempt failed.
    pub(super) failure: Option<(Reason, Box<str>)>,
    /// When it leaves the pool unless it is mentioned or has a socket.
    pub(super) doubted_until: Option<Instant>,
    /// The agent may come back to it by itself, so it stays in the pool when its connection is closed.
    pub(super) parks: bool,
}

impl Peer {
    fn new(now: Instant) -> Self {
        Self {
            status: PeerStatus::Connecting,
            reason: Reason::Added,
            detail: String::new(),
            evidence: Some(Evidence::Log),
            since: now,
            cookie: None,
            ended: VecDeque::new(),
            lost_since: None,
            failure: None,
            doubted_until: None,
            parks: false,
        }
    }

    pub(super) fn end_connection(&mut self) {
        self.lost_since = None;
        if let Some(cookie) = self.cookie.take() {
            self.ended.truncate(MAX_ENDED - 1);
            self.ended.push_front(cookie);
        }
    }

    pub(super) fn has_ended(&self, cookie: u64) -> bool {
        self.ended.contains(&cookie)
    }

    /// The log or a socket shows that the agent has it.
    pub(super) fn mention(&mut self) {
        self.doubted_until = None;
        self.parks = false;
    }

    pub(super) fn doubt(&mut self, until: Instant) {
        self.doubted_until.get_or_insert(until);
    }

    pub(super) fn is_up(&self) -> bool {
        matches!(self.status, PeerStatus::Connected | PeerStatus::Ready)
    }
}

impl Observer {
    /// The sockets of a peer in the newest dump.
    pub(super) fn sockets_of(&self, peer: &PeerAddress) -> impl Iterator<Item = &Tracked> {
        let is_other = |ip, port| self.peers.keys().any(|it| it.ip() == Some(ip) && it.port() == port);
        self.sockets.of(peer, is_other)
    }

    /// Its established sockets that are not of an earlier connection. None if they cannot be read.
    pub(super) fn established(&self, address: &PeerAddress) -> Vec<Tracked> {
        if self.sockets.error.is_some() {
            return Vec::new();
        }
        let peer = self.peers.get(address);
        let is_over = |cookie| peer.is_some_and(|peer| peer.has_ended(cookie));
        let is_established = |it: &&Tracked| it.established.is_some() && !is_over(it.socket.cookie);
        self.sockets_of(address).filter(is_established).cloned().collect()
    }

    /// Whether the connection of a peer, as far as its socket is known, is established.
    pub(super) fn is_alive(&self, address: &PeerAddress) -> bool {
        let cookie = self.peers.get(address).and_then(|peer| peer.cookie);
        cookie.is_some_and(|cookie| self.established(address).iter().any(|it| it.socket.cookie == cookie))
    }

    /// Whether its connection is established, so that a line cannot be true that says it ended; unless a later line says that there is
    /// a new one, whose socket was taken for the old one's.
    pub(super) fn outlives(&self, address: &PeerAddress) -> bool {
        let reconnects = |later: &Pending| later.taint < Carries::PeerText;
        self.is_alive(address)
            && !self.find_later(address, |what| *what == PeerEvent::Connected).is_some_and(reconnects)
    }

    /// Adds a peer unless the pool has it. `None`: there is no room.
    pub(super) fn add(&mut self, address: &PeerAddress, at: SystemTime, now: Instant) -> Option<&mut Peer> {
        if !self.peers.contains_key(address) {
            if self.peers.len() >= self.settings.peer_limit {
                let parked = self.peers.iter().find(|(_, peer)| peer.status == PeerStatus::Disconnected);
                let Some(parked) = parked.map(|(address, _)| address.clone()) else {
                    self.counts.rejected_peers += 1;
                    return None;
                };
                self.close(&parked, Reason::NotInPeerList, "room for other peers", (at, now));
                self.remove(&parked, at);
            }
            self.peers.insert(address.clone(), Peer::new(now));
            self.has_had_peers = true;
            self.observe(address, Observed::Added, at);
        }
        self.peers.get_mut(address)
    }

    pub(super) fn remove(&mut self, address: &PeerAddress, at: SystemTime) {
        if self.peers.remove(address).is_some() {
            self.observe(address, Observed::Removed, at);
        }
    }

    /// Its status, if it differs from the last one. A failure is always reported, so that failures can be counted.
    pub(super) fn report(
        &mut self,
        address: &PeerAddress,
        (status, reason): (PeerStatus, Reason),
        detail: &str,
        evidence: Option<Evidence>,
        at: SystemTime,
    ) {
        let Some(peer) = self.peers.get_mut(address) else { return };
        let detail = text::printable(detail, MAX_DETAIL);
        let is_same = (peer.status, peer.reason, peer.evidence) == (status, reason, evidence)
            && peer.detail == detail
            && !reason.is_failure();
        if is_same {
            return;
        }
        (peer.status, peer.reason, peer.evidence) = (status, reason, evidence);
        peer.detail.clone_from(&detail);
        self.observe(address, Observed::Status { status, reason, detail, evidence }, at);
    }

    /// It is not known any more what the agent does with it. Which connection it has is forgotten, not for how long.
    pub(super) fn report_unknown(&mut self, address: &PeerAddress, detail: &str, at: SystemTime) {
        if let Some(peer) = self.peers.get_mut(address) {
            peer.cookie = None;
            peer.lost_since = None;
            self.report(address, (PeerStatus::Unknown, Reason::ObservationLost), detail, None, at);
        }
    }

    /// It leaves the pool, or is parked if the agent may come back to it.
    pub(super) fn close(
        &mut self,
        address: &PeerAddress,
        reason: Reason,
        detail: &str,
        (at, now): (SystemTime, Instant),
    ) {
        self.end_connection(address);
        let Some(peer) = self.peers.get_mut(address) else { return };
        peer.since = now;
        if peer.status != PeerStatus::Closing {
            self.report(address, (PeerStatus::Closing, reason), detail, Some(Evidence::Log), at);
        }
    }

    /// After [`Self::close`]: the connection is deleted.
    pub(super) fn finish_close(&mut self, address: &PeerAddress, at: SystemTime) {
        let Some(peer) = self.peers.get_mut(address) else { return };
        if peer.parks {
            let (reason, detail) = (peer.reason, peer.detail.clone());
            self.report(address, (PeerStatus::Disconnected, reason), &detail, Some(Evidence::Log), at);
        } else {
            self.remove(address, at);
        }
    }

    /// A socket that is still established is of a later connection.
    pub(super) fn end_connection(&mut self, address: &PeerAddress) {
        let is_alive = self.is_alive(address);
        let Some(peer) = self.peers.get_mut(address) else { return };
        if is_alive {
            peer.cookie = None;
        }
        peer.end_connection();
    }

    fn observe(&mut self, address: &PeerAddress, what: Observed, at: SystemTime) {
        self.out.push(Observation { address: address.clone(), what, at });
    }
}

/// How long a peer stays of which the log may have said that it left, or that was there earlier. The agent tries peers that
/// are down every 1.25 s, one after another, and mentions them each time.
pub(super) const DOUBT: Duration = Duration::from_secs(300);

/// The same after the agent started again: it adds its peers within seconds.
pub(super) const RESTART_DOUBT: Duration = Duration::from_secs(60);
