//! Authentication on the admin port: tokens and roles as for gRPC, where the port is open to the network.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{
    HeaderValue, StatusCode,
    header::{AUTHORIZATION, WWW_AUTHENTICATE},
};
use serde::{Deserialize, Serialize};

use crate::{
    auth::{AccessRole, ConnectionInfo, Refusal},
    server::Access,
};

/// Browsers ask for a user and a password, and send them with all further requests to the port.
const CHALLENGE: HeaderValue =
    HeaderValue::from_static("Basic realm=\"opflex-peerstatus: any user name, a token as password\", Bearer");

/// `[server] admin_auth`: which paths require credentials.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AdminAuth {
    /// The status page, the JSON API and the configuration, if credentials are configured and the port is not on loopback.
    #[default]
    Pages,
    /// Everything, metrics and probes included, on every address.
    All,
}

/// What the middleware of a path checks.
#[derive(Clone)]
pub(super) struct Requirement {
    pub(super) access: Arc<Access>,
    /// Whether the role is required where no credentials are configured, and on loopback.
    pub(super) is_strict: bool,
    /// Whether the port is on loopback.
    pub(super) is_loopback: bool,
    pub(super) role: AccessRole,
}

impl Requirement {
    /// Changes when a configuration with other credentials is loaded.
    fn applies(&self) -> bool {
        self.is_strict || !self.is_loopback && self.access.accepts_remote()
    }
}

/// Adds the caller to the extensions of the request, and what tells that its credentials are revoked. Invalid credentials
/// are always rejected.
pub(super) async fn authorize(
    State(requirement): State<Requirement>,
    mut request: Request,
    next: Next,
) -> Response {
    let access = &requirement.access;
    if let Some(bearer) = request.headers().get(AUTHORIZATION).and_then(bearer_of_basic) {
        request.headers_mut().insert(AUTHORIZATION, bearer);
    }
    let Some(connection) = request.extensions().get::<Arc<ConnectionInfo>>() else {
        return refuse(&Refusal::Missing);
    };
    let caller = match access.authenticate(request.headers(), connection) {
        Ok(caller) => caller,
        Err(refusal) => return refuse(&refusal),
    };
    if let (true, Err(refusal)) = (requirement.applies(), caller.require(requirement.role)) {
        return refuse(&refusal);
    }
    if caller.is_revocable() {
        request.extensions_mut().insert(access.track(caller.clone()));
    }
    request.extensions_mut().insert(caller);
    next.run(request).await
}

/// `Basic` credentials as `Bearer`: the password is the token, the user does not matter.
fn bearer_of_basic(authorization: &HeaderValue) -> Option<HeaderValue> {
    let (scheme, encoded) = authorization.to_str().ok()?.split_once(' ')?;
    let decoded = STANDARD.decode(encoded.trim()).ok().filter(|_| scheme.eq_ignore_ascii_case("basic"))?;
    let (_, token) = std::str::from_utf8(&decoded).ok()?.split_once(':')?;
    HeaderValue::from_str(&format!("Bearer {token}")).ok()
}

fn refuse(refusal: &Refusal) -> Response {
    match refusal {
        Refusal::Role { .. } => (StatusCode::FORBIDDEN, format!("{refusal}\n")).into_response(),
        _ => (StatusCode::UNAUTHORIZED, [(WWW_AUTHENTICATE, CHALLENGE)], format!("{refusal}\n"))
            .into_response(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_password_is_the_token() {
        let bearer = |text: &str| bearer_of_basic(&HeaderValue::from_str(text).unwrap());
        let basic = format!("basic {}", STANDARD.encode("anna:s3cret:x"));
        assert_eq!(bearer(&basic).unwrap(), "Bearer s3cret:x");
        for other in ["Bearer a:b", "Basic", "Basic ?", &format!("Basic {}", STANDARD.encode("no colon"))] {
            assert_eq!(bearer(other), None, "{other}");
        }
    }
}
