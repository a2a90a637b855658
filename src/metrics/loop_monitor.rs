//! Detects blocked event loops: a task on each writes a timestamp at an interval, which other threads check.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, SystemTime},
};

use parking_lot::Mutex;
use tokio::time::{Instant, sleep_until};

/// Interval of the timestamps: short enough to see a lag that users notice, and long enough that a service without work hardly wakes for it,
/// once for each thread.
const INTERVAL: Duration = Duration::from_millis(500);

/// The timestamps of one event loop.
#[derive(Debug)]
pub struct LoopMonitor {
    started: Instant,
    /// Time of the last timestamp, in nanoseconds after `started`.
    last: AtomicU64,
    /// How late it was, in nanoseconds.
    lag: AtomicU64,
}

impl LoopMonitor {
    /// Writes the timestamps, forever. Run it on the event loop to monitor.
    pub async fn run(self: Arc<Self>) {
        loop {
            let due = Instant::now() + INTERVAL;
            sleep_until(due).await;
            let now = Instant::now();
            self.lag.store(nanos(now - due), Relaxed);
            self.last.store(nanos(now - self.started), Relaxed);
        }
    }

    fn since_last_run(&self) -> Duration {
        self.started.elapsed().saturating_sub(Duration::from_nanos(self.last.load(Relaxed)))
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// All event loops. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct LoopMonitors(Arc<Mutex<Vec<Arc<LoopMonitor>>>>);

impl LoopMonitors {
    /// Adds an event loop.
    #[must_use]
    pub fn add(&self) -> Arc<LoopMonitor> {
        let monitor = Arc::new(LoopMonitor {
            started: Instant::now(),
            last: AtomicU64::new(0),
            lag: AtomicU64::new(0),
        });
        self.0.lock().push(Arc::clone(&monitor));
        monitor
    }

    /// The time since the oldest of the last timestamps.
    #[must_use]
    pub fn since_last_run(&self) -> Duration {
        self.0.lock().iter().map(|monitor| monitor.since_last_run()).max().unwrap_or_default()
    }

    /// When all event loops had last run.
    #[must_use]
    pub fn last_run(&self) -> SystemTime {
        let now = SystemTime::now();
        now.checked_sub(self.since_last_run()).unwrap_or(now)
    }

    /// The lag of the latest event loop.
    #[must_use]
    pub fn lag(&self) -> Duration {
        let lag = self.0.lock().iter().map(|monitor| monitor.lag.load(Relaxed)).max();
        Duration::from_nanos(lag.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_that_does_not_turn_is_seen_beside_one_that_does() {
        let monitors = LoopMonitors::default();
        assert_eq!(monitors.since_last_run(), Duration::ZERO);
        let task = tokio::spawn(monitors.add().run());
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert!(monitors.since_last_run() <= INTERVAL, "{:?}", monitors.since_last_run());
        let _stuck = monitors.add();
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert!(monitors.since_last_run() >= Duration::from_secs(3));
        task.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn a_late_turn_is_a_lag() {
        let monitors = LoopMonitors::default();
        let task = tokio::spawn(monitors.add().run());
        tokio::task::yield_now().await;
        advance(INTERVAL + Duration::from_secs(1)).await;
        tokio::task::yield_now().await;
        assert!(monitors.lag() >= Duration::from_secs(1), "{:?}", monitors.lag());
        task.abort();
    }
}
