//! One listener being told.
//!
//! A [`Subscription`] has no task, no queue and no clock: whoever carries its messages calls [`Subscription::tell`]
//! when something may have happened, and takes as many as there is room for. At its `Seat` it says how far it is, and from
//! there the service calls it away.

use std::{
    sync::{Arc, Weak},
    task::Waker,
    time::Duration,
};

use bytes::Bytes;
use tokio::time::Instant;

use super::{
    AttachOptions, Cursor, Delivery, End, Event, Filter, Gap, GapPolicy, Hub, Message, ResetReason,
    opening::Opening,
    registry::{Attached, detach},
    seat::Seat,
};
use crate::metrics::Detach;

/// Events read from the log at a time: enough for a DATA frame or two, few enough to hold up no publisher.
pub const READ_AHEAD: usize = 64;
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

/// Whether there is room for another message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// There is.
    More,
    /// This was the last for now.
    Full,
}

/// Why [`Subscription::tell`] stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// There may be more to say: the room or the turn is over.
    Some,
    /// Everything. Until something happens, or else until then, there is nothing to say.
    All(Instant),
    /// This is the end; `None`: the stream was to end here.
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

/// By which a stream can be ended. It keeps nothing of it alive.
#[derive(Debug)]
pub struct Leash(Weak<Seat>);

impl Leash {
    /// Whether the stream has ended.
    #[must_use]
    pub fn is_loose(&self) -> bool {
        self.0.strong_count() == 0
    }

    /// Ends the stream, with no more than it has been told.
    pub fn end(&self, end: End) {
        if let Some(seat) = self.0.upgrade() {
            seat.call_away(end, 0);
        }
    }
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
    opening: Option<Box<Opening>>,
    last_message: Instant,
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
            last_message: Instant::now(),
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

    /// To end it from elsewhere.
    #[must_use]
    pub fn leash(&self) -> Leash {
        Leash(Arc::downgrade(&self.attached.seat))
    }

    /// Has `waker` woken when the service calls the stream away. For changes, ask the [`Hub`].
    pub fn wake_at_end(&self, waker: &Waker) {
        self.attached.seat.waker.register(waker);
    }

    /// Whether all it has to say may be that it ends.
    #[must_use]
    pub fn is_ending(&self) -> bool {
        self.finish != Finish::Open || self.attached.seat.end().is_some()
    }

    /// Whether it has been called away, and is to say nothing more.
    #[must_use]
    pub fn is_called_away_at_once(&self) -> bool {
        self.attached.seat.end().is_some_and(|(end, _)| end.is_immediate())
    }

    /// Says what there is to say, until `take` has no more room. `read` is for events on their way, and left empty.
    pub fn tell(
        &mut self,
        now: Instant,
        batch: usize,
        read: &mut Vec<Arc<Event>>,
        mut take: impl FnMut(Message) -> Room,
    ) -> Told {
        let (mut turn, effort) = (LOOKS_PER_TURN, self.filter().effort());
        let end = self.attached.seat.end();
        // Leaves the seat to another stream at once, or tells nothing more to who may not hear it, whatever there is left.
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
                    return Told::Ended(Some(end));
                }
                Finish::Over => return Told::Ended(None),
            }
            let room = match self.step(end, &mut turn) {
                Step::Say(delivery) => self.say(delivery, now, &mut take),
                Step::Done => Room::More,
                Step::Read { to } => {
                    if self.cursor >= self.hub.cursor().revision {
                        let due = self.last_message + self.heartbeat;
                        if now < due {
                            return Told::All(due);
                        }
                        self.say(Delivery::Heartbeat(self.at(self.cursor)), now, &mut take)
                    } else {
                        let batch = batch.min(turn.div_ceil(effort));
                        let (count, room) = self.read_log(now, batch, to, read, &mut take);
                        turn = turn.saturating_sub(count * effort);
                        room
                    }
                }
            };
            if room == Room::Full {
                break;
            }
        }
        Told::Some
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
                self.attached.seat.reached(revision);
                self.opening = Some(Box::new(Opening::resumed(snapshot)));
                return;
            }
            Start::Snapshot => None,
            Start::Compacted(revision) => Some((ResetReason::Compacted, cut.saturating_sub(revision))),
            Start::EpochChanged => Some((ResetReason::EpochChanged, 0)),
        };
        self.count_reset(gap);
        self.opening = Some(Box::new(Opening::fresh(snapshot, gap)));
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
                let part = opening.count_on(&self.attached.listener.spec.filter, turn);
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

    /// Reads on in the log, and says what the filter lets pass. Returns how many events it went past.
    fn read_log(
        &mut self,
        now: Instant,
        batch: usize,
        to: u64,
        read: &mut Vec<Arc<Event>>,
        take: &mut impl FnMut(Message) -> Room,
    ) -> (usize, Room) {
        let left = to.saturating_sub(self.cursor);
        let batch = usize::try_from(left).map_or(batch, |left| batch.min(left));
        if let Err(Gap::Compacted | Gap::Future) = self.hub.read_after(self.cursor, batch, read) {
            self.overflow();
            return (1, Room::More);
        }
        let (mut count, mut room) = (0, Room::More);
        for event in read.drain(..) {
            self.cursor = event.revision;
            count += 1;
            let parts = self.filter().parts(&event);
            if !parts.is_empty() {
                room = self.say(Delivery::Change { event, parts }, now, take);
                if room == Room::Full {
                    break;
                }
            }
        }
        if count > 0 {
            self.attached.seat.reached(self.cursor);
        }
        (count, room)
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
        self.opening = Some(Box::new(Opening::again(snapshot, gap)));
    }

    /// Hands out one message, and notes that.
    fn say(&mut self, delivery: Delivery, now: Instant, take: &mut impl FnMut(Message) -> Room) -> Room {
        let (revision, previous) = (self.cursor, self.chain);
        let seat = &self.attached.seat;
        match &delivery {
            Delivery::Change { .. } => {
                self.chain = revision;
                seat.delivered();
            }
            Delivery::Snapshot { .. } => self.chain = revision,
            // Until a snapshot is complete, which `Synced` says, it is nothing to go on from.
            Delivery::Attached { .. } | Delivery::Reset { .. } => {}
            Delivery::Synced { .. } | Delivery::Heartbeat(_) | Delivery::Draining { .. } => {
                seat.reached(revision);
            }
        }
        self.last_message = now;
        take(Message { revision, previous, delivery })
    }
}
