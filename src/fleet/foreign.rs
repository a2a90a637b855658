//! Messages on the subjects of a node that it did not publish, and when it publishes its state again because of them. Pure.
//!
//! Its credentials let nobody else publish there, but NATS does not check the reply subject of a message: another node may have
//! JetStream store an acknowledgement in place of a record. Records of another process are late ones of the one before, or two
//! nodes have one name. As long as the other one is alive, the state is not published again: readers would ignore it.

use std::time::{Duration, Instant};

use async_nats::{HeaderMap, Message, header::NATS_MESSAGE_ID};

use super::record::{Content, Entry, UP_TTL};

/// A message of somebody else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Foreign {
    /// No record of this node.
    Other,
    /// A record of another process of the node.
    Record,
    /// A sign of life of such a process.
    Process,
}

impl Foreign {
    /// Whose message this is. `None`: of this process, whose ids begin with `secret`.
    pub(super) fn of(message: &Message, secret: &str, epoch: u64) -> Option<Self> {
        let none = HeaderMap::new();
        let headers = message.headers.as_ref().unwrap_or(&none);
        if headers.get(NATS_MESSAGE_ID).is_some_and(|id| id.as_str().starts_with(secret)) {
            return None;
        }
        Some(match Entry::decode(&message.subject, headers, &message.payload) {
            Ok(Entry::Record(record)) if record.header.epoch != epoch => match record.content {
                Content::Up(_) => Self::Process,
                _ => Self::Record,
            },
            _ => Self::Other,
        })
    }

    /// For the label of a metric.
    pub(super) const fn label(self) -> &'static str {
        match self {
            Self::Other => "other",
            Self::Record | Self::Process => "process",
        }
    }
}

/// More messages that are wrong often follow the first one, and a sign of life of another process its state.
const DELAY: Duration = Duration::from_secs(1);
/// Between two states. It doubles with each one, so that an attack does not fill the stream.
const MIN_PAUSE: Duration = Duration::from_secs(15);
const MAX_PAUSE: Duration = Duration::from_secs(300);

/// When the whole state is published again, because the stream does not have it any more.
#[derive(Debug)]
pub(super) struct Repair {
    due: Option<Instant>,
    last: Option<Instant>,
    pause: Duration,
    /// Until when another process counts as alive.
    other_until: Option<Instant>,
}

impl Repair {
    pub(super) const fn new() -> Self {
        Self { due: None, last: None, pause: MIN_PAUSE, other_until: None }
    }

    /// Somebody else published.
    pub(super) fn foreign(&mut self, foreign: Foreign, now: Instant) {
        match foreign {
            Foreign::Other | Foreign::Record => self.need(now),
            Foreign::Process => {
                let until = now + UP_TTL;
                self.other_until = Some(until);
                self.due = self.due.map(|_| until);
            }
        }
    }

    /// Something is missing in the stream.
    pub(super) fn need(&mut self, now: Instant) {
        if self.due.is_some() {
            return;
        }
        let calm = self.last.map(|last| now.saturating_duration_since(last));
        if calm.is_none_or(|calm| calm > 2 * self.pause) {
            self.pause = MIN_PAUSE;
        }
        let earliest = self.last.map_or(now, |last| last + self.pause);
        self.due = Some(self.other_until.map_or(earliest, |until| until.max(earliest)).max(now + DELAY));
    }

    pub(super) const fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Whether it is time.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        if self.due.is_none_or(|due| due > now) {
            return false;
        }
        self.due = None;
        if self.last.replace(now).is_some_and(|last| now < last + 2 * self.pause) {
            self.pause = (2 * self.pause).min(MAX_PAUSE);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// When the state is published, if somebody attacks each second.
    fn repairs(seconds: std::ops::Range<u64>, repair: &mut Repair, start: Instant) -> Vec<u64> {
        let mut repairs = Vec::new();
        for second in seconds {
            let now = start + Duration::from_secs(second);
            if repair.take(now) {
                repairs.push(second);
            }
            repair.foreign(Foreign::Other, now);
        }
        repairs
    }

    #[test]
    fn one_attack_is_repaired_at_once_and_an_attack_that_goes_on_every_five_minutes() {
        let (start, mut repair) = (Instant::now(), Repair::new());
        assert_eq!(repairs(0..10, &mut repair, start), [1]);
        let gaps = repairs(10..2_000, &mut repair, start);
        let gaps: Vec<_> = gaps.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert_eq!(gaps[..6], [30, 60, 120, 240, 300, 300]);
        let calm = start + Duration::from_secs(2_601);
        assert!(repair.take(calm), "the last one");
        let next = calm + Duration::from_secs(700);
        repair.foreign(Foreign::Other, next);
        assert!(repair.take(next + DELAY), "after a while without any, at once again");
    }

    #[test]
    fn records_of_another_process_are_replaced_when_it_is_gone() {
        let (start, mut repair) = (Instant::now(), Repair::new());
        let at = |seconds| start + Duration::from_secs(seconds);
        repair.foreign(Foreign::Process, at(0));
        assert_eq!(repair.due(), None, "nothing is wrong");
        for second in [1, 15, 30] {
            repair.foreign(Foreign::Record, at(second));
            repair.foreign(Foreign::Process, at(second));
        }
        assert!(!repair.take(at(74)) && repair.take(at(75)), "two nodes have one name until then");
        repair.foreign(Foreign::Record, at(100));
        assert!(!repair.take(at(100)) && repair.take(at(101)), "a late record");
    }
}
