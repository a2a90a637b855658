//! Somebody who asks for something.

use std::{sync::Arc, time::SystemTime};

use super::Role;

/// What a client shows of itself with a request.
#[derive(Clone, Copy, Debug, Default)]
pub struct Credentials<'a> {
    /// It comes from this machine.
    pub is_local: bool,
    /// The certificate of its connection, which was good when that came up.
    pub certificate: Option<&'a Certificate>,
    /// The header of that name.
    pub authorization: Option<&'a [u8]>,
}

/// What counts of a client's certificate.
#[derive(Clone, Debug)]
pub struct Certificate {
    /// Whom it is for; `None`: it does not say.
    pub holder: Option<String>,
    /// Until when it is good.
    pub expires: Option<SystemTime>,
}

/// Somebody who asks for something, as it is known here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Who it is: `local`, `anonymous`, `token:NAME`, `jwt:SUBJECT` or `cert:NAME`.
    pub principal: Arc<str>,
    /// What it may do; `None`: nothing.
    pub role: Option<Role>,
    pub(super) credential: Credential,
}

/// What somebody is known by. Nothing in it is of use to anybody else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credential {
    /// Nothing was shown.
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
        /// Until when it is good.
        expires: SystemTime,
    },
}

/// Why somebody does not get what it asks for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Nothing was shown, and that is not enough.
    #[error("no credentials were shown: a token or a client certificate is needed")]
    Missing,
    /// What was shown is not accepted.
    #[error("{0}")]
    Invalid(&'static str),
    /// The token was good once.
    #[error("the token has expired")]
    Expired,
    /// It may not.
    #[error("{principal} {}; this takes the role {needed}", has(*.role))]
    Role {
        /// Who it is.
        principal: Arc<str>,
        /// What it has.
        role: Option<Role>,
        /// What it would need.
        needed: Role,
    },
}

fn has(role: Option<Role>) -> String {
    role.map_or_else(|| "has no role".to_owned(), |role| format!("has the role {role}"))
}

impl Caller {
    pub(super) fn new(principal: String, role: Option<Role>, credential: Credential) -> Self {
        Self { principal: principal.into(), role, credential }
    }

    pub(super) fn without_credentials(principal: &str, role: Option<Role>) -> Self {
        Self { principal: principal.into(), role, credential: Credential::None }
    }

    /// Whether it may do what takes this role.
    ///
    /// # Errors
    /// It may not.
    pub fn require(&self, needed: Role) -> Result<(), Refusal> {
        match self.role {
            Some(role) if role >= needed => Ok(()),
            None if self.credential == Credential::None => Err(Refusal::Missing),
            role => Err(Refusal::Role { principal: Arc::clone(&self.principal), role, needed }),
        }
    }

    /// Whether it looks after what is everybody's.
    #[must_use]
    pub fn is_operator(&self) -> bool {
        self.role == Some(Role::Operator)
    }

    /// Whether it is somebody on this machine, who has shown nothing.
    #[must_use]
    pub fn is_local(&self) -> bool {
        &*self.principal == super::LOCAL
    }

    /// Whether what it has shown may stop being accepted.
    #[must_use]
    pub fn may_lapse(&self) -> bool {
        self.credential != Credential::None
    }
}
