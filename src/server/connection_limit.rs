//! The limits on connections: which one gets a place, and which one gives way.
//!
//! A connection is admitted when one of its requests is authorized. Admitted connections keep their places. The others
//! share a part of the places, and give way to new ones: the oldest of the source that has most of them.

use std::{
    collections::HashMap,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{sync::Notify, time::Instant};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::source::{Evictable, Source};

/// One of so many places is for connections that are not admitted.
const UNADMITTED_PART: usize = 4;
/// At least so many are, or all.
const MIN_UNADMITTED: usize = 256;
/// Between two warnings.
const WARNING_INTERVAL: Duration = Duration::from_secs(30);

/// The limits on the connections of a listening socket.
#[derive(Clone, Copy, Debug)]
pub(super) struct PlaceLimits {
    pub(super) all: usize,
    pub(super) unadmitted: usize,
    pub(super) per_source: usize,
}

impl PlaceLimits {
    pub(super) fn new(all: usize, per_source: usize) -> Self {
        let unadmitted = (all / UNADMITTED_PART).max(MIN_UNADMITTED).min(all);
        Self { all, unadmitted, per_source }
    }
}

/// The answer to a new connection.
#[derive(Debug)]
enum Verdict {
    /// It has this place.
    Place(u64),
    /// It has this place, and this connection gives way.
    PlaceOf(u64, CancellationToken),
    /// Its source has too many, all of them admitted.
    SourceFull,
    /// All places are taken by admitted connections.
    Full,
}

/// The places. Pure.
#[derive(Debug)]
struct Places {
    limits: PlaceLimits,
    all: usize,
    unadmitted: Evictable,
    /// How many each source has.
    sources: HashMap<Source, usize>,
}

impl Places {
    fn new(limits: PlaceLimits) -> Self {
        Self { limits, all: 0, unadmitted: Evictable::default(), sources: HashMap::new() }
    }

    /// Whether a connection that is accepted now can get a place.
    fn has_room(&self) -> bool {
        self.all < self.limits.all || self.unadmitted.len() > 0
    }

    fn take(&mut self, source: Source, evicted: &CancellationToken) -> Verdict {
        let own = self.sources.get(&source).copied().unwrap_or_default();
        let victim = if source != Source::Local && own >= self.limits.per_source {
            let Some(oldest) = self.unadmitted.oldest_of(source) else { return Verdict::SourceFull };
            Some(oldest)
        } else if self.all >= self.limits.all || self.unadmitted.len() >= self.limits.unadmitted {
            let Some(oldest) = self.unadmitted.victim() else { return Verdict::Full };
            Some(oldest)
        } else {
            None
        };
        let victim = victim.and_then(|number| self.evict(number));
        self.all += 1;
        *self.sources.entry(source).or_default() += 1;
        let number = self.unadmitted.insert(source, evicted.clone());
        victim.map_or(Verdict::Place(number), |victim| Verdict::PlaceOf(number, victim))
    }

    /// Frees the place of a connection that is not admitted.
    fn evict(&mut self, number: u64) -> Option<CancellationToken> {
        let (source, evicted) = self.unadmitted.remove(number)?;
        self.uncount(source);
        Some(evicted)
    }

    /// False if the connection has been evicted.
    fn admit(&mut self, number: u64) -> bool {
        self.unadmitted.remove(number).is_some()
    }

    fn uncount(&mut self, source: Source) {
        self.all = self.all.saturating_sub(1);
        if let Some(own) = self.sources.get_mut(&source) {
            *own = own.saturating_sub(1);
            if *own == 0 {
                self.sources.remove(&source);
            }
        }
    }
}

/// Whether a warning is due, and how many were suppressed since the last.
#[derive(Debug, Default)]
struct WarningLimit {
    last: Option<Instant>,
    suppressed: u64,
}

impl WarningLimit {
    fn offer(&mut self, now: Instant) -> Option<u64> {
        if self.last.is_some_and(|last| now < last + WARNING_INTERVAL) {
            self.suppressed += 1;
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.suppressed))
    }
}

/// The limits of a listening socket.
#[derive(Debug)]
pub(super) struct ConnectionLimit {
    state: Mutex<State>,
    freed: Notify,
}

#[derive(Debug)]
struct State {
    places: Places,
    evicted: WarningLimit,
    refused: WarningLimit,
    full: WarningLimit,
}

/// The place of a connection. Dropping it frees it.
#[derive(Debug)]
pub(super) struct Place {
    limit: Arc<ConnectionLimit>,
    number: u64,
    source: Source,
    evicted: CancellationToken,
    is_admitted: AtomicBool,
}

/// The source of a new connection has too many.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct SourceFull;

impl ConnectionLimit {
    pub(super) fn new(limits: PlaceLimits) -> Arc<Self> {
        let (evicted, refused, full) = Default::default();
        let state = Mutex::new(State { places: Places::new(limits), evicted, refused, full });
        Arc::new(Self { state, freed: Notify::new() })
    }

    /// Waits while all places are taken by admitted connections.
    pub(super) async fn room(&self) {
        let mut freed = pin!(self.freed.notified());
        loop {
            // Registered before the check, so that no notification is missed.
            freed.as_mut().enable();
            {
                let mut state = self.state.lock();
                if state.places.has_room() {
                    return;
                }
                let limit = state.places.limits.all;
                if let Some(suppressed) = state.full.offer(Instant::now()) {
                    let text = "all places are taken by admitted connections: new ones wait; raise limits.max_connections";
                    warn!(limit, suppressed, "{text}");
                }
            }
            freed.as_mut().await;
            freed.set(self.freed.notified());
        }
    }

    /// Takes a place. Another connection may have to give way.
    ///
    /// # Errors
    /// The source has too many admitted connections.
    pub(super) async fn take(self: &Arc<Self>, source: Source) -> Result<Place, SourceFull> {
        let evicted = CancellationToken::new();
        loop {
            self.room().await;
            let verdict = self.state.lock().decide(source, &evicted);
            let number = match verdict {
                Verdict::Place(number) => number,
                Verdict::PlaceOf(number, victim) => {
                    victim.cancel();
                    number
                }
                Verdict::SourceFull => return Err(SourceFull),
                Verdict::Full => continue,
            };
            let (limit, is_admitted) = (Arc::clone(self), false.into());
            return Ok(Place { limit, number, source, evicted, is_admitted });
        }
    }
}

impl State {
    fn decide(&mut self, source: Source, evicted: &CancellationToken) -> Verdict {
        let verdict = self.places.take(source, evicted);
        let now = Instant::now();
        match &verdict {
            Verdict::PlaceOf(..) => {
                if let Some(suppressed) = self.evicted.offer(now) {
                    let text = "places for connections have run out: the oldest without an authorized request gives way";
                    warn!(%source, suppressed, "{text}");
                }
            }
            Verdict::SourceFull => {
                if let Some(suppressed) = self.refused.offer(now) {
                    let limit = self.places.limits.per_source;
                    let text = "a source has too many connections: its new ones are closed; see limits.max_connections_per_source";
                    warn!(%source, limit, suppressed, "{text}");
                }
            }
            Verdict::Place(_) | Verdict::Full => {}
        }
        verdict
    }
}

impl Place {
    /// Where its connection comes from.
    pub(super) const fn source(&self) -> Source {
        self.source
    }

    /// Cancelled when it has to give way.
    pub(super) const fn evicted(&self) -> &CancellationToken {
        &self.evicted
    }

    /// Keeps the place until the connection ends.
    pub(super) fn admit(&self) {
        if self.limit.state.lock().places.admit(self.number) {
            self.is_admitted.store(true, Relaxed);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.limit.state.lock();
        if *self.is_admitted.get_mut() {
            state.places.uncount(self.source);
        } else {
            state.places.evict(self.number);
        }
        drop(state);
        self.limit.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests;
