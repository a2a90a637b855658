//! Which peers belong to a pool: what each list, failure, answer and request changes. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
};

use super::{command::PoolError, effect::Effects};
use crate::{
    opflex::{ElementMode, Roles},
    peer::{PeerAddress, PeerOrigin, PeerStatus, Reason},
    status::Update,
};

mod lists;

/// The members of one pool.
#[derive(Debug)]
pub(super) struct Membership {
    mode: ElementMode,
    members: BTreeMap<PeerAddress, Member>,
    /// Peers that were given up and are on the newest list: they are probed. With how many times in a row that was.
    given_up: BTreeMap<PeerAddress, u32>,
    /// Members whose newest list had others on it.
    list_sources: BTreeSet<PeerAddress>,
    limit: usize,
}

/// Failures in a row after which a learned peer is given up. The reference gives up at the fourth, too, and logs
/// "after 3 failures".
const GIVE_UP_AFTER: u32 = 4;

/// Peers that are probed at a time. A fabric has two leaves for an agent; a list of thousands of dead peers must not
/// be probed for ever. The others are dialled when a list names them again.
const MAX_PROBED: usize = 256;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Member {
    Configured {
        parked: bool,
    },
    /// With how many times in a row it was given up without being READY in between: a peer that accepts connections
    /// and never answers comes back ever more rarely.
    Learned {
        given_up: u32,
    },
}

impl Membership {
    /// An empty pool for at most `limit` peers.
    pub(super) const fn new(mode: ElementMode, limit: usize) -> Self {
        Self {
            mode,
            members: BTreeMap::new(),
            given_up: BTreeMap::new(),
            list_sources: BTreeSet::new(),
            limit,
        }
    }

    /// Peers beyond the new limit stay.
    pub(super) const fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// How many peers it has, parked ones included.
    pub(super) fn len(&self) -> usize {
        self.members.len()
    }

    /// Adds a configured peer.
    pub(super) fn add(&mut self, address: PeerAddress, effects: &mut Effects) -> Result<(), PoolError> {
        let configured = Member::Configured { parked: false };
        let full = self.members.len() >= self.limit;
        match self.members.get_mut(&address) {
            Some(Member::Configured { .. }) => return Err(PoolError::PeerExists),
            Some(member) => {
                *member = configured;
                effects.set_origin(address, PeerOrigin::Configured);
            }
            None if full => return Err(PoolError::PeerQuota(self.limit)),
            None => {
                if self.given_up.remove(&address).is_some() {
                    effects.stop(address.clone());
                }
                self.members.insert(address.clone(), configured);
                effects.add(address, PeerOrigin::Configured);
            }
        }
        Ok(())
    }

    /// Removes a configured peer.
    pub(super) fn remove(&mut self, address: PeerAddress, effects: &mut Effects) -> Result<(), PoolError> {
        match self.members.get(&address) {
            None => Err(PoolError::PeerNotFound(address)),
            Some(Member::Learned { .. }) => Err(PoolError::PeerNotConfigured),
            Some(Member::Configured { .. }) => {
                self.forget(&address);
                effects.remove(address, Reason::RemovedByClient, "".into());
                Ok(())
            }
        }
    }

    /// A peer answered our identity with this list. The newest list wins: a learned peer that is not on it leaves; in
    /// transport mode only the list of an address that has no role or does not list itself makes peers leave. A
    /// configured peer that does not list itself only lists others (the anycast bootstrap address): it is parked.
    pub(super) fn identified(
        &mut self,
        by: &PeerAddress,
        roles: Roles,
        list: Vec<PeerAddress>,
        effects: &mut Effects,
    ) {
        let list: BTreeSet<_> = list.into_iter().collect();
        if list.iter().any(|address| address != by) {
            self.list_sources.insert(by.clone());
        } else {
            self.list_sources.remove(by);
        }
        let learned_before = self.has_learned();
        // They leave first to make room, and are published last.
        let mut stale = Vec::new();
        if self.mode == ElementMode::Stitched || roles.is_empty() || !list.contains(by) {
            let unlisted = self.given_up.extract_if(.., |address, _| !list.contains(address));
            unlisted.for_each(|(address, _)| effects.stop(address));
            stale = self.forget_learned_except(&list);
        }
        let left_out = list.iter().filter(|address| !self.follow(address, by, effects)).count();
        if left_out > 0 {
            effects.warn_full(left_out);
        }
        for address in stale {
            let detail = lists::instead_of(&address, by, &list);
            effects.remove(address, Reason::NotInPeerList, detail);
        }
        match self.members.get_mut(by) {
            Some(Member::Learned { given_up }) => *given_up = 0,
            Some(Member::Configured { parked }) if !list.contains(by) && !*parked => {
                *parked = true;
                effects.park(by.clone(), lists::instead_of(by, by, &list));
            }
            _ => {}
        }
        if learned_before && !self.has_learned() {
            self.unpark(Some(by), effects);
        }
    }

    /// A peer failed this many times in a row. A learned one is given up at last and probed from then on, and parked
    /// addresses are asked for others.
    pub(super) fn failed(&mut self, address: &PeerAddress, failures: u32, effects: &mut Effects) {
        let Some(Member::Learned { given_up }) = self.members.get(address).copied() else { return };
        if failures < GIVE_UP_AFTER {
            return;
        }
        self.forget(address);
        effects.remove(address.clone(), Reason::GivenUp, "".into());
        if self.given_up.len() < MAX_PROBED {
            self.given_up.insert(address.clone(), given_up.saturating_add(1));
            effects.probe(address.clone(), given_up);
        }
        self.unpark(None, effects);
    }

    /// A peer that was given up accepts connections again. A full pool goes on probing it.
    pub(super) fn answered(&mut self, address: &PeerAddress, effects: &mut Effects) {
        let Some(times) = self.given_up.get(address).copied() else { return };
        if self.members.len() >= self.limit {
            effects.probe(address.clone(), times.saturating_sub(1));
            return;
        }
        self.given_up.remove(address);
        effects.stop(address.clone());
        self.learn(address, times, effects);
    }

    /// Starts over from the configured peers: learned and probed ones leave, parked ones are dialled, and so are
    /// those that listed others. With `everyone`, and in transport mode, where any peer may have named the proxies,
    /// all others are dialled again, too.
    pub(super) fn reset(&mut self, everyone: bool, effects: &mut Effects) {
        let everyone = everyone || self.mode == ElementMode::Transport;
        let redialled: Vec<_> = self
            .members
            .iter()
            .filter(|(address, member)| {
                **member == Member::Configured { parked: false }
                    && (everyone || self.list_sources.contains(*address))
            })
            .map(|(address, _)| address.clone())
            .collect();
        mem::take(&mut self.given_up).into_keys().for_each(|address| effects.stop(address));
        for address in self.forget_learned_except(&BTreeSet::new()) {
            effects.remove(address, Reason::Reset, "".into());
        }
        self.unpark(None, effects);
        redialled.into_iter().for_each(|address| effects.redial(address));
        self.list_sources.clear();
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
                effects.redial(address.clone());
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
            effects.status(address.clone(), PeerStatus::Closing, Reason::PoolStopping, "".into());
        }
        for address in &peers {
            effects.publish(address.clone(), Update::Removed);
        }
        let probed = mem::take(&mut self.given_up).into_keys();
        peers.into_iter().chain(probed).for_each(|address| effects.stop(address));
        self.list_sources.clear();
    }

    fn forget(&mut self, address: &PeerAddress) {
        self.members.remove(address);
        self.list_sources.remove(address);
    }

    fn forget_learned_except(&mut self, list: &BTreeSet<PeerAddress>) -> Vec<PeerAddress> {
        let stale = |address: &PeerAddress, member: &mut Member| {
            matches!(member, Member::Learned { .. }) && !list.contains(address)
        };
        let stale: Vec<_> = self.members.extract_if(.., stale).map(|(address, _)| address).collect();
        for address in &stale {
            self.list_sources.remove(address);
        }
        stale
    }

    /// Follows one entry of the list of `by`. Returns false if the pool has no room for it.
    fn follow(&mut self, address: &PeerAddress, by: &PeerAddress, effects: &mut Effects) -> bool {
        if let Some(member) = self.members.get_mut(address) {
            if address != by && member.unpark() {
                effects.start(address.clone());
            }
            true
        } else if let Some(times) = self.given_up.get(address) {
            // A list does not prove that the peer answers, but is a reason to probe it soon.
            effects.probe(address.clone(), times.saturating_sub(1));
            true
        } else {
            self.learn(address, 0, effects)
        }
    }

    fn learn(&mut self, address: &PeerAddress, given_up: u32, effects: &mut Effects) -> bool {
        let room = self.members.len() < self.limit;
        if room {
            self.members.insert(address.clone(), Member::Learned { given_up });
            effects.add(address.clone(), PeerOrigin::Learned);
        }
        room
    }

    fn has_learned(&self) -> bool {
        self.members.values().any(|member| matches!(member, Member::Learned { .. }))
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
