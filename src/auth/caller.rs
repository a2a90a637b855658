//! Callers and their credentials.

use std::{sync::Arc, time::SystemTime};

use super::AccessRole;

/// The credentials of a request.
#[derive(Clone, Copy, Debug, Default)]
pub struct Credentials<'a> {
    /// The connection comes over loopback or the Unix socket.
    pub is_local: bool,
    /// The client certificate of the connection.
    pub certificate: Option<&'a ClientCertificate>,
    /// The `authorization` header.
    pub authorization: Option<&'a [u8]>,
}

/// The parts of a client certificate that authentication uses.
#[derive(Clone, Debug)]
pub struct ClientCertificate {
    /// Its holder, if it names one.
    pub holder: Option<String>,
    /// When it expires.
    pub expires: Option<SystemTime>,
}

/// An authenticated caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// `local`, `anonymous`, `token:NAME`, `jwt:SUBJECT` or `cert:NAME`.
    pub principal: Arc<str>,
    /// `None`: no access.
    pub role: Option<AccessRole>,
    /// How it authenticated.
    pub(crate) credential: Credential,
}

/// How a caller authenticated. It contains no secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credential {
    /// Without credentials.
    None,
    /// A token with this hash.
    Token([u8; 32]),
    /// A JWT.
    Jwt {
        /// Until when it is accepted.
        expires: SystemTime,
    },
    /// A certificate.
    Certificate {
        /// Until when it is accepted.
        expires: SystemTime,
    },
}

/// Why a request is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Credentials are required.
    #[error("no credentials: a token or a client certificate is required")]
    Missing,
    /// The credentials are not accepted.
    #[error("{0}")]
    Invalid(&'static str),
    /// The token has expired.
    #[error("the token has expired")]
    Expired,
    /// The role is not sufficient.
    #[error("{principal} {}; the role {needed} is required", describe_role(*.role))]
    Role {
        /// The caller.
        principal: Arc<str>,
        /// Its role.
        role: Option<AccessRole>,
        /// The required role.
        needed: AccessRole,
    },
}

fn describe_role(role: Option<AccessRole>) -> String {
    role.map_or_else(|| "has no role".to_owned(), |role| format!("has the role {role}"))
}

impl Caller {
    pub(super) fn new(principal: String, role: Option<AccessRole>, credential: Credential) -> Self {
        Self { principal: principal.into(), role, credential }
    }

    pub(super) fn without_credentials(principal: &str, role: Option<AccessRole>) -> Self {
        Self { principal: principal.into(), role, credential: Credential::None }
    }

    /// Requires a role.
    ///
    /// # Errors
    /// The caller does not have it.
    pub fn require(&self, needed: AccessRole) -> Result<(), Refusal> {
        match self.role {
            Some(role) if role >= needed => Ok(()),
            None if self.credential == Credential::None => Err(Refusal::Missing),
            role => Err(Refusal::Role { principal: Arc::clone(&self.principal), role, needed }),
        }
    }

    /// Whether it is an operator.
    #[must_use]
    pub fn is_operator(&self) -> bool {
        self.role == Some(AccessRole::Operator)
    }

    /// Whether it is a local caller without credentials.
    #[must_use]
    pub fn is_local(&self) -> bool {
        &*self.principal == super::LOCAL
    }

    /// Whether its credentials can expire or be revoked.
    #[must_use]
    pub fn is_revocable(&self) -> bool {
        self.credential != Credential::None
    }
}
