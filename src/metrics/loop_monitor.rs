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

/// Interval of the timestamps: people notice a lag of this order.
const EVERY: Duration = Duration::from_millis(250);

/// The timestamps of one event loop.
#[derive(Debug)]
pub struct LoopMonitor {
    begun: Instant,
    /// Time of the last timestamp, in nanoseconds after `begun`.
    last: AtomicU64,
    /// How late it was, in nanoseconds.
    lag: AtomicU64,
}

impl LoopMonitor {
    /// Writes the timestamps, forever. Run it on the event loop to monitor.
    pub async fn keep(self: Arc<Self>) {
        loop {
            let due = Instant::now() + EVERY;
            sleep_until(due).await;
            let now = Instant::now();
            self.lag.store(nanos(now - due), Relaxed);
            self.last.store(nanos(now - self.begun), Relaxed);
        }
    }

    fn since(&self) -> Duration {
        self.begun.elapsed().saturating_sub(Duration::from_nanos(self.last.load(Relaxed)))
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
        let turn =
            Arc::new(LoopMonitor { begun: Instant::now(), last: AtomicU64::new(0), lag: AtomicU64::new(0) });
        self.0.lock().push(Arc::clone(&turn));
        turn
    }

    /// The time since the oldest of the last timestamps.
    #[must_use]
    pub fn since(&self) -> Duration {
        self.0.lock().iter().map(|turn| turn.since()).max().unwrap_or_default()
    }

    /// When all event loops had last run.
    #[must_use]
    pub fn last(&self) -> SystemTime {
        let now = SystemTime::now();
        now.checked_sub(self.since()).unwrap_or(now)
    }

    /// The lag of the latest event loop.
    #[must_use]
    pub fn lag(&self) -> Duration {
        let lag = self.0.lock().iter().map(|turn| turn.lag.load(Relaxed)).max();
        Duration::from_nanos(lag.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_that_does_not_turn_is_seen_beside_one_that_does() {
        let turns = LoopMonitors::default();
        assert_eq!(turns.since(), Duration::ZERO);
        let task = tokio::spawn(turns.add().keep());
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert!(turns.since() <= EVERY, "{:?}", turns.since());
        let _stuck = turns.add();
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert!(turns.since() >= Duration::from_secs(3));
        task.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn a_late_turn_is_a_lag() {
        let turns = LoopMonitors::default();
        let task = tokio::spawn(turns.add().keep());
        tokio::task::yield_now().await;
        advance(EVERY + Duration::from_secs(1)).await;
        tokio::task::yield_now().await;
        assert!(turns.lag() >= Duration::from_secs(1), "{:?}", turns.lag());
        task.abort();
    }
}
