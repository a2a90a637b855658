//! When the configuration is read anew: after SIGHUP, and when the file has changed.

use std::{fs, path::PathBuf, time::Duration};

use sd_notify::NotifyState;
use tokio::{
    signal::unix::Signal,
    task::spawn_blocking,
    time::{MissedTickBehavior, interval},
};
use tracing::info;

use super::notify_systemd;
use crate::{
    app::Reloader,
    config::{Config, Overrides},
    telemetry::Level,
};

/// How often the file is looked at. It is read whole, since times of files say little where they are links to others.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// The file, as it was when it was looked at last.
pub(super) struct File {
    path: Option<PathBuf>,
    seen: Option<Vec<u8>>,
}

impl File {
    /// To be called before the configuration is read, so that no change falls in between.
    pub(super) fn look(settings: &Overrides) -> Self {
        let path = settings.config.clone();
        let seen = path.as_ref().and_then(|path| fs::read(path).ok());
        Self { path, seen }
    }

    /// Whether it has changed. One that is not there is about to be.
    async fn has_changed(&mut self) -> bool {
        let Some(path) = self.path.clone() else { return false };
        // It may be on a disk that takes its time.
        let now = spawn_blocking(move || fs::read(path)).await.ok().and_then(Result::ok);
        if now.is_none() || now == self.seen {
            return false;
        }
        self.seen = now;
        true
    }
}

/// Reads the configuration anew whenever there is a reason.
pub(super) async fn keep(
    mut reloader: Reloader,
    settings: Overrides,
    mut file: File,
    mut hangup: Signal,
    level: Option<Level>,
) {
    let mut look = interval(LOOK_EVERY);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = hangup.recv() => {
                info!("SIGHUP: reading the configuration");
                // What is read now is not to be taken for a change later.
                file.has_changed().await;
            }
            _ = look.tick() => {
                if !file.has_changed().await {
                    continue;
                }
                info!("the configuration file has changed: reading it");
            }
        }
        if let Ok(now) = NotifyState::monotonic_usec_now() {
            notify_systemd(vec![NotifyState::Reloading, now]).await;
        }
        let settings = settings.clone();
        if let Ok(read) = spawn_blocking(move || Config::load(settings)).await {
            reloader.reload(read, level.as_ref()).await;
        }
        notify_systemd(vec![NotifyState::Ready]).await;
    }
}
