//! Counts of failures by reason.

use crate::peer::Reason;

/// Failed attempts and lost connections of one peer, by reason. Small, because the log keeps one with each change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FailureCounts([u32; Reason::FAILURES.len()]);

impl FailureCounts {
    /// Counts one, if the reason is a failure.
    pub(super) fn add(&mut self, reason: Reason) {
        for (count, known) in self.0.iter_mut().zip(Reason::FAILURES) {
            *count = count.saturating_add(u32::from(known == reason));
        }
    }

    /// The counts that are not zero.
    pub fn iter(&self) -> impl Iterator<Item = (Reason, u32)> {
        Reason::FAILURES.into_iter().zip(self.0).filter(|(_, count)| *count > 0)
    }

    /// All of them.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.iter().copied().map(u64::from).sum()
    }
}
