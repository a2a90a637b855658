//! The stream of messages of one listener, as a state machine.
//!
//! A [`Subscription`] has no task and no queue: the transport calls [`Subscription::advance`] when something may have
//! happened, and when there is room for another message. Its `StreamHandle` publishes its progress, and lets the registry
//! end it.

use std::{sync::Arc, task::Waker, time::Duration};

use tokio::time::Instant;

use super::{
    AttachKind, AttachOptions, Cursor, Delivery, EndReason, Event, Filter, GapPolicy, Hub, ListenerMessage,
    ResetReason, initial_sync::InitialSync, registry::Attached,
};

/// Events read from the log at a time under a filter: few enough not to delay publishing.
pub(super) const READ_AHEAD: usize = 64;
/// Work per call, in events or peers checked against a cheap filter: a filter that rejects everything must not block the
/// thread for the length of the log.
pub(super) const SCAN_BUDGET: usize = 8 * READ_AHEAD;
/// Range of `retry_after` in milliseconds: random, so that drained clients do not return all at once.
const RETRY_AFTER: std::ops::Range<u64> = 500..3_000;

/// Cost of a filter with 256 bytes of globs.
const COSTLY: usize = 16;

static EVERYTHING: Filter = Filter::everything();

/// Where a stream starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Start {
    /// At a snapshot. If it is instead of what the client asked for, why, and the revision that it has, if it is ours.
    Snapshot(Option<(ResetReason, Option<u64>)>),
    /// After a cursor whose changes are still in the log, or that another replica of the fleet has reached.
    After(Cursor),
}

/// The next step of a stream.
#[derive(Debug)]
pub enum Progress {
    /// A message.
    Message(ListenerMessage),
    /// Nothing until a change, or until the heartbeat is due then.
    Idle(Instant),
    /// Nothing yet: the budget for this call is spent. Call again after other tasks.
    Busy,
    /// The end; `None`: of a stream with `stop_after_sync`.
    Ended(Option<EndReason>),
}

/// Whether the stream is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StreamState {
    Open,
    /// No message follows; the end has not been reported yet.
    Ending(EndReason),
    /// The end has been reported.
    Ended(Option<EndReason>),
}

/// A listener's stream of messages.
pub struct Subscription {
    pub(super) hub: Arc<Hub>,
    attached: Attached,
    /// Nothing is filtered: the listener's memory is not touched for a change.
    is_unfiltered: bool,
    gap_policy: GapPolicy,
    stop_after_sync: bool,
    heartbeat: Duration,
    /// That of the cursor: the stream of a fleet may be made anew.
    epoch: u64,
    /// Everything up to here was delivered, or held back by the filter.
    cursor: u64,
    /// Revision of the last change or snapshot that was delivered.
    previous: u64,
    /// `None`: the client is up to date.
    sync: Option<Box<InitialSync>>,
    /// Empty between calls; kept for its capacity.
    read: Vec<Arc<Event>>,
    /// Since when there is nothing to deliver.
    idle_since: Option<Instant>,
    state: StreamState,
}

impl Subscription {
    pub(super) fn new(hub: Arc<Hub>, attached: Attached, start: Start, options: &AttachOptions) -> Self {
        let mut this = Self {
            is_unfiltered: attached.listener.spec.filter.is_everything(),
            hub,
            attached,
            gap_policy: options.gap_policy,
            stop_after_sync: options.stop_after_sync,
            heartbeat: options.heartbeat,
            epoch: 0,
            cursor: 0,
            previous: 0,
            sync: None,
            read: Vec::new(),
            idle_since: None,
            state: StreamState::Open,
        };
        match start {
            Start::Snapshot(reset) => this.start_over(Some(false), reset),
            Start::After(Cursor { epoch, revision }) => {
                (this.epoch, this.cursor) = (epoch, revision);
                this.attached.handle.reached(revision);
                this.sync = Some(Box::new(InitialSync::new(this.hub.snapshot(), Some(true), None)));
            }
        }
        this.previous = this.cursor;
        this
    }

    /// The listener's opaque data.
    #[must_use]
    pub fn user_data(&self) -> &Arc<[u8]> {
        &self.attached.listener.spec.user_data
    }

    /// Whether peers are left to scan before the client is up to date.
    #[must_use]
    pub fn has_to_scan(&self) -> bool {
        self.sync.as_ref().is_some_and(|sync| !sync.is_scanned())
    }

    /// Whether its filter makes the work on a change cost much more than without one.
    #[must_use]
    pub fn is_costly(&self) -> bool {
        self.filter().cost() > COSTLY
    }

    /// The listener's id.
    #[must_use]
    pub fn id(&self) -> &Arc<str> {
        &self.attached.listener.id
    }

    /// How the stream was attached.
    #[must_use]
    pub const fn kind(&self) -> AttachKind {
        self.attached.kind
    }

    /// Registers a waker for the end of the stream by the service. For changes, use the wakers of the [`Hub`].
    pub fn register_end_waker(&self, waker: &Waker) {
        self.attached.handle.waker.register(waker);
    }

    /// A function that returns whether the service ends the stream.
    pub fn end_check(&self) -> impl Fn() -> bool + Send + Sync + use<> {
        let handle = Arc::clone(&self.attached.handle);
        move || handle.end().is_some()
    }

    /// How the stream ended, or is about to, as in [`Progress::Ended`]. `None`: it goes on.
    #[must_use]
    pub fn outcome(&self) -> Option<Option<EndReason>> {
        match self.state {
            StreamState::Ended(end) => Some(end),
            _ => self.attached.handle.end().map(|(end, _)| Some(end)),
        }
    }

    /// The next step. Reads the clock only if there is nothing to deliver.
    pub fn advance(&mut self) -> Progress {
        let mut budget = SCAN_BUDGET;
        let end = self.attached.handle.end();
        if let (Some((EndReason::TakenOver, _)), StreamState::Open | StreamState::Ending(_)) =
            (end, self.state)
        {
            self.state = StreamState::Ending(EndReason::TakenOver);
        }
        while budget > 0 {
            match self.state {
                StreamState::Open => {}
                StreamState::Ending(end) => {
                    self.state = StreamState::Ended(Some(end));
                    return Progress::Ended(Some(end));
                }
                StreamState::Ended(_) => return Progress::Ended(None),
            }
            // Whatever a step does, the next call is after other tasks.
            budget -= 1;
            if self.epoch != self.hub.epoch() {
                self.epoch_changed();
                continue;
            }
            let delivery = if self.sync.as_ref().is_some_and(|sync| self.is_sync_due(sync)) {
                self.continue_sync(&mut budget)
            } else if let Some((end, _)) = end.filter(|(_, revision)| self.cursor >= *revision) {
                self.close(end)
            } else if self.cursor < self.head() {
                self.read_log(end.map(|(_, revision)| revision), &mut budget)
            } else {
                let now = Instant::now();
                let due = *self.idle_since.get_or_insert(now) + self.heartbeat;
                if now < due {
                    return Progress::Idle(due);
                }
                Some(Delivery::Heartbeat(self.at(self.cursor)))
            };
            if let Some(delivery) = delivery {
                return Progress::Message(self.message(delivery));
            }
        }
        Progress::Busy
    }

    /// Where the log ends now.
    pub(super) fn head(&self) -> u64 {
        self.hub.cursor().revision
    }

    fn at(&self, revision: u64) -> Cursor {
        Cursor { epoch: self.epoch, revision }
    }

    fn filter(&self) -> &Filter {
        if self.is_unfiltered { &EVERYTHING } else { &self.attached.listener.spec.filter }
    }

    /// Goes on from a snapshot of now.
    fn start_over(&mut self, announce: Option<bool>, reset: Option<(ResetReason, Option<u64>)>) {
        let snapshot = self.hub.snapshot();
        (self.epoch, self.cursor) = (snapshot.cursor.epoch, snapshot.cursor.revision);
        let missed = |after| self.hub.missed(after, self.cursor);
        let reset = reset.map(|(reason, after)| (reason, after.map_or(0, missed)));
        if let Some((_, missed)) = reset {
            self.attached.handle.reset(missed);
        }
        self.sync = Some(Box::new(InitialSync::new(snapshot, announce, reset)));
    }

    /// Whether a message of the sync comes before changes: all do, but those that end a replay.
    fn is_sync_due(&self, sync: &InitialSync) -> bool {
        sync.announce.is_some()
            || sync.sends_snapshot
            || (self.cursor >= sync.revision() && self.cursor <= self.head())
    }

    fn continue_sync(&mut self, budget: &mut usize) -> Option<Delivery> {
        let sync = self.sync.as_mut()?;
        if let Some(resumed) = sync.announce.take() {
            let listener = Box::new(self.attached.view()?);
            return Some(Delivery::Attached { listener, cursor: self.at(self.cursor), resumed });
        }
        if let Some((reason, missed)) = sync.reset.take() {
            return Some(Delivery::Reset { reason, missed });
        }
        if !sync.sends_snapshot && sync.revision() < self.cursor {
            // The client was ahead of the log.
            sync.count_anew(self.hub.snapshot());
            return None;
        }
        if !sync.is_scanned() {
            return sync.next_chunk(&self.attached.listener.spec.filter, budget);
        }
        let (revision, peers) = (sync.revision(), sync.passed);
        self.sync = None;
        if self.stop_after_sync {
            self.state = StreamState::Ended(None);
        }
        Some(Delivery::Synced { cursor: self.at(revision), peers })
    }

    fn close(&mut self, end: EndReason) -> Option<Delivery> {
        self.state = StreamState::Ending(end);
        let retry_after = Duration::from_millis(fastrand::u64(RETRY_AFTER));
        (end == EndReason::Draining).then(|| Delivery::Draining { cursor: self.at(self.cursor), retry_after })
    }

    /// Reads on in the log to the next change that passes the filter, up to where the sync or the stream ends.
    fn read_log(&mut self, end: Option<u64>, budget: &mut usize) -> Option<Delivery> {
        let (cost, batch) = if self.is_unfiltered { (1, 1) } else { (self.filter().cost(), READ_AHEAD) };
        let synced = self.sync.as_ref().map(|sync| sync.revision());
        let to = synced.into_iter().chain(end).min().unwrap_or(u64::MAX);
        let left = usize::try_from(to.saturating_sub(self.cursor)).unwrap_or(usize::MAX);
        let batch = batch.min(left).min(budget.div_ceil(cost));
        let mut read = std::mem::take(&mut self.read);
        let reached = self.hub.read_after(self.cursor, batch, &mut read);
        // Checked after reading, because what was read may be of another epoch.
        let reached = match reached {
            Ok(reached) if self.epoch == self.hub.epoch() => reached.min(to),
            _ => {
                read.clear();
                self.read = read;
                if self.epoch == self.hub.epoch() {
                    self.overflow();
                }
                return None;
            }
        };
        let mut change = None;
        for event in read.drain(..).take_while(|event| event.revision <= to) {
            self.cursor = event.revision;
            *budget = budget.saturating_sub(cost);
            let parts = self.filter().parts(&event);
            if !parts.is_empty() {
                change = Some(Delivery::Change { event, parts });
                break;
            }
        }
        if change.is_none() {
            self.cursor = reached;
        }
        self.attached.handle.reached(self.cursor);
        self.read = read;
        change
    }

    /// The log moved past this stream: it was read too slowly, or a replica of a fleet has read its state anew.
    fn overflow(&mut self) {
        let is_compacted = self.hub.is_from_before(self.cursor);
        let reason = if is_compacted { ResetReason::Compacted } else { ResetReason::Overflow };
        match self.gap_policy {
            GapPolicy::Fail => self.state = StreamState::Ending(EndReason::Overflow),
            GapPolicy::Resnapshot => self.start_over(None, Some((reason, Some(self.cursor)))),
        }
    }

    /// The stream of the fleet was made anew, and its revisions with it.
    fn epoch_changed(&mut self) {
        match self.gap_policy {
            GapPolicy::Fail => self.state = StreamState::Ending(EndReason::EpochChanged),
            GapPolicy::Resnapshot => {
                let announce = self.sync.take().and_then(|sync| sync.announce).map(|_| false);
                self.start_over(announce, Some((ResetReason::EpochChanged, None)));
            }
        }
    }

    fn message(&mut self, delivery: Delivery) -> ListenerMessage {
        let (revision, previous) = (self.cursor, self.previous);
        let handle = &self.attached.handle;
        match &delivery {
            Delivery::Change { .. } => {
                self.previous = revision;
                handle.delivered();
            }
            Delivery::Snapshot { .. } => self.previous = revision,
            // A client cannot resume from a snapshot until it is complete, which `Synced` reports.
            Delivery::Attached { .. } | Delivery::Reset { .. } => {}
            Delivery::Synced { .. } | Delivery::Heartbeat(_) | Delivery::Draining { .. } => {
                handle.reached(revision);
            }
        }
        self.idle_since = None;
        ListenerMessage { revision, previous, delivery }
    }
}
