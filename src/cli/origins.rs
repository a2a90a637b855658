//! Whether a change is one of a peer's origin: a learned peer was configured, or the other way round. The API has no kind
//! of its own for it. It is a change of status in which neither the status nor the reason is another one, so one has to
//! remember what the origin was.

use std::collections::BTreeMap;

use crate::{
    api::pb::{ChangeKind, Peer, PeerChange, PeerOrigin, PeerStatus},
    cli::{style, table::Cell, text},
};

/// As many as a pool may have. Under a filter nobody may say that a peer has gone, so there has to be an end to it.
const MOST_PEERS: usize = 100_000;

/// The origins of the peers that were told of.
#[derive(Debug, Default)]
pub struct Origins(BTreeMap<String, i32>);

impl Origins {
    /// Knows these peers and no others from now on.
    pub fn replace(&mut self, peers: &[Peer]) {
        self.0 = peers.iter().map(|peer| (peer.name.clone(), peer.origin)).collect();
    }

    /// Takes in a change. Returns what the peer's origin was before, if that is what changed.
    pub fn moved(&mut self, change: &PeerChange) -> Option<i32> {
        let peer = change.peer.as_ref()?;
        if self.0.len() >= MOST_PEERS {
            self.0.clear();
        }
        let known = match change.kind() {
            ChangeKind::Removed => self.0.remove(&peer.name),
            _ => self.0.insert(peer.name.clone(), peer.origin),
        };
        if change.kind() != ChangeKind::Status || change.previous_status != peer.status {
            return None;
        }
        known.or_else(|| inferred(peer)).filter(|before| *before != peer.origin)
    }
}

/// Where nobody told of the peer before: in these statuses there is but one reason to be, so it was not that.
fn inferred(peer: &Peer) -> Option<i32> {
    let other = match peer.origin() {
        PeerOrigin::Configured => PeerOrigin::Learned,
        PeerOrigin::Learned => PeerOrigin::Configured,
        PeerOrigin::Unspecified => return None,
    };
    matches!(peer.status(), PeerStatus::Connected | PeerStatus::Ready).then(|| other.into())
}

/// `learned → configured`
#[must_use]
pub fn cell(before: i32, now: i32) -> Cell {
    Cell::plain(&text::origin(before)).and(Cell::new(style::DIM, " → ")).and(Cell::plain(&text::origin(now)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api::pb::{
            PeerOrigin::{Configured, Learned},
            PeerStatus::{Connecting, Ready, Unspecified},
            Reason,
        },
        cli::tests::samples::{peer, peer_change},
    };

    fn change(status: PeerStatus, origin: PeerOrigin, before: PeerStatus) -> PeerChange {
        let peer = peer("a:1", status, Reason::Dialing, "");
        peer_change(0, Peer { origin: origin.into(), ..peer }, before)
    }

    #[test]
    fn an_origin_that_was_told_before_and_is_another_now_has_moved() {
        let mut origins = Origins::default();
        assert_eq!(origins.moved(&change(Connecting, Learned, Unspecified)), None, "it is new");
        assert_eq!(origins.moved(&change(Connecting, Learned, Connecting)), None, "only the reason");
        assert_eq!(origins.moved(&change(Connecting, Configured, Connecting)), Some(Learned.into()));
        assert_eq!(origins.moved(&change(Connecting, Configured, Connecting)), None, "only the reason again");
        assert_eq!(origins.moved(&change(Connecting, Learned, Connecting)), Some(Configured.into()));
    }

    #[test]
    fn a_snapshot_tells_of_origins_and_forgets_the_others() {
        let mut origins = Origins::default();
        let learned = Peer { origin: Learned.into(), ..peer("a:1", Connecting, Reason::Dialing, "") };
        origins.replace(&[learned]);
        assert_eq!(origins.moved(&change(Connecting, Configured, Connecting)), Some(Learned.into()));
        origins.replace(&[]);
        assert_eq!(origins.moved(&change(Connecting, Learned, Connecting)), None, "it may be the reason");
    }

    #[test]
    fn where_it_cannot_be_the_reason_it_is_the_origin() {
        assert_eq!(Origins::default().moved(&change(Ready, Configured, Ready)), Some(Learned.into()));
        assert_eq!(Origins::default().moved(&change(Ready, Configured, Connecting)), None);
    }

    #[test]
    fn what_has_left_is_forgotten_and_no_number_of_peers_is_too_large() {
        let mut origins = Origins::default();
        origins.moved(&change(Connecting, Learned, Unspecified));
        let gone = change(Connecting, Learned, Ready);
        origins.moved(&PeerChange { kind: ChangeKind::Removed.into(), ..gone });
        assert!(origins.0.is_empty());
        origins.0 = (0..MOST_PEERS).map(|number| (number.to_string(), 1)).collect();
        origins.moved(&change(Connecting, Learned, Unspecified));
        assert_eq!(origins.0.len(), 1);
    }
}
