//! What a pool does: effects, which the owner task performs in their order.

use std::{fmt, sync::Arc, time::Duration};

use super::command::PoolError;
use crate::{
    opflex::Proxies,
    peer::{PeerAddress, PeerOrigin, PeerStatus, Reach, Reason, Report},
    status::Update,
};

/// One thing to do.
#[derive(Debug)]
pub(super) enum Effect {
    /// Publish these in one step.
    Publish(Vec<(PeerAddress, Update)>),
    /// Start the session of a peer after this pause; it may dial these addresses. The session that runs for it, if any,
    /// is stopped.
    Start(PeerAddress, Duration, Reach),
    /// Let the session of a peer dial these addresses from now on.
    SetReach(PeerAddress, Reach),
    /// Let the session of a peer close its connection and dial again.
    Redial(PeerAddress),
    /// Stop the session of a peer.
    Stop(PeerAddress),
    /// Send peers this location, and publish it together with the proxies.
    SetIdentity(Option<String>, Option<Proxies>),
    /// Count and log the peers in a list of this peer that are not learned.
    LeftOut(PeerAddress, LeftOut),
    /// Log this about a peer.
    Warn(PeerAddress, String),
    /// Answer the request: how many peers it touched.
    Reply(Result<usize, PoolError>),
}

/// How many new peers of a list are not learned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct LeftOut {
    /// The pool has no room for them.
    pub(super) full: usize,
    /// They are learned later: there are too many at once.
    pub(super) later: usize,
    /// A list may not name them, and the first of them.
    pub(super) local: Option<(usize, PeerAddress)>,
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("peers that it lists are not learned")?;
        if let Some((count, first)) = &self.local {
            write!(f, "; {count} that are local, {first} first: see learn_local")?;
        }
        if self.later > 0 {
            write!(f, "; {} until later, since there are too many new ones at once", self.later)?;
        }
        if self.full > 0 {
            write!(f, "; {} because the pool is full", self.full)?;
        }
        Ok(())
    }
}

/// Collects what one event leads to.
#[derive(Debug, Default)]
pub(super) struct Effects {
    pub(super) updates: Vec<(PeerAddress, Update)>,
    pub(super) actions: Vec<Effect>,
}

impl Effects {
    /// A new peer is announced and dialled.
    pub(super) fn add(
        &mut self,
        address: PeerAddress,
        origin: PeerOrigin,
        listed_by: Option<PeerAddress>,
        reach: Reach,
    ) {
        self.publish(address.clone(), Update::Added(origin, listed_by));
        self.start(address, reach);
    }

    /// A peer is dialled. The core sets the pause.
    pub(super) fn start(&mut self, address: PeerAddress, reach: Reach) {
        self.actions.push(Effect::Start(address, Duration::ZERO, reach));
    }

    /// A peer leaves the pool.
    pub(super) fn remove(&mut self, address: PeerAddress, reason: Reason, detail: Arc<str>) {
        self.status(address.clone(), PeerStatus::Closing, reason, detail);
        self.publish(address.clone(), Update::Removed);
        self.actions.push(Effect::Stop(address));
    }

    /// A peer stays in the pool without a connection.
    pub(super) fn park(&mut self, address: PeerAddress, detail: Arc<str>) {
        for status in [PeerStatus::Closing, PeerStatus::Disconnected] {
            self.status(address.clone(), status, Reason::NotInPeerList, Arc::clone(&detail));
        }
        self.actions.push(Effect::Stop(address));
    }

    pub(super) fn status(
        &mut self,
        address: PeerAddress,
        status: PeerStatus,
        reason: Reason,
        detail: Arc<str>,
    ) {
        self.publish(address, Update::Status(Report { detail, ..Report::new(status, reason) }));
    }

    pub(super) fn publish(&mut self, address: PeerAddress, update: Update) {
        self.updates.push((address, update));
    }

    /// Counts the peers whose connection or pending attempt ends.
    pub(super) fn closed(&self) -> usize {
        let closes = |effect: &&Effect| matches!(effect, Effect::Redial(_) | Effect::Stop(_));
        self.actions.iter().filter(closes).count()
    }

    /// Publishes first, then acts.
    pub(super) fn into_vec(self) -> Vec<Effect> {
        let publish = (!self.updates.is_empty()).then_some(Effect::Publish(self.updates));
        publish.into_iter().chain(self.actions).collect()
    }
}
