//! Measures how long wanted peers take to become READY, from the published changes.

use std::{
    collections::HashMap,
    time::{Duration, SystemTime},
};

use crate::{
    peer::{PeerAddress, PeerStatus},
    status::Event,
};

/// Since when each wanted peer is not READY.
#[derive(Debug, Default)]
pub(super) struct TimeToReady(HashMap<PeerAddress, SystemTime>);

impl TimeToReady {
    /// Applies a change. Returns the time to READY of a peer that became READY.
    pub(super) fn note(&mut self, event: &Event) -> Option<Duration> {
        let peer = &event.peer.as_ref()?.peer;
        match peer.status {
            PeerStatus::Ready => {
                let since = self.0.remove(&peer.address)?;
                // The system clock may have been set back.
                Some(event.time.duration_since(since).unwrap_or_default())
            }
            PeerStatus::Connecting | PeerStatus::Connected => {
                self.0.entry(peer.address.clone()).or_insert(event.time);
                None
            }
            // Of one that is unknown, it is not known when it was lost.
            PeerStatus::Unknown | PeerStatus::Disconnected | PeerStatus::Closing => {
                self.0.remove(&peer.address);
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        opflex::Identity,
        peer::{PeerOrigin, Reason, Report},
        status::{Hub, Update},
    };

    #[test]
    fn a_wait_is_from_when_the_peer_was_added_or_lost() {
        let (hub, mut waits) = (Hub::new(1, 16), TimeToReady::default());
        hub.add_pool("p".into(), Arc::new(Identity::new("a", "d")), SystemTime::UNIX_EPOCH);
        let mut told = |second: u64, what: Update| {
            let at = SystemTime::UNIX_EPOCH + Duration::from_secs(second);
            waits
                .note(&hub.apply("p", at, [("h:1".parse().unwrap(), what)])[0])
                .map(|waited| waited.as_secs())
        };
        let is = |status, reason| Update::Status(Report::new(status, reason));
        assert_eq!(told(10, Update::added(PeerOrigin::Configured)), None);
        assert_eq!(told(11, is(PeerStatus::Connecting, Reason::ConnectFailed)), None);
        assert_eq!(told(12, is(PeerStatus::Connected, Reason::TcpEstablished)), None);
        assert_eq!(told(14, is(PeerStatus::Ready, Reason::HandshakeComplete)), Some(4));
        assert_eq!(told(20, is(PeerStatus::Connecting, Reason::RemoteClosed)), None);
        assert_eq!(
            told(19, is(PeerStatus::Ready, Reason::HandshakeComplete)),
            Some(0),
            "the clock was set back"
        );
        assert_eq!(told(30, is(PeerStatus::Connecting, Reason::RemoteClosed)), None);
        assert_eq!(told(31, is(PeerStatus::Closing, Reason::RemovedByClient)), None);
        assert_eq!(told(31, Update::Removed), None);
        assert!(waits.0.is_empty(), "what left is forgotten");
    }
}
