//! When a peer counts as flapping.

use std::time::{Duration, SystemTime};

/// So many losses of READY within [`WINDOW`] are flapping: one or two happen in a maintenance.
const LOSSES: usize = 3;
const WINDOW: Duration = Duration::from_secs(600);

/// When READY was lost, the newest first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NewestFlaps([Option<SystemTime>; LOSSES]);

impl NewestFlaps {
    /// It was lost once more.
    pub fn add(&mut self, at: SystemTime) {
        self.0.rotate_right(1);
        if let Some(newest) = self.0.first_mut() {
            *newest = Some(at);
        }
    }

    /// Those of a peer that counts as flapping until then, as far as they are known.
    #[must_use]
    pub fn until(until: SystemTime) -> Self {
        Self([until.checked_sub(WINDOW); LOSSES])
    }

    /// Until when the peer counts as flapping, which may be in the past; `None` if it was not lost often enough.
    #[must_use]
    pub fn flapping_until(&self) -> Option<SystemTime> {
        let [.., oldest] = self.0;
        oldest.and_then(|oldest| oldest.checked_add(WINDOW))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_flaps_for_ten_minutes_after_the_third_last_loss() {
        let at = |second| SystemTime::UNIX_EPOCH + Duration::from_secs(second);
        let mut flaps = NewestFlaps::default();
        for (second, until) in [(10, None), (20, None), (50, Some(at(610))), (700, Some(at(620)))] {
            flaps.add(at(second));
            assert_eq!(flaps.flapping_until(), until, "{second}");
        }
    }
}
