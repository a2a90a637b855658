//! `[server.auth]`: who may do what.

use std::{path::PathBuf, sync::Arc};

use serde::Deserialize;

use super::{ConfigError, file::Server};
use crate::auth::{Auth, AuthSettings, Grant, JwtSettings, Role};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Settings {
    tokens: Option<PathBuf>,
    local: Option<ConfiguredRole>,
    anonymous: ConfiguredRole,
    authenticated: ConfiguredRole,
    jwt: Option<Jwt>,
    grant: Vec<Granted>,
}

impl Default for Settings {
    fn default() -> Self {
        let (anonymous, authenticated) = (ConfiguredRole::None, ConfiguredRole::Viewer);
        Self { tokens: None, local: None, anonymous, authenticated, jwt: None, grant: Vec::new() }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Jwt {
    jwks: PathBuf,
    issuer: String,
    audience: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Granted {
    principals: Vec<String>,
    role: ConfiguredRole,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum ConfiguredRole {
    None,
    Viewer,
    Operator,
}

impl From<ConfiguredRole> for Option<Role> {
    fn from(role: ConfiguredRole) -> Self {
        match role {
            ConfiguredRole::None => None,
            ConfiguredRole::Viewer => Some(Role::Viewer),
            ConfiguredRole::Operator => Some(Role::Operator),
        }
    }
}

/// Who may do what.
pub(super) fn auth(server: &Server) -> Result<Arc<Auth>, ConfigError> {
    let wrong = |key: &str, reason: String| ConfigError::new(format!("server.auth.{key}"), reason);
    let given = &server.auth;
    let jwt = given.jwt.as_ref().map(jwt).transpose()?;
    let grant = |(index, grant): (usize, &Granted)| {
        Grant::new(&grant.principals, grant.role.into())
            .map_err(|(which, reason)| wrong(&format!("grant[{index}].principals[{which}]"), reason))
    };
    let grants = given.grant.iter().enumerate().map(grant).collect::<Result<_, _>>()?;
    let knows_others = given.tokens.is_some() || jwt.is_some() || asks_for_certificates(server);
    let local =
        given.local.unwrap_or(if knows_others { ConfiguredRole::None } else { ConfiguredRole::Operator });
    let settings = AuthSettings {
        tokens: given.tokens.clone(),
        jwt,
        local: local.into(),
        anonymous: given.anonymous.into(),
        authenticated: given.authenticated.into(),
        grants,
    };
    Auth::load(settings).map(Arc::new).map_err(|error| wrong(error.setting, error.to_string()))
}

fn jwt(given: &Jwt) -> Result<JwtSettings, ConfigError> {
    for (key, value) in [("issuer", &given.issuer), ("audience", &given.audience)] {
        if value.is_empty() {
            return Err(ConfigError::new(format!("server.auth.jwt.{key}"), "is empty"));
        }
    }
    let Jwt { jwks, issuer, audience } = given;
    Ok(JwtSettings { jwks: jwks.clone(), issuer: issuer.clone(), audience: audience.clone() })
}

fn asks_for_certificates(server: &Server) -> bool {
    server.tls.as_ref().is_some_and(|tls| tls.client_ca.is_some())
}
