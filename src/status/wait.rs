//! Waiting for the health of a pool.
//!
//! A [`HealthWait`] is a cursor into the log, as a listener is: it does not miss a health that the pool had for one
//! revision only.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use super::{Event, Hub, PoolState, Wakeup, subscription::READ_AHEAD};
use crate::peer::PoolHealth;

/// Reads before it yields to other tasks.
const READS_PER_POLL: usize = 8;

/// Resolves to the pool as it was when it had the wanted health; `None`: there is no such pool any more.
pub struct HealthWait {
    hub: Arc<Hub>,
    wanted: PoolHealth,
    /// As it is at `cursor`.
    pool: Arc<PoolState>,
    /// Everything up to here was read.
    cursor: u64,
    changes: Wakeup,
    read: Vec<Arc<Event>>,
    /// The pool was removed.
    is_gone: bool,
}

impl HealthWait {
    /// Waits from now on. `None`: there is no such pool.
    #[must_use]
    pub fn new(hub: Arc<Hub>, pool: &str, wanted: PoolHealth) -> Option<Self> {
        let (pool, cursor) = hub.pool(pool)?;
        let changes = hub.wakers().add();
        Some(Self { hub, wanted, pool, cursor: cursor.revision, changes, read: Vec::new(), is_gone: false })
    }

    /// The pool as it is now.
    #[must_use]
    pub fn pool(&self) -> Arc<PoolState> {
        self.hub.pool(&self.pool.name).map_or_else(|| Arc::clone(&self.pool), |(pool, _)| pool)
    }

    /// The pool, if it has the wanted health.
    #[must_use]
    pub fn met(&self) -> Option<Arc<PoolState>> {
        // Of a node of which nothing is heard, the health is not known.
        let is_known = self.pool.stale_since.is_none();
        (is_known && meets(self.pool.health, self.wanted)).then(|| Arc::clone(&self.pool))
    }

    /// Reads on in the log until the wait is over. Returns false at the end of the log.
    fn advance(&mut self) -> bool {
        let mut read = std::mem::take(&mut self.read);
        let progressed = match self.hub.read_after(self.cursor, READ_AHEAD, &mut read) {
            Ok(reached) => std::mem::replace(&mut self.cursor, reached) != reached || !read.is_empty(),
            // The log moved past, or starts over: the state of now counts.
            Err(_) => {
                let now = self.hub.pool(&self.pool.name);
                self.is_gone = now.is_none();
                now.is_some_and(|(pool, cursor)| {
                    (self.pool, self.cursor) = (pool, cursor.revision);
                    true
                })
            }
        };
        for event in read.drain(..) {
            if self.met().is_some() {
                break;
            }
            if event.node.as_ref().is_some_and(|change| change.node.node.pools.contains(&self.pool.name)) {
                let stale_since = event.node.as_ref().and_then(|change| change.node.node.stale_since);
                Arc::make_mut(&mut self.pool).stale_since = stale_since;
            }
            if event.peer.as_ref().is_none_or(|change| change.peer.pool != self.pool.name) {
                continue;
            }
            let pool = Arc::make_mut(&mut self.pool);
            pool.revision = event.revision;
            if let Some(change) = event.health {
                (pool.health, pool.health_since) = (change.health, event.time);
                (pool.ready, pool.wanted) = (change.ready, change.wanted);
            }
        }
        self.read = read;
        progressed
    }
}

impl Future for HealthWait {
    type Output = Option<Arc<PoolState>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        // Registered before the check, so that no change is missed.
        self.changes.register(cx.waker());
        for _ in 0..READS_PER_POLL {
            if let Some(pool) = self.met() {
                return Poll::Ready(Some(pool));
            }
            if !self.advance() {
                return if self.is_gone { Poll::Ready(None) } else { Poll::Pending };
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// Whether the health is the wanted one, or better if the wanted one is not DOWN. An unknown one is none of them.
fn meets(health: PoolHealth, wanted: PoolHealth) -> bool {
    match wanted {
        PoolHealth::Unknown => false,
        PoolHealth::Down => health == PoolHealth::Down,
        PoolHealth::Degraded | PoolHealth::Healthy => health >= wanted,
    }
}
