//! Counts of failures by reason.

use crate::peer::Reason;

/// Failed attempts and lost connections of one peer, by reason. Small, because the log keeps one with each change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FailureCounts {
    by_reason: [u32; Reason::FAILURES.len()],
    /// Those of which only the number is known.
    others: u32,
}

impl FailureCounts {
    /// Counts one, if the reason is a failure.
    pub(super) fn add(&mut self, reason: Reason) {
        for (count, known) in self.by_reason.iter_mut().zip(Reason::FAILURES) {
            *count = count.saturating_add(u32::from(known == reason));
        }
    }

    /// So many, for reasons that are not known.
    #[must_use]
    pub fn of_unknown_reasons(count: u64) -> Self {
        Self { others: u32::try_from(count).unwrap_or(u32::MAX), ..Self::default() }
    }

    /// The counts that are not zero, by reason.
    pub fn iter(&self) -> impl Iterator<Item = (Reason, u32)> {
        Reason::FAILURES.into_iter().zip(self.by_reason).filter(|(_, count)| *count > 0)
    }

    /// All of them.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.by_reason.iter().chain([&self.others]).copied().map(u64::from).sum()
    }
}
