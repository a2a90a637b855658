//! Requests to a running pool, and the handle that sends them.

use std::collections::BTreeSet;

use tokio::sync::{mpsc, oneshot};

use crate::peer::PeerAddress;

/// Requests on their way to a pool. When the queue is full, callers wait.
const QUEUE: usize = 64;

/// Which peers to reset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reset {
    /// Learned peers leave, and the peers that listed others are dialled again.
    Learned,
    /// Learned peers leave, and all configured peers are dialled again.
    All,
    /// These peers are dialled again.
    Named(BTreeSet<PeerAddress>),
}

/// Why a pool refused a request.
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

/// What a client or the configuration asks of a pool.
#[derive(Debug)]
pub(super) enum Request {
    Add(PeerAddress),
    Remove(PeerAddress),
    Reset(Reset),
    SetLimit(usize),
}

/// Where the answer to a request goes: how many peers it touched.
pub(super) type Reply = oneshot::Sender<Result<usize, PoolError>>;

/// Sends requests to a running pool.
#[derive(Clone)]
pub struct PoolHandle {
    requests: mpsc::Sender<(Request, Reply)>,
}

impl PoolHandle {
    pub(super) fn new() -> (Self, mpsc::Receiver<(Request, Reply)>) {
        let (requests, receiver) = mpsc::channel(QUEUE);
        (Self { requests }, receiver)
    }

    /// Adds a configured peer. A learned one becomes configured. Returns when that has been published.
    ///
    /// # Errors
    /// It is configured already, the pool is full or has stopped.
    pub async fn add(&self, address: PeerAddress) -> Result<(), PoolError> {
        self.send(Request::Add(address)).await.map(drop)
    }

    /// Removes a configured peer. Returns when that has been published.
    ///
    /// # Errors
    /// It is not there or not configured, or the pool has stopped.
    pub async fn remove(&self, address: PeerAddress) -> Result<(), PoolError> {
        self.send(Request::Remove(address)).await.map(drop)
    }

    /// Closes connections and starts over. Returns how many.
    ///
    /// # Errors
    /// A named peer is not there, or the pool has stopped.
    pub async fn reset(&self, reset: Reset) -> Result<usize, PoolError> {
        self.send(Request::Reset(reset)).await
    }

    /// Changes how many peers the pool may have. Peers beyond it stay, and no more are added.
    ///
    /// # Errors
    /// The pool has stopped.
    pub async fn set_limit(&self, limit: usize) -> Result<(), PoolError> {
        self.send(Request::SetLimit(limit)).await.map(drop)
    }

    async fn send(&self, request: Request) -> Result<usize, PoolError> {
        let (reply, answer) = oneshot::channel();
        self.requests.send((request, reply)).await.map_err(|_| PoolError::Stopped)?;
        answer.await.map_err(|_| PoolError::Stopped)?
    }
}
