//! JSON Web Tokens (RFC 7519), signed (RFC 7515): of one issuer, for one audience.
//!
//! aws-lc, which TLS is done with here anyway, verifies the signatures, so that there is no second library for them. The key
//! decides what algorithm is accepted, and nothing else in the token is looked at before its signature is right.

use std::{
    path::PathBuf,
    time::{Duration, SystemTime},
};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use serde::{Deserialize, de::DeserializeOwned};

use super::{Refusal, jwks::Keys};

/// How far the issuer's clock and ours may be apart.
pub const LEEWAY: Duration = Duration::from_secs(60);
/// Longest name of somebody: those of Kubernetes are well below.
const LONGEST_SUBJECT: usize = 512;

/// Whose JWTs are believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JwtSettings {
    /// The file with the issuer's keys.
    pub jwks: PathBuf,
    /// Who has to have made it.
    pub issuer: String,
    /// Whom it has to be for: us.
    pub audience: String,
}

/// What a JWT that is believed says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Believed {
    pub(super) subject: String,
    /// Until when it is accepted.
    pub(super) expires: SystemTime,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    /// Extensions that must be understood. None is.
    crit: Option<serde_json::Value>,
}

#[derive(Deserialize)]
struct Claims {
    iss: String,
    sub: String,
    aud: Audience,
    exp: f64,
    nbf: Option<f64>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

impl Audience {
    fn includes(&self, name: &str) -> bool {
        match self {
            Self::One(only) => only == name,
            Self::Many(all) => all.iter().any(|one| one == name),
        }
    }
}

/// Whether a token could be a JWT.
pub(super) fn looks_like_one(token: &str) -> bool {
    token.bytes().filter(|byte| *byte == b'.').count() == 2
}

/// Who a JWT says it is of, if it is to be believed.
pub(super) fn verify(
    token: &str,
    keys: &Keys,
    settings: &JwtSettings,
    now: SystemTime,
) -> Result<Believed, Refusal> {
    let malformed = Refusal::Invalid("the token is not a JWT");
    let Some((message, signature)) = token.rsplit_once('.') else { return Err(malformed) };
    let Some((header, claims)) = message.split_once('.') else { return Err(malformed) };
    let header: Header = decode(header).ok_or(malformed.clone())?;
    let signature = BASE64_URL_SAFE_NO_PAD.decode(signature).map_err(|_| malformed.clone())?;
    if header.crit.is_some() {
        return Err(Refusal::Invalid("the token has extensions that are not understood"));
    }
    if !keys.verify(&header.alg, header.kid.as_deref(), message.as_bytes(), &signature) {
        return Err(Refusal::Invalid("the token is not signed by a key of the issuer"));
    }
    let claims: Claims = decode(claims).ok_or(Refusal::Invalid(
        "the token lacks one of iss, sub, aud and exp, or it is not what it should be",
    ))?;
    judge(claims, settings, now)
}

fn decode<T: DeserializeOwned>(part: &str) -> Option<T> {
    serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(part).ok()?).ok()
}

/// What is claimed has been signed by the issuer: whether it is for us, and now.
fn judge(claims: Claims, settings: &JwtSettings, now: SystemTime) -> Result<Believed, Refusal> {
    if claims.iss != settings.issuer {
        return Err(Refusal::Invalid("the token is of another issuer"));
    }
    if !claims.aud.includes(&settings.audience) {
        return Err(Refusal::Invalid("the token is for another audience"));
    }
    let expires = time(claims.exp).and_then(|end| end.checked_add(LEEWAY));
    let Some(expires) = expires else { return Err(Refusal::Invalid("the token's end makes no sense")) };
    if expires < now {
        return Err(Refusal::Expired);
    }
    if let Some(begin) = claims.nbf
        && time(begin).is_none_or(|begin| begin > now + LEEWAY)
    {
        return Err(Refusal::Invalid("the token is not valid yet"));
    }
    let subject = claims.sub;
    if subject.is_empty() || subject.len() > LONGEST_SUBJECT || subject.contains(char::is_control) {
        return Err(Refusal::Invalid("the token's subject makes no sense"));
    }
    Ok(Believed { subject, expires })
}

/// Seconds since 1970, perhaps with a fraction.
fn time(seconds: f64) -> Option<SystemTime> {
    let since = Duration::try_from_secs_f64(seconds).ok()?;
    SystemTime::UNIX_EPOCH.checked_add(since)
}
