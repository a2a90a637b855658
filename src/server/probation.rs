//! When a connection that is not admitted has to end. Pure.

use std::time::Duration;

/// How often [`Probation::tick`] is called.
pub(super) const TICK: Duration = Duration::from_secs(1);
/// Ticks without a request after which a connection that is not admitted is closed.
const IDLE_TICKS: u32 = 60;
/// Ticks for which such a connection may leave what it was sent unread.
const BLOCKED_TICKS: u32 = 5;
/// Ticks from GOAWAY to the end of such a connection.
const CLOSE_TICKS: u32 = 2;

/// A connection that is not admitted, at a tick.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Observed {
    /// Requests so far.
    pub(super) requests: usize,
    /// Calls under way.
    pub(super) open: usize,
    /// The client does not read what it was sent.
    pub(super) is_blocked: bool,
    /// It is being shut down.
    pub(super) is_closing: bool,
}

/// What happens to a connection that is not admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Stay,
    /// GOAWAY.
    Close,
    /// It is closed whatever it does.
    Abort,
}

/// Decides when a connection that is not admitted has to end. Pure.
#[derive(Debug, Default)]
pub(super) struct Probation {
    requests: usize,
    idle: u32,
    blocked: u32,
    closing: u32,
}

impl Probation {
    pub(super) fn tick(&mut self, seen: Observed) -> Verdict {
        let count = |ticks: u32, goes_on: bool| if goes_on { ticks + 1 } else { 0 };
        self.idle = count(self.idle, seen.open == 0 && seen.requests == self.requests);
        self.blocked = count(self.blocked, seen.is_blocked);
        self.requests = seen.requests;
        let is_closing = seen.is_closing || self.closing > 0 || self.idle >= IDLE_TICKS;
        self.closing = count(self.closing, is_closing);
        match self.closing {
            _ if self.blocked >= BLOCKED_TICKS => Verdict::Abort,
            0 => Verdict::Stay,
            1..=CLOSE_TICKS => Verdict::Close,
            _ => Verdict::Abort,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// After how many ticks it is shut down, and aborted.
    fn ends(seen: impl Fn(u32) -> Observed) -> (Option<u32>, Option<u32>) {
        let mut probation = Probation::default();
        let verdicts: Vec<_> = (1..200).map(|tick| (tick, probation.tick(seen(tick)))).collect();
        let first = |wanted| verdicts.iter().find(|(_, verdict)| *verdict == wanted).map(|(tick, _)| *tick);
        (first(Verdict::Close), first(Verdict::Abort))
    }

    #[test]
    fn who_asks_for_nothing_is_closed_after_a_minute() {
        assert_eq!(ends(|_| Observed::default()), (Some(60), Some(62)));
    }

    #[test]
    fn who_asks_now_and_then_or_waits_for_an_answer_stays() {
        let asking =
            |tick: u32| Observed { requests: usize::try_from(tick / 30).unwrap_or(0), ..Observed::default() };
        assert_eq!(ends(asking), (None, None));
        assert_eq!(ends(|_| Observed { open: 1, ..Observed::default() }), (None, None));
    }

    #[test]
    fn who_does_not_read_is_given_little_time() {
        let blocked = Observed { open: 1, is_blocked: true, ..Observed::default() };
        assert_eq!(ends(|_| blocked), (None, Some(5)));
        let reading_again = |tick: u32| Observed { is_blocked: !tick.is_multiple_of(5), ..blocked };
        assert_eq!(ends(reading_again), (None, None));
    }

    #[test]
    fn who_is_refused_again_and_again_is_closed_whatever_it_does() {
        let refused = Observed { open: 1, is_closing: true, ..Observed::default() };
        assert_eq!(ends(|_| refused), (Some(1), Some(3)));
    }
}
