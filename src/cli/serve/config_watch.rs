//! Reloads the configuration after SIGHUP, and when its file has changed.

use std::time::Duration;

use sd_notify::NotifyState;
use tokio::{
    signal::unix::Signal,
    task::spawn_blocking,
    time::{MissedTickBehavior, interval},
};
use tracing::info;

use super::notify_systemd;
use crate::{
    app::{LoadedConfig, Reloader},
    config::Overrides,
    reload::WatchedFiles,
    telemetry::Level,
};

/// How often the file is checked: an operator who edits it expects an effect within seconds.
const CHECK_INTERVAL: Duration = Duration::from_secs(2);

/// Watches the configuration file, if there is one. Call this before reading the configuration, so that a change in
/// between is noticed.
pub(super) fn watch(settings: &Overrides) -> WatchedFiles {
    WatchedFiles::new(settings.config.iter().cloned().collect())
}

/// Reads the configuration again after each SIGHUP and each change of the file. SIGHUP says that the file is complete.
pub(super) async fn run(
    mut reloader: Reloader,
    settings: Overrides,
    mut files: WatchedFiles,
    mut hangup: Signal,
    level: Option<Level>,
) {
    let mut check = interval(CHECK_INTERVAL);
    check.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let is_requested = tokio::select! {
            _ = hangup.recv() => true,
            _ = check.tick() => false,
        };
        reloader.retry_refused().await;
        // On a blocking thread: the disk may be slow. Also after SIGHUP, or the next check would report the same change.
        let checked = spawn_blocking(move || {
            if is_requested {
                files.accept();
            }
            (files.have_changed(), files)
        });
        let checked = checked.await;
        let Ok((has_changed, watched)) = checked else { return };
        files = watched;
        if is_requested {
            info!("SIGHUP: reading the configuration");
        } else if has_changed {
            info!("the configuration file has changed: reading it");
        } else {
            continue;
        }
        if let Ok(now) = NotifyState::monotonic_usec_now() {
            notify_systemd(vec![NotifyState::Reloading, now]).await;
        }
        let settings = settings.clone();
        if let Ok(read) = spawn_blocking(move || LoadedConfig::load(&settings)).await {
            reloader.reload(read, level.as_ref()).await;
        }
        notify_systemd(vec![NotifyState::Ready]).await;
    }
}
