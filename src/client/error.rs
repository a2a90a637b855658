//! Why a connection, a call or a watch failed, as text for people and as reasons for programs.

use std::{error::Error as StdError, fmt, io};

use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::address::ServerAddress;
use crate::{error_info::DOMAIN, opflex::text::plain};

/// Why a connection, a call or a watch failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A setting, or the file that it names, is invalid.
    #[error("{setting}: {reason}")]
    Invalid {
        /// The setting, for example `tls-ca`.
        setting: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// A setting needs TLS, and the address of the service has none.
    #[error("{setting}: {reason}: use https://{server}")]
    NeedsTls {
        /// The setting.
        setting: &'static str,
        /// Why it needs TLS.
        reason: String,
        /// The address.
        server: ServerAddress,
    },
    /// The service cannot be reached or does not answer.
    #[error("{0}")]
    Unreachable(Cause),
    /// The service answered with an error. [`reason()`] returns its reason.
    #[error("{}", describe(.0))]
    Refused(Box<Status>),
    /// The service answered with something that the API does not allow.
    #[error("{0}")]
    InvalidResponse(String),
}

impl Error {
    /// The reason that the service gave, for example `LISTENER_NOT_FOUND`; empty for all other errors.
    #[must_use]
    pub fn reason(&self) -> String {
        match self {
            Self::Refused(status) => reason(status),
            _ => String::new(),
        }
    }
}

impl From<Status> for Error {
    fn from(status: Status) -> Self {
        Self::Refused(Box::new(status))
    }
}

/// Why there is no connection, and what may help.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// A sentence for people, without its full stop.
    pub text: String,
    /// What may help.
    pub hint: Option<Hint>,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl<T: Into<String>> From<T> for Cause {
    fn from(text: T) -> Self {
        Self { text: text.into(), hint: None }
    }
}

/// What may help against an error of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Hint {
    /// Start the service, or correct its address.
    StartService,
    /// Trust the authority of the service's certificate.
    TrustAuthority,
    /// Expect another name in the service's certificate.
    ExpectName,
    /// Leave out TLS.
    UsePlaintext,
    /// Present a certificate.
    PresentCertificate,
    /// Correct the address: another program answers there, or one that speaks TLS.
    CorrectAddress,
}

/// Whether the status was made on this side because the connection failed, and not by the service.
#[must_use]
pub fn is_local(status: &Status) -> bool {
    status.source().is_some()
}

/// The reason that the service gave, for example `LISTENER_NOT_FOUND`. Empty if the status has no `ErrorInfo` of the
/// service: then the connection failed, or a proxy or another server answered.
#[must_use]
pub fn reason(status: &Status) -> String {
    let info = status.get_details_error_info().filter(|info| info.domain == DOMAIN);
    info.map(|info| info.reason).unwrap_or_default()
}

/// Whether the service refused the request, and would refuse it again. The code alone is not enough: a proxy's 403,
/// 404 and 401 are `PERMISSION_DENIED`, `UNIMPLEMENTED` and `UNAUTHENTICATED` to a client, and go away with the next
/// deployment of the proxy.
#[must_use]
pub fn is_permanent(status: &Status) -> bool {
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
#[must_use]
pub fn describe(status: &Status) -> String {
    if let Some(source) = status.source() {
        return format!("connection lost: {}", root_cause(source));
    }
    let message = match status.message() {
        "" => "an error without a message".to_owned(),
        message => plain(message),
    };
    let code = code_name(status.code());
    let mut text = match reason(status).as_str() {
        "" => format!("{message} ({code})"),
        reason => format!("{message} ({code}, {})", plain(reason)),
    };
    for violation in status.get_details_bad_request().into_iter().flat_map(|request| request.field_violations)
    {
        let line = format!("{}: {}", plain(&violation.field), plain(&violation.description));
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
pub(super) fn root_cause(error: &(dyn StdError + 'static)) -> String {
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
    if text == "uncategorized error" || text == "other error" { root.to_string() } else { plain(&text) }
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
    fn a_wrong_field_is_told_once() {
        let details = ErrorDetails::with_bad_request_violation("name", "has no port");
        let status = refused(Code::InvalidArgument, "name: has no port", details);
        assert_eq!(describe(&status), "name: has no port (INVALID_ARGUMENT)");
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
}
