//! The life of one peer, as a pure state machine.
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
//! It is told facts ([`Input`]) and gives orders ([`Action`]); time is an argument. It keeps no socket, no
//! channel and no timer, so that a second of it can be simulated in a microsecond. Leaving a pool is not its
//! business: the pool says CLOSING for a peer and then stops it.

use std::{
    mem,
    time::{Duration, Instant},
};

use bytes::Bytes;

use super::{
    Backoff, PeerAddress, PeerStatus, Reason,
    request::{Phase, Response, respond},
};
use crate::opflex::{self, Answer, IdentityAnswer, Message, Method, text};

mod link;
mod types;

use link::Link;
pub use types::{Action, DialPriority, Input, Report, Timers};

#[cfg(test)]
mod tests;

/// Longest `detail` kept, in bytes: a sentence or two.
const MAX_DETAIL: usize = 512;

/// How long a peer must have been READY to be dialled as promptly as a new one when it is lost. One that closes
/// right after each handshake would otherwise be dialled, and tell everyone so, many times a second for ever.
const STABLE_AFTER: Duration = Duration::from_secs(10);

const NO_PROXIES: &str = "the identity answer lacks proxy_v4, proxy_v6 and proxy_mac, three IPv4 unicast addresses, which transport mode needs";

/// A peer that was never READY and has failed this often in a row lets others go first.
const POOR_AFTER: u32 = 3;

/// How an alert of TLS begins: what a peer that expects TLS says to our greeting.
const TLS_ALERT: &[u8] = &[0x15, 0x03];

/// One peer.
#[derive(Debug)]
pub struct PeerFsm {
    address: PeerAddress,
    timers: Timers,
    /// Zero of the clock that our echo requests carry.
    epoch: Instant,
    state: State,
    backoff: Backoff,
    failures: u32,
    was_ready: bool,
    needs_proxies: bool,
    /// Both count on over reconnects, as the reference's do.
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
    /// TCP is up and TLS is not. The deadline is that of the whole handshake.
    Securing {
        deadline: Instant,
    },
    Handshaking {
        deadline: Instant,
        link: Link,
    },
    Ready {
        link: Link,
        /// Its newest answer, if it came too soon after the one before.
        withheld: Option<Box<Told>>,
    },
    Stopped,
}

/// What a peer answered: its list by itself, and the rest.
type Told = (Vec<PeerAddress>, IdentityAnswer);

impl PeerFsm {
    /// A peer that nobody has asked for yet. The seed decides its pauses.
    #[must_use]
    pub fn new(address: PeerAddress, timers: Timers, seed: u64, now: Instant) -> Self {
        Self {
            address,
            timers,
            epoch: now,
            state: State::Idle,
            backoff: Backoff::new(timers.backoff_base, timers.backoff_cap, seed),
            failures: 0,
            was_ready: false,
            needs_proxies: false,
            next_echo: 0,
            next_request: 1,
        }
    }

    /// Takes a fact in and appends the orders that follow from it. A fact that can't be in the present state
    /// changes nothing.
    pub fn handle(&mut self, input: Input, now: Instant, actions: &mut Vec<Action>) {
        match (&mut self.state, input) {
            (State::Stopped, _) => {}
            (_, Input::Stopped) => {
                self.state = State::Stopped;
                actions.push(Action::Disconnect);
            }
            (
                State::Waiting { .. }
                | State::Dialing
                | State::Securing { .. }
                | State::Handshaking { .. }
                | State::Ready { .. },
                Input::Reset,
            ) => {
                self.failures = 0;
                self.backoff.reset();
                actions.push(self.report(PeerStatus::Connecting, Reason::Reset, ""));
                actions.push(Action::Disconnect);
                self.dial(actions);
            }
            (State::Idle, Input::Started) => {
                actions.push(self.report(PeerStatus::Connecting, Reason::Dialing, ""));
                self.dial(actions);
            }
            (State::Waiting { until }, Input::DeadlinePassed) if *until <= now => self.dial(actions),
            (State::Dialing, Input::TcpEstablished) => {
                self.state = State::Securing { deadline: now + self.timers.handshake };
            }
            (State::Dialing | State::Securing { .. }, Input::Established { detail }) => {
                self.greet(&detail, now, actions);
            }
            (State::Dialing, Input::DialFailed { reason, detail }) => {
                self.fail(reason, &detail, now, actions)
            }
            (State::Handshaking { link, .. } | State::Ready { link, .. }, Input::Received(frame)) => {
                link.last_heard = now;
                self.receive(&frame, now, actions);
                // A peer that talks without a pause may leave its driver no time for deadlines.
                self.tick(now, actions);
            }
            (State::Handshaking { .. } | State::Ready { .. }, Input::Overran(error)) => {
                self.fail(Reason::ProtocolError, &error.to_string(), now, actions);
            }
            (
                State::Securing { .. } | State::Handshaking { .. } | State::Ready { .. },
                Input::TlsFailed { detail },
            ) => self.fail(Reason::TlsFailed, &detail, now, actions),
            (State::Handshaking { .. } | State::Ready { .. }, Input::Lost { detail }) => {
                self.fail(Reason::RemoteClosed, &detail, now, actions);
            }
            (_, Input::DeadlinePassed) => self.tick(now, actions),
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
            State::Ready { link, withheld } => {
                let due = withheld.as_ref().and(link.answered).map(|last| last + link.patience);
                Some(due.into_iter().fold(self.link_deadline(link), Instant::min))
            }
        }
    }

    /// Sets the ceiling of the pauses, which grows with the size of the pool.
    pub const fn set_backoff_cap(&mut self, cap: Duration) {
        self.backoff.set_cap(cap);
    }

    /// Whether an answer to our identity must name the forwarding proxies, as in transport mode until one has.
    pub const fn set_needs_proxies(&mut self, needed: bool) {
        self.needs_proxies = needed;
    }

    fn link_deadline(&self, link: &Link) -> Instant {
        (link.last_heard + self.timers.keepalive).min(link.echo_at)
    }

    fn dial(&mut self, actions: &mut Vec<Action>) {
        self.state = State::Dialing;
        actions.push(Action::Dial(match self.failures {
            _ if self.was_ready => DialPriority::High,
            0..POOR_AFTER => DialPriority::Normal,
            _ => DialPriority::Low,
        }));
    }

    /// The byte stream is up: an echo and our identity go out at once, as the reference sends them.
    fn greet(&mut self, detail: &str, now: Instant, actions: &mut Vec<Action>) {
        let identity = self.next_request;
        self.next_request += 1;
        let link = Link::new(identity, now, self.timers.echo);
        let deadline = match self.state {
            State::Securing { deadline } => deadline,
            _ => now + self.timers.handshake,
        };
        self.state = State::Handshaking { deadline, link };
        actions.push(self.report(PeerStatus::Connected, Reason::TcpEstablished, detail));
        self.send_echo(now, actions);
        actions.push(Action::SendIdentity(identity));
    }

    fn send_echo(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let millis = u64::try_from(now.duration_since(self.epoch).as_millis()).unwrap_or(u64::MAX);
        actions.push(Action::Send(vec![opflex::echo(self.next_echo, millis)]));
        self.next_echo += 1;
    }

    fn tick(&mut self, now: Instant, actions: &mut Vec<Action>) {
        if let State::Ready { link, withheld } = &mut self.state
            && !link.answered_lately(now)
            && let Some(told) = withheld.take()
        {
            let link = *link;
            self.accept(*told, link, now, actions);
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
        let silent = link.last_heard + self.timers.keepalive <= now;
        let echo_due = link.echo_at <= now;
        if echo_due {
            link.echo_at = now + self.timers.echo;
        }
        if handshake_over {
            let detail = format!("no answer to send_identity within {:?}", self.timers.handshake);
            self.fail(Reason::HandshakeTimeout, &detail, now, actions);
        } else if silent {
            let detail = format!("nothing heard for {:?}", self.timers.keepalive);
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
                self.identified(answer, now, actions);
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

    /// The peer answered `send_identity`; perhaps not for the first time.
    fn identified(&mut self, answer: Answer, now: Instant, actions: &mut Vec<Action>) {
        let (State::Handshaking { link, .. } | State::Ready { link, .. }) = self.state else {
            return;
        };
        if answer.number != link.identity {
            let detail =
                format!("answer to send_identity {}, but {} was asked", answer.number, link.identity);
            return self.fail(Reason::ProtocolError, &detail, now, actions);
        }
        let result = match answer.outcome {
            Ok(result) => result,
            Err(error) => {
                let detail = format!("{}: {}", error.code, error.message);
                return self.fail(Reason::HandshakeRejected, &detail, now, actions);
            }
        };
        match read_answer(&result) {
            Ok(told) if link.answered_lately(now) => {
                if let State::Ready { withheld, .. } = &mut self.state {
                    *withheld = Some(Box::new(told));
                }
            }
            Ok((_, answer)) if self.needs_proxies && answer.proxies.is_none() => {
                self.fail(Reason::ProtocolError, NO_PROXIES, now, actions);
            }
            Ok(told) => self.accept(told, link, now, actions),
            Err(detail) => self.fail(Reason::ProtocolError, &detail, now, actions),
        }
    }

    fn accept(&mut self, (peers, answer): Told, link: Link, now: Instant, actions: &mut Vec<Action>) {
        let lists_itself = peers.contains(&self.address);
        let roles = answer.roles;
        actions.push(Action::Identified { answer, peers, lists_itself });
        if lists_itself {
            self.state = State::Ready { link: link.answered(now), withheld: None };
            self.was_ready = true;
            self.failures = 0;
            let Action::Publish(report) = self.report(PeerStatus::Ready, Reason::HandshakeComplete, "")
            else {
                return;
            };
            actions.push(Action::Publish(Report { roles: Some(roles), ..report }));
        }
    }

    /// Whatever went wrong: say so, hang up, and try again after a pause.
    fn fail(&mut self, reason: Reason, detail: &str, now: Instant, actions: &mut Vec<Action>) {
        self.failures = self.failures.saturating_add(1);
        if let State::Ready { link, .. } = self.state
            && link.ready_since.is_some_and(|since| since + STABLE_AFTER <= now)
        {
            self.backoff.reset();
        }
        self.state = State::Waiting { until: now + self.backoff.next() };
        actions.push(self.report(PeerStatus::Connecting, reason, detail));
        actions.push(Action::Disconnect);
    }

    fn report(&self, status: PeerStatus, reason: Reason, detail: &str) -> Action {
        let detail = text::printable(detail, MAX_DETAIL).into();
        Action::Publish(Report { status, reason, detail, failures: self.failures, roles: None })
    }
}

/// Reads an identity answer, and the addresses in it.
fn read_answer(result: &opflex::Raw) -> Result<Told, String> {
    let mut answer = IdentityAnswer::parse(result).map_err(|error| error.to_string())?;
    let peers = mem::take(&mut answer.peers)
        .into_iter()
        .map(|peer| PeerAddress::new(&peer.host, peer.port))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| format!("in the list of peers: {error}"))?;
    Ok((peers, answer))
}
