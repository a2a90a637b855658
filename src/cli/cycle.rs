//! Changes that repeat: a peer that flaps goes through the same ones again and again.

use std::fmt;

use crate::api::pb::{
    PeerChange,
    PeerStatus::{Closing, Connected, Connecting, Disconnected, Ready},
};

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

/// The changes of a parked address that is asked for its list of peers again and stays parked, the newest first: its
/// status before and after each.
const QUESTION: [[i32; 2]; 4] = [
    [Closing as i32, Disconnected as i32],
    [Connected as i32, Closing as i32],
    [Connecting as i32, Connected as i32],
    [Disconnected as i32, Connecting as i32],
];

/// What repeats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// READY was reached and lost.
    Flapped,
    /// Attempts failed, and none of them reached READY.
    NeverReady,
    /// A parked address was asked for its list of peers, and stayed parked.
    AskedAgain,
    /// Some of the changes of a cycle; the others are not known.
    Repeated,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Flapped => "flapped",
            Self::NeverReady => "never READY",
            Self::AskedAgain => "asked again",
            Self::Repeated => "repeated",
        })
    }
}

/// Cycles, one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) kind: Kind,
    /// Changes in each.
    pub(crate) period: usize,
    /// How many there are.
    pub(crate) count: usize,
}

/// The run that the first keys are, if they are one. They are all changes of one peer.
pub(crate) fn run(keys: &[Key]) -> Option<Run> {
    (1..=LONGEST).find_map(|period| {
        let repeated = keys.iter().zip(keys.iter().skip(period)).take_while(|(a, b)| a == b).count();
        let count = repeated / period + 1;
        let kind = kind(keys.get(..period)?);
        (count >= SHORTEST_RUN).then_some(Run { kind, period, count })
    })
}

fn kind(cycle: &[Key]) -> Kind {
    let has = |status| {
        let status = i32::from(status);
        cycle.iter().any(|[_, before, now, _]| *before == status || *now == status)
    };
    match () {
        () if has(Ready) => Kind::Flapped,
        () if has(Disconnected) => Kind::AskedAgain,
        () => Kind::NeverReady,
    }
}

/// The run of questions to a parked address that the first keys are. One is enough: it changes nothing.
pub(crate) fn questions(keys: &[Key]) -> Option<Run> {
    let is_question = |cycle: &&[Key]| cycle.iter().map(|[_, before, now, _]| [*before, *now]).eq(QUESTION);
    let count = keys.chunks(QUESTION.len()).take_while(is_question).count();
    (count > 0).then_some(Run { kind: Kind::AskedAgain, period: QUESTION.len(), count })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_cycles_are_a_run() {
        let keys = |text: &str| text.bytes().map(|c| [0, 0, 0, i32::from(c)]).collect::<Vec<_>>();
        let kind = Kind::NeverReady;
        assert_eq!(run(&keys("aaab")), Some(Run { kind, period: 1, count: 3 }));
        assert_eq!(run(&keys("abcabcabcab")), Some(Run { kind, period: 3, count: 3 }));
        assert_eq!(run(&keys("abab")), None);
        assert_eq!(run(&keys("xababab")), None, "it does not begin here");
        assert_eq!(run(&[]), None);
    }

    #[test]
    fn a_run_is_named_for_whether_ready_was_reached() {
        let key = |before, now| [3, i32::from(before), i32::from(now), 0];
        let of = |cycle: &[Key]| run(&cycle.repeat(3)).map(|run| run.kind);
        let failing = [key(Connected, Connecting), key(Connecting, Connected)];
        assert_eq!(of(&failing), Some(Kind::NeverReady));
        assert_eq!(of(&[key(Ready, Connecting), key(Connecting, Ready)]), Some(Kind::Flapped));
        let question = QUESTION.map(|[before, now]| [3, before, now, 0]);
        assert_eq!(of(&question), Some(Kind::AskedAgain));
        let once = Run { kind: Kind::AskedAgain, period: 4, count: 1 };
        assert_eq!(questions(&[&question[..], &failing[..]].concat()), Some(once));
        assert_eq!(questions(&failing), None);
    }
}
