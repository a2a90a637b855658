//! Exit codes, and the failures of commands.

use std::{io, process::ExitCode};

use tonic::{Code, Status};

use crate::client::{Cause, Error, Hint, describe, is_local, reason};

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

const CREDENTIALS_HINT: &str = "authenticate with --token-file, or with --tls-cert and --tls-key";

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        let text = describe(&status);
        match status.code() {
            _ if is_local(&status) => {
                Self::Unreachable(with_remedy(&Cause { text, hint: Some(Hint::CorrectAddress) }))
            }
            Code::Unavailable => Self::Unreachable(text),
            Code::InvalidArgument => Self::Usage(text),
            _ => Self::Refused { text, reason: reason(&status) }
                .advise("CREDENTIALS_MISSING", CREDENTIALS_HINT),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::Invalid { setting, reason } => Self::Usage(format!("--{setting}: {reason}")),
            Error::NeedsTls { setting, reason, server } => {
                Self::Usage(format!("--{setting}: {reason}: use --server https://{server}"))
            }
            Error::Unreachable(cause) => Self::Unreachable(with_remedy(&cause)),
            Error::Refused(status) => Self::from(*status),
            Error::InvalidResponse(text) => Self::invalid_response(text),
        }
    }
}

/// The cause of a failed connection, and the option or command that may help.
pub(crate) fn with_remedy(cause: &Cause) -> String {
    let remedy = match cause.hint {
        None => return cause.text.clone(),
        Some(Hint::TrustAuthority) => "If you trust its authority, name the file with --tls-ca.",
        Some(Hint::ExpectName) => {
            "If that is the right service, set the expected name with --tls-server-name."
        }
        Some(Hint::UsePlaintext) => "If it serves plaintext, leave out https://.",
        Some(Hint::PresentCertificate) => "It may require a client certificate: --tls-cert and --tls-key.",
        Some(Hint::StartService) => "Is `peerstatus serve` running? Use --server or PEERSTATUS_SERVER.",
        Some(Hint::CorrectAddress) => {
            "Is that the address of a `peerstatus serve`? If it speaks TLS, use https://HOST:PORT."
        }
    };
    format!("{}. {remedy}", cause.text)
}

#[cfg(test)]
mod tests {
    use tonic_types::{ErrorDetails, StatusExt as _};

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
    fn a_connection_that_fails_is_no_answer_of_the_service() {
        let error = io::Error::from(io::ErrorKind::ConnectionReset);
        let status = Status::from_error(Box::new(error));
        assert!(is_local(&status));
        assert_eq!(describe(&status), "connection lost: connection reset");
        assert_eq!(Failure::from(status).exit(), Exit::Unreachable);
        assert_eq!(Failure::from(Status::unavailable("stopping")).exit(), Exit::Unreachable);
    }

    #[test]
    fn a_closed_output_is_not_a_failure() {
        let failure = Failure::from(io::Error::from(io::ErrorKind::BrokenPipe));
        assert_eq!(failure.exit(), Exit::Success);
        assert!(!failure.should_print());
        assert_eq!(Failure::from(io::Error::from(io::ErrorKind::StorageFull)).exit(), Exit::Failed);
    }
}
