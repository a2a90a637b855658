//! The observed pools, which a reload may add and remove.

use std::{collections::BTreeMap, sync::Arc};

use tokio::{
    sync::{mpsc, oneshot},
    task::{AbortHandle, JoinError, JoinSet},
};
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::pool::{ObservedConfig, ObservedContext, observe};

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
pub(super) struct ObservedHandle(mpsc::Sender<Replacement>);

impl ObservedHandle {
    /// Returns when those that go are gone, or when the service stops.
    pub(super) async fn replace(&self, removed: Vec<String>, added: Vec<ObservedConfig>) {
        let (done, is_done) = oneshot::channel();
        if self.0.send(Replacement { removed, added, done }).await.is_ok() {
            let _ = is_done.await;
        }
    }
}

/// Runs the observed pools.
pub(super) struct ObservedPools {
    context: ObservedContext,
    stop: CancellationToken,
    tasks: JoinSet<()>,
    running: BTreeMap<Arc<str>, (AbortHandle, CancellationToken)>,
    requests: mpsc::Receiver<Replacement>,
}

impl ObservedPools {
    /// Starts these.
    pub(super) fn start(
        pools: impl Iterator<Item = ObservedConfig>,
        context: ObservedContext,
        stop: CancellationToken,
    ) -> (Self, ObservedHandle) {
        let (sender, requests) = mpsc::channel(QUEUE);
        let (tasks, running) = (JoinSet::new(), BTreeMap::new());
        let mut all = Self { context, stop, tasks, running, requests };
        pools.for_each(|pool| all.open(pool));
        (all, ObservedHandle(sender))
    }

    fn open(&mut self, pool: ObservedConfig) {
        let (name, stop) = (Arc::clone(&pool.name), self.stop.child_token());
        let task = self.tasks.spawn(observe(pool, self.context.clone(), stop.clone()));
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
                    let _ = done.send(());
                }
                Some(ended) = self.tasks.join_next() => check(ended),
            }
        }
        while let Some(ended) = self.tasks.join_next().await {
            check(ended);
        }
    }

    /// Its peers leave, and then the pool.
    async fn close(&mut self, name: &str) {
        let Some((task, stop)) = self.running.remove(name) else { return };
        stop.cancel();
        while !task.is_finished() {
            let Some(ended) = self.tasks.join_next().await else { break };
            check(ended);
        }
        self.context.hub.remove_pool(name);
        info!(pool = name, "the pool is no longer observed");
    }
}

/// A panic of one is one of all, which stops the service.
fn check(ended: Result<(), JoinError>) {
    if let Err(error) = ended {
        std::panic::resume_unwind(error.into_panic());
    }
}
