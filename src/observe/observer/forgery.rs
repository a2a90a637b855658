//! Which lines may be text of a peer. The agent writes such text as it is, with its newlines, so what follows a line that quotes
//! a peer may be the peer's own words, up to the end of what is written at once. That is in the same poll of the log, or in the next one.
//!
//! Names of peers come from lists of other peers and may have newlines too. But the agent writes each name twice at first:
//! when it adds the peer and when it connects to it. Between these a handshake is not believed, and not if its line comes twice.

use std::{
    collections::{BTreeMap, VecDeque},
    hash::{DefaultHasher, Hash, Hasher},
    time::{Duration, Instant},
};

use super::lines::{Carries, Event, PeerEvent};
use crate::{observe::LogLine, peer::PeerAddress};

/// Two polls: a line that was written in pieces is complete after the next one.
const TAINT: Duration = Duration::from_millis(100);

/// What is read at once of a text that is still being written: far more than an agent writes otherwise.
pub(super) const LARGE: usize = 4 << 10;

/// The length of a frame, about.
pub(super) const FRAME: usize = 80;

/// How long after a name was repeated its line is complete: more than one poll.
const NAME_HOLD: Duration = Duration::from_millis(60);

/// The agent connects to a new peer within milliseconds.
const NAME_TIMEOUT: Duration = Duration::from_secs(1);

/// What becomes of a line after a name that was not repeated yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hold {
    Until(Instant),
    /// The names were repeated.
    Over,
    /// They were not: they may have been others.
    Forged,
}

#[derive(Debug)]
pub(super) struct Forgery {
    /// What was carried, and until when what is read may belong to it.
    carried: Option<(Carries, Instant)>,
    /// The agent has a peer with a name that is none. It may write it in any line, at any time.
    pub(super) has_bad_name: bool,
    /// Peers that were added, and that the agent did not connect to yet.
    names: BTreeMap<PeerAddress, Instant>,
    /// When the last of them was connected to.
    named_at: Option<Instant>,
    /// The hashes of the newest lines that said that a handshake succeeded.
    ready: VecDeque<u64>,
    limit: usize,
}

impl Forgery {
    pub(super) fn new(peer_limit: usize) -> Self {
        Self {
            carried: None,
            has_bad_name: false,
            names: BTreeMap::new(),
            named_at: None,
            ready: VecDeque::new(),
            limit: names_of(peer_limit),
        }
    }

    pub(super) const fn set_peer_limit(&mut self, peer_limit: usize) {
        self.limit = names_of(peer_limit);
    }

    /// What lines that are read now may be part of.
    pub(super) fn taint(&self, now: Instant) -> Carries {
        self.carried.filter(|(_, until)| now <= *until).map_or(Carries::Nothing, |(carries, _)| carries)
    }

    pub(super) const fn lasting(&self) -> Carries {
        if self.has_bad_name { Carries::BadName } else { Carries::Nothing }
    }

    pub(super) fn carried(&mut self, carries: Carries, now: Instant) {
        if carries > Carries::Nothing {
            self.carried = Some((carries.max(self.taint(now)), now + TAINT));
        }
    }

    pub(super) fn note_name(&mut self, event: &Event, taint: Carries, now: Instant) {
        self.names.retain(|_, added| now.saturating_duration_since(*added) < NAME_TIMEOUT);
        match event {
            Event::Peer(address, PeerEvent::Adding)
                if taint < Carries::PeerText && self.names.len() < self.limit =>
            {
                self.names.insert(address.clone(), now);
            }
            Event::Peer(address, PeerEvent::Created) if self.names.remove(address).is_some() => {
                self.named_at = Some(now);
            }
            _ => {}
        }
    }

    /// Whether a name may be written again soon. (A name can have a line in it that seems to be its repetition.)
    pub(super) fn is_after_name(&self, now: Instant) -> bool {
        !self.names.is_empty() || self.named_at.is_some_and(|at| now <= at + NAME_HOLD)
    }

    /// Whether a handshake that was read after names at `read` can be decided.
    pub(super) fn hold(&self, read: Instant, now: Instant) -> Hold {
        let (until, after) = if self.names.is_empty() {
            match self.named_at {
                Some(at) => (at + NAME_HOLD, Hold::Over),
                None => (now, Hold::Forged),
            }
        } else {
            (read + NAME_TIMEOUT, Hold::Forged)
        };
        if now < until { Hold::Until(until) } else { after }
    }

    pub(super) fn forget_names(&mut self) {
        self.names.clear();
        self.named_at = None;
    }

    /// Whether a line that says that a handshake succeeded came before. Remembers it.
    pub(super) fn is_repeated(&mut self, hash: u64) -> bool {
        let is_repeated = self.ready.contains(&hash);
        self.ready.truncate(self.limit - 1);
        self.ready.push_front(hash);
        is_repeated
    }
}

/// How many names and lines are remembered.
const fn names_of(peer_limit: usize) -> usize {
    let names = peer_limit.saturating_mul(2);
    if names < 64 { 64 } else { names }
}

/// The line without the time of its receiver, which differs when text comes twice.
pub(super) fn hash(line: &LogLine) -> u64 {
    let mut hasher = DefaultHasher::new();
    let received = line.received.filter(|_| line.written.is_none());
    (received, line.written, line.level, &line.origin, &line.message).hash(&mut hasher);
    hasher.finish()
}
