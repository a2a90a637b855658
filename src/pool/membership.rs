//! Which peers belong to a pool: what each list and request changes. Pure.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    mem,
    sync::Arc,
    time::Instant,
};

use super::{
    admission::{self, Admission, LearnRules},
    command::PoolError,
    effect::{Effect, Effects, LeftOut},
};
use crate::{
    opflex::{ElementMode, Roles},
    peer::{PeerAddress, PeerOrigin, PeerStatus, Reach, Reason, Report},
    status::Update,
};

mod lists;
mod member;

use member::{Kind, Member};

/// The members of one pool.
#[derive(Debug)]
pub(super) struct Membership {
    mode: ElementMode,
    members: BTreeMap<PeerAddress, Member>,
    /// The newest list of each configured peer, with its number: a reset follows the newest of them again.
    lists: BTreeMap<PeerAddress, (u64, BTreeSet<PeerAddress>)>,
    next_list: u64,
    limit: usize,
    rules: LearnRules,
    admission: Admission,
    /// Peers that are learned later, since there were too many at once, and who listed them.
    waiting: BTreeMap<PeerAddress, PeerAddress>,
    /// When to learn the next of them.
    take_up_at: Option<Instant>,
}

impl Membership {
    /// An empty pool for at most `limit` peers.
    pub(super) fn new(mode: ElementMode, limit: usize, rules: LearnRules) -> Self {
        Self {
            mode,
            members: BTreeMap::new(),
            lists: BTreeMap::new(),
            next_list: 0,
            limit,
            rules,
            admission: Admission::default(),
            waiting: BTreeMap::new(),
            take_up_at: None,
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

    /// How many of its peers have names that have to be looked up.
    pub(super) fn names(&self) -> usize {
        self.members.keys().filter(|address| address.ip().is_none()).count()
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
                effects.actions.push(Effect::SetReach(address.clone(), Reach::Any));
                effects.publish(address, Update::Origin(PeerOrigin::Configured));
            }
            None if is_full => return Err(PoolError::PeerQuota(self.limit)),
            None => {
                self.members.insert(address.clone(), Member { kind: Kind::Configured, listers: Vec::new() });
                self.waiting.remove(&address);
                effects.add(address, PeerOrigin::Configured, None, Reach::Any);
            }
        }
        Ok(())
    }

    /// Removes a configured peer, and the learned ones that no other peer lists.
    pub(super) fn remove(&mut self, address: PeerAddress, effects: &mut Effects) -> Result<(), PoolError> {
        match self.members.get(&address) {
            None => Err(PoolError::PeerNotFound(address)),
            Some(Member { kind: Kind::Learned, .. }) => Err(PoolError::PeerNotConfigured),
            Some(_) => {
                self.members.remove(&address);
                self.lists.remove(&address);
                self.admission.forget(&address);
                self.waiting.retain(|_, by| *by != address);
                effects.remove(address.clone(), Reason::RemovedByClient, "".into());
                let had_learned = self.has_learned();
                self.forget_lister(address, effects);
                if had_learned && !self.has_learned() {
                    self.unpark(Kind::Configured, None, effects);
                }
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
        now: Instant,
        effects: &mut Effects,
    ) {
        let list: BTreeSet<_> = list.into_iter().collect();
        let had_learned = self.has_learned();
        // They leave first to make room.
        let follows = self.mode == ElementMode::Stitched || roles.is_empty() || !list.contains(by);
        let stale = if follows { self.forget_learned_except(&list) } else { BTreeSet::new() };
        self.waiting.retain(|address, listed_by| list.contains(address) || !follows && listed_by != by);
        for (address, member) in &mut self.members {
            let is_listed = list.contains(address);
            member.listers.retain(|lister| (is_listed || lister != by) && !stale.contains(lister));
        }
        self.follow(by, &list, now, effects);
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
    pub(super) fn reset(
        &mut self,
        everyone: bool,
        ready: &HashSet<PeerAddress>,
        now: Instant,
        effects: &mut Effects,
    ) {
        self.admission.reset();
        self.waiting.clear();
        let everyone = everyone || self.mode == ElementMode::Transport;
        for address in self.forget_learned_except(&BTreeSet::new()) {
            effects.remove(address, Reason::Reset, "".into());
        }
        let is_kept = |address: &PeerAddress| !everyone && ready.contains(address);
        self.lists.retain(|by, _| is_kept(by));
        for (address, member) in &mut self.members {
            if member.unpark(Kind::Configured) {
                effects.start(address.clone(), Reach::Any);
            } else if !self.lists.contains_key(address) {
                effects.actions.push(Effect::Redial(address.clone()));
            }
        }
        let newest = self.lists.iter().max_by_key(|(_, (number, _))| *number);
        if let Some((by, (_, list))) = newest.map(|(by, list)| (by.clone(), list.clone())) {
            self.follow(&by, &list, now, effects);
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
                effects.start(address.clone(), Reach::Any);
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
                effects.start(address.clone(), Reach::Any);
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
        self.waiting.clear();
    }

    /// When to call [`Self::take_up`].
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.take_up_at.filter(|_| !self.waiting.is_empty())
    }

    /// Learns peers that had to wait, as many as are allowed by now.
    pub(super) fn take_up(&mut self, now: Instant, effects: &mut Effects) {
        if self.next_deadline().is_none_or(|due| now < due) {
            return;
        }
        for (address, by) in mem::take(&mut self.waiting) {
            if !self.learn(&address, &by, now, effects) {
                self.waiting.insert(address, by);
            }
        }
        self.take_up_at = Some(now + admission::INTERVAL);
    }

    fn forget_learned_except(&mut self, list: &BTreeSet<PeerAddress>) -> BTreeSet<PeerAddress> {
        let is_stale = |address: &PeerAddress, member: &mut Member| {
            member.kind == Kind::Learned && !list.contains(address)
        };
        self.members.extract_if(.., is_stale).map(|(address, _)| address).collect()
    }

    /// Learns the peers of a list and dials the parked ones among them.
    fn follow(
        &mut self,
        by: &PeerAddress,
        list: &BTreeSet<PeerAddress>,
        now: Instant,
        effects: &mut Effects,
    ) {
        let mut left_out = LeftOut::default();
        for address in list {
            if let Some(member) = self.members.get_mut(address) {
                // What a peer says of itself is no news.
                if address != by {
                    member.listed(address, by, effects);
                }
            } else if !self.rules.allows(address, by) {
                left_out.local.get_or_insert_with(|| (0, address.clone())).0 += 1;
            } else if self.waiting.contains_key(address) {
                left_out.later += 1;
            } else if self.members.len() + self.waiting.len() >= self.limit {
                left_out.full += 1;
            } else if !self.learn(address, by, now, effects) {
                left_out.later += 1;
                self.waiting.insert(address.clone(), by.clone());
                self.take_up_at.get_or_insert(now + admission::INTERVAL);
            }
        }
        if left_out != LeftOut::default() {
            effects.actions.push(Effect::LeftOut(by.clone(), left_out));
        }
    }

    /// Learns a peer, unless there are too many at once.
    fn learn(
        &mut self,
        address: &PeerAddress,
        by: &PeerAddress,
        now: Instant,
        effects: &mut Effects,
    ) -> bool {
        let is_allowed = self.admission.take(by, self.is_learned(by), now);
        if is_allowed {
            let member = Member { kind: Kind::Learned, listers: vec![by.clone()] };
            self.members.insert(address.clone(), member);
            let reach = self.rules.reach(by);
            effects.add(address.clone(), PeerOrigin::Learned, Some(by.clone()), reach);
        }
        is_allowed
    }

    /// The list of a peer that has left counts no more, nor do those of learned peers that leave for that.
    fn forget_lister(&mut self, lister: PeerAddress, effects: &mut Effects) {
        let mut gone = vec![lister];
        while let Some(lister) = gone.pop() {
            let leaves = |address: &PeerAddress, member: &mut Member| {
                member.forget_lister(address, &lister, effects) && member.kind == Kind::Learned
            };
            let orphans: Vec<_> = self.members.extract_if(.., leaves).map(|(address, _)| address).collect();
            for address in orphans {
                self.waiting.retain(|_, by| *by != address);
                effects.remove(address.clone(), Reason::NotInPeerList, "no peer lists it any more".into());
                gone.push(address);
            }
        }
    }

    fn has_learned(&self) -> bool {
        self.members.values().any(|member| member.kind == Kind::Learned)
    }
}

#[cfg(test)]
mod tests;
