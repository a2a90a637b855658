//! The date of responses. That of hyper panics while the clock is before 1970.

use std::time::SystemTime;

use http::{HeaderValue, Response, header::DATE};

use crate::status::clock;

/// Sets the date of a response.
pub(super) fn set_date<B>(mut response: Response<B>) -> Response<B> {
    if let Some(date) = date(SystemTime::now()) {
        response.headers_mut().insert(DATE, date);
    }
    response
}

#[expect(clippy::disallowed_methods, reason = "it can be written")]
fn date(now: SystemTime) -> Option<HeaderValue> {
    httpdate::fmt_http_date(clock::writable(now)).try_into().ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::time::Duration;

    use super::*;

    #[test]
    fn a_clock_that_was_never_set_gives_the_first_date_there_is() {
        let (epoch, seconds) = (SystemTime::UNIX_EPOCH, Duration::from_secs);
        for (now, expected) in [
            (epoch - seconds(315_619_200), "Thu, 01 Jan 1970 00:00:00 GMT"),
            (epoch + seconds(1_700_000_062), "Tue, 14 Nov 2023 22:14:22 GMT"),
            (epoch + seconds(1 << 40), "Fri, 31 Dec 9999 23:59:59 GMT"),
        ] {
            assert_eq!(date(now).unwrap(), expected);
        }
        let response = set_date(set_date(Response::new(())));
        assert_eq!(response.headers().get_all(DATE).iter().count(), 1);
    }
}
