//! What lines do to connections.

use std::time::{Duration, Instant, SystemTime};

use super::{
    Evidence, Observer, PeerAddress, PeerEvent, PeerStatus, Pending, Reason, SOCKET_GRACE, Step,
    forgery::Hold, lines::Carries, sockets::Tracked,
};

/// How long after "Disconnected" the line "Connection closed" may follow, which makes the library's status CLOSING: 5 ms at most
/// in recordings.
const CLOSE_HOLD: Duration = Duration::from_millis(50);

/// How long ago data must have been received at most when a handshake succeeds, which is an answer of the peer: for an agent that is busy.
const ANSWER_AGE: Duration = Duration::from_secs(1);

/// The same where the line before may have quoted a peer.
const SURE_ANSWER_AGE: Duration = Duration::from_millis(100);

const CLOSED_BY_PEER: &str = "the connection was closed";

impl Observer {
    /// `New client connection`.
    pub(super) fn connect(&mut self, address: &PeerAddress, pending: &Pending, now: Instant) -> Step {
        let old = self.peers.get(address).and_then(|peer| peer.cookie);
        let new: Vec<_> =
            self.established(address).into_iter().filter(|it| Some(it.socket.cookie) != old).collect();
        if self.is_alive(address) && new.is_empty() {
            return self.contradicted(pending, now);
        }
        if pending.taint >= Carries::PeerText && new.is_empty() {
            return self.reject_tainted();
        }
        let is_over = self.is_over(address);
        let Some(peer) = self.add(address, pending.at, now) else { return Step::Done };
        peer.mention();
        peer.end_connection();
        peer.failure = None;
        peer.since = now;
        peer.cookie = newest(&new).filter(|_| !is_over).map(|it| it.socket.cookie);
        let evidence = if peer.cookie.is_some() { Evidence::Both } else { Evidence::Log };
        let status = (PeerStatus::Connected, Reason::TcpEstablished);
        self.report(address, status, "", Some(evidence), pending.at);
        Step::Done
    }

    /// `Handshake succeeded`, the only line that makes a peer READY.
    pub(super) fn ready(
        &mut self,
        address: &PeerAddress,
        pending: &Pending,
        now: Instant,
        wall: SystemTime,
    ) -> Step {
        let hold = match pending.is_after_name {
            true => self.forgery.hold(pending.read, now),
            false => Hold::Over,
        };
        if let Hold::Until(until) = hold {
            return Step::Wait(until);
        }
        let comes_again = self.queue.iter().skip(1).any(|later| later.hash == pending.hash);
        if self.forgery.is_repeated(pending.hash) || comes_again {
            self.counts.rejected_repeated += 1;
            return Step::Done;
        }
        if pending.taint >= Carries::PeerText || hold == Hold::Forged {
            return self.reject_tainted();
        }
        let status = self.peers.get(address).map(|peer| peer.status);
        if status == Some(PeerStatus::Ready) {
            return Step::Done;
        }
        let is_legal = matches!(status, None | Some(PeerStatus::Connected | PeerStatus::Unknown));
        if !is_legal || pending.is_ahead || self.insufficient_level().is_some() {
            self.counts.rejected_illegal += 1;
            return Step::Done;
        }
        let Some(socket) = self.connection_of(address) else {
            // It may be over already; then it is no forgery. It was READY for less than a poll.
            let is_over = self.is_over(address);
            self.counts.rejected_by_sockets += u64::from(!is_over && self.sockets.error.is_none());
            return Step::Done;
        };
        let line_age = wall.duration_since(pending.earliest).unwrap_or_default();
        let limit = if pending.taint == Carries::Nothing { ANSWER_AGE } else { SURE_ANSWER_AGE };
        match socket.socket.last_received {
            Some(age) if age > line_age + limit => {
                self.counts.rejected_by_sockets += 1;
                return Step::Done;
            }
            None if pending.taint > Carries::Nothing => return self.reject_tainted(),
            _ => {}
        }
        let Some(peer) = self.add(address, pending.at, now) else { return Step::Done };
        peer.mention();
        peer.cookie = Some(socket.socket.cookie);
        peer.failure = None;
        peer.since = now;
        let status = (PeerStatus::Ready, Reason::HandshakeComplete);
        self.report(address, status, "", Some(Evidence::Both), pending.at);
        Step::Done
    }

    /// `Disconnected`: CLOSING if `Connection closed` follows, else CONNECTING.
    pub(super) fn disconnect(&mut self, address: &PeerAddress, pending: &Pending, now: Instant) -> Step {
        let established = self.established(address);
        let is_alive = self.outlives(address);
        let Some(peer) = self.peers.get(address) else { return Step::Done };
        if !peer.is_up() && peer.status != PeerStatus::Unknown {
            return Step::Done;
        }
        let is_tainted = pending.taint >= Carries::PeerText;
        // With several sockets to one peer, it is not certain which one is the agent's.
        let is_contradicted = match peer.cookie {
            Some(_) => is_alive && (is_tainted || established.len() == 1),
            None => is_tainted && !established.is_empty(),
        };
        if is_contradicted {
            return self.contradicted(pending, now);
        }
        let closed = self.find_later(address, |what| *what == PeerEvent::Closed);
        let is_closed = closed.is_some_and(|closed| {
            let delay = closed.at.duration_since(pending.at).unwrap_or_default();
            delay <= CLOSE_HOLD && closed.taint < Carries::PeerText && !is_tainted
        });
        if is_closed {
            let (reason, detail) = self.closing_reason();
            self.close(address, reason, detail, (pending.at, now));
            return Step::Done;
        }
        let until = pending.read + CLOSE_HOLD;
        let goes_on = self.find_later(address, |what| *what != PeerEvent::Closed).is_some();
        if now < until && !goes_on && !is_tainted {
            return Step::Wait(until);
        }
        self.lose_connection(address, CLOSED_BY_PEER, Evidence::Both, (pending.at, now));
        Step::Done
    }

    /// It is CONNECTING again, for the reason that the log gave if it gave one.
    pub(super) fn lose_connection(
        &mut self,
        address: &PeerAddress,
        detail: &str,
        evidence: Evidence,
        (at, now): (SystemTime, Instant),
    ) {
        let hint = self.hint.take().filter(|(reason, _)| *reason == Reason::KeepaliveTimeout);
        self.end_connection(address);
        let Some(peer) = self.peers.get_mut(address) else { return };
        peer.since = now;
        let cause = peer.failure.take().or(hint);
        let (reason, detail) =
            cause.as_ref().map_or((Reason::RemoteClosed, detail), |(reason, detail)| (*reason, detail));
        let evidence = if self.sockets.error.is_some() { Evidence::Log } else { evidence };
        self.report(address, (PeerStatus::Connecting, reason), detail, Some(evidence), at);
    }

    /// The established socket of a peer's connection.
    fn connection_of(&self, address: &PeerAddress) -> Option<Tracked> {
        let established = self.established(address);
        match self.peers.get(address).and_then(|peer| peer.cookie) {
            Some(cookie) => established.into_iter().find(|it| it.socket.cookie == cookie),
            None if self.is_over(address) => None,
            None => newest(&established).cloned(),
        }
    }
}

/// The one that was established last.
pub(super) fn newest(sockets: &[Tracked]) -> Option<&Tracked> {
    sockets.iter().max_by_key(|it| it.established)
}

const _: () = assert!(
    CLOSE_HOLD.as_millis() < SOCKET_GRACE.as_millis(),
    "the socket is gone before a line is rejected"
);
