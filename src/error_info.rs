//! Errors as gRPC clients see them: a code, a sentence, and a `google.rpc.ErrorInfo` whose reason a program can read.

use std::{collections::HashMap, error::Error, iter, time::Duration};

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

/// Domain of every `google.rpc.ErrorInfo` of this service.
pub const DOMAIN: &str = "opflex.peerstatus";
/// When to retry while the service stops: a replacement needs a moment.
const DRAIN_RETRY: Duration = Duration::from_secs(2);

/// An error with a reason.
pub fn status(code: Code, reason: &str, message: impl Into<String>) -> Status {
    with_metadata(code, reason, message, [])
}

/// An error with a reason, and values for programs.
pub fn with_metadata<const N: usize>(
    code: Code,
    reason: &str,
    message: impl Into<String>,
    metadata: [(&str, String); N],
) -> Status {
    let metadata: HashMap<_, _> = metadata.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    Status::with_error_details(code, message, ErrorDetails::with_error_info(reason, DOMAIN, metadata))
}

/// An error about one field of the request.
pub fn invalid(field: &str, reason: &str, message: impl Into<String>) -> Status {
    let message = message.into();
    let mut details = ErrorDetails::with_error_info(reason, DOMAIN, []);
    details.add_bad_request_violation(field, &message);
    Status::with_error_details(Code::InvalidArgument, format!("{field}: {message}"), details)
}

/// A temporary error, with `RetryInfo`.
pub fn retryable(code: Code, reason: &str, message: impl Into<String>, after: Duration) -> Status {
    let mut details = ErrorDetails::with_error_info(reason, DOMAIN, []);
    details.set_retry_info(Some(after));
    Status::with_error_details(code, message, details)
}

/// The service is stopping.
#[must_use]
pub fn draining(after: Option<Duration>) -> Status {
    retryable(Code::Unavailable, "DRAINING", "the service is stopping", after.unwrap_or(DRAIN_RETRY))
}

/// The error, its cause, the cause of that, and so on.
pub fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    iter::successors(Some(error), |error| (*error).source())
}

/// The error and its causes in one line.
#[must_use]
pub fn with_causes(error: &(dyn Error + 'static)) -> String {
    causes(error).map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
