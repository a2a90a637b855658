//! Exit codes, and the failures of commands.

use std::{error::Error, io, process::ExitCode};

use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::cli::text;

/// How a command ends. The numbers are part of the interface; `peerstatus --help` lists them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Success = 0,
    /// The service rejected the request, or the command failed.
    Failed = 1,
    /// The command line or the configuration is wrong, also if the service reports it (`EX_USAGE`).
    Usage = 64,
    /// The service cannot be reached or does not answer (`EX_UNAVAILABLE`).
    Unreachable = 69,
    /// A wait timed out (`EX_TEMPFAIL`).
    TimedOut = 75,
    /// Ctrl-C (128 + SIGINT).
    Interrupted = 130,
    /// SIGTERM (128 + SIGTERM), where a command has to restore the terminal first.
    Terminated = 143,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command ends early. Displays as text for people, without `error:`.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// An invalid argument that only the command or the service can detect.
    #[error("{0}")]
    Usage(String),
    /// The service cannot be reached or does not answer.
    #[error("{0}")]
    Unreachable(String),
    /// The service answered with an error.
    #[error("{text}")]
    Refused {
        /// The message for people.
        text: String,
        /// See [`reason()`].
        reason: String,
    },
    /// A wait timed out.
    #[error("{0}")]
    TimedOut(String),
    /// The result is negative, and the output shows it, so no message is printed.
    #[error("the result is negative")]
    AlreadyReported,
    /// Ctrl-C. No message is printed.
    #[error("interrupted")]
    Interrupted,
    /// SIGTERM. No message is printed.
    #[error("terminated")]
    Terminated,
    /// The reader closed the output, as in `peerstatus watch | head -1`. Not a failure, and no message is printed.
    #[error("the output was closed")]
    OutputClosed,
    /// Anything else.
    #[error("{0:#}")]
    Other(#[from] anyhow::Error),
}

impl Failure {
    /// The exit code.
    pub(crate) const fn exit(&self) -> Exit {
        match self {
            Self::Usage(_) => Exit::Usage,
            Self::Unreachable(_) => Exit::Unreachable,
            Self::Refused { .. } | Self::AlreadyReported | Self::Other(_) => Exit::Failed,
            Self::TimedOut(_) => Exit::TimedOut,
            Self::Interrupted => Exit::Interrupted,
            Self::Terminated => Exit::Terminated,
            Self::OutputClosed => Exit::Success,
        }
    }

    /// The service sent an invalid response; `text` describes it.
    pub(crate) fn invalid_response(text: impl Into<String>) -> Self {
        Self::Refused { text: text.into(), reason: String::new() }
    }

    /// Appends advice if the service refused for this reason. Only the command line knows its options.
    pub(crate) fn advise(self, refused_for: &str, advice: &str) -> Self {
        match self {
            Self::Refused { text, reason } if reason == refused_for => {
                Self::Refused { text: format!("{text}\n  {advice}"), reason }
            }
            other => other,
        }
    }

    /// Whether the service refused for this reason.
    pub(crate) fn is_for(&self, refused_for: &str) -> bool {
        matches!(self, Self::Refused { reason, .. } if reason == refused_for)
    }

    /// Whether a message is printed.
    pub(crate) const fn should_print(&self) -> bool {
        !matches!(self, Self::AlreadyReported | Self::Interrupted | Self::Terminated | Self::OutputClosed)
    }
}

impl From<io::Error> for Failure {
    /// For errors of writing output.
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::OutputClosed,
            _ => Self::Other(anyhow::Error::new(error).context("cannot write the output")),
        }
    }
}

/// Domain of the `ErrorInfo` of every error of the service.
const DOMAIN: &str = "opflex.peerstatus";
const CREDENTIALS_HINT: &str = "authenticate with --token-file, or with --tls-cert and --tls-key";

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        let text = describe(&status);
        match status.code() {
            _ if is_local(&status) => Self::Unreachable(format!(
                "{text}. Is that the address of a `peerstatus serve`? If it speaks TLS, use https://HOST:PORT."
            )),
            Code::Unavailable => Self::Unreachable(text),
            Code::InvalidArgument => Self::Usage(text),
            _ => Self::Refused { text, reason: reason(&status) }
                .advise("CREDENTIALS_MISSING", CREDENTIALS_HINT),
        }
    }
}

/// Whether the status was made on this side because the connection failed, and not by the service.
pub(crate) fn is_local(status: &Status) -> bool {
    status.source().is_some()
}

/// The reason that the service gave, for example `LISTENER_NOT_FOUND`. Empty if the status has no `ErrorInfo` of the
/// service: then the connection failed, or a proxy or another server answered.
pub(crate) fn reason(status: &Status) -> String {
    let info = status.get_details_error_info().filter(|info| info.domain == DOMAIN);
    info.map(|info| info.reason).unwrap_or_default()
}

/// Whether the service refused the request, and would refuse it again. The code alone is not enough: a proxy's 403,
/// 404 and 401 are `PERMISSION_DENIED`, `UNIMPLEMENTED` and `UNAUTHENTICATED` to a client, and go away with the next
/// deployment of the proxy.
pub(crate) fn is_permanent(status: &Status) -> bool {
    let is_refusal = matches!(
        status.code(),
        Code::Cancelled
            | Code::InvalidArgument
            | Code::NotFound
            | Code::AlreadyExists
            | Code::PermissionDenied
            | Code::FailedPrecondition
            | Code::Aborted
            | Code::OutOfRange
            | Code::Unimplemented
            | Code::Unauthenticated
    );
    is_refusal && !reason(status).is_empty()
}

/// A status for people: `listeners/x: no such listener (NOT_FOUND, LISTENER_NOT_FOUND)`, and a line for each wrong
/// field that the message does not mention.
pub(crate) fn describe(status: &Status) -> String {
    if let Some(source) = status.source() {
        return format!("connection lost: {}", root_cause(source));
    }
    let message = match status.message() {
        "" => "an error without a message".to_owned(),
        message => text::plain(message),
    };
    let code = code_name(status.code());
    let mut text = match reason(status).as_str() {
        "" => format!("{message} ({code})"),
        reason => format!("{message} ({code}, {})", text::plain(reason)),
    };
    for violation in status.get_details_bad_request().into_iter().flat_map(|request| request.field_violations)
    {
        let line = format!("{}: {}", text::plain(&violation.field), text::plain(&violation.description));
        if !message.contains(&line) {
            text.push_str("\n  ");
            text.push_str(&line);
        }
    }
    text
}

/// [`describe`], and the origin if it is not the service: for errors that are retried.
pub(crate) fn describe_with_origin(status: &Status) -> String {
    let text = describe(status);
    if is_local(status) || !reason(status).is_empty() {
        return text;
    }
    format!("{text}, sent by a proxy or another server")
}

/// The root cause of an error: the operating system's message if there is one, without its number.
pub(crate) fn root_cause(error: &(dyn Error + 'static)) -> String {
    let mut root = error;
    while let Some(source) = root.source() {
        root = source;
    }
    let text = match root.downcast_ref::<io::Error>() {
        Some(error) if error.raw_os_error().is_some() => match error.kind() {
            io::ErrorKind::NotFound => "no such file".into(),
            kind => kind.to_string(),
        },
        _ => root.to_string(),
    };
    // kinds that std has no name for
    if text == "uncategorized error" || text == "other error" { root.to_string() } else { text::plain(&text) }
}

/// The code's name as in the API's documentation: `INVALID_ARGUMENT`.
fn code_name(code: Code) -> String {
    let mut name = String::new();
    for letter in format!("{code:?}").chars() {
        if letter.is_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(letter.to_ascii_uppercase());
    }
    name
}

#[cfg(test)]
mod tests {
    use tonic_types::ErrorDetails;

    use super::*;

    fn refused(code: Code, message: &str, details: ErrorDetails) -> Status {
        Status::with_error_details(code, message, details)
    }

    #[test]
    fn an_error_is_told_with_its_code_and_reason() {
        let details = ErrorDetails::with_error_info("LISTENER_NOT_FOUND", "opflex.peerstatus", []);
        let status = refused(Code::NotFound, "listeners/x: no such listener", details);
        assert_eq!(describe(&status), "listeners/x: no such listener (NOT_FOUND, LISTENER_NOT_FOUND)");
        assert_eq!(Failure::from(status).exit(), Exit::Failed);
    }

    #[test]
    fn advice_is_given_where_the_service_refused_for_that_reason_alone() {
        let details = ErrorDetails::with_error_info("LISTENER_ATTACHED", "opflex.peerstatus", []);
        let failure = Failure::from(refused(Code::FailedPrecondition, "attached", details));
        let advised = failure.advise("LISTENER_NOT_FOUND", "no").advise("LISTENER_ATTACHED", "take it over");
        let expected = "attached (FAILED_PRECONDITION, LISTENER_ATTACHED)\n  take it over";
        assert_eq!((advised.to_string().as_str(), advised.exit()), (expected, Exit::Failed));
        assert_eq!(Failure::invalid_response("what?").advise("LISTENER_ATTACHED", "no").to_string(), "what?");
    }

    #[test]
    fn wrong_fields_are_named_and_made_harmless() {
        let mut details = ErrorDetails::with_error_info("BAD_FILTER", "opflex.peerstatus", []);
        details.add_bad_request_violation("filter.peers[0]", "too long\x1b[31m");
        let status = refused(Code::InvalidArgument, "bad filter", details);
        assert_eq!(
            describe(&status),
            "bad filter (INVALID_ARGUMENT, BAD_FILTER)\n  filter.peers[0]: too long·[31m"
        );
        assert_eq!(Failure::from(status).exit(), Exit::Usage, "the command line was wrong");
    }

    #[test]
    fn a_wrong_field_is_told_once() {
        let details = ErrorDetails::with_bad_request_violation("name", "has no port");
        let status = refused(Code::InvalidArgument, "name: has no port", details);
        assert_eq!(describe(&status), "name: has no port (INVALID_ARGUMENT)");
    }

    #[test]
    fn a_connection_that_fails_is_no_answer_of_the_service() {
        let error = io::Error::from(io::ErrorKind::ConnectionReset);
        let status = Status::from_error(Box::new(error));
        assert!(is_local(&status));
        assert_eq!(describe(&status), "connection lost: connection reset");
        assert_eq!(Failure::from(status).exit(), Exit::Unreachable);
        assert_eq!(Failure::from(Status::unavailable("stopping")).exit(), Exit::Unreachable);
    }

    #[test]
    fn only_a_refusal_with_details_of_the_service_is_permanent() {
        let refusals = [
            Code::Cancelled,
            Code::InvalidArgument,
            Code::NotFound,
            Code::AlreadyExists,
            Code::PermissionDenied,
            Code::FailedPrecondition,
            Code::Aborted,
            Code::OutOfRange,
            Code::Unimplemented,
            Code::Unauthenticated,
        ];
        for code in (0..=16).map(Code::from_i32) {
            let with = |reason: &str, domain: &str| {
                is_permanent(&refused(code, "no", ErrorDetails::with_error_info(reason, domain, [])))
            };
            assert_eq!(with("ANY", "opflex.peerstatus"), refusals.contains(&code), "{code:?}");
            assert!(!with("ANY", "googleapis.com"), "{code:?} of another service");
            assert!(!with("", "opflex.peerstatus"), "{code:?} without a reason");
            assert!(!is_permanent(&Status::new(code, "no")), "{code:?} of a proxy");
        }
    }

    #[test]
    fn an_error_that_is_retried_names_its_origin() {
        let details = ErrorDetails::with_error_info("DRAINING", "opflex.peerstatus", []);
        let draining = refused(Code::Unavailable, "the service is stopping", details);
        assert_eq!(describe_with_origin(&draining), "the service is stopping (UNAVAILABLE, DRAINING)");
        let proxy = Status::unavailable("no healthy upstream");
        let expected = "no healthy upstream (UNAVAILABLE), sent by a proxy or another server";
        assert_eq!(describe_with_origin(&proxy), expected);
        let reset = Status::from_error(Box::new(io::Error::from(io::ErrorKind::ConnectionReset)));
        assert_eq!(describe_with_origin(&reset), "connection lost: connection reset");
    }

    #[test]
    fn a_closed_output_is_not_a_failure() {
        let failure = Failure::from(io::Error::from(io::ErrorKind::BrokenPipe));
        assert_eq!(failure.exit(), Exit::Success);
        assert!(!failure.should_print());
        assert_eq!(Failure::from(io::Error::from(io::ErrorKind::StorageFull)).exit(), Exit::Failed);
    }
}
