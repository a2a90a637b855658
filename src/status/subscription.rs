//! One listener being told.
//!
//! A [`Subscription`] is polled by whoever carries its messages; it has no task and no queue of its own but
//! the handful of messages it has read ahead. What it has handed out is counted in the listener's `Progress`,
//! and its `Seat` is how the service ends it.

use std::{
    collections::VecDeque,
    future::Future as _,
    pin::Pin,
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep_until};
use tokio_stream::Stream;

use super::{
    AttachOptions, Cursor, Delivery, End, Event, Gap, GapPolicy, Hub, Message, PeerState, PoolState,
    ResetReason, registry::Attached,
};

/// Peers per snapshot message: 500 × ~200 bytes stays far below the 4 MiB that clients accept by default.
pub const SNAPSHOT_CHUNK: usize = 500;
/// Events read from the log at a time: enough to fill a DATA frame, few enough to keep memory constant.
const READ_AHEAD: usize = 64;
/// Reads in which the filter let nothing pass, before others get their turn: a poll that went through the
/// whole log would hold up its thread, and with it the peers.
const READS_PER_POLL: usize = 8;
/// Streams that are drained are asked to come back within this span, each at its own moment.
const RETRY_AFTER: std::ops::Range<u64> = 500..3_000;

/// Where a stream starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Start {
    /// At a snapshot.
    Snapshot,
    /// After a revision that is still in the log.
    After(u64),
    /// At a snapshot, since this revision is not.
    Compacted(u64),
    /// At a snapshot, since the cursor is not ours.
    EpochChanged,
}

/// Where a client is up to date, and how many peers it has then.
#[derive(Clone, Copy)]
struct SyncPoint {
    revision: u64,
    peers: usize,
}

/// A listener's stream of messages.
pub struct Subscription {
    hub: Arc<Hub>,
    attached: Attached,
    waker_key: u64,
    epoch: u64,
    options: AttachOptions,
    /// Everything up to here has been read.
    cursor: u64,
    /// Revision of the last change or snapshot put into `ready`.
    chain: u64,
    /// `Synced` is due once everything up to here has been read.
    sync: Option<SyncPoint>,
    /// The part of a snapshot that has not been put into `ready`.
    snapshot: std::vec::IntoIter<Arc<PeerState>>,
    ready: VecDeque<Message>,
    read: Vec<Arc<Event>>,
    heartbeat: Pin<Box<Sleep>>,
    last_message: Instant,
    finish: Option<Option<End>>,
}

impl Subscription {
    pub(super) fn new(hub: Arc<Hub>, attached: Attached, start: Start, options: AttachOptions) -> Self {
        let waker_key = hub.wake_on_change(Arc::clone(&attached.seat.waker));
        let now = Instant::now();
        let mut this = Self {
            epoch: hub.cursor().epoch,
            heartbeat: Box::pin(sleep_until(now + options.heartbeat)),
            last_message: now,
            hub,
            attached,
            waker_key,
            options,
            cursor: 0,
            chain: 0,
            sync: None,
            snapshot: Vec::new().into_iter(),
            ready: VecDeque::new(),
            read: Vec::new(),
            finish: None,
        };
        this.begin(start);
        this
    }

    /// What the listener's creator wants back.
    #[must_use]
    pub fn user_data(&self) -> &bytes::Bytes {
        &self.attached.listener.spec.user_data
    }

    /// Puts the opening messages into `ready`.
    fn begin(&mut self, start: Start) {
        let gap = match start {
            Start::After(revision) => {
                self.cut();
                self.snapshot = Vec::new().into_iter();
                self.cursor = revision;
                self.chain = revision;
                // That far the client has everything, it says.
                self.attached.listener.progress.cursor.store(revision, Ordering::Relaxed);
                self.announce(true);
                return;
            }
            Start::Snapshot => None,
            Start::Compacted(revision) => Some((ResetReason::Compacted, revision)),
            Start::EpochChanged => Some((ResetReason::EpochChanged, u64::MAX)),
        };
        let (pools, cut) = self.cut();
        self.chain = cut;
        self.announce(false);
        if let Some((reason, revision)) = gap {
            self.reset(reason, cut.saturating_sub(revision));
        }
        self.open_snapshot(pools);
    }

    fn announce(&mut self, resumed: bool) {
        if let Some(listener) = self.attached.view() {
            let cursor = self.at(self.cursor);
            self.push(Delivery::Attached { listener: Box::new(listener), cursor, resumed });
        }
    }

    /// Cuts a snapshot: from here on the stream is at its revision.
    fn cut(&mut self) -> (Vec<Arc<PoolState>>, u64) {
        let filter = &self.attached.listener.spec.filter;
        let mut snapshot = self.hub.snapshot();
        snapshot.peers.retain(|peer| filter.admits_peer(peer));
        snapshot.pools.retain(|pool| filter.admits_health_of(&pool.name));
        self.cursor = snapshot.cursor.revision;
        self.sync = Some(SyncPoint { revision: self.cursor, peers: snapshot.peers.len() });
        self.snapshot = snapshot.peers.into_iter();
        (snapshot.pools, self.cursor)
    }

    /// Puts the first part of the snapshot into `ready`, also if it is empty: it says that there is nothing.
    fn open_snapshot(&mut self, pools: Vec<Arc<PoolState>>) {
        let peers = self.snapshot.by_ref().take(SNAPSHOT_CHUNK).collect();
        self.push(Delivery::Snapshot { peers, pools });
        self.chain = self.cursor;
    }

    fn reset(&mut self, reason: ResetReason, missed: u64) {
        let progress = &self.attached.listener.progress;
        progress.resets.fetch_add(1, Ordering::Relaxed);
        progress.missed.fetch_add(missed, Ordering::Relaxed);
        self.push(Delivery::Reset { reason, missed });
    }

    fn push(&mut self, delivery: Delivery) {
        let revision =
            if let Delivery::Change { event, .. } = &delivery { event.revision } else { self.cursor };
        self.ready.push_back(Message { revision, previous: self.chain, delivery });
        if let Some(Message { delivery: Delivery::Change { .. }, .. }) = self.ready.back() {
            self.chain = revision;
        }
    }

    const fn at(&self, revision: u64) -> Cursor {
        Cursor { epoch: self.epoch, revision }
    }

    /// Puts what comes next into `ready`. Returns false if there is nothing to say now.
    fn advance(&mut self) -> bool {
        if self.snapshot.len() > 0 {
            let peers = self.snapshot.by_ref().take(SNAPSHOT_CHUNK).collect();
            self.push(Delivery::Snapshot { peers, pools: Vec::new() });
            return true;
        }
        if let Some(sync) = self.sync.filter(|sync| self.cursor >= sync.revision) {
            self.sync = None;
            let cursor = self.at(sync.revision);
            self.push(Delivery::Synced { cursor, peers: sync.peers });
            if self.options.stop_after_sync {
                self.finish = Some(None);
            }
            return true;
        }
        let end = *self.attached.seat.end.lock();
        if let Some((end, at)) = end
            && self.cursor >= at
        {
            self.close(end);
            return true;
        }
        self.read_log()
    }

    /// Leaves the seat to another stream at once, whatever there is left to say.
    fn make_way(&mut self) {
        let over = self.finish == Some(None) && self.ready.is_empty();
        if !over && matches!(*self.attached.seat.end.lock(), Some((End::TakenOver, _))) {
            self.ready.clear();
            self.finish = Some(Some(End::TakenOver));
        }
    }

    fn close(&mut self, end: End) {
        if end == End::Draining {
            let retry_after = Duration::from_millis(fastrand::u64(RETRY_AFTER));
            let cursor = self.at(self.cursor);
            self.push(Delivery::Draining { cursor, retry_after });
        }
        self.finish = Some(Some(end));
    }

    /// Reads on in the log. Returns false at its end.
    fn read_log(&mut self) -> bool {
        let mut read = std::mem::take(&mut self.read);
        // Not past the point at which `Synced` is due.
        let until_sync = self.sync.map(|sync| sync.revision.saturating_sub(self.cursor));
        let max = until_sync.and_then(|n| usize::try_from(n).ok()).map_or(READ_AHEAD, |n| n.min(READ_AHEAD));
        let outcome = self.hub.read_after(self.cursor, max, &mut read);
        let progressed = match outcome {
            Ok(()) => !read.is_empty(),
            Err(Gap::Compacted | Gap::Future) => {
                self.overflow();
                true
            }
        };
        for event in read.drain(..) {
            self.cursor = event.revision;
            let parts = self.attached.listener.spec.filter.parts(&event);
            if !parts.is_empty() {
                self.push(Delivery::Change { event, parts });
            }
        }
        self.read = read;
        if self.ready.is_empty() {
            self.attached.listener.progress.cursor.store(self.cursor, Ordering::Relaxed);
        }
        progressed
    }

    /// The log moved past this stream: it was read too slowly.
    fn overflow(&mut self) {
        if self.options.gap_policy == GapPolicy::Fail {
            self.finish = Some(Some(End::Overflow));
            return;
        }
        let behind = self.cursor;
        let (pools, cut) = self.cut();
        self.reset(ResetReason::Overflow, cut.saturating_sub(behind));
        self.open_snapshot(pools);
    }

    /// Notes what is handed out.
    fn account(&mut self, message: &Message) {
        self.last_message = Instant::now();
        let progress = &self.attached.listener.progress;
        match message.delivery {
            // Until a snapshot is complete, which `Synced` says, it is nothing to go on from.
            Delivery::Attached { .. } | Delivery::Reset { .. } | Delivery::Snapshot { .. } => return,
            Delivery::Change { .. } => {
                progress.delivered.fetch_add(1, Ordering::Relaxed);
            }
            Delivery::Synced { .. } | Delivery::Heartbeat(_) | Delivery::Draining { .. } => {}
        }
        let reached = if self.ready.is_empty() { self.cursor } else { message.revision };
        progress.cursor.store(reached, Ordering::Relaxed);
    }

    /// Ready when there has been no message for the heartbeat interval. The timer is moved only when it
    /// fires: a busy stream leaves it alone.
    fn poll_quiet(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            ready!(self.heartbeat.as_mut().poll(cx));
            let due = self.last_message + self.options.heartbeat;
            if due <= Instant::now() {
                return Poll::Ready(());
            }
            self.heartbeat.as_mut().reset(due);
        }
    }
}

impl Stream for Subscription {
    type Item = Result<Message, End>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        // First the waker, then the look: what happens in between wakes.
        this.attached.seat.waker.register(cx.waker());
        this.make_way();
        for _ in 0..READS_PER_POLL {
            if let Some(message) = this.ready.pop_front() {
                this.account(&message);
                return Poll::Ready(Some(Ok(message)));
            }
            match this.finish {
                Some(Some(end)) => {
                    this.finish = Some(None);
                    return Poll::Ready(Some(Err(end)));
                }
                Some(None) => return Poll::Ready(None),
                None => {}
            }
            if this.advance() {
                continue;
            }
            ready!(this.poll_quiet(cx));
            let cursor = this.at(this.cursor);
            this.push(Delivery::Heartbeat(cursor));
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.hub.forget(self.waker_key);
    }
}
