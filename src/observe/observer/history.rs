//! What was written before observation began tells who the peers are, and whether the log says enough; not how they are: anything
//! may have happened to the agent since. So they are UNKNOWN until their sockets or new lines tell.

use std::{
    collections::BTreeMap,
    time::{Instant, SystemTime},
};

use super::{
    Event, Evidence, Observer, PeerAddress, PeerEvent, PeerStatus, Reason,
    lines::{Carries, classify},
    peer::DOUBT,
};
use crate::observe::LogLine;

/// What the log says last of a peer.
#[derive(Default)]
struct Past {
    failure: Option<(Reason, Box<str>)>,
    /// Why it was parked.
    parked: Option<(Reason, Box<str>)>,
}

impl Observer {
    pub(super) fn read_history(&mut self, lines: &[LogLine], now: Instant, wall: SystemTime) {
        self.log.error = None;
        self.wants_sockets = true;
        let mut past: BTreeMap<PeerAddress, Past> = BTreeMap::new();
        for line in lines {
            let (event, carries) = classify(line);
            self.note_level(line, event.as_ref(), Carries::Nothing);
            self.forgery.has_bad_name |= carries == Carries::BadName;
            match event {
                Some(Event::AgentStarts) => {
                    past.clear();
                    self.forgery.has_bad_name = false;
                }
                Some(Event::Peer(address, what))
                    if past.contains_key(&address) || past.len() < self.settings.peer_limit =>
                {
                    remember(&mut past, address, what);
                }
                _ => {}
            }
        }
        let just_begun = format!(
            "observation has just begun: it is known after the next line about it, or in {:?}",
            self.settings.handshake_timeout
        );
        for (address, past) in past {
            let Some(peer) = self.add(&address, wall, now) else { return };
            peer.failure = past.failure;
            peer.doubt(now + DOUBT);
            match past.parked {
                Some((reason, detail)) => {
                    let status = (PeerStatus::Disconnected, reason);
                    self.report(&address, status, &detail, Some(Evidence::Log), wall);
                }
                None => self.report_unknown(&address, &just_begun, wall),
            }
        }
    }
}

fn remember(past: &mut BTreeMap<PeerAddress, Past>, address: PeerAddress, what: PeerEvent) {
    match what {
        PeerEvent::Closed if past.get(&address).is_some_and(|it| it.parked.is_none()) => {
            past.remove(&address);
        }
        PeerEvent::Closed | PeerEvent::Disconnected | PeerEvent::Removing(_) => {}
        PeerEvent::Parking(reason, detail) => {
            past.entry(address).or_default().parked = Some((reason, detail))
        }
        PeerEvent::Failed(reason, detail) => {
            *past.entry(address).or_default() = Past { failure: Some((reason, detail)), parked: None };
        }
        PeerEvent::Adding | PeerEvent::Created | PeerEvent::Connected | PeerEvent::Ready => {
            past.insert(address, Past::default());
        }
    }
}
