//! What the demonstration hears of its peers, from the watch that it shows: whom it can take down, and what it has to
//! explain. A value: it prints nothing.

use std::collections::BTreeSet;

use tokio::sync::watch;

use crate::{
    api::pb::{Peer, PeerStatus, Reason, WatchPeerStatusResponse, watch_peer_status_response::Event},
    cli::text,
};

/// For whoever wonders where a peer has gone that was only restarting.
const GIVEN_UP: &str = "given up: a learned peer that fails four times in a row leaves the pool, and with it the health; it \
                        is tried quietly, and added again when it answers";

/// Hears every message of the watch.
#[derive(Debug)]
pub(super) struct DemoObserver {
    ready: watch::Sender<BTreeSet<String>>,
    has_explained: bool,
}

impl DemoObserver {
    /// An observer, and where to look for the `host:port` of those that are READY.
    pub(super) fn new() -> (Self, watch::Receiver<BTreeSet<String>>) {
        let (ready, seen) = watch::channel(BTreeSet::new());
        (Self { ready, has_explained: false }, seen)
    }

    /// Takes a message. Returns what is to be said of it.
    pub(super) fn hear(&mut self, message: &WatchPeerStatusResponse) -> Option<&'static str> {
        match &message.event {
            Some(Event::Snapshot(part)) => {
                part.peers.iter().for_each(|peer| self.note(peer));
                None
            }
            Some(Event::Change(change)) => {
                let peer = change.peer.as_ref()?.peer.as_ref()?;
                self.note(peer);
                let is_news = peer.reason() == Reason::GivenUp && !self.has_explained;
                self.has_explained |= is_news;
                is_news.then_some(GIVEN_UP)
            }
            _ => None,
        }
    }

    fn note(&self, peer: &Peer) {
        let address = text::peer_address(&peer.name);
        self.ready.send_modify(|ready| {
            if peer.status() == PeerStatus::Ready {
                ready.insert(address.to_owned());
            } else {
                ready.remove(address);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api::pb::Change,
        cli::tests::samples::{message, peer, peer_change, snapshot},
    };

    const ADDRESS: &str = "127.0.0.1:18010";

    fn change(status: PeerStatus, reason: Reason) -> WatchPeerStatusResponse {
        let peer = Some(peer_change(0, peer(ADDRESS, status, reason, ""), PeerStatus::Connecting));
        message(2, 1, Event::Change(Change { peer, health: None }))
    }

    #[test]
    fn it_knows_who_is_ready_now() {
        let (mut observer, seen) = DemoObserver::new();
        let ready = peer("127.0.0.1:18009", PeerStatus::Ready, Reason::HandshakeComplete, "");
        observer.hear(&snapshot(1, vec![], vec![ready]));
        observer.hear(&change(PeerStatus::Ready, Reason::HandshakeComplete));
        let both = ["127.0.0.1:18009", ADDRESS].map(str::to_owned);
        assert_eq!(*seen.borrow(), BTreeSet::from(both));
        observer.hear(&change(PeerStatus::Connecting, Reason::RemoteClosed));
        assert!(!seen.borrow().contains(ADDRESS));
    }

    #[test]
    fn that_a_learned_peer_was_given_up_is_explained_once() {
        let (mut observer, _seen) = DemoObserver::new();
        assert_eq!(observer.hear(&change(PeerStatus::Connecting, Reason::ConnectFailed)), None);
        assert_eq!(observer.hear(&change(PeerStatus::Closing, Reason::GivenUp)), Some(GIVEN_UP));
        assert_eq!(observer.hear(&change(PeerStatus::Disconnected, Reason::GivenUp)), None);
    }
}
