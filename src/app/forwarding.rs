//! Publishing to the fleet, if the node is a part of one.

use std::{sync::Arc, time::Duration};

use tokio::{task::JoinHandle, time::sleep};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::loaded_config::LoadedFleet;
use crate::{
    fleet::{Forwarder, Nats, NatsSettings, StreamSettings},
    metrics::ForwarderMetrics,
    status::Hub,
};

/// Pause after a failed attempt to create the stream.
const CREATE_RETRY: Duration = Duration::from_secs(5);

/// The task that publishes.
pub(super) struct Forwarding {
    pub(super) task: JoinHandle<()>,
    /// Ends it when it has published what there is.
    pub(super) stop: CancellationToken,
}

impl Forwarding {
    /// Begins to connect and to publish. NATS may be away.
    pub(super) fn start(fleet: LoadedFleet, hub: &Arc<Hub>, metrics: ForwarderMetrics) -> Self {
        let LoadedFleet { nats, forwarder, stream, creates_stream, .. } = fleet;
        info!(cluster = %forwarder.cluster, node = %forwarder.node, "publishing to the fleet");
        let created = create_stream(nats.clone(), creates_stream.then_some(stream));
        let forwarder = Forwarder::new(forwarder, Arc::clone(hub), nats, metrics);
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let task = tokio::spawn(async move {
            let mut forwarder = std::pin::pin!(forwarder.run(stopped));
            tokio::select! {
                () = &mut forwarder => {}
                () = created => forwarder.await,
            }
        });
        Self { task, stop }
    }
}

/// Creates the stream, if that is asked for, as soon as there is a connection.
async fn create_stream(settings: NatsSettings, stream: Option<StreamSettings>) {
    let Some(stream) = stream else { return };
    // The configuration was checked, so it connects when NATS is there.
    let Ok(mut nats) = Nats::connect(settings).await else { return };
    loop {
        if nats.state.wait_for(|state| state.is_connected).await.is_err() {
            return;
        }
        match stream.ensure(&nats.jetstream).await {
            Ok(differences) => {
                for difference in differences {
                    warn!(stream = stream.name, "the stream differs from the configuration: {difference}");
                }
                return;
            }
            Err(error) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                warn!(%error, cause, "the stream was not created");
            }
        }
        sleep(CREATE_RETRY).await;
    }
}
