//! The order in which the service drains and stops.

use std::{sync::Arc, time::Duration};

use tokio::{net::TcpListener, sync::watch, task::JoinSet, time::timeout};
use tokio_util::{
    sync::CancellationToken,
    task::{AbortOnDropHandle, TaskTracker},
};
use tracing::{info, warn};

use super::{RunError, forwarding::Forwarding};
use crate::{
    metrics::LoopMonitors,
    server::{Server, SocketFile},
    status::Listeners,
};

/// After the drain timeout: how long the server has to end the remaining streams with a status.
const REFUSAL_LINGER: Duration = Duration::from_millis(100);
/// How long connections to peers have to close.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// The parts of the service that are shut down in order.
pub(super) struct DrainParts {
    pub(super) listeners: Arc<Listeners>,
    /// Signals calls that the service is draining.
    pub(super) drain: watch::Sender<bool>,
    pub(super) loops: LoopMonitors,
    /// Connections to peers.
    pub(super) tasks: TaskTracker,
    /// The owner tasks of the pools, and the tasks for reloads and expiry.
    pub(super) owners: JoinSet<()>,
    /// Publishes what there is before the pools stop, so that a restart is not published as a removal of peers.
    pub(super) forwarding: Option<Forwarding>,
    pub(super) stop_pools: CancellationToken,
    /// Removed at the end.
    pub(super) socket_file: Option<SocketFile>,
    pub(super) drain_timeout: Duration,
}

/// Runs until `stop`, or until a task ends that should not, and then shuts down: first the streams of clients, then the
/// pools.
pub(super) async fn run(
    mut parts: DrainParts,
    server: Server,
    listener: TcpListener,
    stop: CancellationToken,
) -> Result<(), RunError> {
    let _monitor = AbortOnDropHandle::new(tokio::spawn(parts.loops.add().run()));
    let close = CancellationToken::new();
    let mut server = tokio::spawn(server.serve(listener, close.clone().cancelled_owned()));
    let outcome = tokio::select! {
        biased;
        () = stop.cancelled() => Ok(()),
        ended = &mut server => ended?.map_err(RunError::from).and(Err(RunError::Ended)),
        ended = forwarding_ended(&mut parts.forwarding) => ended.map_err(RunError::from).and(Err(RunError::Ended)),
        Some(ended) = parts.owners.join_next() => ended.map_err(RunError::from).and(Err(RunError::Ended)),
    };
    info!("stopping");
    stop.cancel();
    parts.listeners.drain();
    parts.drain.send_replace(true);
    if outcome.is_ok() {
        // Until the last stream has ended, new calls are answered with DRAINING.
        let published = stop_forwarding(parts.forwarding.take(), parts.drain_timeout);
        let drained = async {
            parts.listeners.idle().await;
            close.cancel();
            let _ = (&mut server).await;
        };
        let (drained, ()) = tokio::join!(timeout(parts.drain_timeout, drained), published);
        if drained.is_err() {
            let (_, streams) = parts.listeners.count();
            warn!(
                streams,
                "streams are still open after the drain timeout of {:?}: closing them", parts.drain_timeout
            );
            // Ends the streams that can still be written to with a status.
            close.cancel();
            let _ = timeout(REFUSAL_LINGER, &mut server).await;
        }
    }
    server.abort();
    parts.stop_pools.cancel();
    parts.tasks.close();
    let closed = async {
        while parts.owners.join_next().await.is_some() {}
        parts.tasks.wait().await;
    };
    if timeout(CLOSE_TIMEOUT, closed).await.is_err() {
        warn!("connections to peers did not close within {CLOSE_TIMEOUT:?}");
    }
    drop(parts.socket_file);
    info!("stopped");
    outcome
}

/// Pends forever without a fleet.
async fn forwarding_ended(forwarding: &mut Option<Forwarding>) -> Result<(), tokio::task::JoinError> {
    match forwarding {
        Some(forwarding) => (&mut forwarding.task).await,
        None => std::future::pending().await,
    }
}

/// Lets it publish what there is, within the drain timeout.
async fn stop_forwarding(forwarding: Option<Forwarding>, drain_timeout: Duration) {
    let Some(Forwarding { task, stop }) = forwarding else { return };
    let task = AbortOnDropHandle::new(task);
    stop.cancel();
    if timeout(drain_timeout, task).await.is_err() {
        warn!(
            "the newest changes were not published to the fleet within the drain timeout of {drain_timeout:?}"
        );
    }
}
