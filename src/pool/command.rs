//! What a pool can be asked to do, and the handle to ask it by.

use std::collections::BTreeSet;

use tokio::sync::{mpsc, oneshot};

use super::membership::{AddRefused, Membership, Order, RemoveRefused};
use crate::peer::PeerAddress;

/// Requests on their way to a pool. Who asks waits when it is full.
pub(super) const COMMANDS: usize = 64;

/// Which peers to reset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reset {
    /// The learned ones go, and those that told of them are asked again.
    Learned,
    /// The learned ones go, and all the others are dialled again.
    All,
    /// These are dialled again.
    Named(BTreeSet<PeerAddress>),
}

/// Why a pool did not do what it was asked to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PoolError {
    /// The peer is configured already.
    #[error("the peer is configured already")]
    PeerExists,
    /// The peer is not in the pool.
    #[error("no such peer")]
    PeerNotFound(PeerAddress),
    /// The peer is learned: it comes and goes with the lists of others.
    #[error("the peer is learned from others; only configured peers can be removed")]
    PeerNotConfigured,
    /// The pool has as many peers as it may have.
    #[error("the pool has {0} peers, which is the limit")]
    PeerQuota(usize),
    /// The pool has stopped.
    #[error("the pool has stopped")]
    Stopped,
}

/// A request, and where its answer goes: how many peers it touched.
pub(super) struct Command {
    ask: Ask,
    answer: oneshot::Sender<Result<usize, PoolError>>,
}

enum Ask {
    Add(PeerAddress),
    Remove(PeerAddress),
    Reset(Reset),
    Limit(usize),
}

/// A way to a running pool.
#[derive(Clone)]
pub struct PoolHandle {
    commands: mpsc::Sender<Command>,
}

impl PoolHandle {
    pub(super) const fn new(commands: mpsc::Sender<Command>) -> Self {
        Self { commands }
    }

    /// Adds a configured peer. A learned one becomes configured. Returns when that has been published.
    ///
    /// # Errors
    /// It is configured already, the pool is full or has stopped.
    pub async fn add(&self, address: PeerAddress) -> Result<(), PoolError> {
        self.ask(Ask::Add(address)).await.map(drop)
    }

    /// Removes a configured peer. Returns when that has been published.
    ///
    /// # Errors
    /// It is not there or not configured, or the pool has stopped.
    pub async fn remove(&self, address: PeerAddress) -> Result<(), PoolError> {
        self.ask(Ask::Remove(address)).await.map(drop)
    }

    /// Closes connections and starts over. Returns how many.
    ///
    /// # Errors
    /// A named peer is not there, or the pool has stopped.
    pub async fn reset(&self, reset: Reset) -> Result<usize, PoolError> {
        self.ask(Ask::Reset(reset)).await
    }

    /// How many peers it may have from now on. If it has more, they stay, and no more come.
    ///
    /// # Errors
    /// The pool has stopped.
    pub async fn set_limit(&self, limit: usize) -> Result<(), PoolError> {
        self.ask(Ask::Limit(limit)).await.map(drop)
    }

    async fn ask(&self, ask: Ask) -> Result<usize, PoolError> {
        let (answer, answered) = oneshot::channel();
        self.commands.send(Command { ask, answer }).await.map_err(|_| PoolError::Stopped)?;
        answered.await.map_err(|_| PoolError::Stopped)?
    }
}

impl Command {
    /// What has to be done for it.
    pub(super) fn decide(&self, members: &mut Membership) -> Result<Vec<Order>, PoolError> {
        match &self.ask {
            Ask::Add(address) => members.add(address.clone()).map_err(|refused| match refused {
                AddRefused::Exists => PoolError::PeerExists,
                AddRefused::Full(limit) => PoolError::PeerQuota(limit),
            }),
            Ask::Remove(address) => members.remove(address).map_err(|refused| match refused {
                RemoveRefused::Unknown => PoolError::PeerNotFound(address.clone()),
                RemoveRefused::NotConfigured => PoolError::PeerNotConfigured,
            }),
            Ask::Limit(limit) => {
                members.set_limit(*limit);
                Ok(Vec::new())
            }
            Ask::Reset(Reset::Learned) => Ok(members.reset_learned()),
            Ask::Reset(Reset::All) => Ok(members.reset_all()),
            Ask::Reset(Reset::Named(names)) => members.reset_named(names).map_err(PoolError::PeerNotFound),
        }
    }

    /// Whether what was learned from peers is to be forgotten.
    pub(super) const fn starts_over(&self) -> bool {
        matches!(self.ask, Ask::Reset(Reset::Learned | Reset::All))
    }

    /// Answers, with how many peers were touched.
    pub(super) fn answer(self, touched: Result<usize, PoolError>) {
        // Whoever asked may have gone.
        let _ = self.answer.send(touched);
    }
}
