//! A watch that checks every message against the delivery rules.

use opflex_peerstatus::api::pb::{
    Change, ChangeKind, Cursor, Peer, PeerStatus, PoolHealth, Reason, WatchPeerStatusResponse,
    watch_peer_status_response::Event,
};
use tonic::{Status, Streaming};

use super::within;

/// A pool's health as (before, now, ready, counted).
pub(crate) type Health = (PoolHealth, PoolHealth, u32, u32);

/// A change of a peer, in a form that is easy to compare.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) status: PeerStatus,
    pub(crate) reason: Reason,
    pub(crate) health: Option<Health>,
}

pub(crate) struct Watch {
    stream: Streaming<WatchPeerStatusResponse>,
    /// Epoch of the service.
    epoch: u64,
    /// The expected `previous_revision` of the next change.
    chain: u64,
    messages: u64,
}

impl Watch {
    pub(crate) fn new(stream: Streaming<WatchPeerStatusResponse>) -> Self {
        Self { stream, epoch: 0, chain: 0, messages: 0 }
    }

    /// The next message, or the end of the stream.
    pub(crate) async fn next(&mut self) -> Result<Option<WatchPeerStatusResponse>, Status> {
        let message = within("a message", self.stream.message()).await?;
        if let Some(message) = &message {
            self.check(message);
        }
        Ok(message)
    }

    fn check(&mut self, message: &WatchPeerStatusResponse) {
        let event = message.event.as_ref().expect("every message has an event");
        let attached = matches!(event, Event::Attached(_));
        assert_eq!(attached, self.messages == 0, "attached is the first message, and only that: {message:?}");
        self.messages += 1;
        match event {
            Event::Attached(attached) => {
                let cursor = attached.cursor.expect("a cursor");
                (self.epoch, self.chain) = (cursor.epoch, cursor.revision);
            }
            Event::Snapshot(snapshot) => {
                assert!(snapshot.peers.len() <= 500);
                self.chain = message.revision;
            }
            Event::Change(_) => {
                assert_eq!(message.previous_revision, self.chain, "nothing is missing before {message:?}");
                assert!(message.revision > self.chain, "revisions only grow");
                self.chain = message.revision;
            }
            _ => {}
        }
    }

    /// Waits for `synced`. Returns the peers of the snapshot.
    pub(crate) async fn synced(&mut self) -> Vec<Peer> {
        let mut peers = Vec::new();
        loop {
            match self.next().await.expect("no end").expect("no end").event {
                Some(Event::Snapshot(snapshot)) => peers.extend(snapshot.peers),
                Some(Event::Synced(_)) => return peers,
                _ => {}
            }
        }
    }

    /// The next change, with the whole message.
    pub(crate) async fn change(&mut self) -> (Change, WatchPeerStatusResponse) {
        loop {
            let message = self.next().await.expect("no end").expect("no end");
            if let Some(Event::Change(change)) = message.event.clone() {
                return (change, message);
            }
        }
    }

    /// The next change of a peer, in short. `address` is `host:port`.
    pub(crate) async fn seen(&mut self, address: &str) -> Seen {
        let (change, _) = self.change().await;
        let peer = change.peer.expect("a peer change").peer.expect("a peer");
        assert_eq!(peer.name, format!("pools/default/peers/{address}"));
        let health = change.health.map(|health| {
            assert_eq!(health.cause, peer.name, "health names its cause");
            (health.previous(), health.health(), health.ready_count, health.peer_count)
        });
        Seen { status: peer.status(), reason: peer.reason(), health }
    }

    /// Waits for the change of a peer to this status for this reason.
    pub(crate) async fn until(&mut self, address: &str, status: PeerStatus, reason: Reason) -> Peer {
        loop {
            let (change, _) = self.change().await;
            let Some(peer) = change.peer.and_then(|change| change.peer) else { continue };
            if peer.name.ends_with(address) && peer.status() == status && peer.reason() == reason {
                return peer;
            }
        }
    }

    /// Waits until a peer is READY, in the snapshot or later.
    pub(crate) async fn until_ready(&mut self, address: &str) {
        let ready = |peer: &Peer| peer.name.ends_with(address) && peer.status() == PeerStatus::Ready;
        if !self.synced().await.iter().any(ready) {
            self.until(address, PeerStatus::Ready, Reason::HandshakeComplete).await;
        }
    }

    /// Waits for the change of the pool to this health.
    pub(crate) async fn until_health(&mut self, health: PoolHealth) {
        while self.change().await.0.health.is_none_or(|change| change.health() != health) {}
    }

    /// Waits for the next added peer.
    pub(crate) async fn until_added(&mut self) -> Peer {
        loop {
            let (change, _) = self.change().await;
            if let Some(change) = change.peer
                && change.kind() == ChangeKind::Added
            {
                return change.peer.expect("a peer");
            }
        }
    }

    /// Reads to the end of the stream.
    pub(crate) async fn end(&mut self) -> Result<(), Status> {
        while self.next().await?.is_some() {}
        Ok(())
    }

    /// The cursor of the client.
    pub(crate) fn cursor(&self) -> Cursor {
        Cursor { epoch: self.epoch, revision: self.chain }
    }
}
