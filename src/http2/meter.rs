//! How much a client says that asks for nothing.
//!
//! Frames such as PING, SETTINGS, PRIORITY and WINDOW_UPDATE cost next to nothing each, and those of a client that says
//! nothing else cost a core. So they are counted, and so is what has to be refused. Who is told much has reason to say
//! some of them, and may: every window has to be made room in again.

use std::time::Instant;

use super::frame::{DATA, HEADERS};

/// What a frame counts, in the unit here. A byte that the client is sent makes up for one unit.
const FRAME: u32 = 64;
/// Frames that a client may say at once: a busy one with 128 streams says some hundreds.
const AT_ONCE: u32 = 1_000 * FRAME;
/// What is made up for with time: 500 frames a second.
const PER_MILLISECOND: u64 = 32;

/// One client's.
#[derive(Debug)]
pub(super) struct Meter {
    /// What the client may say.
    left: u32,
    since: Instant,
}

impl Meter {
    pub(super) const fn new(now: Instant) -> Self {
        Self { left: AT_ONCE, since: now }
    }

    /// The client has said a frame with so many bytes. False: that was one too many.
    pub(super) fn heard(&mut self, kind: u8, length: usize, now: Instant) -> bool {
        match kind {
            // They ask for something, or are part of that; and there are bounds on that.
            HEADERS => true,
            DATA if length > 0 => true,
            _ => self.charge(now),
        }
    }

    /// The client has had something refused. False: once too often.
    pub(super) fn charge(&mut self, now: Instant) -> bool {
        self.recover(now);
        let enough = self.left.checked_sub(FRAME);
        self.left = enough.unwrap_or(0);
        enough.is_some()
    }

    /// So many bytes were said to the client.
    pub(super) fn said(&mut self, bytes: usize) {
        self.left = self.left.saturating_add(u32::try_from(bytes).unwrap_or(AT_ONCE)).min(AT_ONCE);
    }

    fn recover(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.since).as_millis();
        if passed > 0 {
            self.since = now;
            let more = u64::try_from(passed).unwrap_or(u64::MAX).saturating_mul(PER_MILLISECOND);
            self.said(usize::try_from(more).unwrap_or(usize::MAX));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const PING: u8 = 6;

    /// How many of these it takes in one go.
    fn taken(meter: &mut Meter, kind: u8, length: usize, now: Instant) -> u32 {
        (0..10_000).find(|_| !meter.heard(kind, length, now)).unwrap_or(10_000)
    }

    #[test]
    fn what_asks_for_nothing_is_counted_and_what_asks_is_not() {
        let now = Instant::now();
        for kind in 2..=20 {
            assert_eq!(taken(&mut Meter::new(now), kind, 8, now), 1_000, "{kind}");
        }
        for (kind, length, count) in [(DATA, 0, 1_000), (DATA, 1, 10_000), (HEADERS, 9, 10_000)] {
            assert_eq!(taken(&mut Meter::new(now), kind, length, now), count, "{kind} {length}");
        }
    }

    #[test]
    fn time_and_what_the_client_is_told_make_up_for_it() {
        let now = Instant::now();
        let mut meter = Meter::new(now);
        taken(&mut meter, PING, 8, now);
        let later = now + Duration::from_secs(1);
        assert_eq!(taken(&mut meter, PING, 8, later), 500);
        meter.said(640);
        assert_eq!(taken(&mut meter, PING, 8, later), 10);
        meter.said(usize::MAX);
        assert_eq!(taken(&mut meter, PING, 8, later + Duration::from_secs(99_999)), 1_000);
    }
}
