//! What a pool does: effects, which the owner task performs in their order.

use std::{sync::Arc, time::Duration};

use super::command::PoolError;
use crate::{
    opflex::Proxies,
    peer::{PeerAddress, PeerOrigin, PeerStatus, Reason, Report},
    status::Update,
};

/// One thing to do.
#[derive(Debug)]
pub(super) enum Effect {
    /// Publish what happened to a peer.
    Publish(PeerAddress, Update),
    /// Start the session of a peer after this pause. The session that runs for it, if any, is stopped.
    Start(PeerAddress, Duration),
    /// Let the session of a peer close its connection and dial again.
    Redial(PeerAddress),
    /// Stop the session or the probe of a peer.
    Stop(PeerAddress),
    /// Probe a peer without publishing it; the pauses continue after this many.
    Probe(PeerAddress, u32),
    /// Send peers this location, and publish it together with the proxies.
    SetIdentity(Option<String>, Option<Proxies>),
    /// Log that the pool has no room for this many listed peers.
    WarnFull(usize),
    /// Answer the request: how many peers it touched.
    Reply(Result<usize, PoolError>),
}

/// Effects in the order in which they are performed.
#[derive(Debug, Default)]
pub(super) struct Effects(pub(super) Vec<Effect>);

impl Effects {
    /// A new peer is announced and dialled.
    pub(super) fn add(&mut self, address: PeerAddress, origin: PeerOrigin) {
        self.publish(address.clone(), Update::Added(origin));
        self.start(address);
    }

    /// A parked peer is dialled again. The core sets the pause.
    pub(super) fn start(&mut self, address: PeerAddress) {
        self.0.push(Effect::Start(address, Duration::ZERO));
    }

    /// A peer leaves the pool.
    pub(super) fn remove(&mut self, address: PeerAddress, reason: Reason, detail: Arc<str>) {
        self.status(address.clone(), PeerStatus::Closing, reason, detail);
        self.publish(address.clone(), Update::Removed);
        self.stop(address);
    }

    /// A peer stays in the pool without a connection.
    pub(super) fn park(&mut self, address: PeerAddress, detail: Arc<str>) {
        for status in [PeerStatus::Closing, PeerStatus::Disconnected] {
            self.status(address.clone(), status, Reason::NotInPeerList, Arc::clone(&detail));
        }
        self.stop(address);
    }

    pub(super) fn redial(&mut self, address: PeerAddress) {
        self.0.push(Effect::Redial(address));
    }

    pub(super) fn stop(&mut self, address: PeerAddress) {
        self.0.push(Effect::Stop(address));
    }

    pub(super) fn probe(&mut self, address: PeerAddress, pauses: u32) {
        self.0.push(Effect::Probe(address, pauses));
    }

    pub(super) fn set_origin(&mut self, address: PeerAddress, origin: PeerOrigin) {
        self.publish(address, Update::Origin(origin));
    }

    pub(super) fn warn_full(&mut self, left_out: usize) {
        self.0.push(Effect::WarnFull(left_out));
    }

    pub(super) fn publish(&mut self, address: PeerAddress, update: Update) {
        self.0.push(Effect::Publish(address, update));
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

    /// Counts the peers whose connection or pending attempt ends.
    pub(super) fn closed(&self) -> usize {
        let closes =
            |effect: &&Effect| matches!(effect, Effect::Redial(_) | Effect::Publish(_, Update::Removed));
        self.0.iter().filter(closes).count()
    }
}
