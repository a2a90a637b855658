//! The task that destroys listeners whose idle TTL has passed.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, interval};
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::status::Listeners;

/// How often detached listeners are checked for expiry.
const EXPIRE_INTERVAL: Duration = Duration::from_secs(1);

pub(super) async fn expire(listeners: Arc<Listeners>, stop: CancellationToken) {
    let mut every = interval(EXPIRE_INTERVAL);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = every.tick() => {
                let expired = listeners.expire(Instant::now());
                if expired > 0 {
                    info!(expired, "listeners expired");
                }
            }
        }
    }
}
