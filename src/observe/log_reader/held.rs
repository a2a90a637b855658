//! Lines that change nothing wait for others, because each piece of the log that is handed over wakes a thread. The other parts of an
//! agent may write hundreds a second.

use std::time::{Duration, Instant};

use super::{LogEvent, ReadEvent};
use crate::observe::observer::is_idle;

/// How long they wait: what is counted is late by so much.
const HOLD: Duration = Duration::from_secs(1);

/// As many lines wait at most.
const MAX_LINES: usize = 1000;

/// What was read and not handed over.
#[derive(Debug, Default)]
pub(in crate::observe) struct Held {
    events: Vec<ReadEvent>,
    lines: usize,
}

impl Held {
    /// Adds what was read, and returns what is due, in its order.
    pub(in crate::observe) fn add(&mut self, read: Vec<ReadEvent>, now: Instant) -> Option<Vec<ReadEvent>> {
        let mut is_due = false;
        for read in &read {
            match &read.event {
                LogEvent::Lines(lines) => {
                    self.lines += lines.len();
                    // Without lines, it says that the log can be read again.
                    is_due |= lines.is_empty() || !lines.iter().all(is_idle);
                }
                _ => is_due = true,
            }
        }
        self.events.extend(read);
        let is_old = |read: &ReadEvent| now.saturating_duration_since(read.at) >= HOLD;
        is_due |= self.lines > MAX_LINES || self.events.first().is_some_and(is_old);
        is_due.then(|| {
            self.lines = 0;
            std::mem::take(&mut self.events)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::{LogLine, Loss, LossCause};

    /// Lines of these, of an agent that writes them at once.
    fn lines(lines: &[&str]) -> LogEvent {
        let parse = |line: &&str| LogLine::parse(format!("[2026-Nov-29 19:50:56.000001] {line}").as_bytes());
        LogEvent::Lines(lines.iter().map(parse).collect())
    }

    const IDLE: &str = "[debug] [PolicyStatsManager.cpp:118:on_timer] Handling flow statistics";

    #[test]
    fn lines_that_change_nothing_wait_for_the_next_one_that_may_and_keep_their_order_and_time() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let read = |event, millis| vec![ReadEvent { at: at(millis), ..ReadEvent::now(event) }];
        let lost = LogEvent::Lost(Loss { cause: LossCause::Truncated, detail: String::new() });
        for due in [
            lines(&[]),
            lines(&[IDLE, "[info] [OpflexPEHandler.cpp:1:ready] [10.0.0.1:8009] Handshake succeeded"]),
            lines(&["[error] [Other.cpp:1:run] Its text may be that of a peer"]),
            lines(&["[error] [ActiveTcpPeer.cpp:1:run] It tells of the level"]),
            lines(&["[info] [OpflexPool.cpp:1:run] The library may quote a peer"]),
            LogEvent::Lines(vec![LogLine { is_cut: true, ..LogLine::parse(b"") }]),
            LogEvent::Lines(vec![LogLine::parse(b"not framed")]),
            LogEvent::History(Vec::new()),
            LogEvent::NewInstance,
            lost,
        ] {
            let mut held = Held::default();
            assert_eq!(held.add(read(lines(&[IDLE, IDLE]), 0), at(0)), None);
            assert_eq!(held.add(Vec::new(), at(50)), None);
            let all = held.add(read(due.clone(), 100), at(100)).unwrap_or_default();
            let events: Vec<_> = all.iter().map(|read| (&read.event, read.at)).collect();
            assert_eq!(events, [(&lines(&[IDLE, IDLE]), at(0)), (&due, at(100))]);
            assert_eq!(held.add(Vec::new(), at(5000)), None);
        }
    }

    #[test]
    fn no_line_waits_for_longer_than_a_second_and_no_more_than_a_thousand() {
        let start = Instant::now();
        let read = |lines| vec![ReadEvent { at: start, ..ReadEvent::now(lines) }];
        let mut held = Held::default();
        assert_eq!(held.add(read(lines(&[IDLE])), start), None);
        assert_eq!(held.add(Vec::new(), start + Duration::from_millis(999)), None);
        assert_eq!(held.add(Vec::new(), start + Duration::from_secs(1)).map(|all| all.len()), Some(1));
        assert_eq!(held.add(read(lines(&[IDLE; 1000])), start), None);
        assert_eq!(held.add(read(lines(&[IDLE])), start).map(|all| all.len()), Some(2));
    }
}
