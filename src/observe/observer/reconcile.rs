//! What the sockets say where the log says nothing.

use std::time::{Duration, Instant, SystemTime};

use super::{
    Evidence, Observer, PeerAddress, PeerStatus, Reason, connection::newest, sockets::Tracked,
    types::SocketState,
};

/// How long after its socket is gone a line about it may come. With a dump every 200 ms, a peer whose agent was killed is not READY
/// after 700 ms at most.
const LOG_GRACE: Duration = Duration::from_millis(300);

/// How long a connection may be established before the log mentions it; then something is wrong with the log.
const MENTION_GRACE: Duration = Duration::from_secs(5);

/// The agent gives up on a handshake some time after its timeout, and then its socket is seen to be gone in the next dump.
const INFERENCE_MARGIN: Duration = Duration::from_millis(500);

/// A new connection is in the log after milliseconds. Earlier than this its peer is not added.
const ADD_GRACE: Duration = Duration::from_secs(1);

/// A peer that is closing is gone after milliseconds.
const CLOSING_LIMIT: Duration = Duration::from_secs(60);

const NO_MENTION: &str = "the agent's log says nothing of this connection";
const NO_SOCKET: &str = "there is no connection";
const KILLED: &str =
    "the connection is gone, and the agent's log does not say why: the agent may have been killed";

impl Observer {
    /// Compares the statuses with the sockets.
    pub(super) fn reconcile(&mut self, now: Instant, wall: SystemTime) {
        let error = self.log.error.clone();
        if let Some(error) = error.or_else(|| self.sockets.error.clone()) {
            return self.lose_sight(&error, wall);
        }
        self.add_unnamed(now, wall);
        for address in self.peers.keys().cloned().collect::<Vec<_>>() {
            let established = self.established(&address);
            let Some(peer) = self.peers.get_mut(&address) else { continue };
            if !established.is_empty() {
                peer.doubted_until = None;
            }
            if peer.doubted_until.is_some_and(|until| until <= now) {
                self.close(
                    &address,
                    Reason::NotInPeerList,
                    "the agent does not mention it any more",
                    (wall, now),
                );
                self.remove(&address, wall);
                continue;
            }
            match peer.status {
                PeerStatus::Connected | PeerStatus::Ready => self.check_up(&address, &established, now, wall),
                PeerStatus::Unknown => self.check_unknown(&address, &established, now, wall),
                PeerStatus::Connecting | PeerStatus::Disconnected => {
                    self.check_down(&address, &established, now, wall);
                }
                PeerStatus::Closing => {
                    if now.saturating_duration_since(peer.since) > CLOSING_LIMIT {
                        self.finish_close(&address, wall);
                    }
                }
            }
        }
    }

    fn lose_sight(&mut self, error: &str, wall: SystemTime) {
        let wanted = self.peers.iter().filter(|(_, peer)| peer.status.is_wanted());
        for address in wanted.map(|(address, _)| address.clone()).collect::<Vec<_>>() {
            self.report_unknown(&address, error, wall);
        }
    }

    /// Connections to the agent's port whose peers the log did not name: on a cold start, or after a loss.
    fn add_unnamed(&mut self, now: Instant, wall: SystemTime) {
        let port = self.settings.peer_port;
        if self.peers.keys().any(|peer| peer.ip().is_none() && peer.port() == port) {
            return;
        }
        let is_old = |it: &&Tracked| it.is_first || now.saturating_duration_since(it.seen) >= ADD_GRACE;
        let sockets = self
            .sockets
            .all()
            .filter(|it| it.socket.address.port() == port)
            .filter(is_old)
            .filter(|it| matches!(it.socket.state, SocketState::Established | SocketState::Connecting));
        let addresses: Vec<_> = sockets
            .filter_map(|it| PeerAddress::new(&it.socket.address.ip().to_string(), port).ok())
            .filter(|address| !self.peers.contains_key(address))
            .collect();
        for address in addresses {
            if self.add(&address, wall, now).is_some() {
                self.report_unknown(&address, NO_MENTION, wall);
            }
        }
    }

    /// CONNECTED or READY: the socket must be there.
    fn check_up(&mut self, address: &PeerAddress, established: &[Tracked], now: Instant, wall: SystemTime) {
        let insufficient = self.insufficient_level();
        let Some(peer) = self.peers.get_mut(address) else { return };
        if peer.cookie.is_none()
            && let Some(socket) = newest(established)
        {
            peer.cookie = Some(socket.socket.cookie);
            peer.lost_since = None;
            self.report(
                address,
                (PeerStatus::Connected, Reason::TcpEstablished),
                "",
                Some(Evidence::Both),
                wall,
            );
            return;
        }
        let Some(socket) = established.iter().find(|it| Some(it.socket.cookie) == peer.cookie) else {
            let since = *peer.lost_since.get_or_insert(now);
            if now.saturating_duration_since(since) >= LOG_GRACE {
                self.lose_connection(address, KILLED, Evidence::Socket, (wall, now));
            }
            return;
        };
        peer.lost_since = None;
        let is_inferred = peer.evidence == Some(Evidence::Inferred);
        match insufficient {
            Some(detail) if is_inferred => self.report_unknown(address, detail, wall),
            None if peer.status == PeerStatus::Connected => self.infer(address, socket, now, wall),
            _ => {}
        }
    }

    /// A socket that is older than the agent's handshake timeout has completed its handshake, or the agent had closed it.
    fn infer(&mut self, address: &PeerAddress, socket: &Tracked, now: Instant, wall: SystemTime) {
        let due = self.settings.handshake_timeout + INFERENCE_MARGIN;
        if socket.age(now).is_some_and(|age| age >= due)
            && let Some(peer) = self.peers.get_mut(address)
        {
            peer.cookie = Some(socket.socket.cookie);
            peer.since = now;
            let detail = format!(
                "established for longer than a handshake may take, {:?}",
                self.settings.handshake_timeout
            );
            let status = (PeerStatus::Ready, Reason::HandshakeComplete);
            self.report(address, status, &detail, Some(Evidence::Inferred), wall);
        }
    }

    fn check_unknown(
        &mut self,
        address: &PeerAddress,
        established: &[Tracked],
        now: Instant,
        wall: SystemTime,
    ) {
        let insufficient = self.insufficient_level();
        let Some(peer) = self.peers.get_mut(address) else { return };
        let Some(socket) = established.iter().min_by_key(|it| it.established) else {
            let since = *peer.lost_since.get_or_insert(now);
            if now.saturating_duration_since(since) >= LOG_GRACE {
                peer.end_connection();
                peer.since = now;
                let (reason, detail) = peer.failure.take().unwrap_or((Reason::Dialing, NO_SOCKET.into()));
                self.report(address, (PeerStatus::Connecting, reason), &detail, Some(Evidence::Socket), wall);
            }
            return;
        };
        peer.lost_since = None;
        match insufficient {
            Some(detail) => self.report_unknown(address, detail, wall),
            None => self.infer(address, socket, now, wall),
        }
    }

    /// CONNECTING or parked: there should be no established socket that the log does not mention.
    fn check_down(&mut self, address: &PeerAddress, established: &[Tracked], now: Instant, wall: SystemTime) {
        let Some(age) = newest(established).and_then(|it| it.age(now)) else { return };
        let insufficient = self.insufficient_level();
        if age >= MENTION_GRACE || insufficient.is_some() {
            if insufficient.is_none() {
                self.counts.unmentioned += 1;
                self.log.is_silent = true;
            }
            let detail = self.insufficient_level().unwrap_or(NO_MENTION);
            self.report_unknown(address, detail, wall);
        }
    }
}
