//! Who belongs to a pool. Pure: it is told what peers said, and orders what to start and to stop.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
    sync::Arc,
};

use crate::{
    opflex::{ElementMode, Roles},
    peer::{PeerAddress, PeerOrigin, Reason},
};

mod lists;

/// What to do about a peer. Orders are to be carried out in their order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// It is new: announce and dial it.
    Start(PeerAddress, PeerOrigin),
    /// It leaves the pool, for this reason and with this detail for people.
    Stop(PeerAddress, Reason, Arc<str>),
    /// It stays in the pool, without a connection; the detail says what it lists instead of itself.
    Park(PeerAddress, Arc<str>),
    /// It was parked: dial it.
    Unpark(PeerAddress),
    /// It is configured from now on, and was learned before.
    Adopt(PeerAddress),
    /// Close its connection and dial it again.
    Redial(PeerAddress),
    /// It is no member: try now and then whether it answers, and tell nobody of it. The pauses go on from this
    /// many that there have been already.
    Probe(PeerAddress, u32),
    /// That is not wanted any more.
    StopProbe(PeerAddress),
    /// The pool is full: so many that were listed are not learned.
    LeaveOut(usize),
}

/// The members of one pool.
#[derive(Debug)]
pub(super) struct Membership {
    mode: ElementMode,
    members: BTreeMap<PeerAddress, Member>,
    /// Peers that were given up and are still on the last list: found again without anyone's help. With how many
    /// times in a row that was.
    given_up: BTreeMap<PeerAddress, u32>,
    /// Members whose last list had others on it.
    list_sources: BTreeSet<PeerAddress>,
    limit: usize,
}

/// A failure too many in a row: a learned peer is given up. The reference gives up at the fourth, too, and
/// says "after 3 failures".
const GIVE_UP_AFTER: u32 = 4;

/// Peers that are tried quietly at a time: a fabric has two leaves for an agent, and a list of thousands that
/// are all dead is not to be knocked at for ever. The rest is tried when a list names them again.
const MAX_PROBED: usize = 256;

/// Why a peer can't be added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AddRefused {
    /// It is configured.
    Exists,
    /// The pool is full.
    Full(usize),
}

/// Why a peer can't be removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RemoveRefused {
    /// It is not there.
    Unknown,
    /// It is learned: it comes and goes with the lists of others.
    NotConfigured,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Member {
    Configured {
        parked: bool,
    },
    /// And how many times in a row it was given up before, without having been a peer in between: one that takes
    /// connections and then never says who it is comes back more and more rarely.
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

    /// Lets it have at most so many from now on. Those that are there stay.
    pub(super) const fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// How many peers it has, parked ones included.
    pub(super) fn len(&self) -> usize {
        self.members.len()
    }

    /// Adds a configured peer.
    pub(super) fn add(&mut self, address: PeerAddress) -> Result<Vec<Order>, AddRefused> {
        let configured = Member::Configured { parked: false };
        let full = self.members.len() >= self.limit;
        match self.members.get_mut(&address) {
            Some(Member::Configured { .. }) => Err(AddRefused::Exists),
            Some(member) => {
                *member = configured;
                Ok(vec![Order::Adopt(address)])
            }
            None if full => Err(AddRefused::Full(self.limit)),
            None => {
                let probed = self.given_up.remove(&address).map(|_| Order::StopProbe(address.clone()));
                self.members.insert(address.clone(), configured);
                Ok(probed.into_iter().chain([Order::Start(address, PeerOrigin::Configured)]).collect())
            }
        }
    }

    /// Removes a configured peer.
    pub(super) fn remove(&mut self, address: &PeerAddress) -> Result<Vec<Order>, RemoveRefused> {
        match self.members.get(address) {
            None => Err(RemoveRefused::Unknown),
            Some(Member::Learned { .. }) => Err(RemoveRefused::NotConfigured),
            Some(Member::Configured { .. }) => {
                self.forget(address);
                Ok(vec![stop(address.clone(), Reason::RemovedByClient)])
            }
        }
    }

    /// A peer answered our identity with this list. The last list wins: a learned peer that is not on it goes; in
    /// transport mode only the list of an address that is nothing by itself can make it go. A configured peer that
    /// does not list itself is an address that only tells about others (the anycast bootstrap address): it is parked.
    pub(super) fn identified(
        &mut self,
        by: &PeerAddress,
        roles: Roles,
        list: Vec<PeerAddress>,
    ) -> Vec<Order> {
        let list: BTreeSet<_> = list.into_iter().collect();
        let tells = list.iter().any(|address| address != by);
        if tells {
            self.list_sources.insert(by.clone())
        } else {
            self.list_sources.remove(by)
        };
        let mut orders = Vec::new();
        let learned_before = self.has_learned();
        // They go first, so that they take no room from those that come, but it is said of them last.
        let mut stale = Vec::new();
        if self.mode == ElementMode::Stitched || roles.is_empty() || !list.contains(by) {
            let unnamed = self.given_up.extract_if(.., |address, _| !list.contains(address));
            orders.extend(unnamed.map(|(address, _)| Order::StopProbe(address)));
            stale = self.forget_learned_but(&list);
        }
        for address in &list {
            self.listed(address, by, &mut orders);
        }
        let known = |address: &&PeerAddress| {
            self.members.contains_key(*address) || self.given_up.contains_key(*address)
        };
        match list.len() - list.iter().filter(known).count() {
            0 => {}
            left_out => orders.push(Order::LeaveOut(left_out)),
        }
        orders.extend(stale.into_iter().map(|address| {
            let detail = lists::instead_of(&address, by, &list);
            Order::Stop(address, Reason::NotInPeerList, detail)
        }));
        match self.members.get_mut(by) {
            Some(Member::Learned { given_up }) => *given_up = 0,
            Some(Member::Configured { parked }) if !list.contains(by) && !*parked => {
                *parked = true;
                orders.push(Order::Park(by.clone(), lists::instead_of(by, by, &list)));
            }
            _ => {}
        }
        if learned_before && !self.has_learned() {
            orders.extend(self.unpark(Some(by)));
        }
        orders
    }

    /// A peer has failed so many times in a row. A learned one is given up at last; it is tried quietly from then
    /// on, and whoever may know of others is asked again.
    pub(super) fn failed(&mut self, address: &PeerAddress, failures: u32) -> Vec<Order> {
        let Some(Member::Learned { given_up }) = self.members.get(address).copied() else {
            return Vec::new();
        };
        if failures < GIVE_UP_AFTER {
            return Vec::new();
        }
        self.forget(address);
        let mut orders = vec![stop(address.clone(), Reason::GivenUp)];
        if self.given_up.len() < MAX_PROBED {
            self.given_up.insert(address.clone(), given_up.saturating_add(1));
            orders.push(Order::Probe(address.clone(), given_up));
        }
        orders.extend(self.unpark(None));
        orders
    }

    /// A peer that was given up takes connections again. In a full pool there is no room for it yet.
    pub(super) fn answered(&mut self, address: &PeerAddress) -> Vec<Order> {
        let Some(times) = self.given_up.get(address).copied() else {
            return Vec::new();
        };
        if self.members.len() >= self.limit {
            return vec![Order::Probe(address.clone(), times.saturating_sub(1))];
        }
        self.given_up.remove(address);
        let mut orders = vec![Order::StopProbe(address.clone())];
        self.learn(address, times, &mut orders);
        orders
    }

    /// Starts over from the configured peers: the learned ones go, and those that told of them are asked again. In
    /// transport mode that is everybody, since anybody may have told of the proxies.
    pub(super) fn reset_learned(&mut self) -> Vec<Order> {
        if self.mode == ElementMode::Transport {
            return self.reset_all();
        }
        let askable: Vec<_> =
            self.list_sources.iter().filter(|address| self.is_connected(address)).cloned().collect();
        self.start_over(askable)
    }

    /// Starts over from the configured peers: everybody is asked again.
    pub(super) fn reset_all(&mut self) -> Vec<Order> {
        let askable: Vec<_> =
            self.members.keys().filter(|address| self.is_connected(address)).cloned().collect();
        self.start_over(askable)
    }

    /// Redials these peers. Refuses, with the first that is not in the pool.
    pub(super) fn reset_named(&mut self, names: &BTreeSet<PeerAddress>) -> Result<Vec<Order>, PeerAddress> {
        if let Some(unknown) = names.iter().find(|name| !self.members.contains_key(*name)) {
            return Err(unknown.clone());
        }
        let redial = |(address, member): (&PeerAddress, &mut Member)| match member.unpark() {
            true => Order::Unpark(address.clone()),
            false => Order::Redial(address.clone()),
        };
        Ok(self.members.iter_mut().filter(|(address, _)| names.contains(address)).map(redial).collect())
    }

    /// The pool has had no ready peer for a while: whoever may know of some is asked again.
    pub(super) fn nobody_ready(&mut self) -> Vec<Order> {
        self.unpark(None)
    }

    /// Empties the pool.
    pub(super) fn stop_all(&mut self) -> Vec<PeerAddress> {
        self.given_up.clear();
        self.list_sources.clear();
        mem::take(&mut self.members).into_keys().collect()
    }

    /// The learned peers go, nobody is probed any more, parked peers are dialled, and so are `askable` ones that
    /// stay.
    fn start_over(&mut self, askable: Vec<PeerAddress>) -> Vec<Order> {
        let mut orders: Vec<_> = mem::take(&mut self.given_up).into_keys().map(Order::StopProbe).collect();
        let learned = self.forget_learned_but(&BTreeSet::new());
        orders.extend(learned.into_iter().map(|address| stop(address, Reason::Reset)));
        orders.extend(self.unpark(None));
        let stays = |address: &PeerAddress| self.members.contains_key(address);
        orders.extend(askable.into_iter().filter(stays).map(Order::Redial));
        self.list_sources.clear();
        orders
    }

    fn is_connected(&self, address: &PeerAddress) -> bool {
        self.members.get(address).is_some_and(|member| *member != Member::Configured { parked: true })
    }

    fn forget(&mut self, address: &PeerAddress) {
        self.members.remove(address);
        self.list_sources.remove(address);
    }

    fn forget_learned_but(&mut self, list: &BTreeSet<PeerAddress>) -> Vec<PeerAddress> {
        let stale = |address: &PeerAddress, member: &mut Member| {
            matches!(member, Member::Learned { .. }) && !list.contains(address)
        };
        let stale: Vec<_> = self.members.extract_if(.., stale).map(|(address, _)| address).collect();
        for address in &stale {
            self.list_sources.remove(address);
        }
        stale
    }

    fn listed(&mut self, address: &PeerAddress, by: &PeerAddress, orders: &mut Vec<Order>) {
        if let Some(member) = self.members.get_mut(address) {
            if address != by && member.unpark() {
                orders.push(Order::Unpark(address.clone()));
            }
        } else if let Some(times) = self.given_up.get(address) {
            // That one peer names another does not make it answer. But it is a reason to try it soon.
            orders.push(Order::Probe(address.clone(), times.saturating_sub(1)));
        } else {
            self.learn(address, 0, orders);
        }
    }

    fn learn(&mut self, address: &PeerAddress, given_up: u32, orders: &mut Vec<Order>) {
        if self.members.len() < self.limit {
            self.members.insert(address.clone(), Member::Learned { given_up });
            orders.push(Order::Start(address.clone(), PeerOrigin::Learned));
        }
    }

    fn has_learned(&self) -> bool {
        self.members.values().any(|member| matches!(member, Member::Learned { .. }))
    }

    fn unpark(&mut self, except: Option<&PeerAddress>) -> Vec<Order> {
        let others = self.members.iter_mut().filter(|(address, _)| Some(*address) != except);
        let unparked = others.filter_map(|(address, member)| member.unpark().then_some(address));
        unparked.cloned().map(Order::Unpark).collect()
    }
}

/// It leaves, and the reason says it all.
fn stop(address: PeerAddress, reason: Reason) -> Order {
    Order::Stop(address, reason, Arc::from(""))
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
