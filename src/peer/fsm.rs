//! The state machine of one peer.
//!
//! ```text
//!                  ┌─────────── Established, without TLS ──────────┐
//!        Started   │   TcpEstablished              Established     ▼      identity answered,
//!   Idle ───────► Dialing ──────────────► Securing ───────────► Handshaking ──lists itself──► Ready
//!                  ▲   │                      │                    │                            │
//!  deadline passed │   │ DialFailed           │ TlsFailed,         │ lost, TlsFailed, refused,  │
//!                  │   ▼                      │ too slow           │ bad bytes, silent, slow    │
//!                 Waiting ◄───────────────────┴────────────────────┴────────────────────────────┘
//!
//!   any ──Stopped──► Stopped        all but Idle and Stopped ──Reset──► Dialing
//! ```
//!
//! It is pure: events ([`Input`]) and the time come in, effects ([`Action`]) come out; no sockets, channels or timers.
//! Removal is up to the pool, which publishes CLOSING and then stops the peer.

use std::{
    mem,
    time::{Duration, Instant},
};

use bytes::Bytes;

use super::{
    Backoff, PeerAddress, PeerStatus, Reason,
    request::{Phase, Response, respond},
};
use crate::opflex::{self, Answer, Message, Method, text};

mod identity;
mod link;
mod types;

use identity::{Identified, parse_identity};
use link::Link;
pub use types::{Action, BackoffCaps, CLOSED, DialPriority, Input, Report, Security, Timers};

#[cfg(test)]
mod tests;

/// Longest `detail`, in bytes: a sentence or two.
const MAX_DETAIL: usize = 512;

/// A peer that was READY for this long restarts its backoff when it is lost. One that closes after each handshake must
/// not: it would be dialled, and reported, many times a second for ever.
const STABLE_AFTER: Duration = Duration::from_secs(10);

const NO_PROXIES: &str = "the identity answer lacks proxy_v4, proxy_v6 and proxy_mac, three IPv4 unicast addresses, which transport mode needs";

/// After this many consecutive failures, a peer that was never READY is dialled with low priority.
const LOW_PRIORITY_AFTER: u32 = 3;

/// First bytes of a TLS alert: the response of a TLS server to a request in plain text.
const TLS_ALERT: &[u8] = &[0x15, 0x03];

/// One peer.
#[derive(Debug)]
pub struct PeerFsm {
    address: PeerAddress,
    timers: Timers,
    /// Zero of the clock in our echo requests.
    epoch: Instant,
    state: State,
    backoff: Backoff,
    caps: BackoffCaps,
    failures: u32,
    was_ready: bool,
    needs_proxies: bool,
    security: Security,
    /// These continue over reconnects, as in the reference.
    next_echo: u64,
    next_request: u64,
}

#[derive(Debug)]
enum State {
    Idle,
    Waiting {
        until: Instant,
    },
    Dialing,
    /// The TLS handshake; the deadline includes the OpFlex handshake.
    Securing {
        deadline: Instant,
    },
    Handshaking {
        deadline: Instant,
        link: Link,
    },
    /// The newest identity answer is pending until [`Link::next_answer`].
    Ready {
        link: Link,
        pending: Option<Box<Identified>>,
    },
    Stopped,
}

impl PeerFsm {
    /// A peer that is not started. The seed determines the backoff.
    #[must_use]
    pub fn new(address: PeerAddress, timers: Timers, seed: u64, now: Instant) -> Self {
        Self {
            address,
            timers,
            epoch: now,
            state: State::Idle,
            backoff: Backoff::new(timers.backoff_base, timers.backoff_cap, seed),
            caps: BackoffCaps { dial: timers.backoff_cap, lookup: timers.backoff_cap },
            failures: 0,
            was_ready: false,
            needs_proxies: false,
            security: Security::Plaintext,
            next_echo: 0,
            next_request: 1,
        }
    }

    /// Handles an event and appends the resulting actions. Events that do not apply to the state are ignored.
    pub fn handle(&mut self, input: Input, now: Instant, actions: &mut Vec<Action>) {
        match (&mut self.state, input) {
            (State::Stopped, _) => {}
            (_, Input::Stopped) => {
                self.state = State::Stopped;
                actions.push(Action::Disconnect);
            }
            (State::Idle, Input::Reset) => {}
            (_, Input::Reset) => {
                self.failures = 0;
                self.backoff.reset();
                actions.push(Action::Publish(self.report(PeerStatus::Connecting, Reason::Reset, "")));
                actions.push(Action::Disconnect);
                self.dial(actions);
            }
            (State::Idle, Input::Started) => {
                actions.push(Action::Publish(self.report(PeerStatus::Connecting, Reason::Dialing, "")));
                self.dial(actions);
            }
            (State::Waiting { until }, Input::DeadlinePassed) if *until <= now => self.dial(actions),
            (State::Dialing, Input::TcpEstablished) => {
                self.state = State::Securing { deadline: now + self.timers.handshake };
            }
            (State::Dialing | State::Securing { .. }, Input::Established { detail }) => {
                self.start_handshake(&detail, now, actions);
            }
            (State::Dialing, Input::DialFailed { reason, detail }) => {
                self.fail(reason, &detail, now, actions)
            }
            (State::Handshaking { link, .. } | State::Ready { link, .. }, Input::Received(frame)) => {
                link.last_received = now;
                link.has_received = true;
                self.receive(&frame, now, actions);
                // A peer that sends without a pause may starve the deadline of the driver.
                self.handle_deadline(now, actions);
            }
            (State::Handshaking { .. } | State::Ready { .. }, Input::Overran { detail }) => {
                self.fail(Reason::ProtocolError, &detail, now, actions);
            }
            (
                State::Securing { .. } | State::Handshaking { .. } | State::Ready { .. },
                Input::TlsFailed { detail },
            ) => self.fail(Reason::TlsFailed, &detail, now, actions),
            (State::Handshaking { link, .. }, Input::Lost { detail }) if !link.has_received => {
                let how = if detail == CLOSED { "closed" } else { &detail };
                let expectations = self.security.expectations();
                let detail = format!("{how} before its first frame: it may expect {expectations}");
                self.fail(Reason::RemoteClosed, &detail, now, actions);
            }
            (State::Handshaking { .. } | State::Ready { .. }, Input::Lost { detail }) => {
                self.fail(Reason::RemoteClosed, &detail, now, actions);
            }
            (_, Input::DeadlinePassed) => self.handle_deadline(now, actions),
            _ => {}
        }
    }

    /// When [`Input::DeadlinePassed`] is due.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        match &self.state {
            State::Idle | State::Dialing | State::Stopped => None,
            State::Waiting { until } => Some(*until),
            State::Securing { deadline } => Some(*deadline),
            State::Handshaking { deadline, link } => Some(self.link_deadline(link).min(*deadline)),
            State::Ready { link, pending } => {
                let due = pending.as_ref().and_then(|_| link.next_answer());
                Some(due.into_iter().fold(self.link_deadline(link), Instant::min))
            }
        }
    }

    /// The memory of an identity answer that is pending, in bytes.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        match &self.state {
            State::Ready { pending: Some(identified), .. } => identity::memory(identified),
            _ => 0,
        }
    }

    /// Sets the caps of the backoff, which grow with the size of the pool.
    pub const fn set_backoff_caps(&mut self, caps: BackoffCaps) {
        self.caps = caps;
    }

    /// Whether an identity answer must contain the forwarding proxies: in transport mode, until one did.
    pub const fn set_needs_proxies(&mut self, needed: bool) {
        self.needs_proxies = needed;
    }

    /// How its connections are secured, for the details of failures.
    pub const fn set_security(&mut self, security: Security) {
        self.security = security;
    }

    fn link_deadline(&self, link: &Link) -> Instant {
        (link.last_received + self.timers.keepalive).min(link.next_echo)
    }

    fn dial(&mut self, actions: &mut Vec<Action>) {
        self.state = State::Dialing;
        actions.push(Action::Dial(match self.failures {
            _ if self.was_ready => DialPriority::High,
            0..LOW_PRIORITY_AFTER => DialPriority::Normal,
            _ => DialPriority::Low,
        }));
    }

    /// Sends an echo and our identity at once, as the reference does.
    fn start_handshake(&mut self, detail: &str, now: Instant, actions: &mut Vec<Action>) {
        let identity = self.next_request;
        self.next_request += 1;
        let link = Link::new(identity, now, now + self.timers.echo);
        let deadline = match self.state {
            State::Securing { deadline } => deadline,
            _ => now + self.timers.handshake,
        };
        self.state = State::Handshaking { deadline, link };
        actions.push(Action::Publish(self.report(PeerStatus::Connected, Reason::TcpEstablished, detail)));
        self.send_echo(now, actions);
        actions.push(Action::SendIdentity(identity));
    }

    fn send_echo(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let millis = u64::try_from(now.duration_since(self.epoch).as_millis()).unwrap_or(u64::MAX);
        actions.push(Action::Send(vec![opflex::echo(self.next_echo, millis)]));
        if let State::Handshaking { link, .. } | State::Ready { link, .. } = &mut self.state {
            link.echo = Some((self.next_echo, now));
        }
        self.next_echo += 1;
    }

    fn handle_deadline(&mut self, now: Instant, actions: &mut Vec<Action>) {
        if let State::Ready { link, pending } = &mut self.state
            && link.next_answer().is_none_or(|due| due <= now)
            && let Some(identified) = pending.take()
        {
            let link = *link;
            self.apply(*identified, link, now, actions);
        }
        let (handshake_over, link) = match &mut self.state {
            State::Securing { deadline } if *deadline <= now => {
                let detail = format!("the TLS handshake was not complete within {:?}", self.timers.handshake);
                return self.fail(Reason::HandshakeTimeout, &detail, now, actions);
            }
            State::Handshaking { deadline, link } => (*deadline <= now, link),
            State::Ready { link, .. } => (false, link),
            _ => return,
        };
        let silent = link.last_received + self.timers.keepalive <= now;
        let echo_due = link.next_echo <= now;
        if echo_due {
            link.next_echo = now + self.timers.echo;
        }
        if handshake_over {
            let detail = format!("no answer to send_identity within {:?}", self.timers.handshake);
            self.fail(Reason::HandshakeTimeout, &detail, now, actions);
        } else if silent {
            let detail = format!("no frame received for {:?}", self.timers.keepalive);
            self.fail(Reason::KeepaliveTimeout, &detail, now, actions);
        } else if echo_due {
            self.send_echo(now, actions);
        }
    }

    fn receive(&mut self, frame: &Bytes, now: Instant, actions: &mut Vec<Action>) {
        if frame.is_empty() {
            return;
        }
        let message = match Message::parse(frame) {
            Ok(message) => message,
            Err(_) if frame.starts_with(TLS_ALERT) => {
                let detail = "the peer speaks TLS, and TLS is not on for this pool";
                return self.fail(Reason::ProtocolError, detail, now, actions);
            }
            Err(error) => return self.fail(Reason::ProtocolError, &error.to_string(), now, actions),
        };
        let phase = if matches!(self.state, State::Ready { .. }) { Phase::Ready } else { Phase::Handshake };
        match message {
            Message::Answer(answer) if answer.method == Method::SendIdentity => {
                self.handle_identity_answer(answer, now, actions);
            }
            Message::Answer(Answer { method: Method::Echo, number, outcome: Ok(_) }) => {
                self.measure_echo(number, now, actions);
            }
            message => match respond(&message, phase) {
                Response::Nothing => {}
                Response::Reply(bytes) => actions.push(Action::Send(bytes)),
                Response::Violation { reply, detail } => {
                    actions.extend(reply.map(Action::Send));
                    self.fail(Reason::ProtocolError, &detail, now, actions);
                }
            },
        }
    }

    fn measure_echo(&mut self, number: u64, now: Instant, actions: &mut Vec<Action>) {
        if let State::Handshaking { link, .. } | State::Ready { link, .. } = &mut self.state
            && let Some((_, sent)) = link.echo.take_if(|(sent, _)| *sent == number)
        {
            actions.push(Action::EchoRtt(now.duration_since(sent)));
        }
    }

    /// Handles an answer to `send_identity`, of which a peer may send several. A READY peer stays so whatever the number
    /// of the answer, as in the reference.
    fn handle_identity_answer(&mut self, answer: Answer, now: Instant, actions: &mut Vec<Action>) {
        let is_ready = matches!(self.state, State::Ready { .. });
        let (State::Handshaking { link, .. } | State::Ready { link, .. }) = &mut self.state else {
            return;
        };
        if answer.number != link.identity {
            let detail = format!("answer to send_identity {}, expected {}", answer.number, link.identity);
            if !is_ready {
                self.fail(Reason::ProtocolError, &detail, now, actions);
            } else if !mem::replace(&mut link.has_warned, true) {
                actions.push(Action::Warn(format!("{detail}: ignored")));
            }
            return;
        }
        let link = *link;
        let result = match answer.outcome {
            Ok(result) => result,
            Err(error) => {
                let detail = format!("the peer sent {error}");
                return self.fail(Reason::HandshakeRejected, &detail, now, actions);
            }
        };
        match parse_identity(&result) {
            Ok(identified) if link.next_answer().is_some_and(|due| now < due) => {
                if let State::Ready { pending, .. } = &mut self.state {
                    *pending = Some(Box::new(identified));
                }
            }
            Ok((_, answer)) if self.needs_proxies && answer.proxies.is_none() => {
                self.fail(Reason::ProtocolError, NO_PROXIES, now, actions);
            }
            Ok(identified) => self.apply(identified, link, now, actions),
            Err(detail) => self.fail(Reason::ProtocolError, &detail, now, actions),
        }
    }

    fn apply(&mut self, (peers, answer): Identified, link: Link, now: Instant, actions: &mut Vec<Action>) {
        let ready = peers.contains(&self.address).then(|| {
            self.state = State::Ready { link: link.answered(now), pending: None };
            self.was_ready = true;
            self.failures = 0;
            let report = self.report(PeerStatus::Ready, Reason::HandshakeComplete, "");
            Report { roles: Some(answer.roles), ..report }
        });
        if let Some(first) = answer.unusable.first() {
            actions.push(Action::Warn(format!(
                "{} unusable entries in its list: {first}",
                answer.unusable.len()
            )));
        }
        actions.push(Action::Identified { answer, peers, ready });
    }

    /// Publishes the failure, disconnects, and schedules the next attempt.
    fn fail(&mut self, reason: Reason, detail: &str, now: Instant, actions: &mut Vec<Action>) {
        self.failures = self.failures.saturating_add(1);
        if let State::Ready { link, .. } = self.state
            && link.ready_since.is_some_and(|since| since + STABLE_AFTER <= now)
        {
            self.backoff.reset();
        }
        let BackoffCaps { dial, lookup } = self.caps;
        self.backoff.set_cap(if reason == Reason::ResolveFailed { lookup } else { dial });
        self.state = State::Waiting { until: now + self.backoff.next() };
        actions.push(Action::Publish(self.report(PeerStatus::Connecting, reason, detail)));
        actions.push(Action::Disconnect);
    }

    fn report(&self, status: PeerStatus, reason: Reason, detail: &str) -> Report {
        let detail = text::printable(detail, MAX_DETAIL).into();
        Report { status, reason, detail, failures: self.failures, roles: None }
    }
}
