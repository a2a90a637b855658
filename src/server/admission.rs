//! What a connection has done so far: whether it is admitted, and when it has to end.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
};

use parking_lot::Mutex;
use tokio::sync::Semaphore;

use super::{
    connection_limit::Place,
    probation::Observed,
    shares::{CallShare, Permit, Share},
    turn::{Turn, TurnQueue},
};

/// Consecutive requests that are refused before the connection is closed: a client with a wrong token retries with
/// backoff, and learns the reason each time.
const MAX_REFUSALS: usize = 8;
/// hyper keeps about 2 KiB for each of the most streams that a connection ever had at once. Beyond this sum of all
/// connections (64 MiB), those that had many and have few are closed, which clients notice by GOAWAY only.
const MAX_PEAK_STREAMS: usize = 32 * 1024;
/// The sum of a principal may be so many times the calls that it may have. Beyond it, a connection that exceeds its own peak
/// is closed: its calls are refused, and take this memory all the same.
const PEAK_STREAMS_PER_CALL: usize = 2;
/// Streams that a connection may have had at once without being closed for it.
const FREE_STREAMS: usize = 4;

/// Incomplete requests of a connection that is not admitted; the next one is reset when it is answered.
const MAX_DISCARDING: usize = 16;

/// Calls that need no credentials, at once, of a connection that is not admitted. Probes and tools have one.
const MAX_UNAUTHENTICATED: usize = 32;

/// The sum of [`Admission::peak`] of all connections.
pub(super) type PeakStreams = Arc<AtomicUsize>;

/// The state of one connection.
#[derive(Debug)]
pub(super) struct Admission {
    place: Place,
    /// Since the last request that was authorized.
    refusals: AtomicUsize,
    /// It is closed unless it is admitted.
    is_closing: AtomicBool,
    requests: AtomicUsize,
    open: AtomicUsize,
    /// Those that are no streams.
    answering: AtomicUsize,
    /// The most calls that were open at once.
    peak: AtomicUsize,
    all: PeakStreams,
    /// Once it is admitted.
    owner: OnceLock<Owner>,
    /// It had more calls than ever before when its owner had had too many.
    is_excessive: AtomicBool,
    /// That of its last caller, so that it lasts as long as the connection.
    share: Mutex<Option<Arc<Share>>>,
    turns: Arc<TurnQueue>,
    unauthenticated: Arc<Semaphore>,
}

/// The principal of the first request that was authorized. The connection counts for it.
#[derive(Debug)]
struct Owner {
    share: Arc<Share>,
    /// The turns in which more is read from the connection.
    reading: Option<Turn>,
}

/// A call of a connection, until it is dropped.
#[derive(Debug)]
pub(super) struct OpenCall {
    connection: Arc<Admission>,
    is_stream: AtomicBool,
    is_conversation: AtomicBool,
    /// Once its caller is known.
    share: OnceLock<CallShare>,
}

impl Admission {
    pub(super) fn new(place: Place, all: PeakStreams) -> Arc<Self> {
        Arc::new(Self {
            place,
            refusals: AtomicUsize::new(0),
            is_closing: AtomicBool::new(false),
            requests: AtomicUsize::new(0),
            open: AtomicUsize::new(0),
            answering: AtomicUsize::new(0),
            peak: AtomicUsize::new(0),
            all,
            owner: OnceLock::new(),
            is_excessive: AtomicBool::new(false),
            share: Mutex::default(),
            turns: Arc::default(),
            unauthenticated: Arc::new(Semaphore::new(MAX_UNAUTHENTICATED)),
        })
    }

    /// Counts a call that needs no credentials, unless it is admitted. Of one that is not, too many are refused.
    pub(super) fn unauthenticated_call(&self) -> Option<Permit> {
        if self.is_admitted() {
            return Some(Permit::None);
        }
        let permit = Arc::clone(&self.unauthenticated).try_acquire_owned().ok();
        if permit.is_none() {
            self.refuse();
        }
        permit.map(|permit| Permit::Unauthenticated { _permit: permit })
    }

    /// Its place among the connections.
    pub(super) const fn place(&self) -> &Place {
        &self.place
    }

    /// The queue of its calls.
    pub(super) const fn turns(&self) -> &Arc<TurnQueue> {
        &self.turns
    }

    /// One of its requests was authorized, and has this turn.
    pub(super) fn admit(&self, share: &Arc<Share>, turn: Option<&Turn>) {
        *self.share.lock() = Some(Arc::clone(share));
        self.refusals.store(0, Relaxed);
        if self.owner.set(Owner { share: Arc::clone(share), reading: turn.cloned() }).is_ok() {
            self.place.admit();
            share.peak_streams.fetch_add(self.peak.load(Relaxed), Relaxed);
        }
    }

    /// The turns in which more is read from it, once it is admitted: after the calls that wait for theirs, since each of them
    /// takes 12 KiB.
    pub(super) fn reading(&self) -> Option<&Turn> {
        self.owner.get()?.reading.as_ref()
    }

    pub(super) fn is_admitted(&self) -> bool {
        self.owner.get().is_some()
    }

    /// One of its requests was refused.
    pub(super) fn refuse(&self) {
        self.refusals.fetch_add(1, Relaxed);
    }

    /// It has to close, unless one of its requests is authorized first.
    pub(super) fn close(&self) {
        self.is_closing.store(true, Relaxed);
    }

    /// A call begins.
    pub(super) fn begin(self: &Arc<Self>) -> OpenCall {
        self.requests.fetch_add(1, Relaxed);
        let open = self.open.fetch_add(1, Relaxed) + 1;
        if open > self.peak.fetch_max(open, Relaxed) {
            self.all.fetch_add(1, Relaxed);
            if let Some(Owner { share, .. }) = self.owner.get() {
                let sum = share.peak_streams.fetch_add(1, Relaxed) + 1;
                if open > FREE_STREAMS && sum > PEAK_STREAMS_PER_CALL * share.max_calls {
                    self.is_excessive.store(true, Relaxed);
                }
            }
        }
        self.answering.fetch_add(1, Relaxed);
        OpenCall {
            connection: Arc::clone(self),
            is_stream: AtomicBool::new(false),
            is_conversation: AtomicBool::new(false),
            share: OnceLock::new(),
        }
    }

    /// Whether calls that are no streams are under way.
    pub(super) fn is_answering(&self) -> bool {
        self.answering.load(Relaxed) > 0
    }

    /// Whether too many of its requests in a row were refused.
    pub(super) fn is_refused(&self) -> bool {
        self.refusals.load(Relaxed) >= MAX_REFUSALS
    }

    /// Whether it has to be shut down; calls under way go on.
    pub(super) fn has_to_close(&self) -> bool {
        let (open, peak) = (self.open.load(Relaxed), self.peak.load(Relaxed));
        self.is_refused()
            || (self.is_closing.load(Relaxed) && !self.is_admitted())
            || (peak > FREE_STREAMS && open <= peak / 4 && self.all.load(Relaxed) > MAX_PEAK_STREAMS)
    }

    /// Whether it has to be closed with its calls: GOAWAY would leave it the memory of its streams.
    pub(super) fn is_excessive(&self) -> bool {
        self.is_excessive.load(Relaxed)
    }

    /// Whether the unread rest of a refused request may wait for its end.
    pub(super) fn may_discard(&self) -> bool {
        self.is_admitted() || self.open.load(Relaxed) <= MAX_DISCARDING
    }

    /// What [`Probation::tick`](super::probation::Probation::tick) needs to know.
    pub(super) fn observe(&self, is_blocked: bool) -> Observed {
        let (requests, open) = (self.requests.load(Relaxed), self.open.load(Relaxed));
        Observed { requests, open, is_blocked, is_closing: self.has_to_close() }
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        let peak = *self.peak.get_mut();
        self.all.fetch_sub(peak, Relaxed);
        if let Some(owner) = self.owner.get() {
            owner.share.peak_streams.fetch_sub(peak, Relaxed);
        }
    }
}

impl OpenCall {
    /// The connection that it is of.
    pub(super) fn connection(&self) -> &Admission {
        &self.connection
    }

    /// Its caller is known. The first of two counts.
    pub(super) fn set_share(&self, share: CallShare) {
        let _ = self.share.set(share);
    }

    /// What it has of the share of its caller, once that is known.
    pub(super) fn share(&self) -> Option<&CallShare> {
        self.share.get()
    }

    /// It is a stream, which ends when its client sends no more; a conversation if both sides stream.
    pub(super) fn set_stream(&self, is_conversation: bool) {
        self.is_conversation.store(is_conversation, Relaxed);
        self.stop_answering();
    }

    pub(super) fn is_conversation(&self) -> bool {
        self.is_conversation.load(Relaxed)
    }

    fn stop_answering(&self) {
        if !self.is_stream.swap(true, Relaxed) {
            self.connection.answering.fetch_sub(1, Relaxed);
        }
    }
}

impl Drop for OpenCall {
    fn drop(&mut self) {
        self.stop_answering();
        self.connection.open.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::{
        auth::{Auth, Caller, Credentials},
        server::{
            connection_limit::{ConnectionLimit, PlaceLimits},
            shares::Shares,
            source::Source,
        },
    };

    async fn connection(all: &PeakStreams) -> Arc<Admission> {
        let limit = ConnectionLimit::new(PlaceLimits::new(9, 9));
        let Ok(place) = limit.take(Source::Local).await else { panic!("no place") };
        Admission::new(place, Arc::clone(all))
    }

    #[tokio::test]
    async fn refusals_in_a_row_close_a_connection_and_an_authorized_request_is_not_refused() {
        let connection = connection(&PeakStreams::default()).await;
        for _ in 1..MAX_REFUSALS {
            connection.refuse();
        }
        assert!(!connection.has_to_close());
        connection.admit(&Shares::new(1).unauthenticated, None);
        connection.refuse();
        assert!(!connection.has_to_close());
        for _ in 1..MAX_REFUSALS {
            connection.refuse();
        }
        assert!(connection.has_to_close());
    }

    #[tokio::test]
    async fn a_connection_is_closed_when_it_has_more_streams_than_before_and_its_principal_has_had_too_many()
    {
        let (all, shares) = (PeakStreams::default(), Shares::new(1));
        let caller = |principal: &str| {
            let credentials = Credentials { is_local: true, ..Credentials::default() };
            let local = Auth::default().authenticate(&credentials, std::time::SystemTime::now());
            Caller { principal: principal.into(), ..local.unwrap() }
        };
        let greedy = shares.of(&caller("token:greedy"));
        let (mut connections, mut calls) = (Vec::new(), Vec::new());
        while greedy.peak_streams.load(Relaxed) < PEAK_STREAMS_PER_CALL * greedy.max_calls {
            let connection = connection(&all).await;
            connection.admit(&greedy, None);
            calls.extend((0..128).map(|_| connection.begin()));
            connections.push(connection);
        }
        assert!(!connections.iter().any(|connection| connection.is_excessive()));
        for (share, is_excessive) in [(Arc::clone(&greedy), true), (shares.of(&caller("token:good")), false)]
        {
            let connection = connection(&all).await;
            calls.push(connection.begin());
            connection.admit(&share, None);
            calls.extend((1..FREE_STREAMS).map(|_| connection.begin()));
            assert!(!connection.is_excessive(), "it has few");
            calls.push(connection.begin());
            assert_eq!(connection.is_excessive(), is_excessive);
            connections.push(connection);
        }
        drop((calls, connections));
        assert_eq!((all.load(Relaxed), greedy.peak_streams.load(Relaxed)), (0, 0));
    }

    #[tokio::test]
    async fn connections_that_had_many_streams_are_closed_when_all_had_too_many() {
        let all = PeakStreams::default();
        let (many, few) = (connection(&all).await, connection(&all).await);
        let calls: Vec<_> = (0..100).map(|_| many.begin()).collect();
        let _call = few.begin();
        assert_eq!(all.load(Relaxed), 101);
        all.fetch_add(MAX_PEAK_STREAMS, Relaxed);
        assert!(!many.has_to_close(), "it has them");
        drop(calls);
        assert!(many.has_to_close() && !few.has_to_close());
        all.fetch_sub(MAX_PEAK_STREAMS, Relaxed);
        assert!(!many.has_to_close());
        drop(many);
        assert_eq!(all.load(Relaxed), 1);
    }
}
