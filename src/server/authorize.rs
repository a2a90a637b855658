//! The TLS and authentication settings in effect, and the calls that depend on them.

use std::{sync::Arc, time::SystemTime};

use http::{HeaderMap, HeaderValue, header::AUTHORIZATION};
use parking_lot::RwLock;
use tonic::{Code, Status};

use crate::{
    auth::{AccessRole, Auth, AuthorizedCalls, Caller, ConnectionInfo, Credentials, Refusal, Revocation},
    error_info,
    tls::ServerTls,
};

/// The permission that a method requires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permission {
    /// Nothing; the caller is not authenticated.
    Public,
    /// A role.
    Role(AccessRole),
}

/// The TLS and authentication settings in effect. Replacing them affects new connections and requests at once, and calls
/// under way within a second.
#[derive(Debug, Default)]
pub struct Access {
    tls: RwLock<Option<Arc<ServerTls>>>,
    auth: RwLock<Arc<Auth>>,
    calls: AuthorizedCalls,
}

impl Access {
    /// TLS is for TCP connections; `None`: they are in plaintext.
    #[must_use]
    pub fn new(tls: Option<Arc<ServerTls>>, auth: Arc<Auth>) -> Self {
        Self { tls: RwLock::new(tls), auth: RwLock::new(auth), calls: AuthorizedCalls::default() }
    }

    /// The TLS settings of TCP connections.
    #[must_use]
    pub fn tls(&self) -> Option<Arc<ServerTls>> {
        self.tls.read().clone()
    }

    /// The authentication settings.
    #[must_use]
    pub fn auth(&self) -> Arc<Auth> {
        Arc::clone(&self.auth.read())
    }

    /// Replaces the TLS and auth configuration after a reload.
    pub fn replace(&self, tls: Option<Arc<ServerTls>>, auth: Arc<Auth>) {
        *self.tls.write() = tls;
        *self.auth.write() = auth;
    }

    /// Whether remote clients can be authenticated at all.
    #[must_use]
    pub fn accepts_remote(&self) -> bool {
        self.auth().accepts_remote() || self.tls().is_some_and(|tls| tls.requests_certificates())
    }

    /// Reads files that have changed, and ends calls whose callers are no longer authorized. Call it every second or so.
    pub fn refresh(&self) {
        if let Some(tls) = self.tls() {
            let _ = tls.config();
        }
        let auth = self.auth();
        auth.check_files();
        self.calls.recheck(auth, SystemTime::now());
    }

    /// The caller of a request, unless its role does not suffice.
    pub(super) fn authorize(
        &self,
        required: AccessRole,
        headers: &HeaderMap,
        connection: &ConnectionInfo,
    ) -> Result<Caller, Refusal> {
        let caller = self.authenticate(headers, connection)?;
        caller.require(required)?;
        Ok(caller)
    }

    /// The caller of a request.
    ///
    /// # Errors
    /// Its credentials are not accepted.
    pub fn authenticate(&self, headers: &HeaderMap, connection: &ConnectionInfo) -> Result<Caller, Refusal> {
        let mut given = headers.get_all(AUTHORIZATION).iter();
        let authorization = given.next().map(HeaderValue::as_bytes);
        if given.next().is_some() {
            return Err(Refusal::Invalid("there is more than one authorization header"));
        }
        let (is_local, certificate) = (connection.is_local, connection.certificate.as_deref());
        self.auth().authenticate(&Credentials { is_local, certificate, authorization }, SystemTime::now())
    }

    /// Registers a call, to end it when its caller is no longer authorized.
    pub fn track(&self, caller: Caller) -> Arc<Revocation> {
        self.calls.add(caller, || self.auth(), SystemTime::now())
    }
}

/// The status for a refused caller.
pub(super) fn refusal_status(refusal: &Refusal) -> Status {
    let (code, reason) = match refusal {
        Refusal::Missing => (Code::Unauthenticated, "CREDENTIALS_MISSING"),
        Refusal::Invalid(_) => (Code::Unauthenticated, "CREDENTIALS_INVALID"),
        Refusal::Expired => (Code::Unauthenticated, "TOKEN_EXPIRED"),
        Refusal::Role { principal, needed, .. } => {
            let metadata = [("principal", principal.to_string()), ("role", needed.to_string())];
            let message = refusal.to_string();
            return error_info::with_metadata(Code::PermissionDenied, "ROLE_REQUIRED", message, metadata);
        }
    };
    error_info::status(code, reason, refusal.to_string())
}
