//! In which order lists show peers: the worst first.

use std::cmp::Reverse;

/// How bad the state of a peer is. The worst is the least; peers that are equally bad have an order of their own, such as
/// since when they are missing, or their names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// A connection is wanted, and it is not READY.
    Missing,
    /// It is READY, and was lost so many times: those lost most often first.
    Lost(Reverse<u64>),
    /// It is READY and was never lost, but attempts failed before.
    Recovered,
    /// No connection is wanted: it is parked, or about to leave.
    Unwanted,
    /// It is READY, and nothing has failed.
    Fine,
}

impl Severity {
    /// That of a peer.
    #[must_use]
    pub const fn of(is_wanted: bool, is_ready: bool, flaps: u64, failures: u64) -> Self {
        match (is_wanted, is_ready, flaps, failures) {
            (true, false, ..) => Self::Missing,
            (false, ..) => Self::Unwanted,
            (true, true, 0, 0) => Self::Fine,
            (true, true, 0, _) => Self::Recovered,
            (true, true, flaps, _) => Self::Lost(Reverse(flaps)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_is_the_least() {
        let peers = [
            (true, false, 7, 7),
            (true, true, 9, 9),
            (true, true, 1, 50),
            (true, true, 0, 14),
            (false, false, 3, 3),
            (true, true, 0, 0),
        ];
        let order = peers
            .map(|(is_wanted, is_ready, flaps, failures)| Severity::of(is_wanted, is_ready, flaps, failures));
        assert!(order.is_sorted_by(|one, other| one < other), "{order:?}");
    }
}
