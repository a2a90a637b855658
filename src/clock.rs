//! Times of changes: what the system clock said at the start, and what the monotonic clock has counted since. So the
//! difference of two of them is how much time passed, whatever is done to the system clock. They are shown as times of the
//! system clock as it is now.

use std::{
    sync::{
        LazyLock,
        atomic::{AtomicI64, Ordering::Relaxed},
    },
    time::{Duration, Instant, SystemTime},
};

/// The system clock counts as set when it differs by more than this: it is slewed all the time, and times that are shown
/// twice must be the same.
const TOLERANCE: i64 = 500;

static CLOCK: LazyLock<Clock> = LazyLock::new(|| Clock::new(SystemTime::now(), Instant::now()));

/// The end of the year 9999: as far as dates can be written.
pub const LAST_SECOND: Duration = Duration::from_secs(253_402_300_799);

/// The nearest time that can be written as a date: the first second of 1970 for a clock that was never set.
#[must_use]
pub fn writable(time: SystemTime) -> SystemTime {
    time.clamp(SystemTime::UNIX_EPOCH, SystemTime::UNIX_EPOCH + LAST_SECOND)
}

/// Whether a time can be written as a date.
#[must_use]
pub fn is_writable(time: SystemTime) -> bool {
    writable(time) == time
}

/// A time in RFC 3339, to the second.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "it can be written")]
pub fn rfc3339(time: SystemTime) -> String {
    humantime::format_rfc3339_seconds(writable(time)).to_string()
}

struct Clock {
    start: (SystemTime, Instant),
    /// By how many milliseconds the system clock was set since the start.
    shift: AtomicI64,
}

/// The present time, to be kept.
#[must_use]
pub fn now() -> SystemTime {
    CLOCK.at(Instant::now())
}

/// By how much the system clock was set since the start. Times that are shown together must be shown by one of these:
/// their differences are ages, and the clock may be set at any moment.
#[derive(Debug, Clone, Copy)]
pub struct Shift {
    millis: i64,
}

/// The present shift.
#[must_use]
pub fn shift() -> Shift {
    CLOCK.update(SystemTime::now(), Instant::now());
    Shift { millis: CLOCK.shift.load(Relaxed) }
}

impl Shift {
    /// A time that was kept, to be shown.
    #[must_use]
    pub fn to_system(self, time: SystemTime) -> SystemTime {
        shifted(time, self.millis)
    }

    /// A time by the system clock, to be compared with times that were kept.
    #[must_use]
    pub fn from_system(self, time: SystemTime) -> SystemTime {
        shifted(time, -self.millis)
    }
}

impl Clock {
    const fn new(system: SystemTime, monotonic: Instant) -> Self {
        Self { start: (system, monotonic), shift: AtomicI64::new(0) }
    }

    fn at(&self, monotonic: Instant) -> SystemTime {
        self.start.0 + monotonic.saturating_duration_since(self.start.1)
    }

    fn update(&self, system: SystemTime, monotonic: Instant) {
        let kept = self.at(monotonic);
        let shift = match system.duration_since(kept) {
            Ok(ahead) => millis(ahead),
            Err(behind) => -millis(behind.duration()),
        };
        if shift.abs_diff(self.shift.load(Relaxed)) > TOLERANCE.unsigned_abs() {
            self.shift.store(shift, Relaxed);
        }
    }
}

fn millis(duration: Duration) -> i64 {
    duration.as_millis().try_into().unwrap_or(i64::MAX)
}

/// The same time if the result would be out of range.
fn shifted(time: SystemTime, millis: i64) -> SystemTime {
    let by = Duration::from_millis(millis.unsigned_abs());
    let shifted = if millis < 0 { time.checked_sub(by) } else { time.checked_add(by) };
    shifted.unwrap_or(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_beyond_the_calendar_are_written_as_the_nearest_in_it() {
        let (epoch, seconds) = (SystemTime::UNIX_EPOCH, Duration::from_secs);
        for (time, expected) in [
            (epoch - seconds(315_619_200), "1970-01-01T00:00:00Z"),
            (epoch - Duration::from_nanos(1), "1970-01-01T00:00:00Z"),
            (epoch + seconds(1_700_000_062), "2023-11-14T22:14:22Z"),
            (epoch + LAST_SECOND + seconds(1), "9999-12-31T23:59:59Z"),
        ] {
            assert_eq!(rfc3339(time), expected);
        }
    }

    #[test]
    fn differences_are_durations_and_what_is_shown_follows_the_system_clock() {
        let (system, start) = (SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000), Instant::now());
        let clock = Clock::new(system, start);
        let seconds = Duration::from_secs;
        let ready = clock.at(start + seconds(10));
        // Ten years ahead, and back again.
        for (after, step) in [(20, 315_360_000_000), (30, 315_360_000_400), (40, -5_000), (50, 0)] {
            let monotonic = start + seconds(after);
            let present = shifted(system + seconds(after), step);
            clock.update(present, monotonic);
            let shown = shifted(ready, clock.shift.load(Relaxed));
            let age = present.duration_since(shown).unwrap_or_default();
            assert_eq!(age.as_secs(), after - 10, "after a step of {step} ms");
            assert_eq!(clock.at(monotonic).duration_since(ready).unwrap_or_default(), seconds(after - 10));
            assert_eq!(shifted(shown, -clock.shift.load(Relaxed)), ready, "there and back");
        }
        let before = clock.shift.load(Relaxed);
        clock.update(system + seconds(60) + Duration::from_millis(400), start + seconds(60));
        assert_eq!(clock.shift.load(Relaxed), before, "a slewed clock changes nothing that is shown");
    }
}
