//! One member of a pool: how it belongs to it, and who lists it.

use crate::{
    peer::{PeerAddress, Reach},
    pool::effect::Effects,
    status::Update,
};

/// So many that some are left when others leave, and so few that long lists of many peers take little memory.
const LISTERS: usize = 16;

#[derive(Clone, Debug)]
pub(super) struct Member {
    pub(super) kind: Kind,
    /// The other peers whose lists name it, the one whose list is the newest last. No more than [`LISTERS`].
    pub(super) listers: Vec<PeerAddress>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Configured,
    /// Configured, and without a connection, because its own list does not name it.
    Parked,
    /// Was parked, and is dialled only to ask it for peers.
    Asked,
    Learned,
}

impl Member {
    /// The list of another peer names it.
    pub(super) fn listed(&mut self, address: &PeerAddress, by: &PeerAddress, effects: &mut Effects) {
        if self.listers.last() != Some(by) {
            self.listers.retain(|lister| lister != by);
            self.listers.push(by.clone());
            if self.listers.len() > LISTERS {
                self.listers.remove(0);
            }
            if self.kind == Kind::Learned {
                effects.publish(address.clone(), Update::Listed(by.clone()));
            }
        }
        if self.unpark(Kind::Configured) {
            effects.start(address.clone(), Reach::Any);
        }
    }

    /// Returns whether that was the last peer that listed it.
    pub(super) fn forget_lister(
        &mut self,
        address: &PeerAddress,
        gone: &PeerAddress,
        effects: &mut Effects,
    ) -> bool {
        let was_newest = self.listers.last() == Some(gone);
        let before = self.listers.len();
        self.listers.retain(|lister| lister != gone);
        if let Some(newest) = self.listers.last().filter(|_| was_newest && self.kind == Kind::Learned) {
            effects.publish(address.clone(), Update::Listed(newest.clone()));
        }
        before > 0 && self.listers.is_empty()
    }

    /// Returns whether it was parked.
    pub(super) fn unpark(&mut self, kind: Kind) -> bool {
        let is_parked = self.kind == Kind::Parked;
        if is_parked || self.kind == Kind::Asked {
            self.kind = kind;
        }
        is_parked
    }
}
