//! Which peers belong to a pool: what each list and request changes. Pure.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    mem,
    sync::Arc,
};

use super::{
    command::PoolError,
    effect::{Effect, Effects},
};
use crate::{
    opflex::{ElementMode, Roles},
    peer::{PeerAddress, PeerOrigin, PeerStatus, Reason, Report},
    status::Update,
};

mod lists;

/// The members of one pool.
#[derive(Debug)]
pub(super) struct Membership {
    mode: ElementMode,
    members: BTreeMap<PeerAddress, Member>,
    /// The newest lists of configured peers: a reset follows them again.
    lists: BTreeMap<PeerAddress, BTreeSet<PeerAddress>>,
    limit: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Member {
    Configured {
        parked: bool,
    },
    /// With the peer whose list named it last.
    Learned(PeerAddress),
}

impl Membership {
    /// An empty pool for at most `limit` peers.
    pub(super) const fn new(mode: ElementMode, limit: usize) -> Self {
        Self { mode, members: BTreeMap::new(), lists: BTreeMap::new(), limit }
    }

    /// Peers beyond the new limit stay.
    pub(super) const fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// How many peers it has, parked ones included.
    pub(super) fn len(&self) -> usize {
        self.members.len()
    }

    pub(super) fn is_learned(&self, address: &PeerAddress) -> bool {
        matches!(self.members.get(address), Some(Member::Learned(_)))
    }

    /// Adds a configured peer.
    pub(super) fn add(&mut self, address: PeerAddress, effects: &mut Effects) -> Result<(), PoolError> {
        let configured = Member::Configured { parked: false };
        let is_full = self.members.len() >= self.limit;
        match self.members.get_mut(&address) {
            Some(Member::Configured { .. }) => return Err(PoolError::PeerExists),
            Some(member) => {
                *member = configured;
                effects.publish(address, Update::Origin(PeerOrigin::Configured));
            }
            None if is_full => return Err(PoolError::PeerQuota(self.limit)),
            None => {
                self.members.insert(address.clone(), configured);
                effects.add(address, PeerOrigin::Configured, None);
            }
        }
        Ok(())
    }

    /// Removes a configured peer.
    pub(super) fn remove(&mut self, address: PeerAddress, effects: &mut Effects) -> Result<(), PoolError> {
        match self.members.get(&address) {
            None => Err(PoolError::PeerNotFound(address)),
            Some(Member::Learned(_)) => Err(PoolError::PeerNotConfigured),
            Some(Member::Configured { .. }) => {
                self.members.remove(&address);
                self.lists.remove(&address);
                effects.remove(address, Reason::RemovedByClient, "".into());
                Ok(())
            }
        }
    }

    /// A peer answered our identity with this list, and is READY if it lists itself. The newest list wins: a learned peer
    /// that is not on it leaves; in transport mode only the list of an address that has no role or does not list itself
    /// makes peers leave. A configured peer that does not list itself only lists others (the anycast bootstrap address):
    /// it is parked. New peers are published first, and those that leave last.
    pub(super) fn identified(
        &mut self,
        by: &PeerAddress,
        roles: Roles,
        list: Vec<PeerAddress>,
        ready: Option<Report>,
        effects: &mut Effects,
    ) {
        let list: BTreeSet<_> = list.into_iter().collect();
        let had_learned = self.has_learned();
        // They leave first to make room.
        let follows = self.mode == ElementMode::Stitched || roles.is_empty() || !list.contains(by);
        let stale = if follows { self.forget_learned_except(&list) } else { Vec::new() };
        self.follow(by, &list, effects);
        if let Some(report) = ready {
            effects.publish(by.clone(), Update::Status(report));
        }
        for address in stale {
            let detail = lists::instead_of(&address, by, &list);
            effects.remove(address, Reason::NotInPeerList, detail);
        }
        match self.members.get_mut(by) {
            Some(Member::Configured { parked }) if !list.contains(by) && !*parked => {
                *parked = true;
                effects.park(by.clone(), lists::instead_of(by, by, &list));
            }
            _ => {}
        }
        if had_learned && !self.has_learned() {
            self.unpark(Some(by), effects);
        }
        if matches!(self.members.get(by), Some(Member::Configured { .. })) {
            self.lists.insert(by.clone(), list);
        }
    }

    /// Starts over from the configured peers: learned ones leave, and parked ones and those that are not READY are
    /// dialled. Those that are READY stay connected, and their lists are followed again. With `everyone`, and in transport
    /// mode, where any peer may have named the proxies, they are dialled again, too.
    pub(super) fn reset(&mut self, everyone: bool, ready: &HashSet<PeerAddress>, effects: &mut Effects) {
        let everyone = everyone || self.mode == ElementMode::Transport;
        for address in self.forget_learned_except(&BTreeSet::new()) {
            effects.remove(address, Reason::Reset, "".into());
        }
        let lists = mem::take(&mut self.lists);
        for (address, member) in &mut self.members {
            if member.unpark() {
                effects.start(address.clone());
            } else if everyone || !ready.contains(address) {
                effects.actions.push(Effect::Redial(address.clone()));
            }
        }
        if !everyone {
            for (by, list) in lists.into_iter().filter(|(by, _)| ready.contains(by)) {
                self.follow(&by, &list, effects);
                self.lists.insert(by, list);
            }
        }
    }

    /// Redials these peers, or none if one of them is not in the pool.
    pub(super) fn reset_named(
        &mut self,
        names: &BTreeSet<PeerAddress>,
        effects: &mut Effects,
    ) -> Result<(), PoolError> {
        if let Some(unknown) = names.iter().find(|name| !self.members.contains_key(*name)) {
            return Err(PoolError::PeerNotFound(unknown.clone()));
        }
        for (address, member) in self.members.iter_mut().filter(|(address, _)| names.contains(address)) {
            if member.unpark() {
                effects.start(address.clone());
            } else {
                effects.actions.push(Effect::Redial(address.clone()));
            }
        }
        Ok(())
    }

    /// Dials every parked address but this one.
    pub(super) fn unpark(&mut self, except: Option<&PeerAddress>, effects: &mut Effects) {
        for (address, member) in &mut self.members {
            if Some(address) != except && member.unpark() {
                effects.start(address.clone());
            }
        }
    }

    /// Empties the pool: every peer closes, then every peer is removed, then the connections close.
    pub(super) fn stop_all(&mut self, effects: &mut Effects) {
        let peers: Vec<_> = mem::take(&mut self.members).into_keys().collect();
        for address in &peers {
            effects.status(address.clone(), PeerStatus::Closing, Reason::PoolStopping, Arc::from(""));
        }
        for address in peers {
            effects.publish(address.clone(), Update::Removed);
            effects.actions.push(Effect::Stop(address));
        }
        self.lists.clear();
    }

    fn forget_learned_except(&mut self, list: &BTreeSet<PeerAddress>) -> Vec<PeerAddress> {
        let is_stale = |address: &PeerAddress, member: &mut Member| {
            matches!(member, Member::Learned(_)) && !list.contains(address)
        };
        self.members.extract_if(.., is_stale).map(|(address, _)| address).collect()
    }

    /// Learns the peers of a list and dials the parked ones among them.
    fn follow(&mut self, by: &PeerAddress, list: &BTreeSet<PeerAddress>, effects: &mut Effects) {
        let mut left_out = 0;
        for address in list {
            let has_room = self.members.len() < self.limit;
            match self.members.get_mut(address) {
                Some(Member::Learned(from)) if from == by => {}
                Some(Member::Learned(from)) => {
                    *from = by.clone();
                    effects.publish(address.clone(), Update::Listed(by.clone()));
                }
                Some(member) => {
                    if address != by && member.unpark() {
                        effects.start(address.clone());
                    }
                }
                None if has_room => {
                    self.members.insert(address.clone(), Member::Learned(by.clone()));
                    effects.add(address.clone(), PeerOrigin::Learned, Some(by.clone()));
                }
                None => left_out += 1,
            }
        }
        if left_out > 0 {
            effects.actions.push(Effect::WarnFull(left_out));
        }
    }

    fn has_learned(&self) -> bool {
        self.members.values().any(|member| matches!(member, Member::Learned(_)))
    }
}

impl Member {
    /// Returns whether it was parked.
    fn unpark(&mut self) -> bool {
        let parked = *self == Self::Configured { parked: true };
        if parked {
            *self = Self::Configured { parked: false };
        }
        parked
    }
}

#[cfg(test)]
mod tests;
