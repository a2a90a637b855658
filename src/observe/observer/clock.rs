//! When a line was written. The agent writes local time without a zone, and its zone need not be ours.

use std::time::{Duration, SystemTime};

use crate::observe::LogLine;

const QUARTER: i64 = 15 * 60;
/// From UTC-12 to UTC+14.
const WEST: i64 = -12 * 3600;
const EAST: i64 = 14 * 3600;
/// How old a line may be for its time to tell the zone.
const FRESH: i64 = 60;

/// By how many seconds the agent's clock is ahead of UTC. Zones are whole quarters of an hour, and lines are read when they
/// are seconds old at most.
#[derive(Debug, Default)]
pub(super) struct Clock {
    offset: i64,
    /// When the newest line was written.
    newest: Option<SystemTime>,
}

impl Clock {
    /// When a line was written, but not later than now.
    pub(super) fn time_of(&self, line: &LogLine, wall: SystemTime) -> SystemTime {
        let time = line.received.or_else(|| self.utc(line.written?));
        time.map_or(wall, |time| time.min(wall))
    }

    /// When a line with this time was written at the earliest: not before the lines before it, whatever a peer's text claims.
    pub(super) fn earliest(&mut self, time: SystemTime, wall: SystemTime) -> SystemTime {
        let earliest = self.newest.map_or(time, |newest| newest.max(time).min(wall));
        self.newest = Some(earliest);
        earliest
    }

    /// Whether a line claims to be from the future.
    pub(super) fn is_ahead(&self, line: &LogLine, wall: SystemTime) -> bool {
        let tolerance = Duration::from_secs(1);
        line.received.is_none()
            && line.written.and_then(|written| self.utc(written)).is_some_and(|time| time > wall + tolerance)
    }

    /// Learns the zone from a line that was just read, and is not text of a peer.
    pub(super) fn learn(&mut self, line: &LogLine, wall: SystemTime) {
        let Some(written) = line.written else { return };
        let Ok(wall) = wall.duration_since(SystemTime::UNIX_EPOCH) else { return };
        let seconds = |time: Duration| i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
        let ahead = seconds(written).saturating_sub(seconds(wall));
        // A line is older than now, never newer: half a minute of the tolerance is for clocks that are set.
        let offset = ahead.saturating_add(FRESH).div_euclid(QUARTER).saturating_mul(QUARTER);
        let age = offset.saturating_sub(ahead);
        if (WEST..=EAST).contains(&offset) && (-1..=FRESH).contains(&age) {
            self.offset = offset;
        }
    }

    fn utc(&self, written: Duration) -> Option<SystemTime> {
        let time = SystemTime::UNIX_EPOCH.checked_add(written)?;
        let shift = Duration::from_secs(self.offset.unsigned_abs());
        if self.offset < 0 { time.checked_add(shift) } else { time.checked_sub(shift) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_zone_is_learnt_from_a_fresh_line() {
        let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_981_856);
        for (hours, age) in [(0, 0), (1, 2), (-8, 30), (14, 59), (-12, 0)] {
            let written = 1_795_981_856 + hours * 3600 - age;
            let line = LogLine {
                written: Some(Duration::from_secs(u64::try_from(written).unwrap())),
                ..LogLine::parse(b"")
            };
            let mut clock = Clock::default();
            clock.learn(&line, wall);
            let expected = wall - Duration::from_secs(u64::try_from(age).unwrap());
            assert_eq!(clock.time_of(&line, wall), expected, "{hours} h, {age} s old");
        }
    }

    #[test]
    fn a_line_is_not_older_than_those_before_it() {
        let (start, mut clock) = (Duration::from_secs(1_795_981_000), Clock::default());
        let mut time_of = |written: u64, wall: u64| {
            let written = Some(start + Duration::from_secs(written));
            let line = LogLine { written, ..LogLine::parse(b"") };
            let wall = SystemTime::UNIX_EPOCH + start + Duration::from_secs(wall);
            let time = clock.time_of(&line, wall);
            let time = clock.earliest(time, wall);
            time.duration_since(SystemTime::UNIX_EPOCH + start).unwrap().as_secs()
        };
        assert_eq!([time_of(10, 20), time_of(12, 20), time_of(0, 20), time_of(30, 20)], [10, 12, 12, 20]);
        assert_eq!([time_of(8, 9), time_of(10, 11)], [9, 10], "the clock was set back");
    }

    #[test]
    fn an_old_line_teaches_nothing() {
        let line = LogLine { written: Some(Duration::from_secs(1_795_981_000)), ..LogLine::parse(b"") };
        let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_981_000 + 5 * 3600 + 180);
        let mut clock = Clock::default();
        clock.learn(&line, wall);
        assert_eq!(clock.time_of(&line, wall), SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_981_000));
    }
}
