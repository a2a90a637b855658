//! Authentication and roles of callers, by tokens, JWTs and client certificates.
//!
//! It reads the files again when they change; it opens no socket and runs no task. It keeps no secret: only hashes of
//! tokens, and public keys.

mod caller;
mod connection;
mod grant;
mod jwks;
mod jwt;
mod revocation;
mod role;
#[cfg(test)]
mod tests;
mod tokens;

pub use caller::{Caller, ClientCertificate, Credential, Credentials, Refusal};
pub use connection::ConnectionInfo;
pub use grant::{Grant, PrincipalPattern};
pub use jwt::{JwtSettings, LEEWAY};
pub use revocation::{AuthorizedCalls, Revocation};
pub use role::AccessRole;
pub use tokens::{NewToken, is_token_name};

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::SystemTime,
};

use serde::{Deserialize, Serialize};

use self::{jwks::Keys, role::role_or_none, tokens::Tokens};
use crate::reload::Watched;

/// The principal of local callers without credentials.
const LOCAL: &str = "local";
/// The principal of other callers without credentials.
const ANONYMOUS: &str = "anonymous";

/// `[server.auth]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AuthSettings {
    /// The file with the hashes of tokens.
    pub tokens: Option<PathBuf>,
    /// Whether a reload may leave no token in it: `[reload] may_remove` names `auth`.
    #[serde(skip)]
    pub may_remove_tokens: bool,
    /// Which JWTs are accepted.
    pub jwt: Option<JwtSettings>,
    /// The role of local callers without credentials.
    #[serde(with = "role_or_none")]
    pub local: Option<AccessRole>,
    /// The role of other callers without credentials.
    #[serde(with = "role_or_none")]
    pub anonymous: Option<AccessRole>,
    /// The role of callers with a JWT or a certificate that no grant names.
    #[serde(with = "role_or_none")]
    pub authenticated: Option<AccessRole>,
    /// The first that matches counts.
    #[serde(rename = "grant")]
    pub grants: Vec<Grant>,
}

impl Default for AuthSettings {
    /// Local callers are operators, and all others are rejected.
    fn default() -> Self {
        Self {
            tokens: None,
            may_remove_tokens: false,
            jwt: None,
            local: Some(AccessRole::Operator),
            anonymous: None,
            authenticated: Some(AccessRole::Viewer),
            grants: Vec::new(),
        }
    }
}

/// A file cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{}: {reason}", path.display())]
pub struct AuthError {
    /// The setting that names the file: `tokens` or `jwt.jwks`.
    pub setting: &'static str,
    path: PathBuf,
    reason: String,
}

/// Watches the file of tokens. An emptied one is a failed write rather than what is meant, unless that is allowed.
fn watch_tokens(path: PathBuf, may_be_emptied: bool) -> Result<Watched<Tokens>, AuthError> {
    let had_tokens = AtomicBool::new(false);
    Watched::new(vec![path.clone()], move || {
        let tokens = Tokens::read(&path)?;
        if tokens.is_empty() && !may_be_emptied && had_tokens.load(Relaxed) {
            return Err(AuthError::emptied(&path));
        }
        had_tokens.fetch_or(!tokens.is_empty(), Relaxed);
        Ok(tokens)
    })
}

impl AuthError {
    fn new(setting: &'static str, path: &Path, reason: impl Into<String>) -> Self {
        Self { setting, path: path.to_owned(), reason: reason.into() }
    }

    fn emptied(path: &Path) -> Self {
        let reason = "has no tokens any more: a reload does not remove all of them, unless the configuration file has \
                      [reload] may_remove = [\"auth\"]";
        Self::new("tokens", path, reason)
    }
}

/// Authenticates callers, with the newest valid files.
#[derive(Debug)]
pub struct Auth {
    settings: AuthSettings,
    tokens: Option<Watched<Tokens>>,
    keys: Option<Watched<Keys>>,
    local: Caller,
    anonymous: Caller,
}

impl Default for Auth {
    fn default() -> Self {
        Self::of(AuthSettings::default(), None, None)
    }
}

impl Auth {
    /// Reads the files.
    ///
    /// # Errors
    /// The first file that cannot be used.
    pub fn load(settings: AuthSettings) -> Result<Self, AuthError> {
        let tokens = settings.tokens.clone();
        let tokens = tokens.map(|path| watch_tokens(path, settings.may_remove_tokens));
        let jwks = settings.jwt.as_ref().map(|jwt| jwt.jwks.clone());
        let keys = jwks.map(|path| Watched::new(vec![path.clone()], move || Keys::read(&path)));
        let (tokens, keys) = (tokens.transpose()?, keys.transpose()?);
        Ok(Self::of(settings, tokens, keys))
    }

    fn of(settings: AuthSettings, tokens: Option<Watched<Tokens>>, keys: Option<Watched<Keys>>) -> Self {
        let local = Caller::without_credentials(LOCAL, settings.local);
        let anonymous = Caller::without_credentials(ANONYMOUS, settings.anonymous);
        Self { settings, tokens, keys, local, anonymous }
    }

    /// Checks that this may replace what was in use before the configuration was reloaded.
    ///
    /// # Errors
    /// All tokens were removed from their file, and that is not allowed.
    pub(crate) fn may_replace(&self, before: &Self) -> Result<(), AuthError> {
        let has_tokens = |auth: &Self| auth.tokens().is_some_and(|tokens| !tokens.is_empty());
        match &self.settings.tokens {
            Some(path) if !self.settings.may_remove_tokens && has_tokens(before) && !has_tokens(self) => {
                Err(AuthError::emptied(path))
            }
            _ => Ok(()),
        }
    }

    /// Whether remote callers can have access.
    #[must_use]
    pub const fn accepts_remote(&self) -> bool {
        self.tokens.is_some() || self.keys.is_some() || self.settings.anonymous.is_some()
    }

    /// Reloads changed files. Call it regularly, so that invalid files are logged before a client connects.
    pub fn check_files(&self) {
        let _ = (self.tokens(), self.keys());
    }

    /// A number that differs after each change of the file of tokens.
    pub(crate) fn tokens_version(&self) -> usize {
        let tokens = self.tokens.as_ref().inspect(|tokens| drop(tokens.current()));
        tokens.map_or(0, Watched::version)
    }

    fn tokens(&self) -> Option<Arc<Tokens>> {
        self.tokens.as_ref().map(Watched::current)
    }

    fn keys(&self) -> Option<(Arc<Keys>, &JwtSettings)> {
        Some((self.keys.as_ref()?.current(), self.settings.jwt.as_ref()?))
    }

    /// Authenticates a caller. A token takes precedence over a certificate, and invalid credentials never count as none.
    ///
    /// # Errors
    /// The credentials are not accepted.
    pub fn authenticate(&self, shown: &Credentials<'_>, now: SystemTime) -> Result<Caller, Refusal> {
        if let Some(authorization) = shown.authorization {
            return self.bearer(bearer(authorization)?, now);
        }
        match (shown.certificate, shown.is_local) {
            (Some(certificate), _) => self.certified(certificate, now),
            (None, true) => Ok(self.local.clone()),
            (None, false) => Ok(self.anonymous.clone()),
        }
    }

    fn bearer(&self, token: &str, now: SystemTime) -> Result<Caller, Refusal> {
        let hash = tokens::hash(token);
        if let Some((name, role)) = self.tokens().and_then(|tokens| tokens.find(&hash)) {
            return Ok(Caller::new(format!("token:{name}"), Some(role), Credential::Token(hash)));
        }
        let Some((keys, jwt)) = self.keys().filter(|_| jwt::looks_like_jwt(token)) else {
            return Err(Refusal::Invalid("the token is unknown"));
        };
        let claims = jwt::verify(token, &keys, jwt, now)?;
        let principal = format!("jwt:{}", claims.subject);
        let role = self.role_of(&principal);
        Ok(Caller::new(principal, role, Credential::Jwt { expires: claims.expires }))
    }

    fn certified(&self, certificate: &ClientCertificate, now: SystemTime) -> Result<Caller, Refusal> {
        let Some(holder) = &certificate.holder else {
            return Err(Refusal::Invalid(
                "the certificate names no holder: it needs a URI, a DNS name or a common name",
            ));
        };
        // It was valid when the connection came up, which may be long ago.
        let expires = certificate.expires.unwrap_or(now);
        if expires < now {
            return Err(Refusal::Invalid("the certificate has expired"));
        }
        let principal = format!("cert:{holder}");
        let role = self.role_of(&principal);
        Ok(Caller::new(principal, role, Credential::Certificate { expires }))
    }

    fn role_of(&self, principal: &str) -> Option<AccessRole> {
        let grant = self.settings.grants.iter().find(|grant| grant.names(principal));
        grant.map_or(self.settings.authenticated, |grant| grant.role)
    }

    /// Checks again whether the credentials of a caller are accepted. Expiry is always checked, the rest only if `anew`: it
    /// changes only with the files and settings.
    ///
    /// # Errors
    /// They are no longer accepted.
    pub(crate) fn recheck(&self, caller: &Caller, anew: bool, now: SystemTime) -> Result<(), Refusal> {
        let gone = Refusal::Invalid("the credentials are no longer accepted");
        let role = match &caller.credential {
            Credential::None => return Ok(()),
            Credential::Jwt { expires } if *expires < now => return Err(Refusal::Expired),
            Credential::Certificate { expires } if *expires < now => return Err(gone),
            _ if !anew => return Ok(()),
            Credential::Token(hash) => {
                self.tokens().and_then(|tokens| tokens.find(hash)).map(|(_, role)| role)
            }
            Credential::Jwt { .. } | Credential::Certificate { .. } => self.role_of(&caller.principal),
        };
        // A call under way may not be allowed for a lower role.
        if role.is_some() && role >= caller.role { Ok(()) } else { Err(gone) }
    }
}

/// The token in `Bearer TOKEN`.
fn bearer(authorization: &[u8]) -> Result<&str, Refusal> {
    let other = Refusal::Invalid("authorization is not of the form `Bearer TOKEN`");
    let text = std::str::from_utf8(authorization).ok().and_then(|text| text.split_once(' '));
    let Some((scheme, token)) = text else { return Err(other) };
    let token = token.trim();
    let is_bearer = scheme.eq_ignore_ascii_case("bearer");
    if is_bearer && !token.is_empty() { Ok(token) } else { Err(other) }
}
