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
/// Most digits that the header may have.
const MAX_DIGITS: usize = 8;

/// The deadline of a call, an extension of its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadline(pub Instant);

/// When a stream has to end, even if flow control keeps it from sending its status. An extension of a request; clones
/// belong to the same stream.
#[derive(Clone, Default)]
pub struct Overdue(Arc<Inner>);

type IsOver = Box<dyn Fn() -> bool + Send + Sync>;

#[derive(Default)]
struct Inner {
    ends: Mutex<Vec<IsOver>>,
    /// hyper has taken a part of the response, so there was send window for it.
    is_taken: AtomicBool,
}

impl Overdue {
    /// Adds a condition under which the stream has to end, evaluated whenever its task is woken.
    pub fn when(&self, is_over: impl Fn() -> bool + Send + Sync + 'static) {
        self.0.ends.lock().push(Box::new(is_over));
    }

    /// Whether the stream has to end.
    #[must_use]
    pub fn is_due(&self) -> bool {
        self.0.ends.lock().iter().any(|is_over| is_over())
    }

    /// Notes that hyper has taken a part of the response.
    pub fn taken(&self) {
        self.0.is_taken.store(true, Relaxed);
    }

    /// Whether hyper has taken any since the last call of this.
    #[must_use]
    pub fn was_taken(&self) -> bool {
        self.0.is_taken.swap(false, Relaxed)
    }
}

impl fmt::Debug for Overdue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Overdue").finish_non_exhaustive()
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
