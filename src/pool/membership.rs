//! Who belongs to a pool. Pure: it is told what peers said, and orders what to start and to stop.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
};

use crate::peer::{PeerAddress, PeerOrigin, Reason};

/// What to do about a peer. Orders are to be carried out in their order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// It is new: announce and dial it.
    Start(PeerAddress, PeerOrigin),
    /// It leaves the pool.
    Stop(PeerAddress, Reason),
    /// It stays in the pool, without a connection.
    Park(PeerAddress),
    /// It was parked: dial it.
    Unpark(PeerAddress),
}

/// The members of one pool.
#[derive(Debug)]
pub(super) struct Membership {
    members: BTreeMap<PeerAddress, Member>,
    limit: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Member {
    Configured { parked: bool },
    Learned,
}

impl Membership {
    /// An empty pool for at most `limit` peers.
    pub(super) const fn new(limit: usize) -> Self {
        Self { members: BTreeMap::new(), limit }
    }

    /// How many peers it has, parked ones included.
    pub(super) fn len(&self) -> usize {
        self.members.len()
    }

    /// Adds a configured peer.
    pub(super) fn configure(&mut self, address: PeerAddress) -> Vec<Order> {
        let configured = Member::Configured { parked: false };
        match self.members.insert(address.clone(), configured) {
            None => vec![Order::Start(address, PeerOrigin::Configured)],
            Some(Member::Configured { parked: true }) => vec![Order::Unpark(address)],
            Some(Member::Configured { parked: false } | Member::Learned) => vec![],
        }
    }

    /// A peer answered our identity with this list. The last list wins: a learned peer that is not on it
    /// goes. A configured peer that does not list itself is an address that only tells about others (the
    /// anycast bootstrap address): it is parked.
    pub(super) fn identified(&mut self, by: &PeerAddress, list: Vec<PeerAddress>) -> Vec<Order> {
        let list: BTreeSet<_> = list.into_iter().collect();
        let mut orders = Vec::new();
        let learned_before = self.has_learned();
        // They go first, so that they take no room from those that come, but it is said of them last.
        let stale = self.forget_learned_but(&list);
        for address in &list {
            self.listed(address, by, &mut orders);
        }
        orders.extend(stale.into_iter().map(|address| Order::Stop(address, Reason::NotInPeerList)));
        if !list.contains(by)
            && let Some(Member::Configured { parked }) = self.members.get_mut(by)
            && !mem::replace(parked, true)
        {
            orders.push(Order::Park(by.clone()));
        }
        if learned_before && !self.has_learned() {
            orders.extend(self.unpark(Some(by)));
        }
        orders
    }

    /// The pool has had no ready peer for a while: whoever may know of some is asked again.
    pub(super) fn nobody_ready(&mut self) -> Vec<Order> {
        self.unpark(None)
    }

    /// Empties the pool.
    pub(super) fn stop_all(&mut self) -> Vec<PeerAddress> {
        mem::take(&mut self.members).into_keys().collect()
    }

    fn forget_learned_but(&mut self, list: &BTreeSet<PeerAddress>) -> Vec<PeerAddress> {
        let stale = |address: &PeerAddress, member: &mut Member| {
            *member == Member::Learned && !list.contains(address)
        };
        self.members.extract_if(.., stale).map(|(address, _)| address).collect()
    }

    fn listed(&mut self, address: &PeerAddress, by: &PeerAddress, orders: &mut Vec<Order>) {
        let full = self.members.len() >= self.limit;
        match self.members.get_mut(address) {
            None if full => {}
            None => {
                self.members.insert(address.clone(), Member::Learned);
                orders.push(Order::Start(address.clone(), PeerOrigin::Learned));
            }
            Some(member) => {
                if address != by && member.unpark() {
                    orders.push(Order::Unpark(address.clone()));
                }
            }
        }
    }

    fn has_learned(&self) -> bool {
        self.members.values().any(|member| *member == Member::Learned)
    }

    fn unpark(&mut self, except: Option<&PeerAddress>) -> Vec<Order> {
        let others = self.members.iter_mut().filter(|(address, _)| Some(*address) != except);
        let unparked = others.filter_map(|(address, member)| member.unpark().then_some(address));
        unparked.cloned().map(Order::Unpark).collect()
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
