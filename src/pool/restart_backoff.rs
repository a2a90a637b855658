//! Backoff for starting the session of a peer again: two bootstrap addresses that list only each other would otherwise
//! be parked and dialled thousands of times a second, whatever the backoff within their sessions.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use crate::peer::{Backoff, PeerAddress};

/// A peer that was started longer ago than this starts without delay.
const EXPIRE_AFTER: Duration = Duration::from_secs(5);
/// Ceilings of the first delay and of all delays: short, since a peer may also be started again for a good reason.
const BASE_DELAY: Duration = Duration::from_millis(250);
const MAX_DELAY: Duration = Duration::from_secs(5);

/// The last starts of peers.
#[derive(Debug, Default)]
pub(super) struct RestartBackoff {
    starts: HashMap<PeerAddress, Start>,
    /// With more entries than this, expired ones are removed.
    sweep_at: usize,
}

#[derive(Debug)]
struct Start {
    /// When the session started, or starts.
    at: Instant,
    backoff: Backoff,
}

impl RestartBackoff {
    /// Removes all delays.
    pub(super) fn forget(&mut self) {
        self.starts.clear();
    }

    /// The delay before a peer is started; the seed determines the jitter.
    pub(super) fn pause(&mut self, address: &PeerAddress, now: Instant, seed: u64) -> Duration {
        if self.starts.len() > self.sweep_at {
            self.starts.retain(|_, start| start.at + EXPIRE_AFTER > now);
            self.sweep_at = self.starts.len() * 2 + 64;
        }
        match self.starts.get_mut(address).filter(|start| start.at + EXPIRE_AFTER > now) {
            Some(start) => {
                let pause = start.backoff.next();
                start.at = now + pause;
                pause
            }
            None => {
                let backoff = Backoff::new(BASE_DELAY, MAX_DELAY, seed);
                self.starts.insert(address.clone(), Start { at: now, backoff });
                Duration::ZERO
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_peer_that_is_started_over_and_over_waits_longer_and_longer() {
        let (mut restarts, mut now) = (RestartBackoff::default(), Instant::now());
        let (peer, begun) = (PeerAddress::new("leaf-1", 8009).unwrap(), now);
        assert_eq!(restarts.pause(&peer, now, 7), Duration::ZERO, "the first time at once");
        for _ in 0..100 {
            now += restarts.pause(&peer, now, 7);
        }
        assert!(now - begun > Duration::from_secs(150), "{:?}", now - begun);
        restarts.forget();
        assert_eq!(restarts.pause(&peer, now, 7), Duration::ZERO, "a reset forgets it all");
    }

    #[test]
    fn what_is_long_ago_is_forgotten() {
        let (mut restarts, now) = (RestartBackoff::default(), Instant::now());
        for number in 0..10_000_u32 {
            let peer = PeerAddress::new(&format!("leaf-{number}"), 8009).unwrap();
            assert_eq!(
                restarts.pause(&peer, now + Duration::from_secs(u64::from(number)), 7),
                Duration::ZERO
            );
        }
        assert!(restarts.starts.len() < 500, "{}", restarts.starts.len());
        let first = PeerAddress::new("leaf-0", 8009).unwrap();
        assert_eq!(restarts.pause(&first, now + Duration::from_secs(20_000), 7), Duration::ZERO);
    }
}
