//! Noticing clients that are gone without a word.

use std::{task::Context, time::Duration};

use h2::{Ping, PingPong};
use tokio::time::Instant;

/// How a client that vanished without a word, or never reads what it is sent, is noticed: within the sum of the two,
/// by the HTTP/2 ping that it does not answer.
#[derive(Clone, Copy, Debug)]
pub struct Keepalive {
    /// How long a connection may be silent before it is asked for a sign of life.
    pub interval: Duration,
    /// How long the answer may take.
    pub timeout: Duration,
}

impl Default for Keepalive {
    /// Half a minute: proxies on the way drop what is silent for longer than a minute.
    fn default() -> Self {
        Self { interval: Duration::from_secs(20), timeout: Duration::from_secs(10) }
    }
}

/// One connection's pulse.
pub(super) struct Pulse {
    keepalive: Keepalive,
    pings: Option<PingPong>,
    asked: Option<Instant>,
}

impl Pulse {
    pub(super) const fn new(keepalive: Keepalive, pings: Option<PingPong>) -> Self {
        Self { keepalive, pings, asked: None }
    }

    /// When to look again; `None`: the client is gone.
    pub(super) fn check(&mut self, now: Instant, heard: Instant, cx: &mut Context<'_>) -> Option<Instant> {
        if let Some(asked) = self.asked {
            // Whatever it said since, it is there.
            if heard <= asked {
                let until = asked + self.keepalive.timeout;
                return (now < until).then_some(until);
            }
            self.asked = None;
        }
        let due = heard + self.keepalive.interval;
        if now < due {
            return Some(due);
        }
        if let Some(pings) = &mut self.pings {
            // The answer to the one before makes room for another.
            let _ = pings.poll_pong(cx);
            // It fails if the connection is about to end, which others notice.
            let _ = pings.send_ping(Ping::opaque());
        }
        self.asked = Some(now);
        Some(now + self.keepalive.timeout)
    }
}
