//! What lines do that make peers come and go.

use std::time::{Duration, Instant, SystemTime};

use super::{
    Event, Evidence, Observer, Peer, PeerAddress, PeerEvent, PeerStatus, Pended, Pending, Reason,
    SOCKET_GRACE, Step,
    lines::Carries,
    peer::{DOUBT, RESTART_DOUBT},
};

/// How long the line of a peer that is added waits for the one that the agent connects to it: 6 ms at most in recordings.
const CREATE_HOLD: Duration = Duration::from_millis(20);

const STARTED: &str = "the agent was started again";
const STOPPED: &str = "the agent stops";
const CLOSED: &str = "the agent closed it: it stops, or resets its peers";

impl Observer {
    /// Applies the line at the front of the queue.
    pub(super) fn apply(&mut self, event: &Event, pending: &Pending, now: Instant, wall: SystemTime) -> Step {
        match event {
            // Before it starts there is no peer whose text could be in its log.
            Event::AgentStarts | Event::AgentStops
                if self.sockets.has_established
                    && (pending.taint > Carries::Nothing || pending.is_after_name) =>
            {
                self.counts.rejected_tainted += 1;
            }
            Event::AgentStarts => self.restart(pending.at, now),
            Event::AgentStops => self.is_stopping = true,
            Event::Hint(reason, detail) => self.take_hint(*reason, detail, pending),
            Event::Peer(address, PeerEvent::Adding | PeerEvent::Created) => {
                return self.create(address, event, pending, now);
            }
            Event::Peer(address, PeerEvent::Connected) => return self.connect(address, pending, now),
            Event::Peer(address, PeerEvent::Ready) => return self.ready(address, pending, now, wall),
            Event::Peer(address, PeerEvent::Disconnected) => return self.disconnect(address, pending, now),
            Event::Peer(address, PeerEvent::Failed(reason, detail)) => {
                self.fail(address, (*reason, detail), pending, now);
            }
            Event::Peer(address, PeerEvent::Parking(reason, detail)) => {
                let step = self.leave(address, (*reason, detail), pending, now);
                if let (Step::Done, Some(peer)) = (&step, self.peers.get_mut(address)) {
                    peer.parks = peer.status == PeerStatus::Closing;
                }
                return step;
            }
            Event::Peer(address, PeerEvent::Removing(detail)) => {
                return self.leave(address, (Reason::NotInPeerList, detail), pending, now);
            }
            Event::Peer(address, PeerEvent::Closed) => {
                let (reason, detail) = self.closing_reason();
                let step = self.leave(address, (reason, detail), pending, now);
                let is_closing =
                    self.peers.get(address).is_some_and(|peer| peer.status == PeerStatus::Closing);
                if is_closing && matches!(step, Step::Done) {
                    self.finish_close(address, pending.at);
                }
                return step;
            }
        }
        Step::Done
    }

    pub(super) const fn closing_reason(&self) -> (Reason, &'static str) {
        if self.is_stopping { (Reason::PoolStopping, STOPPED) } else { (Reason::Reset, CLOSED) }
    }

    /// Whether the queue has a later line about a peer; its time.
    pub(super) fn find_later(
        &self,
        address: &PeerAddress,
        is_it: impl Fn(&PeerEvent) -> bool,
    ) -> Option<&Pending> {
        self.queue.iter().skip(1).find(|pending| {
            matches!(&pending.event, Pended::Line(Event::Peer(its, what)) if its == address && is_it(what))
        })
    }

    /// Whether a later line says that the connection of a line is over, so that an established socket is of another one.
    pub(super) fn is_over(&self, address: &PeerAddress) -> bool {
        let is_start = |later: &Pending| matches!(later.event, Pended::Line(Event::AgentStarts));
        let ends = |what: &PeerEvent| !matches!(what, PeerEvent::Ready | PeerEvent::Failed(..));
        self.find_later(address, ends).is_some() || self.queue.iter().skip(1).any(is_start)
    }

    /// The sockets show the opposite of what a line says. They may be late; later the line is rejected.
    pub(super) fn contradicted(&mut self, pending: &Pending, now: Instant) -> Step {
        let until = pending.read + SOCKET_GRACE;
        if now < until {
            return Step::Wait(until);
        }
        self.counts.rejected_by_sockets += 1;
        Step::Done
    }

    pub(super) const fn reject_tainted(&mut self) -> Step {
        self.counts.rejected_tainted += 1;
        Step::Done
    }

    fn create(&mut self, address: &PeerAddress, event: &Event, pending: &Pending, now: Instant) -> Step {
        if self.outlives(address) {
            return self.contradicted(pending, now);
        }
        let is_known = self.peers.get(address).is_some_and(|peer| peer.status.is_wanted());
        let has_socket = self.sockets.error.is_none() && self.sockets_of(address).next().is_some();
        if pending.taint >= Carries::PeerText && !is_known && !has_socket {
            return self.reject_tainted();
        }
        let is_created = matches!(event, Event::Peer(_, PeerEvent::Created));
        // The library tells its listeners of the peer when it connects, just after it added it.
        let created = self.find_later(address, |what| *what == PeerEvent::Created).map(|it| it.at);
        let until = pending.read + CREATE_HOLD;
        if !is_known && !is_created && created.is_none() && now < until {
            return Step::Wait(until);
        }
        let at = created.unwrap_or(pending.at);
        let Some(peer) = self.add(address, at, now) else { return Step::Done };
        peer.mention();
        if pending.taint > Carries::Nothing {
            peer.doubt(now + DOUBT);
        }
        if is_created {
            peer.since = now;
            self.end_connection(address);
            self.report(
                address,
                (PeerStatus::Connecting, Reason::Dialing),
                "",
                Some(Evidence::Log),
                pending.at,
            );
        }
        Step::Done
    }

    /// A peer leaves. It is not believed to be gone if a peer may have written that, because a pool without it may be HEALTHY; so
    /// it stays until nothing was seen of it for long.
    fn leave(
        &mut self,
        address: &PeerAddress,
        (reason, detail): (Reason, &str),
        pending: &Pending,
        now: Instant,
    ) -> Step {
        let has_established = !self.established(address).is_empty();
        let is_alive = self.outlives(address);
        let Some(peer) = self.peers.get_mut(address) else { return Step::Done };
        match peer.status {
            PeerStatus::Unknown if has_established => return self.contradicted(pending, now),
            PeerStatus::Disconnected => return Step::Done,
            // What the agent does then, it has said already.
            PeerStatus::Closing => {}
            _ if is_alive => return self.contradicted(pending, now),
            _ => {
                let was_seen_to_go = peer.cookie.is_some() && pending.taint < Carries::PeerText;
                if pending.taint > Carries::Nothing && !was_seen_to_go {
                    peer.doubt(now + DOUBT);
                    return self.reject_tainted();
                }
            }
        }
        self.close(address, reason, detail, (pending.at, now));
        Step::Done
    }

    /// What it says may be text of a peer, so it only explains: it neither adds a peer nor removes one.
    fn fail(
        &mut self,
        address: &PeerAddress,
        (reason, detail): (Reason, &str),
        pending: &Pending,
        now: Instant,
    ) {
        let hint = self.hint.take().filter(|(its, _)| *its == reason);
        let detail = hint.as_ref().map_or(detail, |(_, detail)| detail);
        let is_tainted = pending.taint >= Carries::PeerText;
        let has_socket = self.sockets.error.is_some() || !self.established(address).is_empty();
        if !is_tainted && !self.peers.contains_key(address) {
            self.add(address, pending.at, now);
        }
        let Some(peer) = self.peers.get_mut(address) else { return };
        if !peer.is_up() && is_tainted {
            self.counts.rejected_tainted += 1;
            return;
        }
        let is_up = peer.is_up();
        let reason = if is_up && reason == Reason::ConnectFailed { Reason::RemoteClosed } else { reason };
        peer.failure = Some((reason, detail.into()));
        if !is_tainted {
            peer.mention();
        }
        if !is_up && !has_socket && peer.status != PeerStatus::Closing {
            self.report(address, (PeerStatus::Connecting, reason), detail, Some(Evidence::Log), pending.at);
        }
    }

    fn take_hint(&mut self, reason: Reason, detail: &str, pending: &Pending) {
        self.hint = Some((reason, detail.into()));
        let is_waiting = |(address, peer): &(&PeerAddress, &Peer)| {
            address.ip().is_none() && peer.status == PeerStatus::Connecting
        };
        // Lookups have no name in the log. IP addresses need none.
        let mut waiting = self.peers.iter().filter(is_waiting).map(|(address, _)| address.clone());
        if let (Reason::ResolveFailed, Some(only), None) = (reason, waiting.next(), waiting.next())
            && pending.taint == Carries::Nothing
        {
            self.report(&only, (PeerStatus::Connecting, reason), detail, Some(Evidence::Log), pending.at);
        }
    }

    /// A new process has none of the old connections, and only those peers that it adds again.
    fn restart(&mut self, at: SystemTime, now: Instant) {
        self.is_stopping = false;
        self.hint = None;
        self.forgery.has_bad_name = false;
        let addresses: Vec<_> = self.peers.keys().cloned().collect();
        for address in addresses.iter().filter(|address| !self.is_alive(address)).cloned().collect::<Vec<_>>()
        {
            let Some(peer) = self.peers.get_mut(&address) else { continue };
            peer.doubt(now + RESTART_DOUBT);
            peer.end_connection();
            if peer.is_up() {
                peer.since = now;
                let status = (PeerStatus::Connecting, Reason::RemoteClosed);
                self.report(&address, status, STARTED, Some(Evidence::Both), at);
            }
        }
    }
}
