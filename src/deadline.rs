//! Deadlines of calls: the `grpc-timeout` header, and the conditions that end a stream even if its client does not read.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use http::HeaderMap;
use parking_lot::Mutex;
use tokio::time::Instant;

/// The header of the timeout in gRPC over HTTP/2.
pub const HEADER: &str = "grpc-timeout";
/// Most digits that the header may have, by the gRPC specification.
const MAX_DIGITS: usize = 8;

/// The deadline of a call, an extension of its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadline(pub Instant);

/// The conditions under which a stream has to end, even if flow control keeps it from sending its status. An extension
/// of a request; clones belong to the same stream.
#[derive(Clone, Default)]
pub struct EndConditions(Arc<Inner>);

type Condition = Box<dyn Fn() -> bool + Send + Sync>;

#[derive(Default)]
struct Inner {
    conditions: Mutex<Vec<Condition>>,
    /// hyper has taken a part of the response, so there was send window for it. Cleared by `take_progress`.
    has_progressed: AtomicBool,
}

impl EndConditions {
    /// Adds a condition under which the stream has to end, evaluated whenever its task is woken.
    pub fn add(&self, is_met: impl Fn() -> bool + Send + Sync + 'static) {
        self.0.conditions.lock().push(Box::new(is_met));
    }

    /// Whether the stream has to end.
    #[must_use]
    pub fn any_met(&self) -> bool {
        self.0.conditions.lock().iter().any(|is_met| is_met())
    }

    /// Notes that hyper has taken a part of the response.
    pub fn record_progress(&self) {
        self.0.has_progressed.store(true, Relaxed);
    }

    /// Whether hyper has taken any since the last call of this.
    #[must_use]
    pub fn take_progress(&self) -> bool {
        self.0.has_progressed.swap(false, Relaxed)
    }
}

impl fmt::Debug for EndConditions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EndConditions").finish_non_exhaustive()
    }
}

/// The header is malformed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{HEADER} must be 1 to 8 digits and one of H, M, S, m, u and n")]
pub struct BadTimeout;

/// The timeout in a request's headers, if there is one.
///
/// # Errors
/// The header is malformed, or given twice.
pub fn timeout(headers: &HeaderMap) -> Result<Option<Duration>, BadTimeout> {
    let mut given = headers.get_all(HEADER).iter();
    let Some(value) = given.next() else { return Ok(None) };
    let parsed = value.to_str().ok().and_then(parse).filter(|_| given.next().is_none());
    parsed.map(Some).ok_or(BadTimeout)
}

fn parse(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let is_number =
        (1..=MAX_DIGITS).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
    let count: u64 = digits.parse().ok().filter(|_| is_number)?;
    match unit {
        "H" => Some(Duration::from_secs(count * 3600)),
        "M" => Some(Duration::from_secs(count * 60)),
        "S" => Some(Duration::from_secs(count)),
        "m" => Some(Duration::from_millis(count)),
        "u" => Some(Duration::from_micros(count)),
        "n" => Some(Duration::from_nanos(count)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use http::HeaderValue;

    use super::*;

    fn timeout_of(values: &[&'static str]) -> Result<Option<Duration>, BadTimeout> {
        let values = values.iter().map(|value| (HEADER.parse().unwrap(), HeaderValue::from_static(value)));
        timeout(&values.collect())
    }

    #[test]
    fn every_unit_is_read() {
        for (value, millis) in [
            ("1H", 3_600_000),
            ("2M", 120_000),
            ("30S", 30_000),
            ("500m", 500),
            ("2000000u", 2_000),
            ("1000000n", 1),
            ("0S", 0),
            ("99999999H", 99_999_999 * 3_600_000),
        ] {
            assert_eq!(timeout_of(&[value]).unwrap().unwrap().as_millis(), millis, "{value}");
        }
        assert_eq!(timeout_of(&[]), Ok(None));
    }

    #[test]
    fn anything_else_is_malformed() {
        for value in ["", "S", "5", "5s", "+5S", "123456789S", "5.5S", "-1S", "5 S"] {
            assert_eq!(timeout_of(&[value]), Err(BadTimeout), "{value:?}");
        }
        assert_eq!(timeout_of(&["1S", "2S"]), Err(BadTimeout));
    }
}
