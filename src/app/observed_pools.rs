//! The observed pools, which a reload may add and remove.

use std::{collections::BTreeMap, sync::Arc};

use tokio::{
    sync::{mpsc, oneshot, watch},
    task::{AbortHandle, JoinError, JoinSet},
};
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::{
    peer::{PeerStatus, Reason, Report},
    pool::{ObservedConfig, ObservedContext, observe},
    status::{Update, clock},
};

/// A reload waits for the one before.
const QUEUE: usize = 1;

/// Pools that go, and pools that come.
#[derive(Debug)]
struct Replacement {
    removed: Vec<String>,
    added: Vec<ObservedConfig>,
    done: oneshot::Sender<()>,
}

/// Asks for other observed pools.
#[derive(Clone, Debug)]
pub(super) struct ObservedHandle {
    requests: mpsc::Sender<Replacement>,
    peer_limit: watch::Sender<usize>,
}

impl ObservedHandle {
    /// Returns when those that go are gone, or when the service stops.
    pub(super) async fn replace(&self, removed: Vec<String>, added: Vec<ObservedConfig>) {
        let (done, is_done) = oneshot::channel();
        if self.requests.send(Replacement { removed, added, done }).await.is_ok() {
            let _ = is_done.await;
        }
    }

    /// How many peers each pool may have from now on.
    pub(super) fn set_peer_limit(&self, limit: usize) {
        self.peer_limit.send_replace(limit);
    }
}

/// Runs the observed pools.
pub(super) struct ObservedPools {
    context: ObservedContext,
    stop: CancellationToken,
    tasks: JoinSet<()>,
    running: BTreeMap<Arc<str>, (AbortHandle, CancellationToken)>,
    requests: mpsc::Receiver<Replacement>,
    peer_limit: watch::Receiver<usize>,
}

impl ObservedPools {
    /// Starts these.
    pub(super) fn start(
        pools: impl Iterator<Item = ObservedConfig>,
        context: ObservedContext,
        peer_limit: usize,
        stop: CancellationToken,
    ) -> (Self, ObservedHandle) {
        let (sender, requests) = mpsc::channel(QUEUE);
        let (limit_sender, peer_limit) = watch::channel(peer_limit);
        let (tasks, running) = (JoinSet::new(), BTreeMap::new());
        let mut all = Self { context, stop, tasks, running, requests, peer_limit };
        pools.for_each(|pool| all.open(pool));
        (all, ObservedHandle { requests: sender, peer_limit: limit_sender })
    }

    fn open(&mut self, pool: ObservedConfig) {
        let (name, stop) = (Arc::clone(&pool.name), self.stop.child_token());
        let task =
            self.tasks.spawn(observe(pool, self.context.clone(), self.peer_limit.clone(), stop.clone()));
        self.running.insert(name, (task, stop));
    }

    /// Runs until `stop`, and until the pools have ended.
    pub(super) async fn run(mut self) {
        loop {
            tokio::select! {
                () = self.stop.cancelled() => break,
                Some(Replacement { removed, added, done }) = self.requests.recv() => {
                    for name in removed {
                        self.close(&name).await;
                    }
                    added.into_iter().for_each(|pool| self.open(pool));
                    self.context.hub.start_watches_over();
                    let _ = done.send(());
                }
                Some(ended) = self.tasks.join_next() => check(ended),
            }
        }
        while let Some(ended) = self.tasks.join_next().await {
            check(ended);
        }
    }

    /// Its peers leave, as from any pool, and then the pool.
    async fn close(&mut self, name: &str) {
        let Some((task, stop)) = self.running.remove(name) else { return };
        stop.cancel();
        while !task.is_finished() {
            let Some(ended) = self.tasks.join_next().await else { break };
            check(ended);
        }
        let hub = &self.context.hub;
        let peers = hub.peers(Some(name), None, usize::MAX).map(|(peers, _)| peers).unwrap_or_default();
        let closing = Report {
            detail: "it is not observed any more: the agent's connection goes on".into(),
            ..Report::new(PeerStatus::Closing, Reason::PoolStopping)
        };
        for update in [Update::Status(closing), Update::Removed] {
            let updates = peers.iter().map(|peer| (peer.address.clone(), update.clone()));
            hub.apply(name, clock::now(), updates);
        }
        hub.remove_pool(name);
        info!(pool = name, "the pool is no longer observed");
    }
}

/// A panic of one is one of all, which stops the service.
fn check(ended: Result<(), JoinError>) {
    if let Err(error) = ended {
        std::panic::resume_unwind(error.into_panic());
    }
}
