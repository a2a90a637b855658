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
    /// The newest list of each configured peer, with its number: a reset follows the newest of them again.
    lists: BTreeMap<PeerAddress, (u64, BTreeSet<PeerAddress>)>,
    next_list: u64,
    limit: usize,
}

#[derive(Clone, Debug)]
struct Member {
    kind: Kind,
    /// Of a learned peer: the other peer whose list named it last.
    listed_by: Option<PeerAddress>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Configured,
    /// Configured, and without a connection, because its own list does not name it.
    Parked,
    /// Was parked, and is dialled only to ask it for peers.
    Asked,
    Learned,
}

impl Membership {
    /// An empty pool for at most `limit` peers.
    pub(super) const fn new(mode: ElementMode, limit: usize) -> Self {
        Self { mode, members: BTreeMap::new(), lists: BTreeMap::new(), next_list: 0, limit }
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
        self.members.get(address).is_some_and(|member| member.kind == Kind::Learned)
    }

    /// Adds a configured peer.
    pub(super) fn add(&mut self, address: PeerAddress, effects: &mut Effects) -> Result<(), PoolError> {
        let is_full = self.members.len() >= self.limit;
        match self.members.get_mut(&address) {
            Some(member) if member.kind != Kind::Learned => return Err(PoolError::PeerExists),
            Some(member) => {
                member.kind = Kind::Configured;
                effects.publish(address, Update::Origin(PeerOrigin::Configured));
            }
            None if is_full => return Err(PoolError::PeerQuota(self.limit)),
            None => {
                self.members.insert(address.clone(), Member { kind: Kind::Configured, listed_by: None });
                effects.add(address, PeerOrigin::Configured, None);
            }
        }
        Ok(())
    }

    /// Removes a configured peer.
    pub(super) fn remove(&mut self, address: PeerAddress, effects: &mut Effects) -> Result<(), PoolError> {
        match self.members.get(&address) {
            None => Err(PoolError::PeerNotFound(address)),
            Some(Member { kind: Kind::Learned, .. }) => Err(PoolError::PeerNotConfigured),
            Some(_) => {
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
        let is_listed = list.contains(by);
        if let Some(member) = self.members.get_mut(by).filter(|member| member.kind != Kind::Learned) {
            if is_listed {
                member.kind = Kind::Configured;
            } else if member.kind != Kind::Parked {
                member.kind = Kind::Parked;
                effects.park(by.clone(), lists::instead_of(by, by, &list));
            }
            self.next_list += 1;
            self.lists.insert(by.clone(), (self.next_list, list));
        }
        if had_learned && !self.has_learned() {
            self.unpark(Kind::Configured, Some(by), effects);
        }
    }

    /// Starts over from the configured peers: learned ones leave, and parked ones and those that are not READY are
    /// dialled. Those that are READY stay connected, and the newest of their lists is followed again. A READY peer whose
    /// list is not known, and with `everyone`, or in transport mode, where any peer may have named the proxies, every peer
    /// is dialled again, too.
    pub(super) fn reset(&mut self, everyone: bool, ready: &HashSet<PeerAddress>, effects: &mut Effects) {
        let everyone = everyone || self.mode == ElementMode::Transport;
        for address in self.forget_learned_except(&BTreeSet::new()) {
            effects.remove(address, Reason::Reset, "".into());
        }
        let is_kept = |address: &PeerAddress| !everyone && ready.contains(address);
        self.lists.retain(|by, _| is_kept(by));
        for (address, member) in &mut self.members {
            if member.unpark(Kind::Configured) {
                effects.start(address.clone());
            } else if !self.lists.contains_key(address) {
                effects.actions.push(Effect::Redial(address.clone()));
            }
        }
        let newest = self.lists.iter().max_by_key(|(_, (number, _))| *number);
        if let Some((by, (_, list))) = newest.map(|(by, list)| (by.clone(), list.clone())) {
            self.follow(&by, &list, effects);
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
            if member.unpark(Kind::Configured) {
                effects.start(address.clone());
            } else {
                effects.actions.push(Effect::Redial(address.clone()));
            }
        }
        Ok(())
    }

    /// Dials every parked address to ask it for peers.
    pub(super) fn ask_parked(&mut self, effects: &mut Effects) {
        self.unpark(Kind::Asked, None, effects);
    }

    fn unpark(&mut self, kind: Kind, except: Option<&PeerAddress>, effects: &mut Effects) {
        for (address, member) in &mut self.members {
            if Some(address) != except && member.unpark(kind) {
                effects.start(address.clone());
            }
        }
    }

    /// Parks the addresses again that are still asked for peers: no answer is needed any more.
    pub(super) fn park_asked(&mut self, effects: &mut Effects) {
        for (address, member) in &mut self.members {
            if member.kind == Kind::Asked {
                member.kind = Kind::Parked;
                effects
                    .park(address.clone(), "it was asked for peers, and no answer is needed any more".into());
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
            member.kind == Kind::Learned && !list.contains(address)
        };
        self.members.extract_if(.., is_stale).map(|(address, _)| address).collect()
    }

    /// Learns the peers of a list and dials the parked ones among them.
    fn follow(&mut self, by: &PeerAddress, list: &BTreeSet<PeerAddress>, effects: &mut Effects) {
        let mut left_out = 0;
        for address in list {
            let has_room = self.members.len() < self.limit;
            match self.members.get_mut(address) {
                // What a peer says of itself is no news.
                Some(_) if address == by => {}
                Some(member) => {
                    if member.kind == Kind::Learned && member.listed_by.as_ref() != Some(by) {
                        member.listed_by = Some(by.clone());
                        effects.publish(address.clone(), Update::Listed(by.clone()));
                    }
                    if member.unpark(Kind::Configured) {
                        effects.start(address.clone());
                    }
                }
                None if has_room => {
                    let member = Member { kind: Kind::Learned, listed_by: Some(by.clone()) };
                    self.members.insert(address.clone(), member);
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
        self.members.values().any(|member| member.kind == Kind::Learned)
    }
}

impl Member {
    /// Returns whether it was parked.
    fn unpark(&mut self, kind: Kind) -> bool {
        let is_parked = self.kind == Kind::Parked;
        if is_parked || self.kind == Kind::Asked {
            self.kind = kind;
        }
        is_parked
    }
}

#[cfg(test)]
mod tests;
