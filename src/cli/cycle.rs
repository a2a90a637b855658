//! Changes that repeat: a peer that flaps goes through the same ones again and again.

use std::time::{Duration, SystemTime};

use crate::{api::pb::PeerChange, cli::text};

/// Longer ones are no flapping: there are five changes from READY over every status back to READY.
const LONGEST: usize = 8;
/// So many are a run; a person reads fewer as they are.
const SHORTEST_RUN: usize = 3;
/// So many keys are enough to see a run.
pub(crate) const WINDOW: usize = LONGEST * SHORTEST_RUN;

/// What makes a change the same as another: kind, status before and now, reason.
pub(crate) type Key = [i32; 4];

pub(crate) fn key(change: &PeerChange) -> Key {
    let (status, reason) = change.peer.as_ref().map_or((0, 0), |peer| (peer.status, peer.reason));
    [change.kind, change.previous_status, status, reason]
}

/// Cycles, one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    /// Changes in each.
    pub(crate) period: usize,
    /// How many there are.
    pub(crate) count: usize,
}

/// The run that the first keys are, if they are one.
pub(crate) fn run(keys: &[Key]) -> Option<Run> {
    (1..=LONGEST).find_map(|period| {
        let repeated = keys.iter().zip(keys.iter().skip(period)).take_while(|(a, b)| a == b).count();
        let count = repeated / period + 1;
        (count >= SHORTEST_RUN).then_some(Run { period, count })
    })
}

/// `× 812 in 3m 2s`
pub(crate) fn times(
    count: impl std::fmt::Display,
    begin: Option<SystemTime>,
    end: Option<SystemTime>,
) -> String {
    let span = begin.zip(end).and_then(|(begin, end)| end.duration_since(begin).ok());
    format!("× {count} in {}", text::short_duration(span.unwrap_or(Duration::ZERO)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_cycles_are_a_run() {
        let keys = |text: &str| text.bytes().map(|c| [0, 0, 0, i32::from(c)]).collect::<Vec<_>>();
        assert_eq!(run(&keys("aaab")), Some(Run { period: 1, count: 3 }));
        assert_eq!(run(&keys("abcabcabcab")), Some(Run { period: 3, count: 3 }));
        assert_eq!(run(&keys("abab")), None);
        assert_eq!(run(&keys("xababab")), None, "it does not begin here");
        assert_eq!(run(&[]), None);
    }
}
