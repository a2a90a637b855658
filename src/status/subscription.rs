//! One listener being told.
//!
//! A [`Subscription`] has no task, no queue and no clock: whoever sends its messages calls [`Subscription::advance`]
//! when something may have happened, and when there is room for another message. Its `StreamHandle` shows how
//! far it is, and lets the service end it.

use std::{sync::Arc, task::Waker, time::Duration};

use bytes::Bytes;
use tokio::time::Instant;

use super::{
    AttachOptions, Cursor, Delivery, End, Event, Filter, Gap, GapPolicy, Hub, Message, ResetReason,
    initial_sync::InitialSync,
    registry::{Attached, detach},
};
use crate::metrics::Detach;

/// Events read from the log at a time where a filter holds back some: few enough to hold up no publisher.
pub(super) const READ_AHEAD: usize = 64;
/// Events and peers looked at, before others get their turn: going through all of them for a filter that lets nothing
/// pass would hold up the thread. Fewer if the filter is much work.
pub(super) const LOOKS_PER_TURN: usize = 8 * READ_AHEAD;
/// Streams that are drained are asked to come back within this span, each at its own moment.
const RETRY_AFTER: std::ops::Range<u64> = 500..3_000;

static NOTHING: Bytes = Bytes::new();
static EVERYTHING: Filter = Filter::everything();

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

/// What comes next on a stream.
#[derive(Debug)]
pub enum Progress {
    /// A message.
    Message(Message),
    /// Nothing, until something happens, or else until then.
    Idle(Instant),
    /// Nothing yet: much was looked at, and others are to have their turn.
    Busy,
    /// The end; `None`: the stream was to end here.
    Ended(Option<End>),
}

/// How far the end of a stream has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Finish {
    /// There is something to say yet.
    Open,
    /// There is not, and this is to be told.
    With(End),
    /// All is said.
    Over,
}

/// A listener's stream of messages.
pub struct Subscription {
    pub(super) hub: Arc<Hub>,
    pub(super) attached: Attached,
    /// It hears everything, and wants nothing back: there is no need to look at what it was made of.
    plain: bool,
    gap_policy: GapPolicy,
    stop_after_sync: bool,
    heartbeat: Duration,
    /// Everything up to here was told, or held back by the filter.
    cursor: u64,
    /// Revision of the last change or snapshot that was told.
    chain: u64,
    /// What has to be said until the client is up to date; `None`: it is.
    opening: Option<Box<InitialSync>>,
    /// For events on their way from the log. Empty, and kept for its room.
    read: Vec<Arc<Event>>,
    /// When everything had been said last. Unset: something was said since.
    silent_since: Option<Instant>,
    finish: Finish,
}

/// What to do next.
enum Step {
    Say(Delivery),
    /// Something was done, and nothing is to be said of it.
    Done,
    /// Only the log can have more, up to this revision: then something else is due.
    Read {
        to: u64,
    },
}

impl Subscription {
    pub(super) fn new(hub: Arc<Hub>, attached: Attached, start: Start, options: &AttachOptions) -> Self {
        let spec = &attached.listener.spec;
        let mut this = Self {
            plain: spec.filter.is_everything() && spec.user_data.is_empty(),
            hub,
            attached,
            gap_policy: options.gap_policy,
            stop_after_sync: options.stop_after_sync,
            heartbeat: options.heartbeat,
            cursor: 0,
            chain: 0,
            opening: None,
            read: Vec::new(),
            silent_since: None,
            finish: Finish::Open,
        };
        this.begin(start);
        this
    }

    /// What the listener's creator wants back.
    #[must_use]
    pub fn user_data(&self) -> &Bytes {
        if self.plain { &NOTHING } else { &self.attached.listener.spec.user_data }
    }

    fn filter(&self) -> &Filter {
        if self.plain { &EVERYTHING } else { &self.attached.listener.spec.filter }
    }

    /// Has `waker` woken when the service calls the stream away. For changes, ask the [`Hub`].
    pub fn wake_at_end(&self, waker: &Waker) {
        self.attached.handle.waker.register(waker);
    }

    /// Tells whether the service has called the stream away, for as long as anybody wants to know.
    pub fn ending(&self) -> impl Fn() -> bool + Send + Sync + use<> {
        let handle = Arc::clone(&self.attached.handle);
        move || handle.end().is_some()
    }

    /// Says why the stream ends, where its transport ends it.
    pub fn detach_as(&mut self, why: Detach) {
        self.attached.left = Some(why);
    }

    /// Where the log ends now.
    pub(super) fn head(&self) -> u64 {
        self.hub.cursor().revision
    }

    /// Whether the service has called the stream away.
    pub(super) fn is_ending(&self) -> bool {
        self.attached.handle.end().is_some()
    }

    /// What comes next. The clock is read when there is nothing.
    pub fn advance(&mut self) -> Progress {
        let mut turn = LOOKS_PER_TURN;
        let end = self.attached.handle.end();
        // After a takeover the stream ends at once, whatever it has not sent yet.
        if self.finish != Finish::Over
            && let Some((end, _)) = end.filter(|(end, _)| end.is_immediate())
        {
            self.finish = Finish::With(end);
        }
        while turn > 0 {
            match self.finish {
                Finish::Open => {}
                Finish::With(end) => {
                    self.finish = Finish::Over;
                    self.attached.left = Some(detach(end));
                    return Progress::Ended(Some(end));
                }
                Finish::Over => return Progress::Ended(None),
            }
            let delivery = match self.step(end, &mut turn) {
                Step::Say(delivery) => Some(delivery),
                Step::Done => None,
                Step::Read { to } if self.cursor < self.hub.cursor().revision => self.read_log(to, &mut turn),
                Step::Read { .. } => {
                    let now = Instant::now();
                    let due = *self.silent_since.get_or_insert(now) + self.heartbeat;
                    if now < due {
                        return Progress::Idle(due);
                    }
                    Some(Delivery::Heartbeat(self.at(self.cursor)))
                }
            };
            if let Some(delivery) = delivery {
                return Progress::Message(self.say(delivery));
            }
        }
        Progress::Busy
    }

    /// Decides what has to be said first.
    fn begin(&mut self, start: Start) {
        let snapshot = self.hub.snapshot();
        let cut = snapshot.cursor.revision;
        self.cursor = cut;
        self.chain = cut;
        let gap = match start {
            Start::After(revision) => {
                self.cursor = revision;
                self.chain = revision;
                // That far the client has everything, it says.
                self.attached.handle.reached(revision);
                self.opening = Some(Box::new(InitialSync::resumed(snapshot)));
                return;
            }
            Start::Snapshot => None,
            Start::Compacted(revision) => Some((ResetReason::Compacted, cut.saturating_sub(revision))),
            Start::EpochChanged => Some((ResetReason::EpochChanged, 0)),
        };
        self.count_reset(gap);
        self.opening = Some(Box::new(InitialSync::fresh(snapshot, gap)));
    }

    fn count_reset(&self, gap: Option<(ResetReason, u64)>) {
        if let Some((why, missed)) = gap {
            self.attached.count_reset(why, missed);
        }
    }

    fn at(&self, revision: u64) -> Cursor {
        Cursor { epoch: self.hub.epoch(), revision }
    }

    fn step(&mut self, end: Option<(End, u64)>, turn: &mut usize) -> Step {
        if let Some(opening) = &mut self.opening {
            if let Some(resumed) = opening.announce.take() {
                let cursor = self.at(self.cursor);
                let attached = |view| Delivery::Attached { listener: Box::new(view), cursor, resumed };
                return self.attached.view().map_or(Step::Done, |view| Step::Say(attached(view)));
            }
            if let Some((reason, missed)) = opening.reset.take() {
                return Step::Say(Delivery::Reset { reason, missed });
            }
            if !opening.counted() && (opening.is_fresh() || self.cursor >= opening.revision) {
                let part = opening.next_chunk(&self.attached.listener.spec.filter, turn);
                return part.map_or(Step::Done, Step::Say);
            }
            if self.cursor >= opening.revision {
                let (revision, peers) = (opening.revision, opening.peers());
                let synced = Delivery::Synced { cursor: self.at(revision), peers };
                self.opening = None;
                if self.stop_after_sync {
                    self.finish = Finish::Over;
                    self.attached.left = Some(Detach::Synced);
                }
                return Step::Say(synced);
            }
        }
        match end {
            Some((end, revision)) if self.cursor >= revision => self.close(end),
            _ => {
                let synced = self.opening.as_ref().map(|opening| opening.revision);
                let called_away = end.map(|(_, revision)| revision);
                Step::Read { to: synced.into_iter().chain(called_away).min().unwrap_or(u64::MAX) }
            }
        }
    }

    fn close(&mut self, end: End) -> Step {
        self.finish = Finish::With(end);
        if end != End::Draining {
            return Step::Done;
        }
        let retry_after = Duration::from_millis(fastrand::u64(RETRY_AFTER));
        Step::Say(Delivery::Draining { cursor: self.at(self.cursor), retry_after })
    }

    /// Reads on in the log, to the next change that the filter lets pass.
    fn read_log(&mut self, to: u64, turn: &mut usize) -> Option<Delivery> {
        // Whoever is sent everything needs one at a time.
        let (effort, batch) = if self.plain { (1, 1) } else { (self.filter().effort(), READ_AHEAD) };
        let left = usize::try_from(to.saturating_sub(self.cursor)).unwrap_or(usize::MAX);
        let batch = batch.min(left).min(turn.div_ceil(effort));
        let mut read = std::mem::take(&mut self.read);
        if let Err(Gap::Compacted | Gap::Future) = self.hub.read_after(self.cursor, batch, &mut read) {
            self.read = read;
            self.overflow();
            return None;
        }
        let mut change = None;
        for event in read.drain(..) {
            self.cursor = event.revision;
            *turn = turn.saturating_sub(effort);
            let parts = self.filter().parts(&event);
            if !parts.is_empty() {
                change = Some(Delivery::Change { event, parts });
                break;
            }
        }
        self.attached.handle.reached(self.cursor);
        self.read = read;
        change
    }

    /// The log moved past this stream: it was read too slowly.
    fn overflow(&mut self) {
        if self.gap_policy == GapPolicy::Fail {
            self.finish = Finish::With(End::Overflow);
            return;
        }
        let snapshot = self.hub.snapshot();
        let cut = snapshot.cursor.revision;
        let gap = Some((ResetReason::Overflow, cut.saturating_sub(self.cursor)));
        self.count_reset(gap);
        self.cursor = cut;
        self.opening = Some(Box::new(InitialSync::again(snapshot, gap)));
    }

    /// Makes a message of it, and notes that it is handed out.
    fn say(&mut self, delivery: Delivery) -> Message {
        let (revision, previous) = (self.cursor, self.chain);
        let handle = &self.attached.handle;
        match &delivery {
            Delivery::Change { .. } => {
                self.chain = revision;
                handle.delivered();
            }
            Delivery::Snapshot { .. } => self.chain = revision,
            // Until a snapshot is complete, which `Synced` says, it is nothing to go on from.
            Delivery::Attached { .. } | Delivery::Reset { .. } => {}
            Delivery::Synced { .. } | Delivery::Heartbeat(_) | Delivery::Draining { .. } => {
                handle.reached(revision);
            }
        }
        self.silent_since = None;
        Message { revision, previous, delivery }
    }
}
