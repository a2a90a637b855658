//! The clock of the service, from the `date` of its responses: ages that are computed from its times must not depend on the
//! clock of this machine.

use std::time::{Duration, Instant, SystemTime};

use http::{HeaderMap, header::DATE};
use parking_lot::Mutex;

/// Clocks that differ by less are the same one: the `date` of a response has no fractions of a second, and is as old as the
/// response.
const TOLERANCE: Duration = Duration::from_secs(2);

/// What it said last, and when. A process calls one service.
static LAST: Mutex<Option<(SystemTime, Instant)>> = Mutex::new(None);

/// The time by the clock of the service, or by that of this machine before its first response.
pub(crate) fn now() -> SystemTime {
    LAST.lock().map_or_else(SystemTime::now, |(time, at)| time + at.elapsed())
}

/// Takes the time from a response.
pub(crate) fn set(headers: &HeaderMap) {
    if let Some(time) = read(headers, SystemTime::now()) {
        *LAST.lock() = Some((time, Instant::now()));
    }
}

fn read(headers: &HeaderMap, own: SystemTime) -> Option<SystemTime> {
    let date = httpdate::parse_http_date(headers.get(DATE)?.to_str().ok()?).ok()?;
    let is_same =
        own.duration_since(date).or_else(|_| date.duration_since(own)).is_ok_and(|by| by < TOLERANCE);
    Some(if is_same { own } else { date })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_clock_of_the_service_counts_if_it_differs() {
        let date = |text: &str| HeaderMap::from_iter([(DATE, text.parse().unwrap())]);
        let at = |millis| SystemTime::UNIX_EPOCH + Duration::from_millis(millis);
        let headers = date("Thu, 01 Jan 1970 00:01:00 GMT");
        for (own, expected) in [(61_900, 61_900), (58_100, 58_100), (62_000, 60_000), (9_000_000, 60_000)] {
            assert_eq!(read(&headers, at(own)), Some(at(expected)), "{own}");
        }
        assert_eq!(read(&date("yesterday"), at(0)), None);
        assert_eq!(read(&HeaderMap::new(), at(0)), None);
    }
}
